import JSON
import Tokenization

/// `POST /tokenize` and `POST /detokenize`.
enum Tokens {
  /// The ids of `content`, or of what the template makes of `messages`; with `with_pieces`, how the
  /// vocabulary spells them.
  static func tokenize(_ fields: RequestFields, model: ServedModel) throws -> APIResponse {
    let text: String
    if let content = try fields.string("content") {
      text = content
    } else if fields["messages"] != nil {
      text = try ChatPrompt(fields, model: model).render(model)
    } else {
      throw fields.wrong("content", "a string; messages may stand in its place")
    }
    let withPieces = try fields.bool("with_pieces") ?? false
    let tokens = try model.tokenizer.encode(text).map { id -> JSONValue in
      guard withPieces else { return .integer(Int(id)) }
      // Not every token is whole characters.
      let bytes = model.tokenizer.bytes(of: id) ?? []
      let piece =
        String(validating: bytes, as: UTF8.self).map { JSONValue.string($0) }
        ?? .array(bytes.map { .integer(Int($0)) })
      return .object(["id": .integer(Int(id)), "piece": piece])
    }
    return .json(["tokens": .array(tokens), "count": .integer(tokens.count)])
  }

  /// The text of `tokens`.
  static func detokenize(_ fields: RequestFields, model: ServedModel) throws -> APIResponse {
    let tokens = try fields.array("tokens")?.map { value in
      guard let id = value.integer.flatMap(TokenID.init(exactly:)) else {
        throw fields.wrong("tokens", "an array of token ids")
      }
      return id
    }
    guard let tokens else { throw fields.wrong("tokens", "an array of token ids") }
    return .json(["content": .string(try model.tokenizer.decode(tokens))])
  }
}
