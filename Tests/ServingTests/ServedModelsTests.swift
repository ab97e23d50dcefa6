import Foundation
import JSON
import Logging
import TestSupport
import Testing

@testable import Serving

struct ServedModelsTests {
  private static let scripted = "other/scripted"
  private static let service = "ibm-granite/granite-3.3-8b-instruct"

  private func withTwo(
    id: String = scripted, _ body: (TestServer) async throws -> Void
  ) async throws {
    let model = try ScriptedModel.make(["Hello", " there"])
    try await TestServer.with(others: [(id, model)]) { try await body($0) }
  }

  private func answer(_ server: TestServer, _ model: JSONValue?) async throws -> String? {
    let answer = try await server.json(
      "/v1/chat/completions",
      [
        "model": model, "max_tokens": 5,
        "messages": .array([.object(["role": "user", "content": "Hi"])]),
      ])
    return answer["choices"]?.array?.first?["message"]?["content"]?.string
  }

  @Test func eachIsReachedByItsName() async throws {
    try await withTwo { server in
      #expect(try await answer(server, .string(Self.scripted)) == "Hello there")
      let standard = try await answer(server, "local/pebble")
      #expect(standard != "Hello there")
      for name in [nil, "my/alias", Self.service] as [String?] {
        #expect(try await answer(server, name.map { .string($0) }) != "Hello there")
      }
      #expect(try await answer(server, "other/none") == nil)
    }
  }

  @Test func theServicesNameIsThatOfAModelThatHasIt() async throws {
    try await withTwo(id: Self.service) { (server) async throws in
      #expect(try await answer(server, .string(Self.service)) == "Hello there")
      #expect(try await answer(server, nil) != "Hello there")
    }
  }

  @Test func bothAreListed() async throws {
    try await withTwo { server in
      let list = try JSONValue(parsing: try await server.get("/v1/models").body)
      let ids = ["local/pebble", Self.scripted]
      #expect(list["data"]?.array?.map { $0["id"]?.string } == ids)
      #expect(list["results"] == list["data"])
      #expect(list["data"]?.array?.map { $0["owned_by"]?.string } == ["local", "other"])
      for id in ids {
        let model = try JSONValue(parsing: try await server.get("/v1/models/\(id)").body)
        #expect(model["id"]?.string == id)
      }
      let metrics = try await server.get("/metrics").body
      #expect(metrics.contains("\nquarry_slots{model=\"local/pebble\"} 4\n"))
      #expect(metrics.contains("\nquarry_slots{model=\"other/scripted\"} 2\n"))
      #expect(metrics.split(separator: "\n").count { $0.hasPrefix("# TYPE quarry_slots ") } == 1)
    }
  }

  @Test func predictionsByNameAndByVersion() async throws {
    try await withTwo { server in
      for body in [
        ["version": .string(TestServer.otherVersion)], ["version": .string(Self.scripted)],
        ["version": .string("\(Self.scripted):\(TestServer.otherVersion)")],
      ] as [JSONObject] {
        var body = body
        body["input"] = .object(["prompt": "Hi"])
        let response = try await server.send(
          "POST", "/v1/predictions", body: JSONValue.object(body).serialized(),
          headers: ["Prefer": "wait"])
        let prediction = try JSONValue(parsing: response.body)
        #expect(prediction["output"]?.array == ["Hello there"])
        #expect(prediction["model"]?.string == Self.scripted)
      }
      func runs(_ id: String) async throws -> Int? {
        try JSONValue(parsing: try await server.get("/v1/models/\(id)").body)["run_count"]?.integer
      }
      #expect(try await runs(Self.scripted) == 3)
      #expect(try await runs("local/pebble") == 0)
    }
  }

  @Test func promptsAreLoggedWhereEverythingIs() async throws {
    try await TestServer.with(logLevel: .debug) { server in
      _ = try await answer(server, nil)
      _ = try await server.json(
        "/v1/completions", ["prompt": .array(["one", "two"]), "n": 2, "max_tokens": 1])
      _ = try await server.prediction(["prompt": "three", "max_tokens": 1])
      let prompts = server.log.text.components(separatedBy: "debug prompt").dropFirst()
      #expect(prompts.count == 4, "once for all choices")
      for (prompt, word) in zip(prompts, ["Hi", "one", "two", "three"]) {
        #expect(prompt.contains(word) && prompt.contains("\"request\": req_"))
      }
    }
  }
}
