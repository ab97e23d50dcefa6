import Testing

@testable import Serving

@Suite struct AnswerParserTests {
  /// The parts of a text that arrives in pieces of a length, neighbours of one kind joined.
  private func parts(_ text: String, pieces: Int, expectsCalls: Bool = true) -> [AnswerPart] {
    var parser = AnswerParser(expectsCalls: expectsCalls)
    var parts: [AnswerPart] = []
    let scalars = Array(text.unicodeScalars)
    for start in stride(from: 0, to: scalars.count, by: pieces) {
      var piece = String.UnicodeScalarView()
      piece.append(contentsOf: scalars[start..<min(start + pieces, scalars.count)])
      parts += parser.append(String(piece))
    }
    parts += parser.finish()
    var joined: [AnswerPart] = []
    for part in parts {
      switch (joined.last, part) {
      case (.content(let a), .content(let b)): joined[joined.count - 1] = .content(a + b)
      case (.reasoning(let a), .reasoning(let b)): joined[joined.count - 1] = .reasoning(a + b)
      default: joined.append(part)
      }
    }
    return joined
  }

  private static let call = AnswerPart.toolCall(ToolCall(name: "f", arguments: #"{"a":1}"#))
  private static let other = AnswerPart.toolCall(ToolCall(name: "g", arguments: "{}"))

  static let cases: [(String, [AnswerPart])] = [
    ("", []),
    ("plain < text", [.content("plain < text")]),
    ("<thin", [.content("<thin")]),
    ("<think>why</think>so", [.reasoning("why"), .content("so")]),
    (
      "<think>a < b</think>\n<response>yes</response>\n",
      [.reasoning("a < b"), .content("yes")]
    ),
    ("<think>never ends", [.reasoning("never ends")]),
    ("say <think> later", [.content("say <think> later")]),
    (
      "<response>not after a thought</response>",
      [
        .content("<response>not after a thought</response>")
      ]
    ),
    // Version 3.
    (#"<|tool_call|>[{"name": "f", "arguments": {"a": 1}}, {"name": "g"}]"#, [call, other]),
    (#"<|tool_call|> {"name": "f", "arguments": "{\"a\":1}"}"#, [call]),
    // Version 4.
    (
      "Wait.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n"
        + "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>",
      [.content("Wait.\n"), call, other]
    ),
    (
      #"<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call> done"#,
      [call, .content("done")]
    ),
    ("<think>hm</think><tool_call>{\"name\": \"g\"}</tool_call>", [.reasoning("hm"), other]),
    // Strings that hold brackets, quotes and markers.
    (
      #"<tool_call>{"name": "f", "arguments": {"a": "}\"]<tool_call>ö"}}</tool_call>"#,
      [.toolCall(ToolCall(name: "f", arguments: #"{"a":"}\"]<tool_call>ö"}"#))]
    ),
    // What is broken stays as it is.
    ("<tool_call>sorry", [.content("<tool_call>sorry")]),
    (
      #"<tool_call>{"name": "f", "arguments": {"#,
      [
        .content(#"<tool_call>{"name": "f", "arguments": {"#)
      ]
    ),
    (
      #"<tool_call>{"arguments": {}}</tool_call>"#,
      [
        .content(#"<tool_call>{"arguments": {}}</tool_call>"#)
      ]
    ),
    (
      #"<|tool_call|>[{"name": "f", "arguments": [1]}]"#,
      [
        .content(#"<|tool_call|>[{"name": "f", "arguments": [1]}]"#)
      ]
    ),
    ("<|tool_call|>[]", [.content("<|tool_call|>[]")]),
    (
      #"<tool_call>{"name": "f" "x"}<tool_call>{"name": "g"}"#,
      [
        .content(#"<tool_call>{"name": "f" "x"}"#), other,
      ]
    ),
  ]

  @Test(arguments: cases.indices, [1, 2, 3, 7, 1000])
  func cutsChangeNothing(index: Int, pieces: Int) {
    let (text, expected) = Self.cases[index]
    #expect(parts(text, pieces: pieces) == expected)
  }

  @Test func callsAreTextWhereNoneAreExpected() {
    let text = #"<tool_call>{"name": "f"}</tool_call>"#
    #expect(parts(text, pieces: 3, expectsCalls: false) == [.content(text)])
  }

  @Test func textIsNotHeldBackLongerThanItMayBeAMarker() {
    var parser = AnswerParser(expectsCalls: true)
    #expect(parser.append("Hel") == [.content("Hel")])
    #expect(parser.append("lo <") == [.content("lo ")])
    #expect(parser.append("b") == [.content("<b")])
    #expect(parser.append("<tool_call>{\"name\"") == [])
    #expect(parser.append(": \"g\"}") == [Self.other])
  }
}
