import ArgumentParser
import Foundation
import Inference
import ModelFiles
import Tokenization

struct Logits: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write the logits of every position of a text.",
    discussion: """
      The output is a safetensors file with one float32 tensor, logits [tokens, vocabulary]: row t \
      predicts the token after the first t + 1.

      EXAMPLES
        quarry logits granite.slab --text "Here is my poem:" -o logits.safetensors
        quarry logits granite.slab --tokens 10921,438,1672 -o logits.safetensors --activations f32
      """)

  @OptionGroup var model: SlabArgument
  @Option(help: "Token ids, separated by commas.")
  var tokens: String?
  @Option(parsing: .unconditional, help: "Text, tokenized as it is.")
  var text: String?
  @Option(name: [.short, .long], help: "The safetensors file to write.", completion: .file())
  var output: String
  @OptionGroup var engine: EngineOptions

  func validate() throws {
    if (tokens == nil) == (text == nil) {
      throw ValidationError("Give either --tokens or --text.")
    }
  }

  func run() throws {
    let slab = model.slab
    let model = try engine.load(model)
    let ids = try tokenIDs(model)
    guard !ids.isEmpty else { throw InputError("there is no token to compute logits of") }
    let session = try engine.makeSession(model)
    Interrupt.watch()
    let progress = Progress("computing")
    defer { progress.finish() }
    let writer = try SafetensorsWriter(
      path: output,
      tensors: [("logits", [ids.count, model.configuration.vocabularySize])],
      inputs: slab.map { [$0] } ?? [])
    do {
      try session.append(ids, logits: .all) { index, logits in
        try writer.append(logits)
        progress.update(index + 1, of: ids.count)
      }
    } catch is CancellationError {
      throw Interrupt.exitCode
    }
    try writer.finish()
  }

  private func tokenIDs(_ model: Model) throws -> [TokenID] {
    if let text { return try model.requireTokenizer().encode(text) }
    return try tokens!.split(separator: ",", omittingEmptySubsequences: false).map { word in
      guard let id = TokenID(word.trimmingCharacters(in: .whitespaces)) else {
        throw InputError("'\(word)' in --tokens is not a token id")
      }
      return id
    }
  }
}

extension Model {
  func requireTokenizer() throws -> Tokenizer {
    guard let tokenizer = try tokenizer else {
      throw InputError(
        "the slab holds no tokenizer.json, so it works on token ids only; "
          + "put the file beside config.json and convert again")
    }
    return tokenizer
  }
}
