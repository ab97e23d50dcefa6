import Conversion
import Foundation
import Inference
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing
import Tokenization

/// The README's example: from a slab to streamed text.
private func stream(_ prompt: String, from path: String, to show: (String) -> Void) throws {
  let pool = WorkerPool(threadCount: 2)
  let model = try Model(slab: Slab(path: path), pool: pool, kernels: .selected())
  let session = try Session(model: model)
  let tokens = try model.tokenizer!.encode(model.prompt(for: prompt))
  var generator = try Generator(session: session, prompt: tokens, options: GenerationOptions())
  while let event = try generator.next() {
    if case .text(let text) = event { show(text) }
  }
}

@Suite struct ExampleTests {
  @Test(arguments: [SlabProfile.run, .ship]) func streamsText(profile: SlabProfile) throws {
    try Place.withTemporaryDirectory { folder in
      let path = folder.appending(path: "pebble.slab").path
      _ = try Converter(
        checkpoint: Checkpoint(directory: Pebble.directory.path), recipe: .q4, calibration: .none,
        profile: profile,
        pool: Slabs.pool
      ).run(to: path)
      var answer = ""
      try stream("What is the capital of Ecuador?", from: path) { answer += $0 }
      #expect(answer == "The capital of Ecuador is Quito.")
    }
  }

  /// What is compiled here and in `tools/example` is what the README shows.
  @Test func theReadmeShowsWhatCompiles() throws {
    func lines(_ url: URL) throws -> [String] {
      try String(contentsOf: url, encoding: .utf8).split(separator: "\n").map {
        $0.trimmingCharacters(in: .whitespaces)
      }
    }
    let readme = try lines(Place.root.appending(path: "README.md"))
    let examples = readme.indices.filter { readme[$0] == "```swift" }.map { start in
      Array(readme[(start + 1)...].prefix { $0 != "```" })
    }
    #expect(examples.map(\.count) == [4, 8])
    let app = try lines(Place.root.appending(path: "tools/example/Sources/example/main.swift"))
    let here = try lines(URL(filePath: #filePath))
    for example in examples { #expect(app.contains(example) || here.contains(example)) }
  }
}
