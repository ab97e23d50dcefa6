import Foundation
import JSON
import QuarryKit
import TestSupport
import Testing

@testable import Serving

struct WebhookTests {
  // MARK: - Whom a server calls

  @Test(arguments: [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.1.1", "198.18.0.1",
    "198.51.100.7", "203.0.113.9", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::a00:1", "fc00::1", "fd12::1",
    "fe80::1", "ff02::1", "2001::1", "2001:db8::1", "2002:7f00:1::1", "3fff::1", "4000::1",
  ])
  func addressesThatAreNotPublic(address: String) throws {
    #expect(try !isPublic(address))
    let host = address.contains(":") ? "[\(address)]" : address
    #expect(throws: APIError.self) { try webhook("http://\(host)/", allowsPrivate: false) }
    _ = try webhook("http://\(host)/", allowsPrivate: true)
  }

  @Test(arguments: [
    "1.1.1.1", "8.8.8.8", "100.63.0.1", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1",
    "198.17.0.1", "198.20.0.1", "223.255.255.255", "2606:4700::1111", "2001:4860:4860::8888",
    "::ffff:8.8.8.8", "64:ff9b::808:808",
  ])
  func addressesThatArePublic(address: String) throws {
    #expect(try isPublic(address))
    let host = address.contains(":") ? "[\(address)]" : address
    _ = try webhook("https://\(host)/", allowsPrivate: false)
  }

  private func isPublic(_ address: String) throws -> Bool {
    var hints = addrinfo()
    hints.ai_flags = AI_NUMERICHOST
    var list: UnsafeMutablePointer<addrinfo>?
    try #require(getaddrinfo(address, nil, &hints, &list) == 0)
    defer { freeaddrinfo(list) }
    return PublicAddress.contains(list!.pointee.ai_addr)
  }

  private func webhook(_ url: String, allowsPrivate: Bool) throws(APIError) -> Webhook {
    try Webhook(url, events: [.completed], allowsPrivate: allowsPrivate) { $0.cogJSON }
  }

  @Test(arguments: [
    "", "x", "example.org", "ftp://example.org/", "file:///etc/passwd", "http://", "http:///x",
    "https://user@example.org/", "https://user:word@example.org/", "http://example.org/a b",
    "http://example.org/\r\nX: y", "http://ex\u{E4}mple.org/", "gopher://example.org",
  ])
  func whatIsNoAddress(url: String) {
    #expect(throws: APIError.self) { try webhook(url, allowsPrivate: true) }
  }

  @Test(arguments: [
    "http://localhost/", "http://LOCALHOST:80/", "http://a.localhost/", "http://localhost./",
    "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/",
  ])
  func thisMachineInDisguise(url: String) {
    #expect(throws: APIError.self) { try webhook(url, allowsPrivate: false) }
  }

  @Test func namesAreJudgedByTheAddressThatIsCalled() throws {
    let receiver = try HTTPReceiver()
    defer { receiver.end() }
    func outcome(_ host: String, _ allowsPrivate: Bool) -> WebhookCall.Outcome {
      WebhookCall(
        url: "http://\(host):\(receiver.port)/", headers: [], body: "{}",
        allowsPrivate: allowsPrivate
      ).perform(until: StopFlag())
    }
    // A name, as any other that points here.
    #expect(outcome("localhost", false) == .refused)
    #expect(outcome("127.0.0.1", false) == .refused)
    #expect(receiver.requests.isEmpty)
    #expect(outcome("127.0.0.1", true) == .answered(200))
    #expect(receiver.requests.map(\.body) == ["{}"])
    #expect(receiver.requests[0].headers["content-type"] == "application/json")
  }

  @Test func otherProtocolsProxiesAndRedirectsAreNotFollowed() throws {
    let other = try HTTPReceiver()
    defer { other.end() }
    let receiver = try HTTPReceiver { [port = other.port] _, _ in
      (307, ["Location: http://127.0.0.1:\(port)/"])
    }
    defer { receiver.end() }
    func outcome(_ url: String) -> WebhookCall.Outcome {
      WebhookCall(url: url, headers: [], body: "{}", allowsPrivate: true)
        .perform(until: StopFlag())
    }
    #expect(outcome("http://127.0.0.1:\(receiver.port)/") == .answered(307))
    #expect(other.requests.isEmpty)
    guard case .failed = outcome("file:///etc/hostname") else {
      Issue.record("a file was read")
      return
    }
  }

  @Test func aCallThatHangsEndsWithTheServer() throws {
    let receiver = try HTTPReceiver { _, _ in
      sleep(20)
      return nil
    }
    defer { receiver.end() }
    let stop = StopFlag()
    Thread.detachNewThread {
      while receiver.requests.isEmpty { usleep(1000) }
      stop.set()
    }
    let start = ContinuousClock.now
    let outcome = WebhookCall(
      url: "http://127.0.0.1:\(receiver.port)/", headers: [], body: "{}", allowsPrivate: true
    ).perform(until: stop)
    guard case .failed = outcome else {
      Issue.record("\(outcome)")
      return
    }
    #expect(ContinuousClock.now - start < .seconds(15))
  }

  // MARK: - What is said

  @Test func signatures() throws {
    // By Python's hmac module.
    let secret = try #require(
      WebhookSecret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
    let headers = secret.headers(id: "msg_1", time: 1_700_000_000, body: "{\"a\":1}")
    #expect(headers.map(\.name) == ["webhook-id", "webhook-timestamp", "webhook-signature"])
    #expect(
      headers.map(\.value) == [
        "msg_1", "1700000000", "v1,AMaOha7DUT/0J0JMycRuYOBSvbx3WtwLd2khXXbaVj4=",
      ])
    #expect(WebhookSecret("whsec_") == nil && WebhookSecret("whsec_!") == nil)
    #expect(WebhookSecret("AAEC") == nil)
    #expect(WebhookSecret().text != WebhookSecret().text)
  }

  /// Begins a prediction that calls `receiver`.
  private func predict(
    _ server: TestServer, _ receiver: HTTPReceiver, events: [String]? = nil, tokens: Int = 8
  ) async throws -> JSONValue {
    let body: JSONObject = [
      "input": .object([
        "prompt": "secret words", "min_tokens": .integer(tokens), "max_tokens": .integer(tokens),
      ]),
      "webhook": .string("http://127.0.0.1:\(receiver.port)/hook?of=mine"),
      "webhook_events_filter": events.map { .array($0.map { .string($0) }) },
    ]
    return try await server.json(TestServer.model + "/predictions", body)
  }

  private func withServer(
    directory: String? = nil, _ body: (TestServer) async throws -> Void
  ) async throws {
    try await TestServer.with(directory: directory) {
      $0.allowsWebhooks = true
      $0.allowsPrivateWebhooks = true
    } _: {
      try await body($0)
    }
  }

  private func calls(_ receiver: HTTPReceiver, _ count: Int) async throws
    -> [HTTPReceiver.Request]
  {
    for _ in 0..<4000 where receiver.requests.count < count { try await TestServer.pause() }
    try #require(receiver.requests.count >= count)
    return receiver.requests
  }

  @Test func thePredictionIsSentSigned() async throws {
    let receiver = try HTTPReceiver()
    defer { receiver.end() }
    try await withServer { server in
      let id = try #require(try await predict(server, receiver)["id"]?.string)
      var sent: [JSONValue] = []
      while sent.last?["status"]?.string != "succeeded" {
        sent = try await calls(receiver, sent.count + 1).map { try JSONValue(parsing: $0.body) }
      }
      let statuses = sent.compactMap { $0["status"]?.string }
      #expect(statuses.contains("processing") && sent.allSatisfy { $0["id"]?.string == id })
      #expect(statuses.count { $0 == "succeeded" } == 1)
      #expect(try await server.current(id) == sent.last)
      let secret = try #require(
        try JSONValue(parsing: try await server.get("/v1/webhooks/default/secret").body)["key"]?
          .string.flatMap { WebhookSecret($0) })
      for request in receiver.requests {
        #expect(request.method == "POST" && request.path == "/hook?of=mine")
        let time = try #require(request.headers["webhook-timestamp"].flatMap { Int($0) })
        let id = try #require(request.headers["webhook-id"])
        for (name, value) in secret.headers(id: id, time: time, body: request.body) {
          #expect(request.headers[name] == value)
        }
      }
      #expect(Set(receiver.requests.map { $0.headers["webhook-id"] }).count == sent.count)
    }
  }

  @Test func onlyWhatWasAskedForIsSent() async throws {
    let receiver = try HTTPReceiver()
    defer { receiver.end() }
    try await withServer { server in
      _ = try await predict(server, receiver, events: ["completed"])
      let body = try JSONValue(parsing: try await calls(receiver, 1)[0].body)
      #expect(body["status"]?.string == "succeeded")
      _ = try await predict(server, receiver, events: ["start"])
      _ = try await calls(receiver, 2)
      _ = try await predict(server, receiver, events: [])
      try await server.idle()
    }
    #expect(receiver.requests.count == 2)
  }

  @Test func outputIsSentAtMostTwiceASecond() async throws {
    let receiver = try HTTPReceiver()
    defer { receiver.end() }
    try await withServer { server in
      let start = ContinuousClock.now
      _ = try await predict(server, receiver, events: ["output"], tokens: 600)
      try await server.idle()
      let seconds = (ContinuousClock.now - start) / .seconds(1)
      #expect((1...(Int(seconds * 2) + 1)).contains(receiver.requests.count))
      for request in receiver.requests {
        #expect(try JSONValue(parsing: request.body)["status"]?.string == "processing")
      }
    }
  }

  @Test func theEndIsToldAgainUntilItIsTaken() async throws {
    let statuses = [500, 429, 503, 200]
    let receiver = try HTTPReceiver { index, _ in (statuses[min(index, 3)], []) }
    defer { receiver.end() }
    try await withServer { server in
      _ = try await predict(server, receiver, events: ["completed"])
      let requests = try await calls(receiver, 4)
      #expect(Set(requests.map(\.body)).count == 1)
      #expect(Set(requests.map { $0.headers["webhook-id"] }).count == 1)
    }
    #expect(receiver.requests.count == 4)
  }

  @Test func whoeverSaysNoIsNotAskedAgain() async throws {
    let receiver = try HTTPReceiver { _, _ in (404, []) }
    defer { receiver.end() }
    try await withServer { server in
      _ = try await predict(server, receiver, events: ["completed"])
      _ = try await calls(receiver, 1)
      while !server.log.text.contains("a webhook was not delivered") {
        try await TestServer.pause()
      }
      #expect(server.log.text.contains("it answered 404"))
      #expect(!server.log.text.contains("of=mine"), "what may be secret")
    }
    #expect(receiver.requests.count == 1)
  }

  @Test func coglikeRequestsAreCalledCoglike() async throws {
    let receiver = try HTTPReceiver()
    defer { receiver.end() }
    try await withServer { server in
      let answer = try await server.json(
        "/predictions",
        [
          "input": .object(["prompt": "a", "max_tokens": 3]),
          "webhook": .string("http://127.0.0.1:\(receiver.port)/"),
          "webhook_events_filter": .array(["completed"]),
        ])
      let request = try await calls(receiver, 1)[0]
      #expect(try JSONValue(parsing: request.body) == answer)
    }
  }

  // MARK: - When it is not done

  @Test func serversCallNobodyUnlessToldTo() async throws {
    let receiver = try HTTPReceiver()
    defer { receiver.end() }
    for isAllowed in [false, true] {
      try await TestServer.with {
        $0.allowsWebhooks = isAllowed
      } _: { server in
        for path in [TestServer.model + "/predictions", "/predictions"] {
          let response = try await server.post(
            path,
            .object([
              "input": .object(["prompt": "a", "max_tokens": 3]),
              "webhook": .string("http://127.0.0.1:\(receiver.port)/"),
            ]))
          #expect(response.status == 422)
          #expect(
            response.body.contains(isAllowed ? "--allow-private-webhooks" : "--allow-webhooks"))
        }
        #expect(server.engine.statistics.requests == 0)
      }
    }
    #expect(receiver.requests.isEmpty)
  }

  @Test func theEndOfTheServerIsTold() async throws {
    let receiver = try HTTPReceiver()
    defer { receiver.end() }
    try await withServer { server in
      _ = try await predict(server, receiver, events: ["start", "completed"], tokens: 1500)
      _ = try await calls(receiver, 1)
      await server.shutDown()
      try await server.ended()
    }
    let last = try JSONValue(parsing: try #require(receiver.requests.last).body)
    #expect(["failed", "succeeded"].contains(last["status"]?.string))
  }

  @Test func theSecretStays() async throws {
    try await Place.withTemporaryDirectory { folder in
      var secrets = Set<String>()
      for _ in 0..<2 {
        try await withServer(directory: folder.path) { server in
          secrets.insert(try await server.get("/v1/webhooks/default/secret").body)
        }
      }
      #expect(secrets.count == 1)
      #expect(secrets.first?.contains("whsec_") == true)
    }
  }
}
