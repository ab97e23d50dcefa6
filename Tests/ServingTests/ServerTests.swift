import Foundation
import Inference
import JSON
import Logging
import QuarryKit
import Synchronization
import TestSupport
import Testing

@testable import Serving

@Suite struct ServerTests {
  private let endless: JSONObject = [
    "messages": .array([.object(["role": "user", "content": "secret words"])]),
    "logit_bias": .object(["0": -100]), "stream": true,
  ]

  @Test func modelsByEveryName() async throws {
    try await TestServer.with { server in
      let list = try JSONValue(parsing: try await server.get("/v1/models").body)
      #expect(list["object"]?.string == "list")
      let model = try #require(list["data"]?.array?.first)
      #expect(model["id"]?.string == "local/pebble")
      #expect(model["object"]?.string == "model")
      #expect(model["created"]?.integer ?? 0 > 1_700_000_000)
      for name in [
        "local/pebble", "local%2Fpebble", "local%2fpebble", "my/alias", "my%2Falias",
        "ibm-granite/granite-3.3-8b-instruct", "ibm-granite%2Fgranite-3.3-8b-instruct",
      ] {
        let response = try await server.get("/v1/models/\(name)")
        #expect(response.status == 200, "\(name)")
        #expect(try JSONValue(parsing: response.body) == model)
      }
      for name in ["local", "local/other", "local/pebble/x", "..%2F..%2Fetc%2Fpasswd"] {
        let response = try await server.get("/v1/models/\(name)")
        #expect(response.status == 404)
        #expect(
          try JSONValue(parsing: response.body)["error"]?["code"]?.string == "model_not_found")
      }
      let response = try await server.post(
        "/v1/completions", .object(["model": "gpt-4", "prompt": "x"]))
      #expect(response.status == 404)
      let answer = try await server.json(
        "/v1/completions", ["model": "my/alias", "prompt": "x", "max_tokens": 1])
      #expect(answer["model"]?.string == "my/alias")
    }
  }

  @Test func answersToHeadAreHeadsAlone() async throws {
    try await TestServer.with { server in
      let paths = [("/health", 200), ("/v1/chat/completions", 405), ("/nothing", 404), ("/", 200)]
      let requests = paths.map { server.request("HEAD", $0.0) } + [server.request("GET", "/health")]
      let port = server.port
      try await TestServer.onThread {
        let client = try HTTPClient(port: port)
        client.send(requests.joined())
        for (path, status) in paths {
          let head = try client.head()
          #expect(head.status == status, "\(path)")
          #expect(head.headers["content-length"].flatMap { Int($0) } ?? 0 > 0)
        }
        #expect(try client.response().body == "{\"status\":\"ok\"}\n")
      }
    }
  }

  @Test func pathsAndMethods() async throws {
    try await TestServer.with { server in
      #expect(try await server.get("/health").body == "{\"status\":\"ok\"}\n")
      #expect(try await server.get("/nothing").status == 404)
      #expect(try await server.get("/%ff").status == 400)
      let response = try await server.get("/v1/chat/completions")
      #expect(response.status == 405)
      #expect(response.headers["allow"] == "POST")
      for body in [
        "", "[]", "{", "{\"a\":1,\"a\":2}", "\u{0}", "{} x", "{\"prompt\": \"\\ud800\"}",
      ] {
        let response = try await server.send("POST", "/v1/completions", body: body)
        #expect(response.status == 400, "\(body)")
        #expect(response.headers["content-type"] == "application/json")
      }
      let deep = String(repeating: "[", count: 100_000)
      #expect(try await server.send("POST", "/v1/completions", body: deep).status == 400)
      let metrics = try await server.get("/metrics").body
      #expect(metrics.contains("\nquarry_slots{model=\"local/pebble\"} 4\n"))
      #expect(
        metrics.contains(
          "quarry_time_to_first_token_seconds_bucket{model=\"local/pebble\",le=\"+Inf\"} 0\n"))
    }
  }

  @Test func connectionsAreKept() async throws {
    try await TestServer.with { server in
      let (port, request) = (
        server.port,
        server.request(
          "POST", "/v1/completions", body: #"{"prompt": "x", "max_tokens": 2, "stream": true}"#)
      )
      try await TestServer.onThread {
        let client = try HTTPClient(port: port)
        for _ in 0..<3 {
          client.send(request)
          let response = try client.response()
          #expect(response.status == 200)
          #expect(response.headers["content-type"] == "text/event-stream; charset=utf-8")
          #expect(response.body.hasSuffix("data: [DONE]\n\n"))
        }
      }
    }
  }

  @Test func whoWaitsGetsSignsOfLife() async throws {
    try await TestServer.with(slots: 1, context: 8192) {
      $0.pingInterval = 1
    } _: { server in
      var options = GenerationOptions()
      (options.maxTokens, options.logitBias) = (8000, [0: -100])
      // Seconds of work on any machine.
      let work = EngineRequest(prompt: [1], options: options)
      let streams = try server.engine.submit(Array(repeating: work, count: 5))
      let (port, request) = (
        server.port,
        server.request(
          "POST", "/v1/completions", body: #"{"prompt": "x", "max_tokens": 2, "stream": true}"#)
      )
      let first = try await TestServer.onThread {
        let client = try HTTPClient(port: port)
        client.send(request)
        #expect(try client.head().status == 200)
        return try client.chunk()
      }
      #expect(first == ": ping\n\n")
      withExtendedLifetime(streams) {}
    }
  }

  @Test func metricsCountWhatHappened() async throws {
    try await TestServer.with { server in
      let request: JSONObject = [
        "prompt": "Granite is a rock", "max_tokens": 5, "logit_bias": .object(["0": -100]), "n": 2,
      ]
      let answer = try await server.json("/v1/completions", request)
      let prompt = answer["usage"]!["prompt_tokens"]!.integer!
      let metrics = try await server.get("/metrics").body
      for (name, value) in [
        ("requests_total", 2), ("requests_failed_total", 0), ("prompt_tokens_total", prompt + 1),
        ("prefix_tokens_total", prompt - 1), ("generated_tokens_total", 10),
        ("sequences_running", 0), ("sequences_waiting", 0), ("kv_cache_tiles_limit", 32),
        ("time_to_first_token_seconds_count", 2), ("time_between_tokens_seconds_count", 8),
      ] {
        #expect(metrics.contains("\nquarry_\(name){model=\"local/pebble\"} \(value)\n"), "\(name)")
      }
    }
  }

  // MARK: - Who is let in

  @Test func foreignNamesAndPagesAreRefused() async throws {
    try await TestServer.with {
      $0.allowedHosts = ["box.example"]
      $0.allowedOrigins = ["https://page.example"]
    } _: { server in
      func status(_ headers: [String: String]) async throws -> Int {
        try await server.send(
          "POST", "/tokenize", body: "{\"content\": \"x\"}", headers: headers
        ).status
      }
      let port = server.port
      for host in [
        "localhost", "LOCALHOST:80", "127.0.0.1:\(port)", "[::1]:\(port)", "box.example",
        "192.168.1.5",
      ] {
        #expect(try await status(["Host": host]) == 200, "\(host)")
      }
      for host in [
        "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a@localhost",
      ] {
        #expect(try await status(["Host": host]) == 403, "\(host)")
      }
      for origin in [
        "https://evil.example", "null", "http://localhost:1", "https://localhost:\(port)",
        "https://page.example.evil.example",
      ] {
        #expect(try await status(["Origin": origin]) == 403, "\(origin)")
      }
      #expect(try await status(["Origin": "http://localhost:\(port)"]) == 200)

      let allowed = try await server.send(
        "POST", "/tokenize", body: "{\"content\": \"x\"}",
        headers: ["Origin": "https://page.example"])
      #expect(allowed.status == 200)
      #expect(allowed.headers["access-control-allow-origin"] == "https://page.example")
      let question = try await server.send(
        "OPTIONS", "/v1/chat/completions", headers: ["Origin": "https://page.example"])
      #expect(question.status == 204)
      #expect(
        question.headers["access-control-allow-headers"]
          == "Authorization, Content-Type, Prefer, Cancel-After")
      let refused = try await server.send(
        "OPTIONS", "/v1/chat/completions", headers: ["Origin": "https://evil.example"])
      #expect(refused.status == 403)
      #expect(refused.headers["access-control-allow-origin"] == nil)
      #expect(try await server.send("OPTIONS", "/v1/chat/completions").status == 405)
    }
  }

  @Test func keysAreAsked() async throws {
    try await TestServer.with {
      $0.keys = ["correct horse", "other"]
    } _: { server in
      for header in [
        nil, "", "Bearer", "Bearer ", "Bearer correct", "Bearer correct horsee", "correct horse",
        "Basic correct horse", "Bearer correct horsecorrect horse", "Bearer Other",
      ] {
        let response = try await server.get(
          "/v1/models", headers: header.map { ["Authorization": $0] } ?? [:])
        #expect(response.status == 401, "\(header ?? "none")")
        #expect(response.headers["www-authenticate"] == "Bearer")
        #expect(
          try JSONValue(parsing: response.body)["error"]?["code"]?.string == "invalid_api_key")
      }
      for header in ["Bearer correct horse", "bearer other", "Token other"] {
        #expect(
          try await server.get("/v1/models", headers: ["Authorization": header]).status == 200)
      }
      #expect(try await server.get("/health").status == 200)
      #expect(try await server.get("/metrics").status == 401)
    }
  }

  // MARK: - Bounds

  @Test func bodiesAreBounded() async throws {
    try await TestServer.with {
      $0.bodyLimit = 10_000
      $0.bodyTimeout = 1
    } _: { server in
      let body = "{\"content\": \"\(String(repeating: "x", count: 11_000))\"}"
      #expect(try await server.send("POST", "/tokenize", body: body).status == 413)
      let (port, head) = (server.port, "POST /tokenize HTTP/1.1\r\nHost: localhost\r\n")
      try await TestServer.onThread {
        // One that does not say how long it is, and does not end.
        let chunked = try HTTPClient(port: port)
        chunked.send(head + "Transfer-Encoding: chunked\r\n\r\n")
        for _ in 0..<11 { chunked.send("3e8\r\n" + String(repeating: "x", count: 1000) + "\r\n") }
        #expect(try chunked.response().status == 413)
        for _ in 0..<1000 { chunked.send("3e8\r\n" + String(repeating: "x", count: 1000) + "\r\n") }
        #expect(chunked.isClosed())
        // One that says more than it sends.
        let slow = try HTTPClient(port: port)
        slow.send(head + "Content-Length: 100\r\n\r\n{")
        #expect(try slow.response().status == 408)
        #expect(slow.isClosed())
      }
      #expect(try await server.post("/tokenize", .object(["content": "x"])).status == 200)
    }
  }

  /// More than fits into the buffers on the way.
  @Test(arguments: ["", "Connection: close\r\n"])
  func whoWritesBeforeReadingSeesTheRefusal(header: String) async throws {
    try await TestServer.with {
      $0.bodyLimit = 10 << 20
    } _: { server in
      let (port, count) = (server.port, 18 << 20)
      try await TestServer.onThread {
        let client = try HTTPClient(port: port)
        client.send(
          "POST /tokenize HTTP/1.1\r\nHost: localhost\r\n\(header)Content-Length: \(count)\r\n\r\n")
        let start = ContinuousClock.now
        client.send(Array(repeating: 0x20, count: count))
        #expect(try client.response().status == 413)
        #expect(ContinuousClock.now - start < .seconds(20), "not by the guard's deadline")
      }
    }
  }

  @Test func idleConnectionsAndEndlessHeadsAreClosed() async throws {
    try await TestServer.with {
      $0.idleTimeout = 1
    } _: { server in
      let port = server.port
      try await TestServer.onThread {
        let idle = try HTTPClient(port: port)
        let dripping = try HTTPClient(port: port)
        dripping.send("GET /health HTTP/1.1\r\nHost: localhost\r\n")
        let start = ContinuousClock.now
        while ContinuousClock.now - start < .seconds(3) {
          dripping.send("X-More: 1\r\n")
          usleep(200_000)
        }
        #expect(idle.isClosed())
        #expect(dripping.isClosed())
        let long = try HTTPClient(port: port)
        long.send(
          "GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + String(repeating: "x", count: 1 << 20))
        // Refused, or closed at once.
        if let response = try? long.response() { #expect(response.status >= 400) }
        #expect(long.isClosed())
      }
    }
  }

  @Test func connectionsAreBounded() async throws {
    try await TestServer.with {
      $0.connectionLimit = 2
    } _: { server in
      let port = server.port
      try await TestServer.onThread {
        func ask() throws -> HTTPClient {
          let client = try HTTPClient(port: port)
          client.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
          return client
        }
        var clients = [try ask(), try ask()]
        for client in clients { #expect(try client.response().status == 200) }
        // The third one is served when another has left.
        let third = try ask()
        #expect(!third.hasMore(within: 300))
        clients.removeAll()
        #expect(try third.response().status == 200)
      }
    }
  }

  @Test func theQueueIsBounded() async throws {
    try await TestServer.with(slots: 1, context: 8192, maxQueue: 1) { server in
      let (port, request) = (
        server.port,
        server.request(
          "POST", "/v1/chat/completions", body: JSONValue.object(endless).serialized())
      )
      let refused = try await TestServer.onThread {
        let clients = try (0..<6).map { _ in try HTTPClient(port: port) }
        for client in clients { client.send(request) }
        var statuses: [Int] = []
        var refused: HTTPClient.Response?
        for client in clients {
          var response = try client.head()
          statuses.append(response.status)
          if response.status == 429 {
            response.body = try client.body(of: response)
            refused = response
          }
        }
        #expect(statuses.contains(200) && Set(statuses).isSubset(of: [200, 429]))
        return refused
      }
      let response = try #require(refused)
      #expect(response.headers["retry-after"] == "2")
      let error = try JSONValue(parsing: response.body)["error"]
      #expect(error?["type"]?.string == "rate_limit_error")
      // All have left.
      try await eventually { server.engine.requestCount == 0 }
    }
  }

  // MARK: - Leaving and ending

  @Test(arguments: [false, true])
  func clientsThatLeaveFreeTheirSlots(streams: Bool) async throws {
    try await TestServer.with(slots: 1, context: 8192) { server in
      var fields = endless
      fields["stream"] = .bool(streams)
      let (port, request) = (
        server.port,
        server.request(
          "POST", "/v1/chat/completions", body: JSONValue.object(fields).serialized())
      )
      try await TestServer.onThread {
        let client = try HTTPClient(port: port)
        client.send(request)
        // One that runs, and one that waits.
        let other = try HTTPClient(port: port)
        other.send(request)
        while server.engine.requestCount < 2 { usleep(1000) }
        while server.engine.statistics.generatedTokens < 3 { usleep(1000) }
      }
      try await eventually { server.engine.requestCount == 0 }
      #expect(server.engine.statistics.cancelled == 2)
      let answer = try await server.json("/v1/completions", ["prompt": "x", "max_tokens": 1])
      #expect(answer["usage"]?["completion_tokens"]?.integer == 1)
    }
  }

  /// One that asks for far more than the buffers on the way hold, and reads nothing of it.
  private func stalledReader(of server: TestServer) throws -> HTTPClient {
    var long = endless
    (long["n"], long["logprobs"], long["top_logprobs"]) = (4, true, 20)
    let client = try HTTPClient(port: server.port, receiveBuffer: 4096)
    client.send(
      server.request("POST", "/v1/chat/completions", body: JSONValue.object(long).serialized()))
    return client
  }

  @Test func readersThatStallAreClosed() async throws {
    try await TestServer.with(slots: 4, context: 8192) {
      $0.idleTimeout = 1
      $0.connectionLimit = 1
    } _: { server in
      let stalled = try stalledReader(of: server)
      // Both the places in the engine and that of the connection are free for others.
      try await eventually { server.engine.statistics.cancelled == 4 }
      #expect(server.engine.requestCount == 0)
      #expect(try await server.get("/health").status == 200)
      withExtendedLifetime(stalled) {}
    }
  }

  @Test func theEndDoesNotWaitForReadersThatStall() async throws {
    try await TestServer.with(slots: 4, context: 8192) { server in
      let stalled = try stalledReader(of: server)
      // As much as no buffer holds has been written.
      try await eventually { server.engine.statistics.generatedTokens > 2000 }
      let start = ContinuousClock.now
      try await server.end()
      #expect(ContinuousClock.now - start < .seconds(60), "not by the limit of idle connections")
      withExtendedLifetime(stalled) {}
    }
  }

  @Test func theEndWaitsForAnswersAndThenSaysWhy() async throws {
    try await TestServer.with(slots: 4, context: 8192) {
      $0.grace = 2
    } _: { server in
      var short = endless
      short["max_tokens"] = 30
      // So much that no machine is done with it in time.
      var long = endless
      (long["n"], long["logprobs"], long["top_logprobs"]) = (3, true, 20)
      let (port, requests) = (
        server.port,
        [short, long].map {
          server.request("POST", "/v1/chat/completions", body: JSONValue.object($0).serialized())
        }
      )
      let answers = Task {
        try await withThrowingTaskGroup(of: (Int, String).self) { group in
          for (index, request) in requests.enumerated() {
            group.addTask {
              try await TestServer.onThread {
                let client = try HTTPClient(port: port)
                client.send(request)
                return (index, try client.response().body)
              }
            }
          }
          var bodies = ["", ""]
          for try await (index, body) in group { bodies[index] = body }
          return bodies
        }
      }
      try await eventually { server.engine.statistics.requests == 4 }
      await server.shutDown()
      let bodies = try await answers.value
      #expect(bodies[0].hasSuffix("data: [DONE]\n\n"))
      #expect(bodies[1].contains("\"error\":{\"message\":\"the server is shutting down\""))
      #expect(!bodies[1].contains("[DONE]"))
      #expect(throws: (any Error).self) { _ = try HTTPClient(port: port) }
    }
  }

  @Test func whileLoadingItListensAndSaysSo() async throws {
    let log = Log()
    let server = try Server(
      ServerOptions(host: "127.0.0.1", port: 0), predictions: try PredictionStore(),
      logger: Logger(label: "test") { _ in RecordingHandler(log: log) })
    let (ports, output) = AsyncStream<Int>.makeStream()
    struct Damaged: Error {}
    let loading = DispatchSemaphore(value: 0)
    let running = Task {
      try await server.run {
        output.yield($0)
      } load: {
        loading.wait()
        throw Damaged()
      }
    }
    var iterator = ports.makeAsyncIterator()
    let port = await iterator.next()!
    for path in ["/health", "/v1/models", "/metrics"] {
      let response = try await TestServer.onThread {
        let client = try HTTPClient(port: port)
        client.send("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return try client.response()
      }
      #expect(response.status == 503)
      #expect(response.headers["retry-after"] == "2")
      #expect(response.body.contains("loading"))
    }
    loading.signal()
    await #expect(throws: Damaged.self) { try await running.value }
  }

  @Test func nothingThatWasSaidIsLogged() async throws {
    try await TestServer.with { server in
      var request = endless
      request["max_tokens"] = 5
      _ = try await server.events("/v1/chat/completions", request)
      request["stream"] = "secret words"
      _ = try await server.post("/v1/chat/completions", .object(request))
      _ = try await server.send(
        "POST", "/v1/completions", body: "{\"prompt\": \"secret words",
        headers: ["Authorization": "Bearer secret words"])
      _ = try await server.get("/v1/models?q=secret%20words")
      try await eventually { server.log.text.contains("/v1/models") }
      let log = server.log.text
      #expect(log.contains("POST /v1/chat/completions"))
      #expect(log.contains("\"status\": 200") && log.contains("\"status\": 400"))
      #expect(!log.contains("secret"))
    }
  }

  private func eventually(
    _ condition: () -> Bool, _ location: SourceLocation = #_sourceLocation
  ) async throws {
    let start = ContinuousClock.now
    while !condition() {
      guard ContinuousClock.now - start < .seconds(120) else {
        Issue.record("it did not happen", sourceLocation: location)
        return
      }
      try await Task.sleep(for: .milliseconds(2))
    }
  }
}
