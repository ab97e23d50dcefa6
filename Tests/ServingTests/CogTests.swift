import Foundation
import JSON
import QuarryKit
import TestSupport
import Testing

@testable import Serving

/// The paths of Cog's API.
@Suite struct CogTests {
  private func predict(
    _ server: TestServer, _ method: String, _ path: String, _ body: JSONObject,
    _ headers: [String: String] = [:]
  ) async throws -> (response: HTTPClient.Response, json: JSONValue) {
    let response = try await server.send(
      method, path, body: JSONValue.object(body).serialized(), headers: headers)
    return (response, try JSONValue(parsing: response.body))
  }

  private let short: JSONValue = .object(["prompt": "x", "max_tokens": 2, "seed": 1])

  @Test func whatThereIs() async throws {
    try await TestServer.with { server in
      let root = try JSONValue(parsing: try await server.get("/").body)
      #expect(root["predictions_url"]?.string == "/predictions")
      #expect(root["openapi_url"]?.string == "/openapi.json")
      #expect(root["healthcheck_url"]?.string == "/health-check")
      #expect(root["cog_version"]?.string != nil && root["shutdown_url"] == nil)
      let health = try JSONValue(parsing: try await server.get("/health-check").body)
      #expect(health["status"]?.string == "READY")
      #expect(health["setup"]?["status"]?.string == "succeeded")
      let schema = try JSONValue(parsing: try await server.get("/openapi.json").body)
      #expect(schema["paths"]?["/predictions"]?["post"] != nil)
      #expect(schema["paths"]?["/shutdown"] == nil)
      let model = try JSONValue(parsing: try await server.get("/v1/models/local/pebble").body)
      #expect(model["latest_version"]?["openapi_schema"] == schema)
      #expect(try await server.send("POST", "/shutdown").status == 403)
      #expect(try await server.get("/health").status == 200)
    }
    try await TestServer.with {
      $0.allowsShutdown = true
    } _: { server in
      let root = try JSONValue(parsing: try await server.get("/").body)
      #expect(root["shutdown_url"]?.string == "/shutdown")
      #expect(try await server.send("POST", "/shutdown").status == 200)
      try await server.ended()
    }
  }

  @Test func predictionsAtOnceLaterAndAsEvents() async throws {
    try await TestServer.with { server in
      let (response, json) = try await predict(server, "POST", "/predictions", ["input": short])
      #expect(response.status == 200)
      #expect(json["status"]?.string == "succeeded")
      let text = try #require(json["output"]?.array?.first?.string)
      #expect(json["metrics"]?["predict_time"]?.double ?? 0 > 0)

      let (later, started) = try await predict(
        server, "POST", "/predictions", ["input": short, "id": "mine"],
        ["Prefer": "respond-async"])
      #expect(later.status == 202)
      #expect(started == .object(["id": "mine", "status": "starting"]))

      let stream = try await server.send(
        "POST", "/predictions", body: JSONValue.object(["input": short]).serialized(),
        headers: ["Accept": "text/event-stream"])
      #expect(stream.headers["content-type"] == "text/event-stream; charset=utf-8")
      let frames = stream.body.components(separatedBy: "\n\n").filter { $0.hasPrefix("event") }
      #expect(frames.contains { $0.hasPrefix("event: start\n") })
      let data = { (frame: String) in
        try JSONValue(parsing: String(frame.split(separator: "\n")[1].dropFirst(6)))
      }
      let chunks = try frames.filter { $0.hasPrefix("event: output\n") }.map(data)
      #expect(chunks.compactMap { $0["chunk"]?.string }.joined() == text)
      #expect(chunks.compactMap { $0["index"]?.integer } == Array(chunks.indices))
      #expect(frames.last?.hasPrefix("event: completed\n") == true)
      #expect(try data(frames.last!)["output"] == json["output"])

      let (failed, error) = try await predict(server, "POST", "/predictions", [:])
      #expect(failed.status == 200 && error["status"]?.string == "failed")
      #expect(error["error"]?.string == "No messages or prompt inputs specified")
      let empty = try await server.send("POST", "/predictions")
      #expect(empty.status == 200)
      let (wrong, problem) = try await predict(
        server, "POST", "/predictions", ["input": .object(["top_k": "x"])])
      #expect(wrong.status == 422)
      let detail = problem["detail"]?.array?.first
      #expect(detail?["loc"] == .array(["body", "input", "top_k"]))
      #expect(detail?["msg"]?.string?.contains("whole number") == true)
    }
  }

  @Test func askedTwiceItRunsOnce() async throws {
    try await TestServer.with(context: 8192) { server in
      let (first, json) = try await predict(server, "PUT", "/predictions/a1", ["input": short])
      #expect(first.status == 200 && json["id"]?.string == "a1")
      let again = try await predict(server, "PUT", "/predictions/a1", ["input": short, "id": "a1"])
      #expect(again.response.status == 200 && again.json == json)
      #expect(server.engine.statistics.requests == 1)
      let other = try await predict(server, "PUT", "/predictions/a1", ["id": "a2"])
      #expect(other.response.status == 422)
      #expect(other.json["detail"]?.array?.first?["loc"] == .array(["body", "id"]))
      // What makes no sense is refused, even where there is an answer.
      for wrong in [
        ["input": .object(["top_k": "z"])], ["webhook_events_filter": .array([.null])],
        ["context": .object(["a": .object([:])])],
      ] as [JSONObject] {
        #expect(try await predict(server, "PUT", "/predictions/a1", wrong).response.status == 422)
      }
      for id in ["%20", String(repeating: "x", count: 129), "a.b"] {
        let response = try await predict(server, "PUT", "/predictions/\(id)", [:]).response
        #expect(response.status == 422, "\(id)")
      }
      let endless: JSONObject = ["input": .object(TestServer.endless)]
      _ = try await predict(
        server, "PUT", "/predictions/b", endless, ["Prefer": "respond-async"])
      let running = try await predict(server, "PUT", "/predictions/b", endless)
      #expect(running.response.status == 202)
      #expect(server.engine.statistics.requests == 2)
      for (id, status) in [("b", 200), ("b", 404), ("a1", 404), ("none", 404)] {
        let response = try await server.send("POST", "/predictions/\(id)/cancel")
        #expect(response.status == status, "\(id)")
        #expect(response.body == "{}\n")
        try await server.idle()
        try await Task.sleep(for: .milliseconds(50))
      }
    }
  }

  @Test func fullServersAndClientsThatLeave() async throws {
    try await TestServer.with(slots: 1, context: 8192, maxQueue: 0) { server in
      let (port, request) = (
        server.port,
        server.request(
          "POST", "/predictions",
          body: JSONValue.object(["input": .object(TestServer.endless)]).serialized())
      )
      let (full, health) = try await TestServer.onThread {
        let client = try HTTPClient(port: port)
        client.send(request)
        while server.engine.requestCount == 0 { usleep(1000) }
        let other = try HTTPClient(port: port)
        other.send(request)
        let full = try other.response()
        let third = try HTTPClient(port: port)
        third.send("GET /health-check HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return (full, try third.response())
      }
      #expect(full.status == 409)
      #expect(full.headers["retry-after"] == "2")
      let error = try JSONValue(parsing: full.body)
      #expect(error["status"]?.string == "failed" && error["error"]?.string != nil)
      #expect(try JSONValue(parsing: health.body)["status"]?.string == "BUSY")
      // The first client has left, and its prediction ends with it.
      try await server.idle()
      #expect(server.engine.statistics.cancelled == 1)
      let list = try JSONValue(parsing: try await server.get("/v1/predictions").body)
      #expect(list["results"]?.array?.map { $0["status"]?.string } == ["canceled"])
    }
  }
}
