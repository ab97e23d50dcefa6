import Foundation
import JSON
import QuarryKit
import TestSupport
import Testing

@testable import Serving

extension TestServer {
  static let version = String(repeating: "0123456789abcdef", count: 4)
  /// That of all models but the first.
  static let otherVersion = String(repeating: "fedcba9876543210", count: 4)
  static let model = "/v1/models/local/pebble"
  /// Inputs of a prediction that does not end by itself.
  static let endless: JSONObject = [
    "prompt": "secret words", "min_tokens": 8000, "max_tokens": 8000, "stream": true,
  ]

  /// Begins a prediction of the served model.
  func predict(
    _ input: JSONObject, _ headers: [String: String] = [:]
  ) async throws -> HTTPClient.Response {
    try await send(
      "POST", Self.model + "/predictions",
      body: JSONValue.object(["input": .object(input)]).serialized(), headers: headers)
  }

  /// A prediction that has ended.
  func prediction(_ input: JSONObject) async throws -> JSONValue {
    try JSONValue(parsing: try await predict(input, ["Prefer": "wait"]).body)
  }

  /// The id of a prediction that does not end by itself, once it runs.
  func startEndless() async throws -> String {
    let response = try await predict(Self.endless)
    let id = try #require(try JSONValue(parsing: response.body)["id"]?.string)
    while try await current(id)["status"]?.string == "starting" { try await Self.pause() }
    return id
  }

  /// Waits until the engine has nothing to do.
  func idle() async throws { while engine.requestCount > 0 { try await Self.pause() } }

  static func pause() async throws { try await Task.sleep(for: .milliseconds(5)) }

  func current(_ id: String) async throws -> JSONValue {
    try JSONValue(parsing: try await get("/v1/predictions/\(id)").body)
  }

  /// The problem that a request meets.
  func problem(
    _ status: Int, _ method: String, _ path: String, _ body: JSONValue = .object([:]),
    headers: [String: String] = [:], _ location: SourceLocation = #_sourceLocation
  ) async throws -> JSONValue {
    let response = try await send(method, path, body: body.serialized(), headers: headers)
    #expect(response.status == status, sourceLocation: location)
    #expect(
      response.headers["content-type"] == "application/problem+json", sourceLocation: location)
    let problem = try JSONValue(parsing: response.body)
    #expect(problem["status"]?.integer == status, sourceLocation: location)
    #expect(problem["title"]?.string != nil, sourceLocation: location)
    return problem
  }
}

extension Place {
  /// As the other one, for what waits.
  static func withTemporaryDirectory(_ body: (URL) async throws -> Void) async throws {
    let url = FileManager.default.temporaryDirectory.appending(path: "quarry-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: url) }
    try await body(url)
  }
}
