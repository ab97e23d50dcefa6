import Foundation
import Inference
import JSON
import QuarryKit
import TestModels
import TestSupport
import Testing
import Tokenization

@testable import Serving

/// Models that are not plain stacks of attention and MLP behind the server, as their users meet them.
@Suite struct ArchitectureTests {
  @Test(arguments: ["hybrid-experts", "hybrid-mamba-groups", "moe-shared", "bigcode"])
  func streamsAreWhatTheModelSaysAlone(shape: String) async throws {
    let model = try Models.synthetic(shape)
    let seeds: [UInt64] = [1, 2, 3]
    let prompt = try model.prompt(for: "What is granite?")
    let alone = try seeds.map { seed in
      try model.answer(to: prompt) { ($0.seed, $0.maxTokens) = (seed, 40) }.text
    }
    #expect(Set(alone).count == seeds.count)
    try await TestServer.with(model, slots: 3) { server in
      let answers = try await withThrowingTaskGroup(of: (Int, String).self) { group in
        for (index, seed) in seeds.enumerated() {
          group.addTask {
            let events = try await server.events(
              "/v1/chat/completions",
              [
                "messages": user("What is granite?"), "stream": true, "max_tokens": 40,
                "seed": .integer(Int(seed)),
              ])
            #expect(events.last == "[DONE]")
            return (index, try events.dropLast().map { try text(of: $0) }.joined())
          }
        }
        var answers = seeds.map { _ in "" }
        for try await (index, answer) in group { answers[index] = answer }
        return answers
      }
      #expect(answers == alone)
    }
  }

  /// The next turn of a chat begins with what was read and said before.
  @Test(arguments: ["hybrid-experts", "moe-shared"])
  func theNextTurnReadsOnlyWhatIsNew(shape: String) async throws {
    let model = try Models.synthetic(shape)
    try await TestServer.with(model) { server in
      func turn(_ messages: [JSONValue]) async throws -> (text: String, read: Int, cached: Int) {
        let answer = try await server.json(
          "/v1/chat/completions",
          ["messages": .array(messages), "max_tokens": 20, "seed": 5])
        let usage = answer["usage"]
        return (
          answer["choices"]?.array?.first?["message"]?["content"]?.string ?? "",
          try #require(usage?["prompt_tokens"]?.integer),
          try #require(usage?["prompt_tokens_details"]?["cached_tokens"]?.integer)
        )
      }
      let question = user("Tell me of rocks, one after the other.").array!
      let first = try await turn(question)
      let more =
        question + [
          .object(["role": "assistant", "content": "Gneiss, basalt."]),
          .object(["role": "user", "content": "More of them."]),
        ]
      let second = try await turn(more)
      #expect(second.cached >= first.read - 1 && second.cached < second.read)
      // From the beginning, nothing in the cache.
      try await TestServer.with(model) { cold in
        let answer = try await cold.json(
          "/v1/chat/completions", ["messages": .array(more), "max_tokens": 20, "seed": 5])
        #expect(
          answer["choices"]?.array?.first?["message"]?["content"]?.string == second.text)
      }
    }
  }
}

private func user(_ text: String) -> JSONValue {
  .array([.object(["role": "user", "content": .string(text)])])
}

private func text(of event: String) throws -> String {
  try JSONValue(parsing: event)["choices"]?.array?.first?["delta"]?["content"]?.string ?? ""
}
