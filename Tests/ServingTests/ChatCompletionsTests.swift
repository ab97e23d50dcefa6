import Foundation
import Inference
import JSON
import QuarryKit
import TestModels
import TestSupport
import Testing
import Tokenization

@testable import Serving

@Suite struct ChatCompletionsTests {
  private let user = JSONValue.array([
    .object(["role": "user", "content": "What is granite?"])
  ])

  @Test func answersAsTheModelDoesAlone() async throws {
    let prompt = try Models.pebble.prompt(for: "What is granite?")
    let (text, summary) = try Models.pebble.answer(to: prompt) {
      $0.seed = 7
      $0.maxTokens = 40
    }
    try await TestServer.with { server in
      let request: JSONObject = ["messages": user, "seed": 7, "max_tokens": 40]
      let answer = try await server.json("/v1/chat/completions", request)
      #expect(answer["object"]?.string == "chat.completion")
      #expect(answer["model"]?.string == "local/pebble")
      let choice = answer["choices"]?.array?.first
      #expect(choice?["message"]?["content"]?.string == text)
      #expect(choice?["message"]?["role"]?.string == "assistant")
      #expect(choice?["finish_reason"]?.string == summary.finishReason.rawValue)
      #expect(choice?["logprobs"]?.isNull == true)
      let usage = answer["usage"]
      #expect(usage?["prompt_tokens"]?.integer == summary.promptTokens)
      #expect(usage?["completion_tokens"]?.integer == summary.completionTokens)

      var stream = request
      stream["stream"] = true
      stream["stream_options"] = .object(["include_usage": true])
      var events = try await server.events("/v1/chat/completions", stream)
      #expect(events.popLast() == "[DONE]")
      let chunks = try events.map { try JSONValue(parsing: $0) }
      #expect(Set(chunks.map { $0["id"]!.string! }).count == 1)
      #expect(chunks.allSatisfy { $0["object"]?.string == "chat.completion.chunk" })
      #expect(chunks[0]["choices"]?.array?.first?["delta"]?["role"]?.string == "assistant")
      let deltas = chunks.compactMap {
        $0["choices"]?.array?.first?["delta"]?["content"]?.string
      }
      #expect(deltas.joined() == text)
      #expect(deltas.count > 3, "it streams")
      let reasons = chunks.compactMap { $0["choices"]?.array?.first?["finish_reason"]?.string }
      #expect(reasons == [summary.finishReason.rawValue])
      #expect(chunks.last?["choices"]?.array == [])
      #expect(chunks.last?["usage"]?["prompt_tokens_details"]?["cached_tokens"]?.integer ?? 0 > 0)
      #expect(chunks.dropLast().allSatisfy { $0["usage"]?.isNull == true })
    }
  }

  @Test func everyFieldReachesTheModel() async throws {
    let prompt = try Models.pebble.prompt(for: "What is granite?")
    let changes: [(JSONObject, (inout GenerationOptions) -> Void)] = [
      (["temperature": 0], { $0.temperature = 0 }),
      (["top_p": 0.5], { $0.topP = 0.5 }),
      (["top_p": 0], { $0.topK = 1 }),
      (["top_k": 3], { $0.topK = 3 }),
      (["min_p": 0.2], { $0.minP = 0.2 }),
      (["presence_penalty": 1.5], { $0.presencePenalty = 1.5 }),
      (["frequency_penalty": 1.5], { $0.frequencyPenalty = 1.5 }),
      (["repetition_penalty": 1.5], { $0.repetitionPenalty = 1.5 }),
      (
        ["logit_bias": .object(["300": 100, "301": 100.0])],
        { $0.logitBias = [300: 100, 301: 100] }
      ),
      (["stop": "a"], { $0.stop = ["a"] }),
      (["stop": .array(["e", "the"])], { $0.stop = ["e", "the"] }),
      (["min_tokens": 20], { $0.minTokens = 20 }),
      (["max_completion_tokens": 3], { $0.maxTokens = 3 }),
      (["seed": -5], { $0.seed = UInt64(bitPattern: -5) }),
    ]
    try await TestServer.with { server in
      var texts: Set<String> = []
      for (fields, change) in changes {
        var request: JSONObject = ["messages": user, "seed": 11, "max_tokens": 24]
        for (name, value) in fields.members { request[name] = value }
        let (text, _) = try Models.pebble.answer(to: prompt) {
          $0.seed = 11
          $0.maxTokens = 24
          change(&$0)
        }
        let answer = try await server.json("/v1/chat/completions", request)
        #expect(
          answer["choices"]?.array?.first?["message"]?["content"]?.string == text,
          "\(fields.members[0].key)")
        texts.insert(text)
      }
      #expect(texts.count > 5, "the fields make a difference")
    }
  }

  @Test func severalChoices() async throws {
    try await TestServer.with { server in
      let request: JSONObject = [
        "messages": user, "seed": 3, "max_tokens": 16, "n": 3, "logprobs": true,
        "top_logprobs": 2,
      ]
      let answer = try await server.json("/v1/chat/completions", request)
      let choices = try #require(answer["choices"]?.array)
      #expect(choices.map { $0["index"]?.integer } == [0, 1, 2])
      let texts = choices.map { $0["message"]!["content"]!.string! }
      #expect(Set(texts).count == 3)
      for choice in choices {
        let content = try #require(choice["logprobs"]?["content"]?.array)
        let bytes = content.flatMap { $0["bytes"]!.array!.map { UInt8($0.integer!) } }
        #expect(String(decoding: bytes, as: UTF8.self) == choice["message"]!["content"]!.string!)
        for token in content {
          #expect(token["logprob"]!.double! <= 0)
          #expect(token["top_logprobs"]!.array!.count == 2)
        }
      }
      var stream = request
      stream["stream"] = true
      let events = try await server.events("/v1/chat/completions", stream)
      var streamed = ["", "", ""]
      var logprobs = [[JSONValue]](repeating: [], count: 3)
      for event in events.dropLast() {
        let choice = try JSONValue(parsing: event)["choices"]!.array![0]
        let index = choice["index"]!.integer!
        streamed[index] += choice["delta"]?["content"]?.string ?? ""
        logprobs[index] += choice["logprobs"]?["content"]?.array ?? []
      }
      #expect(streamed == texts)
      #expect(logprobs == choices.map { $0["logprobs"]!["content"]!.array! })
      // One prompt was computed once.
      #expect(
        server.engine.statistics.prefilledTokens < 2 * answer["usage"]!["prompt_tokens"]!.integer!)
    }
  }

  @Test func whatTheRequestMeansAndCannotBeDoneIsRefused() async throws {
    let tool = JSONValue.object([
      "type": "function", "function": .object(["name": "f", "parameters": .object([:])]),
    ])
    let fields: [(JSONObject, String)] = [
      (["response_format": .object(["type": "json_object"])], "response_format"),
      (["response_format": .object(["type": "json_schema"])], "response_format"),
      (["tools": .array([tool])], "tools"),  // Pebble's template has no place for them
      (["tool_choice": "required"], "tool_choice"),
      (["parallel_tool_calls": false], "parallel_tool_calls"),
      (["functions": .array([])], "functions"), (["grammar": "x"], "grammar"),
      (["chat_template": "x"], "chat_template"), (["audio": .object([:])], "audio"),
      (["modalities": .array(["audio"])], "modalities"),
      (["chat_template_kwargs": .object(["messages": .array([])])], "chat_template_kwargs"),
      (["temperature": 3], "temperature"), (["temperature": "hot"], "temperature"),
      (["top_p": 2], "top_p"), (["n": 0], "n"), (["n": 100], "n"), (["n": 1.5], "n"),
      (["max_tokens": 0], "max_tokens"), (["max_tokens": -1], "max_tokens"),
      (["stop": .array(["", "a"])], "stop"), (["stop": 1], "stop"),
      (["stop": .array(Array(repeating: "x", count: 17))], "stop"),
      (["stop": .string(String(repeating: "x", count: 5000))], "stop"),
      (["logit_bias": .object(["1": 101])], "logit_bias"),
      (["logit_bias": .object(["9999999": 1])], "logit_bias"),
      (["top_logprobs": 2], "top_logprobs"),
      (["logprobs": true, "top_logprobs": 21], "top_logprobs"), (["logprobs": 1], "logprobs"),
      (["stream_options": .object(["include_usage": true])], "stream_options"),
      (["documents": .array([.null])], "documents"),
      (["reasoning_effort": "huge"], "reasoning_effort"), (["seed": "x"], "seed"),
      (["model": 1], "model"), (["messages": .array([])], "messages"),
      (["messages": "hi"], "messages"), (["messages": .array([1])], "messages[0]"),
      (["messages": .array([.object(["role": "user"])])], "messages[0].content"),
      (["messages": .array([.object(["role": "god", "content": "x"])])], "messages[0].role"),
      (
        [
          "messages": .array([
            .object([
              "role": "user",
              "content": .array([.object(["type": "image_url", "image_url": .object([:])])]),
            ])
          ])
        ], "messages[0].content"
      ),
    ]
    try await TestServer.with { server in
      for (change, parameter) in fields {
        var request: JSONObject = ["messages": user]
        for (name, value) in change.members { request[name] = value }
        let response = try await server.post("/v1/chat/completions", .object(request))
        #expect(response.status == 400, "\(parameter)")
        let error = try JSONValue(parsing: response.body)["error"]
        #expect(error?["param"]?.string == parameter)
        #expect(error?["type"]?.string == "invalid_request_error")
        #expect(error?["message"]?.string?.isEmpty == false)
      }
      // Null is as good as nothing, and what nobody knows is passed over.
      let accepted: JSONObject = [
        "messages": user, "max_tokens": 1, "stop": .null, "response_format": .null,
        "tools": .array([]), "tool_choice": "none", "user": "me", "metadata": .object([:]),
        "response_form": 1, "parallel_tool_calls": true,
      ]
      #expect(try await server.post("/v1/chat/completions", .object(accepted)).status == 200)
      #expect(server.engine.requestCount == 0)
    }
  }

  @Test func textPartsAndDevelopersAreUnderstood() async throws {
    try await TestServer.with { server in
      func prompt(_ messages: [JSONValue]) async throws -> String? {
        try await server.json("/apply-template", ["messages": .array(messages)])["prompt"]?.string
      }
      let parts = JSONValue.array([
        .object(["type": "text", "text": "a"]), .object(["type": "text", "text": "b"]),
      ])
      let rendered = try await prompt([
        .object(["role": "developer", "content": "s"]),
        .object(["role": "user", "content": parts]),
      ])
      let plain = try await prompt([
        .object(["role": "system", "content": "s"]),
        .object(["role": "user", "content": "a\nb"]),
      ])
      #expect(rendered == plain)
    }
  }

  @Test func promptsBeyondTheContextAreRefused() async throws {
    try await TestServer.with(context: 64) { server in
      let long = String(repeating: "granite ", count: 200)
      let response = try await server.post(
        "/v1/chat/completions",
        .object(["messages": .array([.object(["role": "user", "content": .string(long)])])]))
      #expect(response.status == 400)
      #expect(
        try JSONValue(parsing: response.body)["error"]?["code"]?.string
          == "context_length_exceeded")
      // Without a limit an answer ends with the context.
      let answer = try await server.json(
        "/v1/chat/completions", ["messages": user, "logit_bias": .object(["0": -100])])
      #expect(answer["choices"]?.array?.first?["finish_reason"]?.string == "length")
      #expect(answer["usage"]?["total_tokens"]?.integer == 64)
    }
  }

  @Test(arguments: [false, true])
  func thoughtsAndCallsAreToldApart(streams: Bool) async throws {
    let tool = JSONValue.object([
      "type": "function", "function": .object(["name": "f", "parameters": .object([:])]),
    ])
    let three = try ScriptedModel.make(
      [
        "<think>", "why", " < b", "</think>", "\n", "<|tool_call|>", "[{\"name\": \"f\", ",
        "\"arguments\"",
        ": {\"x\": 1}}]",
      ], special: ["<|tool_call|>"])
    try await TestServer.with(three) { server in
      let parts = try await answer(server, ["tools": .array([tool])], streams: streams)
      #expect(parts.reasoning == "why < b")
      #expect(parts.content == "")
      #expect(parts.calls == ["f {\"x\":1}"])
      #expect(parts.reason == "tool_calls")
      // Without tools there are no calls, and the special token is no text.
      let plain = try await answer(server, [:], streams: streams)
      #expect(plain.content == "[{\"name\": \"f\", \"arguments\": {\"x\": 1}}]")
      #expect(plain.reason == "stop")
      // Cut in the middle of a call.
      let cut = try await answer(
        server, ["tools": .array([tool]), "max_tokens": 7], streams: streams)
      #expect(cut.content == "<|tool_call|>[{\"name\": \"f\", ")
      #expect(cut.reason == "length")
    }
  }

  private struct Answer {
    var content = "", reasoning = "", calls: [String] = [], reason: String?
  }

  /// An answer, however it arrives.
  private func answer(
    _ server: TestServer, _ fields: JSONObject, streams: Bool
  ) async throws -> Answer {
    var request: JSONObject = ["messages": user, "stream": .bool(streams)]
    for (name, value) in fields.members { request[name] = value }
    var answer = Answer()
    func add(_ message: JSONValue?) {
      answer.content += message?["content"]?.string ?? ""
      answer.reasoning += message?["reasoning_content"]?.string ?? ""
      for call in message?["tool_calls"]?.array ?? [] {
        if streams { #expect(call["index"]?.integer == answer.calls.count) }
        #expect(call["id"]?.string?.hasPrefix("call_") == true)
        let function = call["function"]!
        answer.calls.append("\(function["name"]!.string!) \(function["arguments"]!.string!)")
      }
    }
    if streams {
      for event in try await server.events("/v1/chat/completions", request).dropLast() {
        let choice = try JSONValue(parsing: event)["choices"]!.array![0]
        add(choice["delta"])
        answer.reason = choice["finish_reason"]?.string ?? answer.reason
      }
    } else {
      let choice = try await server.json("/v1/chat/completions", request)["choices"]!.array![0]
      add(choice["message"])
      answer.reason = choice["finish_reason"]?.string
    }
    return answer
  }

  @Test func earlierCallsReachTheTemplate() async throws {
    let call = JSONValue.object([
      "id": "call_1", "type": "function",
      "function": .object(["name": "f", "arguments": "{\"x\": 1}"]),
    ])
    let messages = JSONValue.array([
      .object(["role": "user", "content": "go"]),
      .object(["role": "assistant", "content": .null, "tool_calls": .array([call])]),
      .object(["role": "tool", "tool_call_id": "call_1", "content": "2"]),
    ])
    // Version 4 has a place for them; version 3 takes them in the text.
    try await TestServer.with(try ScriptedModel.make(["yes"])) { server in
      let prompt = try await server.json("/apply-template", ["messages": messages])["prompt"]
      #expect(prompt?.string?.contains("call_1") == true)
      #expect(prompt?.string?.contains("<|tool_call|>") == false)
    }
    try await TestServer.with { server in
      let prompt = try await server.json("/apply-template", ["messages": messages])["prompt"]
      #expect(
        prompt?.string?.contains(
          #"<|tool_call|>[{"name":"f","arguments":"{\"x\": 1}"}]"#) == true)
    }
  }

  @Test func thinkingReachesTheTemplate() async throws {
    try await TestServer.with(try ScriptedModel.make(["yes"])) { server in
      for (fields, thinks) in [
        (["reasoning_effort": "high"], true), (["reasoning_effort": "none"], false),
        (["chat_template_kwargs": .object(["thinking": true])], true), ([:], false),
      ] as [(JSONObject, Bool)] {
        var request: JSONObject = ["messages": user]
        for (name, value) in fields.members { request[name] = value }
        let prompt = try await server.json("/apply-template", request)["prompt"]?.string
        #expect(prompt?.hasSuffix("think<|start|>") == thinks)
      }
    }
  }
}
