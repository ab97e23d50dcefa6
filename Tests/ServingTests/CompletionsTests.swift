import Inference
import JSON
import TestModels
import TestSupport
import Testing
import Tokenization

@testable import Serving

@Suite struct CompletionsTests {
  private let tokenizer = try! Models.pebble.tokenizer!
  private let text = "Granite is a rock that"

  @Test func promptsOfEveryKind() async throws {
    let ids = try tokenizer.encode(text)
    let prompts: [(JSONValue, Int)] = [
      (.string(text), 1), (.array([.string(text), .string(text)]), 2),
      (.array(ids.map { .integer(Int($0)) }), 1),
      (.array([.array(ids.map { .integer(Int($0)) })]), 1),
    ]
    try await TestServer.with { server in
      var texts: Set<String> = []
      for (prompt, count) in prompts {
        let answer = try await server.json(
          "/v1/completions", ["prompt": prompt, "temperature": 0, "max_tokens": 12])
        let choices = try #require(answer["choices"]?.array)
        #expect(choices.count == count)
        for choice in choices { texts.insert(choice["text"]!.string!) }
        #expect(answer["usage"]?["prompt_tokens"]?.integer == ids.count * count)
        #expect(answer["object"]?.string == "text_completion")
      }
      #expect(texts.count == 1)
      // Sixteen tokens unless the request says more; an empty prompt begins a text.
      let answer = try await server.json(
        "/v1/completions", ["prompt": "", "logit_bias": .object(["0": -100])])
      #expect(answer["usage"]?["completion_tokens"]?.integer == 16)
      #expect(answer["choices"]?.array?.first?["finish_reason"]?.string == "length")
    }
  }

  /// What evaluation harnesses do: the log-probabilities of a text, and whether each of its tokens was
  /// the likeliest.
  @Test(arguments: [0, 1]) func textsAreScored(maxTokens: Int) async throws {
    let ids = try tokenizer.encode(text)
    var expected: [TokenLogprobs] = []
    try Session(model: Models.pebble).append(ids, logits: .all) { index, logits in
      if index + 1 < ids.count {
        expected.append(TokenLogprobs(ids[index + 1], top: 2, logits: logits))
      }
    }
    try await TestServer.with { server in
      let request: JSONObject = [
        "prompt": .string(text), "echo": true, "logprobs": 2, "temperature": 0,
        "max_tokens": .integer(maxTokens),
      ]
      let answer = try await server.json("/v1/completions", request)
      let choice = try #require(answer["choices"]?.array?.first)
      #expect(choice["text"]?.string?.hasPrefix(text) == true)
      let logprobs = try #require(choice["logprobs"])
      let values = try #require(logprobs["token_logprobs"]?.array)
      #expect(values.count == ids.count + maxTokens)
      #expect(values[0].isNull)
      #expect(values[1..<ids.count].map { $0.double! } == expected.map(\.logprob))
      let tokens = try #require(logprobs["tokens"]?.array).map { $0.string! }
      #expect(tokens.joined() == choice["text"]?.string)
      let offsets = try #require(logprobs["text_offset"]?.array).map { $0.integer! }
      var offset = 0
      for (token, place) in zip(tokens, offsets) {
        #expect(place == offset)
        offset += token.unicodeScalars.count
      }
      let top = try #require(logprobs["top_logprobs"]?.array)
      #expect(top[0].isNull)
      for (object, expected) in zip(top.dropFirst(), expected) {
        let found = object.object!.members.map(\.value)
        #expect(found.contains(.double(expected.top[0].logprob)))
      }
      #expect(answer["usage"]?["completion_tokens"]?.integer == maxTokens)

      var stream = request
      stream["stream"] = true
      let events = try await server.events("/v1/completions", stream)
      #expect(events.last == "[DONE]")
      let chunks = try events.dropLast().map { try JSONValue(parsing: $0)["choices"]!.array![0] }
      #expect(chunks.map { $0["text"]!.string! }.joined() == choice["text"]?.string)
      #expect(chunks.flatMap { $0["logprobs"]!["token_logprobs"]!.array! } == values)
    }
  }

  @Test func tokensThatAreNoTextHaveNamesOfTheirOwn() async throws {
    // Every single byte is a token of the scripted model.
    try await TestServer.with(try ScriptedModel.make(["yes"])) { server in
      let answer = try await server.json(
        "/v1/completions", ["prompt": "ö", "echo": true, "logprobs": 1, "max_tokens": 0])
      let choice = answer["choices"]?.array?.first
      #expect(choice?["text"]?.string == "ö")
      #expect(choice?["logprobs"]?["tokens"] == .array(["bytes:\\xc3", "bytes:\\xb6"]))
    }
  }

  @Test func whatCannotBeDoneIsRefused() async throws {
    let fields: [(JSONObject, String)] = [
      (["suffix": "end"], "suffix"), (["best_of": 2], "best_of"), (["max_tokens": 0], "max_tokens"),
      (["logprobs": 21], "logprobs"), (["logprobs": true], "logprobs"), (["prompt": 5], "prompt"),
      (["prompt": .null], "prompt"), (["prompt": .array([])], "prompt"),
      (["prompt": .array([99999])], "prompt"), (["prompt": .array([1, "x"])], "prompt"),
      (["prompt": .array([.array([])])], "prompt"), (["echo": 1], "echo"),
    ]
    try await TestServer.with { server in
      for (change, parameter) in fields {
        var request: JSONObject = ["prompt": "x"]
        for (name, value) in change.members { request[name] = value }
        let response = try await server.post("/v1/completions", .object(request))
        #expect(response.status == 400, "\(parameter)")
        #expect(try JSONValue(parsing: response.body)["error"]?["param"]?.string == parameter)
      }
    }
  }

  @Test func tokensOfTexts() async throws {
    try await TestServer.with { server in
      let ids = try tokenizer.encode("Grüße")
      let answer = try await server.json("/tokenize", ["content": "Grüße"])
      #expect(answer["tokens"] == .array(ids.map { .integer(Int($0)) }))
      let pieces = try await server.json("/tokenize", ["content": "Grüße", "with_pieces": true])
      #expect(pieces["tokens"]?.array?.count == ids.count)
      #expect(pieces["tokens"]?.array?.first?["piece"] != nil)
      let back = try await server.json("/detokenize", ["tokens": answer["tokens"]])
      #expect(back["content"]?.string == "Grüße")
      for (path, body) in [
        ("/tokenize", [:]), ("/detokenize", [:]), ("/detokenize", ["tokens": .array([99999])]),
        ("/detokenize", ["tokens": "x"]), ("/tokenize", ["content": 1]),
      ] as [(String, JSONObject)] {
        #expect(try await server.post(path, .object(body)).status == 400)
      }
    }
  }
}
