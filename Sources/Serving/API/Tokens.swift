import JSON
import Tokenization

/// `POST /tokenize` and `POST /detokenize`.
enum Tokens {
  enum Field {
    static let content = RequestField.string("content")
    static let withPieces = RequestField.bool("with_pieces")
    static let tokens = RequestField<[TokenID]>(
      "tokens", "an array of token ids",
      [
        "type": "array",
        "items": .object([
          "type": "integer", "minimum": 0, "maximum": .integer(Int(TokenID.max)),
        ]),
      ]
    ) { value in
      let ids = value.array?.map { $0.integer.flatMap(TokenID.init(exactly:)) }
      return ids.flatMap { $0.contains(nil) ? nil : $0.compactMap { $0 } }
    }
  }

  /// The ids of `content`, or of what the template makes of `messages`; with `with_pieces`, how the
  /// vocabulary spells them.
  static func tokenize(_ fields: RequestFields, model: ServedModel) throws -> APIResponse {
    let text: String
    if let content = try fields.read(Field.content) {
      text = content
    } else if fields["messages"] != nil {
      text = try ChatPrompt(fields, model: model).render(model)
    } else {
      throw fields.wrong(Field.content.name, "a string; messages may stand in its place")
    }
    let withPieces = try fields.read(Field.withPieces) ?? false
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
    guard let tokens = try fields.read(Field.tokens) else {
      throw fields.wrong(Field.tokens.name, Field.tokens.expected)
    }
    return .json(["content": .string(try model.tokenizer.decode(tokens))])
  }
}
