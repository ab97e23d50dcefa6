import Foundation
import Inference
import ModelFiles
import TestModels
import TestSupport
import Testing
import Tokenization

@testable import QuarryKit

struct LanguageModelTests {
  private func options(_ count: Int) -> GenerationOptions {
    var options = GenerationOptions()
    options.temperature = 0
    (options.minTokens, options.maxTokens) = (count, count)
    return options
  }

  @Test func answersAreThoseOfTheModelAlone() async throws {
    let model = try LanguageModel(Models.pebble, contextLength: 512)
    let prompts = ["What is granite?", "Name three kinds of stone.", "Hi"]
    try await withThrowingTaskGroup { group in
      for prompt in prompts {
        group.addTask {
          let expected = try Self.alone(Models.pebble.prompt(for: prompt), options(24))
          #expect(try await model.reply(to: prompt, options: options(24)).text() == expected)
        }
      }
      try await group.waitForAll()
    }
    #expect(model.engine.statistics.requests == 3)
  }

  /// What the generator makes of a prompt.
  private static func alone(_ prompt: String, _ options: GenerationOptions) throws -> String {
    let session = try Session(model: Models.pebble, contextLength: 512)
    var generator = try Generator(
      session: session, prompt: Models.pebble.tokenizer!.encode(prompt), options: options)
    var text = ""
    while let event = try generator.next() {
      if case .text(let piece) = event { text += piece }
    }
    return text
  }

  @Test func conversationsAndRawText() async throws {
    let model = try LanguageModel(Models.pebble, contextLength: 512)
    let turns = [
      ChatTurn(.system, "Be short."), ChatTurn(.user, "Hi"), ChatTurn(.assistant, "Hello."),
      ChatTurn(.user, "What is granite?"),
    ]
    let answer = try await model.reply(to: turns, options: options(8)).text()
    #expect(!answer.isEmpty)
    let system = try await model.reply(to: "Hi", system: "Be short.", options: options(8)).text()
    #expect(
      try await model.reply(to: Array(turns[..<2]), options: options(8)).text() == system)
    #expect(
      try await model.complete("Granite is", options: options(8)).text()
        == Self.alone("Granite is", options(8)))
  }

  @Test func whoStopsReadingEndsTheWork() async throws {
    let model = try LanguageModel(Models.pebble, slots: 1)
    do {
      var count = 0
      for try await _ in try model.reply(to: "Hi", options: options(8000)) {
        count += 1
        if count == 3 { break }
      }
    }
    while model.engine.requestCount > 0 { try await Task.sleep(for: .milliseconds(1)) }
    #expect(model.engine.statistics.cancelled == 1)
    let task = Task { try await model.reply(to: "Hi", options: options(8000)).text() }
    while model.engine.statistics.generatedTokens < 10 {
      try await Task.sleep(for: .milliseconds(1))
    }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    while model.engine.requestCount > 0 { try await Task.sleep(for: .milliseconds(1)) }
    #expect(model.engine.statistics.generatedTokens < 8000)
  }

  @Test func aSlabIsEnough() async throws {
    let folder = FileManager.default.temporaryDirectory.appending(
      path: "quarry-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = folder.appending(path: "pebble.slab").path
    try Models.convert(to: path)
    // Nobody but the stream keeps the model.
    let stream = try LanguageModel(slab: path, contextLength: 256, threads: 1)
      .complete("Granite is", options: options(8))
    #expect(try await stream.text() == Self.alone("Granite is", options(8)))
  }

  @Test func whatCannotBeAnsweredIsSaid() async throws {
    #expect(throws: (any Error).self) { try LanguageModel(slab: "/nowhere.slab") }
    #expect(throws: InferenceError.contextLength(requested: 9999, limit: 8192)) {
      try LanguageModel(Models.pebble, contextLength: 9999)
    }
    let model = try LanguageModel(Models.pebble, contextLength: 16)
    #expect(throws: InferenceError.self) {
      try model.complete(String(repeating: "granite ", count: 20))
    }
    var wrong = options(3)
    wrong.temperature = -1
    #expect(throws: InvalidOption.self) { try model.complete("x", options: wrong) }
  }

  @Test func aModelThatIsNotUsedAnyMoreGoes() async throws {
    weak var engine: Engine?
    do {
      let model = try LanguageModel(Models.pebble, contextLength: 64)
      engine = model.engine
      _ = try await model.complete("x", options: options(2)).text()
    }
    for _ in 0..<2000 where engine != nil { try await Task.sleep(for: .milliseconds(5)) }
    #expect(engine == nil)
  }
}
