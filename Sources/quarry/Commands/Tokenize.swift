import ArgumentParser
import JSON
import Tokenization

struct Tokenize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print the token ids of text read from standard input.",
    discussion: """
      EXAMPLES
        echo -n "Hello, quarry" | quarry tokenize granite.slab
        echo '["one text", "another"]' | quarry tokenize granite-3.3-2b-instruct --json
      """)

  @OptionGroup var source: AssetSource
  @Flag(help: "Read a JSON array of texts; print an array of arrays of ids.")
  var json = false
  @Flag(help: "Print the pieces instead of the ids.")
  var pieces = false

  func run() throws {
    let tokenizer = try source.tokenizer()
    if json {
      guard let texts = try InputFiles.readJSON("-").array else {
        throw InputError("standard input is not a JSON array of texts")
      }
      let rows = try texts.map { text -> JSONValue in
        guard let text = text.string else {
          throw InputError("standard input is not a JSON array of texts: it holds \(text.kind)")
        }
        return .array(
          try tokenizer.encode(text).map {
            pieces ? .string(tokenizer.piece($0) ?? "") : .integer(Int($0))
          })
      }
      try Console.write(JSONValue.array(rows).serialized() + "\n")
    } else {
      let ids = try tokenizer.encode(utf8: InputFiles.read("-"))
      let words = ids.map { pieces ? tokenizer.piece($0) ?? "" : "\($0)" }
      try Console.write(words.joined(separator: " ") + "\n")
    }
  }
}

struct Detokenize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print the text of token ids read from standard input.",
    discussion: """
      EXAMPLES
        echo "10921 438 1672" | quarry detokenize granite.slab
        echo '[[10921, 438], [1672]]' | quarry detokenize granite.slab --json
      """)

  @OptionGroup var source: AssetSource
  @Flag(help: "Read a JSON array of arrays of ids; print an array of texts.")
  var json = false
  @Flag(help: "Leave special tokens out of the text.")
  var skipSpecialTokens = false

  func run() throws {
    let tokenizer = try source.tokenizer()
    if json {
      guard let rows = try InputFiles.readJSON("-").array else { throw Self.malformed }
      let texts = try rows.map { row -> JSONValue in
        let ids = try row.array?.map { id in
          guard let id = id.integer.flatMap(TokenID.init(exactly:)) else { throw Self.malformed }
          return id
        }
        guard let ids else { throw Self.malformed }
        return .string(try tokenizer.decode(ids, skipSpecialTokens: skipSpecialTokens))
      }
      try Console.write(JSONValue.array(texts).serialized() + "\n")
    } else {
      let words = try InputFiles.readText("-").split { $0.isWhitespace || $0 == "," }
      let ids = try words.map { word in
        guard let id = TokenID(word) else { throw InputError("'\(word)' is not a token id") }
        return id
      }
      try Console.write(try tokenizer.decode(ids, skipSpecialTokens: skipSpecialTokens) + "\n")
    }
  }

  private static let malformed = InputError(
    "standard input is not a JSON array of arrays of token ids")
}
