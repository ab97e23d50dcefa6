import Foundation
import Inference
import JSON
import Logging
import QuarryKit
import Synchronization
import TestModels
import TestSupport

@testable import Serving

/// A server in this process, on a port of its own.
final class TestServer: Sendable {
  let port: Int
  let engine: Engine
  let log: Log
  private let server: Server
  private let running: Task<Void, any Error>

  /// Serves a model for as long as `body` runs.
  static func with(
    _ model: Model = Models.pebble, slots: Int = 4, context: Int = 2048, maxQueue: Int = 16,
    allowsRequestTemplates: Bool = false, directory: String? = nil,
    others: [(id: String, model: Model)] = [], logLevel: Logger.Level = .info,
    _ change: (inout ServerOptions) -> Void = { _ in }, _ body: (TestServer) async throws -> Void
  ) async throws {
    var options = ServerOptions(host: "127.0.0.1", port: 0)
    options.grace = 1
    change(&options)
    let server = try await TestServer(
      model, options, slots: slots, context: context, maxQueue: maxQueue,
      allowsRequestTemplates: allowsRequestTemplates, directory: directory, others: others,
      logLevel: logLevel)
    do {
      try await body(server)
    } catch {
      try? await server.end()
      throw error
    }
    try await server.end()
  }

  private init(
    _ model: Model, _ options: ServerOptions, slots: Int, context: Int, maxQueue: Int,
    allowsRequestTemplates: Bool, directory: String?, others: [(id: String, model: Model)],
    logLevel: Logger.Level
  ) async throws {
    let log = Log()
    self.log = log
    let engine = try Engine(
      model: model,
      configuration: EngineConfiguration(slots: slots, contextLength: context, maxQueue: maxQueue))
    self.engine = engine
    let server = try Server(
      options,
      predictions: try directory.map { try PredictionStore(directory: $0) } ?? PredictionStore(),
      logger: Logger(label: "test") { _ in RecordingHandler(log: log, logLevel: logLevel) })
    self.server = server
    let (ports, output) = AsyncStream<Int>.makeStream()
    let (readiness, ready) = AsyncStream<Void>.makeStream()
    running = Task {
      defer { ready.finish() }
      try await server.run {
        output.yield($0)
      } load: {
        let first = try ServedModel(
          engine: engine, id: "local/pebble", version: Self.version,
          listing: ModelView.json(of: Models.slab),
          allowsRequestTemplates: allowsRequestTemplates)
        let more = try others.map { id, model in
          try ServedModel(
            engine: Engine(
              model: model,
              configuration: EngineConfiguration(slots: 2, contextLength: 512, maxQueue: 8)),
            id: id, version: Self.otherVersion)
        }
        return ServedModels([first] + more, aliases: ["my/alias"])
      } ready: { _ in
        ready.yield()
      }
    }
    var port = 0
    for await value in ports {
      port = value
      break
    }
    for await _ in readiness { break }
    self.port = port
  }

  func shutDown() async { await server.shutDown() }

  func end() async throws {
    await shutDown()
    try await ended()
  }

  /// Waits until it has ended.
  func ended() async throws { try await running.value }

  // MARK: - Requests

  func request(
    _ method: String, _ path: String, body: String = "", headers: [String: String] = [:]
  ) -> String {
    var lines = ["\(method) \(path) HTTP/1.1"]
    var all = ["Host": "localhost:\(port)", "Content-Length": "\(body.utf8.count)"]
    all.merge(headers) { $1 }
    lines += all.map { "\($0): \($1)" }
    return lines.joined(separator: "\r\n") + "\r\n\r\n" + body
  }

  func send(
    _ method: String, _ path: String, body: String = "", headers: [String: String] = [:]
  ) async throws -> HTTPClient.Response {
    let (port, text) = (port, request(method, path, body: body, headers: headers))
    // Not on a thread of Swift's: it waits.
    return try await Self.onThread {
      let client = try HTTPClient(port: port)
      client.send(text)
      return try client.response()
    }
  }

  func get(_ path: String, headers: [String: String] = [:]) async throws -> HTTPClient.Response {
    try await send("GET", path, headers: headers)
  }

  func post(_ path: String, _ body: JSONValue) async throws -> HTTPClient.Response {
    try await send("POST", path, body: body.serialized())
  }

  /// The JSON that a path answers with.
  func json(_ path: String, _ body: JSONObject) async throws -> JSONValue {
    try JSONValue(parsing: try await post(path, .object(body)).body)
  }

  /// The data of the events of a stream.
  func events(_ path: String, _ body: JSONObject) async throws -> [String] {
    try await post(path, .object(body)).body.components(separatedBy: "\n\n")
      .filter { $0.hasPrefix("data: ") }.map { String($0.dropFirst(6)) }
  }

  static func onThread<T: Sendable>(
    _ work: @escaping @Sendable () throws -> T
  ) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      WorkThread.start { continuation.resume(with: Result { try work() }) }
    }
  }
}

/// What a server logged.
final class Log: Sendable {
  private let lines = Mutex<[String]>([])

  func add(_ line: String) { lines.withLock { $0.append(line) } }
  var text: String { lines.withLock { $0.joined(separator: "\n") } }
}

struct RecordingHandler: LogHandler {
  let log: Log
  var metadata: Logger.Metadata = [:]
  var logLevel = Logger.Level.info

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    log.add("\(event.level) \(event.message) \(event.metadata ?? [:])")
  }
}
