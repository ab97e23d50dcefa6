import Foundation
import Inference
import JSON
import TestSupport
import Testing

@testable import Serving

/// What comes of inputs.
@Suite struct PredictionTests {
  private let pieces = ["One", " two\n", "three", " \u{e4}\u{20ac}", "?!"]
  private var text: String { pieces.joined() }

  @Test func aPromptBecomesText() async throws {
    try await TestServer.with(try ScriptedModel.make(pieces)) { server in
      let whole = try await server.prediction(["prompt": "Hi", "temperature": 0, "seed": 7])
      #expect(whole["status"]?.string == "succeeded")
      #expect(whole["output"] == .array([.string(text)]))
      #expect(whole["error"] == .null)
      #expect(whole["model"]?.string == "local/pebble")
      #expect(whole["version"]?.string == TestServer.version)
      #expect(whole["input"] == .object(["prompt": "Hi", "temperature": 0, "seed": 7]))
      #expect(whole["logs"]?.string == "seed: 7\n")
      #expect(whole["data_removed"] == false)
      #expect(whole["source"] == "api")
      let id = try #require(whole["id"]?.string)
      #expect(id.wholeMatch(of: /[a-z0-9]{26}/) != nil)
      let url = "http://localhost:\(server.port)/v1/predictions/\(id)"
      #expect(whole["urls"]?["get"]?.string == url)
      #expect(whole["urls"]?["cancel"]?.string == url + "/cancel")
      #expect(whole["urls"]?["stream"]?.string == url + "/stream")
      #expect(whole["urls"]?["web"]?.string != nil)
      let metrics = try #require(whole["metrics"])
      #expect(metrics["token_input_count"]?.integer == "user: Hi".utf8.count + 1)
      #expect(metrics["token_output_count"]?.integer == pieces.count + 1)
      for name in ["predict_time", "total_time", "time_to_first_token", "tokens_per_second"] {
        #expect(metrics[name]?.double ?? 0 > 0, "\(name)")
      }
      // The engine's account, not that of whoever reads it late.
      let (rate, time) = (metrics["tokens_per_second"]?.double, metrics["predict_time"]?.double)
      #expect((rate ?? 0) * (time ?? 0) >= Double(pieces.count) - 0.5)
      for name in ["created_at", "started_at", "completed_at"] {
        #expect(Date(timestamp: whole[name]?.string ?? "") != nil, "\(name)")
      }
      #expect(try await server.current(id) == whole)

      let streamed = try await server.prediction([
        "prompt": "Hi", "temperature": 0, "stream": true, "top_k": .null,
      ])
      #expect(streamed["output"] == .array(pieces.map { .string($0) }))
      let cut = try await server.prediction([
        "prompt": "Hi", "temperature": 0, "stop_sequences": "four,hree,?",
      ])
      #expect(cut["output"] == .array(["One two\nt"]))
      let short = try await server.prediction(["prompt": "Hi", "temperature": 0, "max_tokens": 2])
      #expect(short["output"] == .array(["One two\n"]))
    }
  }

  @Test func systemPromptsDocumentsAndVariablesReachTheTemplate() async throws {
    let template = """
      {%- for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}
      {%- for d in documents or [] %}{{ d.doc_id + d.title + d.text }}{% endfor %}
      {{- extra }}{% if add_generation_prompt %}<|start|>{% endif %}
      """
    let model = try ScriptedModel.make(["xyz"], template: template)
    try await TestServer.with(model) { server in
      func count(_ input: JSONObject) async throws -> Int? {
        var input = input
        input["temperature"] = 0
        return try await server.prediction(input)["metrics"]?["token_input_count"]?.integer
      }
      let plain = try await count(["prompt": "abc"])
      #expect(plain == "user=abc;".count + 1)
      #expect(
        try await count(["prompt": "abc", "system_prompt": "d"]) == "system=d;user=abc;".count + 1)
      #expect(try await count(["system_prompt": "d"]) == "system=d;".count + 1)
      #expect(
        try await count(["prompt": "abc", "add_generation_prompt": false]) == "user=abc;".count)
      #expect(
        try await count(["prompt": "a", "chat_template_kwargs": .object(["extra": "four"])])
          == "user=a;four".count + 1)
      let document: JSONValue = .object(["doc_id": 12, "title": .null, "text": "text"])
      #expect(
        try await count(["prompt": "a", "documents": .array([document])])
          == "user=a;12Nonetext".count + 1)
    }
  }

  @Test func aPromptThatBeginsLikeTheTemplateIsTakenAsItIs() async throws {
    let model = try ScriptedModel.make(
      ["xyz"], template: "<|start|>{{ messages | map(attribute='content') | join(' ') }}<|start|>")
    try await TestServer.with(model) { server in
      for (prompt, system, count) in [
        ("<|start|>", nil, 1), (" \n<|start|>", nil, 3), ("<|start|>", "s", 5), ("a", nil, 3),
      ] as [(String, String?, Int)] {
        let answer = try await server.prediction([
          "prompt": .string(prompt), "system_prompt": system.map { .string($0) }, "temperature": 0,
        ])
        #expect(answer["output"] == .array(["xyz"]))
        #expect(answer["metrics"]?["token_input_count"]?.integer == count, "\(prompt)")
      }
    }
  }

  @Test func messagesBecomeAChatCompletion() async throws {
    try await TestServer.with(try ScriptedModel.make(pieces)) { server in
      let input: JSONObject = [
        "messages": .array([.object(["role": "user", "content": "Hi"])]), "temperature": 0,
        "prompt": "unheard", "max_tokens": 100,
      ]
      let whole = try await server.prediction(input)
      let output = try #require(whole["output"]?.array)
      #expect(output.count == 1)
      let json = output[0].string ?? ""
      #expect(json.contains("\u{e4}\u{20ac}") && json.hasPrefix("{\"id\":\"chatcmpl-"))
      let completion = try JSONValue(parsing: json)
      #expect(completion["object"]?.string == "chat.completion")
      #expect(completion["model"]?.string == "local/pebble")
      #expect(completion["choices"]?.array?.first?["message"]?["content"]?.string == text)
      #expect(
        whole["logs"]?.string?.contains("prompt and system_prompt do not count") == true)
      #expect(whole["metrics"]?["token_output_count"] == completion["usage"]?["completion_tokens"])
      #expect(whole["metrics"]?["token_input_count"] == completion["usage"]?["prompt_tokens"])

      var streaming = input
      streaming["stream"] = true
      let chunks = try #require(try await server.prediction(streaming)["output"]?.array).map {
        try JSONValue(parsing: $0.string ?? "")
      }
      #expect(chunks.allSatisfy { $0["object"]?.string == "chat.completion.chunk" })
      let deltas = chunks.compactMap { $0["choices"]?.array?.first?["delta"]?["content"]?.string }
      #expect(deltas.joined() == text)
      #expect(chunks.last?["choices"]?.array?.first?["finish_reason"]?.string == "stop")
    }
  }

  @Test func theTextIsThatOfTheOtherAPI() async throws {
    try await TestServer.with { server in
      let prompt = "Granite is"
      let chat = try await server.json(
        "/v1/chat/completions",
        [
          "messages": .array([.object(["role": "user", "content": .string(prompt)])]),
          "temperature": 0.6, "top_p": 0.9, "top_k": 50, "seed": 11, "max_tokens": 40,
        ])
      let answer = try await server.prediction([
        "prompt": .string(prompt), "seed": 11, "max_tokens": 40,
      ])
      let text = try #require(chat["choices"]?.array?.first?["message"]?["content"]?.string)
      #expect(answer["output"] == .array([.string(text)]))
      // Without a seed one is drawn, and told.
      let drawn = try await server.prediction(["prompt": .string(prompt), "max_tokens": 40])
      let seed = try #require(drawn["logs"]?.string?.firstMatch(of: /seed: ([0-9]+)/)?.1)
      let again = try await server.prediction([
        "prompt": .string(prompt), "max_tokens": 40, "seed": .integer(Int(seed)!),
      ])
      #expect(again["output"] == drawn["output"])
    }
  }

  @Test func whatTheModelDoesNotTakeFails() async throws {
    try await TestServer.with(context: 64) { server in
      let none = try await server.predict(["temperature": 0])
      #expect(none.status == 201)
      let failed = try JSONValue(parsing: none.body)
      #expect(failed["status"]?.string == "failed")
      #expect(failed["error"]?.string == "No messages or prompt inputs specified")
      #expect(failed["output"] == .null)
      for (input, parameter) in [
        (["temperature": -1], "temperature"), (["top_p": 0], "top_p"), (["top_p": 1.5], "top_p"),
        (["top_k": -2], "top_k"), (["max_tokens": 0], "max_tokens"),
        (["min_tokens": 9, "max_tokens": 8], "min_tokens"),
        (["presence_penalty": 3], "presence_penalty"),
        (["prompt": .string(String(repeating: "long ", count: 200))], nil),
        (["messages": .array([.object(["role": "nobody", "content": "x"])])], "messages[0].role"),
      ] as [(JSONObject, String?)] {
        var input = input
        if input["prompt"] == nil { input["prompt"] = "x" }
        let answer = try await server.prediction(input)
        #expect(answer["status"]?.string == "failed", "\(parameter ?? "")")
        let error = try JSONValue(parsing: answer["error"]?.string ?? "")["error"]
        #expect(error?["type"]?.string == "BadRequestError")
        #expect(error?["code"]?.integer == 400)
        #expect(error?["param"]?.string == parameter)
        #expect(answer["metrics"]?["predict_time"]?.double == 0)
      }
    }
  }

  @Test(
    arguments: [
      ("prompt", .integer(1)), ("messages", "x"), ("messages", .array(["x"])), ("documents", 1),
      ("tools", .object([:])), ("system_prompt", .array([])), ("add_generation_prompt", "true"),
      ("chat_template_kwargs", .array([])), ("min_tokens", "1"), ("max_tokens", 1.5),
      ("temperature", "hot"), ("top_p", .bool(true)), ("top_k", 0.5), ("presence_penalty", "0"),
      ("frequency_penalty", .array([])), ("stop_sequences", .array(["x"])), ("seed", "x"),
      ("stream", 1), ("chat_template", "{{ x }}"),
    ] as [(String, JSONValue)])
  func inputsOfAnotherKindAreRefused(name: String, value: JSONValue) async throws {
    #expect(throws: APIError.self) {
      _ = try PredictionInput(JSONObject([(name, value)]), allowsTemplates: name != "chat_template")
    }
    do {
      _ = try PredictionInput(JSONObject([(name, value)]), allowsTemplates: name != "chat_template")
    } catch {
      #expect(error.status == 422)
      #expect(error.parameter == "input.\(name)")
      #expect(error.message.contains("input.\(name)"))
    }
  }

  @Test func templatesOfRequestsRunOnlyWhereTheyMay() async throws {
    let input: JSONObject = [
      "prompt": "Hi", "chat_template": "{{ messages[0].content }}<|start|>", "temperature": 0,
    ]
    let model = try ScriptedModel.make(["xyz"])
    try await TestServer.with(model) { server in
      let problem = try await server.problem(
        422, "POST", TestServer.model + "/predictions", .object(["input": .object(input)]))
      #expect(problem["detail"]?.string?.contains("--allow-request-templates") == true)
      let chat = try await server.post(
        "/v1/chat/completions",
        .object([
          "messages": .array([.object(["role": "user", "content": "Hi"])]),
          "chat_template": "x",
        ]))
      #expect(chat.status == 400)
      #expect(!(try await server.get("/openapi.json").body.contains("chat_template\"")))
    }
    try await TestServer.with(model, allowsRequestTemplates: true) { server in
      let answer = try await server.prediction(input)
      #expect(answer["output"] == .array(["xyz"]))
      #expect(answer["metrics"]?["token_input_count"]?.integer == 3)
      #expect(try await server.get("/openapi.json").body.contains("\"chat_template\""))
      // Within the interpreter's bounds, and not more.
      for template in ["{% for", "{% for i in range(99999999) %}x{% endfor %}"] {
        var input = input
        input["chat_template"] = .string(template)
        #expect(try await server.prediction(input)["status"]?.string == "failed", "\(template)")
      }
    }
  }
}
