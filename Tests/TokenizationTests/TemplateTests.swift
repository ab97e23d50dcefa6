import JSON
import Testing
import Tokenization

@Suite struct TemplateTests {
  static let date = TemplateDate(year: 2025, month: 4, day: 12)

  private static func error(_ source: String) -> TemplateError? {
    do throws(TemplateError) {
      _ = try ChatTemplate(source).render([("x", 1), ("s", "abc")], date: date)
      return nil
    } catch {
      return error
    }
  }

  static let refused: [(String, String)] = [
    ("{{ 9223372036854775807 + x }}", "'+'"), ("{{ 2 ** 63 }}", "'**'"),
    ("{{ 9223372036854775807 * 2 }}", "'*'"), ("{{ -9223372036854775807 - 2 }}", "'-'"),
    ("{{ 9223372036854775808 }}", "9223372036854775808"),
    ("{{ '99999999999999999999'|int }}", "'int'"),
    ("{{ 1e30|int }}", "'int'"), ("{{ (-8) ** 0.5 }}", "complex"), ("{{ '%d' % 1 }}", "'%'"),
    ("{{ s.swapcase() }}", "'swapcase'"), ("{{ s.format(1) }}", "'format'"),
    ("{{ s|wordcount }}", "'wordcount'"), ("{{ s|nope }}", "'nope'"), ("{{ x is nope }}", "'nope'"),
    ("{{ s|escape }}", "'escape'"), ("{{ s|safe ~ 'x' }}", "'safe'"),
    ("{% set y = s|safe %}", "'safe'"),
    ("{{ [s]|map('nope')|list }}", "'nope'"), ("{{ [s]|select('nope')|list }}", "'nope'"),
    ("{{ cycler(1) }}", "'cycler'"), ("{{ joiner() }}", "'joiner'"), ("{{ lipsum() }}", "'lipsum'"),
    ("{% include 'a' %}", "'include'"), ("{% extends 'a' %}", "'extends'"),
    ("{% import 'a' as b %}", "'import'"), ("{% from 'a' import b %}", "'from'"),
    ("{% block a %}{% endblock %}", "'block'"),
    ("{% autoescape true %}{% endautoescape %}", "'autoescape'"),
    ("{% do s.upper() %}", "'do'"), ("{% for a in s recursive %}{% endfor %}", "recursive"),
    ("{{ strftime_now('%E') }}", "'%E'"), ("{{ '\\N{DASH}' }}", "\\N"),
    ("{{ s is sameas s }}", "'sameas'"),
    ("{{ s[1:2, 3] }}", "slices"), ("{{ x }}{{ 1 if x if x }}", "inline 'if'"),
    ("{{ raise_exception('no roles: ' ~ s) }}", "no roles: abc"),
    ("{{ missing.name }}", "'missing'"),
    ("{{ s + missing }}", "'missing'"), ("{{ s + x }}", "'str' and 'int'"),
    ("{{ none + s }}", "'NoneType'"),
  ]

  /// What is not supported, or beyond 64 bits, is refused by name and line.
  @Test(arguments: refused)
  func namesWhatIsWrong(source: String, part: String) throws {
    let error = try #require(Self.error("first\n\n" + source))
    #expect(error.message.contains(part), "\(error)")
    #expect(error.line == 3)
    #expect(error.description == "chat template, line 3: \(error.message)")
  }

  @Test func errorsTellTheLineOfNestedParts() throws {
    let error = try #require(
      Self.error(
        "{% macro f(a) %}\n{{ a }}\n{{ a.b.c }}{% endmacro %}\n\n{% if x %}\n{{ f(x) }}\n{% endif %}"
      ))
    #expect(error.line == 3)
    #expect(try #require(Self.error("{% if x %}\n\n{% for y in s %}\n{% endif %}")).line == 4)
  }

  /// What is not understood in a branch that is not taken does no harm.
  @Test func unknownFiltersMatterOnlyWhereTheyRun() throws {
    #expect(Self.error("{% if x == 2 %}{{ s|nope }}{{ s is nope }}{% endif %}") == nil)
    #expect(Self.error("{% if x == 1 %}{{ s|nope }}{% endif %}") != nil)
  }

  @Test func comparesCodePointsAndNotGraphemes() throws {
    let template = try ChatTemplate(
      "{{ a == b }} {{ a|length }} {{ b|length }} {{ b[0] }} {{ f|length }} {{ {a: 1, b: 2}|length }}"
    )
    let text = try template.render(
      [("a", "\u{E9}"), ("b", "e\u{301}"), ("f", "🇩🇪")], date: Self.date)
    #expect(text == "False 1 2 e 2 2")
  }

  // MARK: - Conversations

  @Test func conversationsBringTheirVariables() throws {
    let template = try ChatTemplate(
      "{{ messages|tojson }}{{ tools }}{{ documents }}{{ add_generation_prompt }}"
        + "{{ bos_token }}{{ eos_token is defined }}{{ thinking }}")
    var input = ChatInput(messages: try JSONValue(parsing: #"[{"role": "user", "content": "Hi"}]"#))
    #expect(
      try template.render(input, date: Self.date)
        == #"[{"role": "user", "content": "Hi"}]NoneNoneTrueFalse"#)
    input.tools = .array([])
    input.documents = .array([.object(["text": "a"])])
    input.addGenerationPrompt = false
    input.specialTokens = ["bos_token": "<s>", "eos_token": "</s>"]
    input.variables = ["thinking": true, "bos_token": "<b>"]
    #expect(
      try template.render(input, date: Self.date)
        == #"[{"role": "user", "content": "Hi"}][][{'text': 'a'}]False<b>TrueTrue"#)
  }

  @Test func messagesLoseNullsAndKeepReasoningUnderBothNames() throws {
    let template = try ChatTemplate("{{ messages[0] }}")
    func render(_ message: JSONObject) throws -> String {
      try template.render(ChatInput(messages: .array([.object(message)])), date: Self.date)
    }
    #expect(
      try render(["role": "user", "content": .null, "tool_calls": .null]) == "{'role': 'user'}")
    #expect(
      try render(["role": "assistant", "reasoning": "hm"])
        == "{'thinking': 'hm', 'role': 'assistant', 'reasoning': 'hm', 'reasoning_content': 'hm'}")
    #expect(
      try render(["thinking": "a", "reasoning_content": "b"])
        == "{'thinking': 'a', 'reasoning_content': 'b'}")
  }

  @Test func messagesMustBeObjects() throws {
    let template = try ChatTemplate("")
    for messages: JSONValue in ["x", .array(["x"]), .object(["role": "user"])] {
      #expect(throws: TemplateError.self) {
        try template.render(ChatInput(messages: messages), date: Self.date)
      }
    }
  }

  // MARK: - Dates

  @Test(arguments: [
    (2025, 1, 1, "Wed 001 W01 2025"), (2021, 1, 3, "Sun 003 W53 2020"),
    (2024, 12, 30, "Mon 365 W01 2025"), (2024, 2, 29, "Thu 060 W09 2024"),
    (2000, 12, 31, "Sun 366 W52 2000"), (1900, 3, 1, "Thu 060 W09 1900"),
    (9999, 12, 31, "Fri 365 W52 9999"), (1, 1, 1, "Mon 001 W01 1"),
  ])
  func calendar(year: Int, month: Int, day: Int, expected: String) throws {
    let template = try ChatTemplate("{{ strftime_now('%a %j W%V %G') }}")
    let date = TemplateDate(year: year, month: month, day: day)
    #expect(try template.render([], date: date) == expected)
  }

  @Test func datesThatDoNotExist() throws {
    let template = try ChatTemplate("{{ strftime_now('%Y') }}")
    for (year, month, day) in [
      (2025, 2, 29), (2025, 13, 1), (2025, 0, 1), (2025, 4, 31), (0, 1, 1), (10_000, 1, 1),
      (.min, .max, .min),
    ] {
      let date = TemplateDate(year: year, month: month, day: day)
      #expect(!date.isValid)
      #expect(throws: TemplateError.self) { try template.render([], date: date) }
    }
    #expect(TemplateDate.today().isValid)
  }
}
