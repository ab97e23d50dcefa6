import Foundation
import JSON
import TestSupport
import Testing

/// `quarry batch` as a program, on the bundled model.
@Suite struct BatchCommandTests {
  private let options = ["--context", "512", "--slots", "3"]

  private static func line(_ id: String, _ prompt: String, tokens: Int = 12) -> String {
    JSONValue.object([
      "custom_id": .string(id), "method": "POST", "url": "/v1/completions",
      "body": .object(["prompt": .string(prompt), "max_tokens": .integer(tokens)]),
    ]).serialized()
  }

  private func answers(_ path: URL) throws -> [JSONValue] {
    try String(contentsOf: path, encoding: .utf8).split(separator: "\n")
      .map { try JSONValue(parsing: String($0)) }
  }

  private func text(_ answer: JSONValue) -> String? {
    answer["response"]?["body"]?["choices"]?.array?.first?["text"]?.string
  }

  @Test func answersComeInOrderAndErrorsAreTheirLines() throws {
    try Place.withTemporaryDirectory { directory in
      let input = directory.appending(path: "in.jsonl")
      let output = directory.appending(path: "out.jsonl")
      let lines = [
        Self.line("a", "Granite is"), "not JSON", Self.line("a", "twice"),
        #"{"custom_id": "c", "url": "/v1/embeddings", "body": {}}"#, "",
        #"{"custom_id": "d", "body": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}}"#,
        #"{"custom_id": "e", "body": {"messages": [], "stream": true}}"#,
        Self.line("f", "Granite is"),
      ]
      try Data(lines.joined(separator: "\n").utf8).write(to: input)
      let outcome = try quarry.run(
        ["batch", input.path, "-o", output.path, "--json"] + options)
      try #require(outcome.status == 0, "\(outcome.errors)")
      let report = try JSONValue(parsing: outcome.output)
      #expect(report["requests"]?.integer == 7 && report["failures"]?.integer == 4)
      let answers = try answers(output)
      #expect(
        answers.map { $0["custom_id"]?.string } == ["a", nil, "a", "c", "d", "e", "f"])
      #expect(
        answers.map { $0["response"]?["status_code"]?.integer }
          == [200, 400, 400, 400, 200, 400, 200])
      let error = answers[3]["response"]?["body"]?["error"]
      #expect(error?["param"]?.string == "url")
      // Seeds are the batch's and the line's: the texts differ, and are the same another time.
      #expect(text(answers[0]) != text(answers[6]))
      let again = directory.appending(path: "again.jsonl")
      let second = try quarry.run(
        ["batch", input.path, "-o", again.path, "--context", "512", "--slots", "1"])
      #expect(second.status == 0)
      #expect(try self.answers(again).map(text) == answers.map(text))
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
          == ["again.jsonl", "in.jsonl", "out.jsonl"])
      let existing = try quarry.run(["batch", input.path, "-o", output.path])
      #expect(existing.status == 1 && existing.errors.contains("exists"))
    }
  }

  @Test func promptsAreLines() throws {
    try Place.withTemporaryDirectory { directory in
      let input = directory.appending(path: "in.txt")
      let output = directory.appending(path: "out.jsonl")
      try Data("Hello\r\n\nName a stone.".utf8).write(to: input)
      let outcome = try quarry.run(
        ["batch", input.path, "--prompts", "-o", output.path] + options)
      try #require(outcome.status == 0, "\(outcome.errors)")
      #expect(outcome.output.contains("2 answers; "))
      #expect(try answers(output).map { $0["custom_id"]?.string } == ["line-1", "line-3"])
    }
  }

  @Test(arguments: [SIGKILL, SIGINT])
  func goesOnWhereItWasEnded(_ signal: Int32) throws {
    try Place.withTemporaryDirectory { directory in
      let input = directory.appending(path: "in.jsonl")
      let lines = (0..<24).map { Self.line("\($0)", "Stone \($0) is", tokens: 400) }
      try Data(lines.joined(separator: "\n").utf8).write(to: input)
      let whole = directory.appending(path: "whole.jsonl")
      let undisturbed = try quarry.run(["batch", input.path, "-o", whole.path] + options)
      try #require(undisturbed.status == 0, "\(undisturbed.errors)")

      let output = directory.appending(path: "out.jsonl")
      let journal = URL(filePath: output.path + ".journal")
      let command = ["batch", input.path, "-o", output.path] + options
      let ended = try quarry.run(command) { process, _ in
        // The title and a few answers.
        while process.isRunning,
          (try? Data(contentsOf: journal))?.count(where: { $0 == 0x0A }) ?? 0 < 4
        { usleep(1000) }
        kill(process.processIdentifier, signal)
      }
      #expect(ended.status != 0)
      if signal == SIGINT {
        #expect(ended.status == 130 && ended.errors.contains("are kept in \(journal.path)"))
      }
      try #require(!FileManager.default.fileExists(atPath: output.path))

      let other = try quarry.run(command + ["--seed", "1"])
      #expect(other.status == 1 && other.errors.contains("other work"))
      // As if the last line had not been written to its end.
      let handle = try FileHandle(forWritingTo: journal)
      try handle.seekToEnd()
      try handle.write(contentsOf: Data("7 {\"custom".utf8))
      try handle.close()
      let resumed = try quarry.run(command + ["--json"])
      try #require(resumed.status == 0, "\(resumed.errors)")
      let report = try JSONValue(parsing: resumed.output)
      #expect(try #require(report["resumed"]?.integer) >= 3)
      #expect(try answers(output).map(text) == answers(whole).map(text))
      #expect(!FileManager.default.fileExists(atPath: journal.path))
    }
  }
}
