import Foundation
import JSON
import QuarryKit
import TestSupport
import Testing

@testable import Serving

/// The paths of Replicate's API.
@Suite struct ReplicateTests {
  @Test func theModelHasTheFieldsOfBothAPIs() async throws {
    try await TestServer.with { server in
      let list = try JSONValue(parsing: try await server.get("/v1/models").body)
      let model = try #require(list["results"]?.array?.first)
      #expect(list["data"]?.array == [model])
      #expect(list["next"] == .null && list["previous"] == .null)
      #expect(model["object"]?.string == "model")
      #expect(model["owner"]?.string == "local")
      #expect(model["name"]?.string == "pebble")
      #expect(model["visibility"]?.string == "public")
      #expect(
        model["url"]?.string == "http://localhost:\(server.port)/v1/models/local/pebble")
      #expect(model["run_count"]?.integer == 0)
      let version = try #require(model["latest_version"])
      #expect(version["id"]?.string == TestServer.version)
      for owner in ["local/pebble", "local%2Fpebble", "ibm-granite/granite-3.3-8b-instruct"] {
        let versions = try await server.get("/v1/models/\(owner)/versions").body
        #expect(try JSONValue(parsing: versions)["results"]?.array == [version])
        let path = "/v1/models/\(owner)/versions/\(TestServer.version)"
        #expect(try JSONValue(parsing: try await server.get(path).body) == version)
      }
      _ = try await server.problem(404, "GET", TestServer.model + "/versions/1234")
      _ = try await server.problem(404, "GET", "/v1/models/local/other/versions")
      _ = try await server.prediction(["prompt": "x", "max_tokens": 1])
      let again = try JSONValue(parsing: try await server.get(TestServer.model).body)
      #expect(again["run_count"]?.integer == 1)

      let schemas = try #require(version["openapi_schema"]?["components"]?["schemas"])
      #expect(schemas["Output"]?["x-cog-array-type"]?.string == "iterator")
      let inputs = try #require(schemas["Input"]?["properties"]?.object)
      #expect(inputs.members.first?.key == "prompt")
      #expect(inputs["prompt"]?["x-order"]?.integer == 0)
      #expect(inputs["stream"]?["x-order"]?.integer == 17)
      #expect(inputs["chat_template"] == nil)
      let standards: JSONObject = [
        "messages": .array([]), "documents": .array([]), "tools": .array([]),
        "add_generation_prompt": true, "chat_template_kwargs": .object([:]), "min_tokens": 0,
        "max_tokens": 512, "temperature": 0.6, "top_p": 0.9, "top_k": 50, "presence_penalty": 0,
        "frequency_penalty": 0, "stream": false,
      ]
      #expect(inputs.count == 17)
      for (name, property) in inputs.members {
        #expect(property["default"] == standards[name], "\(name)")
        #expect(property["minimum"] == nil && property["maximum"] == nil)
      }
      #expect(schemas["Input"]?["required"] == nil)
    }
  }

  @Test func versionsInEveryForm() async throws {
    try await TestServer.with { server in
      let id = TestServer.version
      let granite = "ibm-granite/granite-3.3-8b-instruct"
      for (version, model) in [
        (id, "local/pebble"), ("local/pebble", "local/pebble"),
        ("local/pebble:\(id)", "local/pebble"), (granite, granite), ("\(granite):\(id)", granite),
        ("my/alias:\(id)", "my/alias"),
      ] {
        let answer = try await server.json(
          "/v1/predictions",
          ["version": .string(version), "input": .object(["prompt": "x", "max_tokens": 1])])
        #expect(answer["model"]?.string == model, "\(version)")
        #expect(answer["version"]?.string == id)
      }
      let input = JSONValue.object([:])
      for (version, status) in [
        ("a/b", 404), ("a/b:\(id)", 404), (id.uppercased(), 422), (String(id.dropLast()), 422),
        ("local/pebble:1", 422), ("", 422), ("local/pebble:", 422), ("local", 422),
      ] {
        let problem = try await server.problem(
          status, "POST", "/v1/predictions",
          .object(["version": .string(version), "input": input]))
        #expect(problem["detail"]?.string?.isEmpty == false)
      }
      for body in [["input": input], ["version": 1, "input": input]] as [JSONObject] {
        let problem = try await server.problem(422, "POST", "/v1/predictions", .object(body))
        #expect(problem["invalid_fields"]?.array?.first?["field"]?.string == "version")
      }
    }
  }

  @Test func bodiesAreChecked() async throws {
    try await TestServer.with { server in
      let path = TestServer.model + "/predictions"
      let hook = "https://example.org/hook"
      for (body, field) in [
        ([:], "input"), (["input": "x"], "input"), (["input": .array([])], "input"),
        (["input": .object(["top_k": "x"])], "input.top_k"),
        (["input": .object([:]), "webhook": .string(hook)], "webhook"),
        (["input": .object([:]), "webhook_completed": .string(hook)], "webhook_completed"),
        (["input": .object([:]), "webhook_events_filter": .array(["x"])], "webhook_events_filter"),
        (["input": .object([:]), "other": 1], "other"),
      ] as [(JSONObject, String)] {
        let problem = try await server.problem(422, "POST", path, .object(body))
        #expect(problem["invalid_fields"]?.array?.first?["field"]?.string == field)
        #expect(problem["detail"]?.string?.contains(field) == true)
      }
      for body in ["", "[]", "{", "{\"input\":{},\"input\":{}}"] {
        let response = try await server.send("POST", path, body: body)
        #expect(response.status == 400)
        #expect(response.headers["content-type"] == "application/problem+json")
      }
      for (header, value) in [
        ("Prefer", "wait=0"), ("Prefer", "wait=61"), ("Prefer", "wait=x"), ("Prefer", "wait="),
        ("Cancel-After", "4s"), ("Cancel-After", "x"), ("Cancel-After", "5d5d"),
        ("Cancel-After", "-5"), ("Cancel-After", "99999999h"),
      ] {
        let problem = try await server.problem(
          422, "POST", path, .object(["input": .object(["prompt": "x"])]),
          headers: [header: value])
        #expect(problem["detail"]?.string?.contains(header) == true, "\(value)")
      }
      #expect(server.engine.statistics.requests == 0)
      // What is no input is told, for the model has others than some clients think.
      let answer = try await server.prediction(["prompt": "x", "max_tokens": 1, "top_q": 1])
      #expect(answer["status"]?.string == "succeeded")
      #expect(answer["logs"]?.string?.contains("no inputs of this model: top_q\n") == true)
    }
  }

  @Test func errorsHaveTheShapesOfTheirPaths() async throws {
    try await TestServer.with {
      $0.keys = ["key"]
    } _: { server in
      let denied = try await server.problem(401, "GET", "/v1/predictions")
      #expect(denied["title"]?.string == "Unauthenticated")
      let both = try JSONValue(parsing: try await server.get("/v1/models").body)
      #expect(both["error"]?["code"]?.string == "invalid_api_key")
      #expect(both["title"]?.string == "Unauthenticated")
      #expect(both["detail"]?.string != nil && both["status"]?.integer == 401)
      let openAI = try JSONValue(parsing: try await server.get("/v1/completions").body)
      #expect(openAI["error"] != nil && openAI["title"] == nil)
      let headers = ["Authorization": "Token key"]
      let missing = try await server.problem(404, "GET", "/v1/predictions/none", headers: headers)
      #expect(missing["detail"]?.string?.contains("none") == true)
      _ = try await server.problem(404, "POST", "/v1/predictions/none/cancel", headers: headers)
      _ = try await server.problem(404, "GET", "/v1/predictions/none/stream", headers: headers)
      _ = try await server.problem(405, "DELETE", "/v1/predictions", headers: headers)
      let get = try await server.get(TestServer.model + "/predictions", headers: headers)
      #expect(get.status == 405 && get.headers["allow"] == "POST")
      _ = try await server.problem(422, "GET", "/v1/predictions?source=x", headers: headers)
      _ = try await server.problem(
        404, "POST", "/v1/models/a/b/predictions", .object(["input": .object([:])]),
        headers: headers)
      let model = try await server.get("/v1/models/a/b", headers: headers)
      #expect(model.status == 404)
      let object = try JSONValue(parsing: model.body)
      #expect(object["error"]?["code"]?.string == "model_not_found")
      #expect(object["detail"] == object["error"]?["message"])
    }
  }

  // MARK: - Waiting and cancelling

  @Test func whoWaitsIsAnsweredInTime() async throws {
    try await TestServer.with(context: 8192) { server in
      let start = ContinuousClock.now
      let response = try await server.predict(TestServer.endless, ["Prefer": "wait=1"])
      #expect(ContinuousClock.now - start > .seconds(0.8))
      #expect(response.status == 202)
      #expect(response.headers["preference-applied"] == "wait=1")
      let answer = try JSONValue(parsing: response.body)
      #expect(answer["status"]?.string == "starting")
      #expect(answer["output"] == .null)
      let id = try #require(answer["id"]?.string)
      let now = try await server.current(id)
      #expect(now["status"]?.string == "processing")
      #expect(now["output"]?.array?.isEmpty == false)
      _ = try await server.send("POST", "/v1/predictions/\(id)/cancel")

      let at = try await server.predict(["prompt": "x", "max_tokens": 1])
      #expect(at.status == 201 && at.headers["preference-applied"] == nil)
      let waited = try await server.predict(
        ["prompt": "x", "max_tokens": 1], ["Prefer": "respond-sync, wait=60"])
      #expect(waited.status == 201)
      #expect(try JSONValue(parsing: waited.body)["status"]?.string == "succeeded")
    }
  }

  @Test func cancelledWhileRunningAndWhileQueued() async throws {
    try await TestServer.with(slots: 1, context: 8192) { server in
      let running = try await server.startEndless()
      let queued = try #require(
        try JSONValue(parsing: try await server.predict(TestServer.endless).body)["id"]?.string)
      for (id, hasStarted) in [(queued, false), (running, true)] {
        if hasStarted {
          while try await server.current(id)["output"] == .null { try await TestServer.pause() }
        } else {
          #expect(try await server.current(id)["status"]?.string == "starting")
        }
        let response = try await server.send("POST", "/v1/predictions/\(id)/cancel")
        #expect(response.status == 200)
        let answer = try JSONValue(parsing: response.body)
        #expect(answer["status"]?.string == "canceled")
        #expect((answer["started_at"] != nil) == hasStarted)
        #expect((answer["output"] != .null) == hasStarted)
        #expect(answer["completed_at"] != nil && answer["metrics"]?["predict_time"] != nil)
        // Once more changes nothing, nor does what the engine still had to say.
        let again = try await server.send("POST", "/v1/predictions/\(id)/cancel")
        #expect(try JSONValue(parsing: again.body) == answer)
        #expect(try await server.current(id) == answer)
      }
      try await server.idle()
      #expect(server.engine.statistics.cancelled == 2)
    }
  }

  @Test func cancelAfterItsTime() async throws {
    try await TestServer.with(context: 8192) { server in
      let response = try await server.predict(
        TestServer.endless, ["Prefer": "wait=20", "Cancel-After": "5"])
      let answer = try JSONValue(parsing: response.body)
      #expect(answer["status"]?.string == "canceled")
      let created = try #require(Date(timestamp: answer["created_at"]?.string ?? ""))
      let deadline = try #require(Date(timestamp: answer["deadline"]?.string ?? ""))
      let completed = try #require(Date(timestamp: answer["completed_at"]?.string ?? ""))
      #expect(abs(deadline.timeIntervalSince(created) - 5) < 0.002)
      #expect(completed > deadline.addingTimeInterval(-0.002))
    }
  }

  @Test func aFullQueueIsSaid() async throws {
    try await TestServer.with(slots: 1, context: 8192, maxQueue: 1) { server in
      _ = try await server.startEndless()
      #expect(try await server.predict(TestServer.endless).status == 201)
      let response = try await server.predict(TestServer.endless)
      #expect(response.status == 429)
      #expect(response.headers["retry-after"] == "2")
      #expect(response.headers["content-type"] == "application/problem+json")
      let list = try JSONValue(parsing: try await server.get("/v1/predictions").body)
      #expect(list["results"]?.array?.count == 2)
    }
  }

  // MARK: - Streams

  private func events(_ body: String) -> [(event: String, id: String, data: String)] {
    body.components(separatedBy: "\n\n").filter { !$0.isEmpty && !$0.hasPrefix(":") }.map { frame in
      let lines = frame.components(separatedBy: "\n")
      func field(_ name: String) -> [String] {
        lines.filter { $0.hasPrefix(name + ": ") }.map { String($0.dropFirst(name.count + 2)) }
      }
      return (
        field("event").first ?? "", field("id").first ?? "", field("data").joined(separator: "\n")
      )
    }
  }

  @Test func streamsTellWhatHappens() async throws {
    let pieces = ["One", " two\n\n", "three\r\n", " four"]
    try await TestServer.with(try ScriptedModel.make(pieces)) { server in
      let answer = try await server.prediction([
        "prompt": "Hi", "temperature": 0, "stream": true, "seed": 1,
      ])
      let id = try #require(answer["id"]?.string)
      let path = "/v1/predictions/\(id)/stream"
      let response = try await server.get(path, headers: ["Accept": "text/event-stream"])
      #expect(response.headers["content-type"] == "text/event-stream; charset=utf-8")
      let all = events(response.body)
      #expect(all.map(\.event) == ["logs", "output", "output", "output", "output", "done"])
      #expect(all.map(\.data) == ["seed: 1\n", "One", " two\n\n", "three\n", " four", "{}"])
      #expect(all.allSatisfy { !$0.id.isEmpty })
      // Whoever comes back goes on from where it was.
      for (index, event) in all.dropLast().enumerated() {
        let rest = events(try await server.get(path, headers: ["Last-Event-ID": event.id]).body)
        #expect(rest.map(\.data) == all[(index + 1)...].map(\.data))
      }
      let failed = try JSONValue(parsing: try await server.predict([:]).body)
      let error = try await server.get("/v1/predictions/\(failed["id"]!.string!)/stream").body
      #expect(events(error).suffix(2).map(\.event) == ["error", "done"])
      #expect(events(error).suffix(2).first?.data == "No messages or prompt inputs specified")
    }
  }

  @Test func streamsAreLiveAndDoNotHoldThePrediction() async throws {
    try await TestServer.with(context: 8192) { server in
      let id = try await server.startEndless()
      let (port, request) = (server.port, server.request("GET", "/v1/predictions/\(id)/stream"))
      try await TestServer.onThread {
        let client = try HTTPClient(port: port)
        client.send(request)
        _ = try client.head()
        var text = ""
        while !text.contains("event: output") { text += try client.chunk() ?? "" }
      }
      // It has left; the prediction goes on.
      #expect(try await server.current(id)["status"]?.string == "processing")
      let body = Task { try await server.get("/v1/predictions/\(id)/stream").body }
      try await Task.sleep(for: .milliseconds(300))
      let cancelled = try await server.send("POST", "/v1/predictions/\(id)/cancel")
      let output = try #require(try JSONValue(parsing: cancelled.body)["output"]?.array)
      let all = events(try await body.value)
      #expect(all.last?.data == #"{"reason":"canceled"}"#)
      let text = all.filter { $0.event == "output" }.map(\.data).joined()
      #expect(text == output.compactMap(\.string).joined())
    }
  }
}
