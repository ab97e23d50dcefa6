import Conversion
import Pebble
import Testing
import Tokenization

@testable import Inference

@Suite struct PromptTests {
  private static let date = TemplateDate(year: 2025, month: 4, day: 12)

  @Test func aPromptBecomesTheUsersTurn() throws {
    let model = try Slabs.pebble(.q4)
    #expect(
      try model.prompt(for: "Hi", system: "Be brief.", date: Self.date) == """
        <|start_of_role|>system<|end_of_role|>Be brief.<|end_of_text|>
        <|start_of_role|>user<|end_of_role|>Hi<|end_of_text|>
        <|start_of_role|>assistant<|end_of_role|>
        """)
    #expect(try model.prompt(for: "Hi").contains("You are Pebble"))
  }

  @Test func promptsWithTheTemplatesFirstTokenAreRaw() throws {
    let model = try Slabs.pebble(.q4)
    let raw = "<|start_of_role|>user<|end_of_role|>Hi"
    #expect(try model.isRawPrompt(raw))
    #expect(try model.prompt(for: raw, date: Self.date) == raw)
    #expect(try !model.isRawPrompt(" " + raw))
    // Other special tokens do not count, nor does the empty prompt.
    #expect(try !model.isRawPrompt("<|end_of_text|>Hi"))
    #expect(try !model.isRawPrompt(""))
  }

  @Test func withoutATemplateEverythingIsRaw() throws {
    let model = try ScriptedModel.make()
    #expect(try model.isRawPrompt("Hello"))
    #expect(try model.prompt(for: "Hello", system: "unused") == "Hello")
  }

  @Test func anotherTemplateDecidesWhatIsRaw() throws {
    let other = try ChatTemplate("<|end_of_text|>{{ messages[0].content }}")
    #expect(try !ScriptedModel.make().isRawPrompt("Hello", template: other))
    let pebble = try Slabs.pebble(.q4)
    #expect(try pebble.isRawPrompt("<|end_of_text|>Hi", template: other))
    #expect(try !pebble.isRawPrompt("<|start_of_role|>user", template: other))
  }

  @Test func messagesBeginWithTheTemplatesFirstToken() throws {
    let pebble = try Slabs.pebble(.q4)
    #expect(try pebble.messageStart == pebble.tokenizer!.encode("<|start_of_role|>")[0])
    #expect(try ScriptedModel.make().messageStart == nil)
  }

  @Test func aTemplateOrTokenizerThatCannotBeExecutedIsNamedWhenNeeded() throws {
    let files = [
      "config.json": #"""
      {"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
       "num_attention_heads": 1, "vocab_size": 9, "max_position_embeddings": 9}
      """#,
      "tokenizer.json": #"{"model": {"type": "Unigram"}}"#,
      "chat_template.jinja": "{% frobnicate %}",
      "tokenizer_config.json": #"""
      {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "unused"}
      """#,
      "special_tokens_map.json": #"{"bos_token": "<other>", "unk_token": "<unk>"}"#,
    ]
    let assets = try ModelAssets(path: "") { files[$0].map { Array($0.utf8) } }
    #expect(throws: TokenizerError.self) { try assets.tokenizer?.get() }
    #expect(throws: TemplateError.self) { try assets.chatTemplate?.get() }
    #expect(
      assets.specialTokens == ["bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"])
  }

  @Test func templatesWithNames() throws {
    func template(_ json: String) throws -> ChatTemplate? {
      let files = [
        "config.json": #"""
        {"model_type": "llama", "hidden_size": 8, "intermediate_size": 8,
         "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9,
         "max_position_embeddings": 9}
        """#, "tokenizer_config.json": json,
      ]
      return try ModelAssets(path: "") { files[$0].map { Array($0.utf8) } }.chatTemplate?.get()
    }
    let named = try template(
      #"""
      {"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]}
      """#)
    #expect(try named?.render([], date: Self.date) == "d")
    #expect(try template("{}") == nil)
  }
}
