import Foundation
import JSON
import TestSupport
import Testing

@testable import Tokenization

/// Templates that were made to do harm: a typed error, soon, whatever they say.
@Suite struct TemplateHostileTests {
  static let date = TemplateDate(year: 2025, month: 4, day: 12)
  static let messages = try! JSONValue(
    parsing: #"""
      [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": "Hé 😀"},
       {"role": "assistant", "content": "<think>x</think>\n\nyes"}]
      """#)

  /// Costs that are counted are in proportion to the bytes, so an eighth of them shows the same soon;
  /// those that are not go on until the steps end, which is too late for the clock.
  static let limits = TemplateLimits(bytes: 1 << 24)

  /// Anything but a trap or a hang is fine.
  private static func survive(_ source: String) {
    guard let template = try? ChatTemplate(source) else { return }
    _ = try? template.render(ChatInput(messages: messages), date: date)
  }

  /// The templates of the goldens.
  private static func sources() throws -> [String] {
    let folder = Place.goldens.appending(path: "templates")
    return try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
      .filter { $0.pathExtension == "jinja" }.sorted { $0.path < $1.path }
      .map { try String(contentsOf: $0, encoding: .utf8) }
  }

  @Test func everyTruncation() throws {
    for source in try Self.sources() {
      let scalars = Array(source.unicodeScalars)
      for count in 0..<scalars.count {
        var view = String.UnicodeScalarView()
        view.append(contentsOf: scalars[..<count])
        Self.survive(String(view))
      }
    }
  }

  @Test func randomChanges() throws {
    var random = SplitMix64(seed: 7)
    let pieces =
      ["{", "}", "%", "#", "-", "'", "\"", "\\", "(", ")", "[", "]", "|", ".", ",", "~"]
      + [
        "{%", "%}", "{{", "}}", " if ", " in ", " not ", " is ", "9", "é", "\n", "endfor", "range(",
      ]
    for source in try Self.sources() {
      let scalars = Array(source.unicodeScalars)
      for _ in 0..<300 {
        var changed = scalars
        for _ in 0...Int.random(in: 0..<3, using: &random) {
          let start = Int.random(in: 0..<changed.count, using: &random)
          let end = min(start + Int.random(in: 0..<4, using: &random), changed.count)
          let piece = pieces.randomElement(using: &random)!
          changed.replaceSubrange(start..<end, with: Array(piece.unicodeScalars))
        }
        var view = String.UnicodeScalarView()
        view.append(contentsOf: changed)
        Self.survive(String(view))
      }
    }
  }

  static func times(_ text: String, _ count: Int) -> String {
    String(repeating: text, count: count)
  }

  static let nested: [(String, String)] = [
    ("parentheses", "{{ " + times("(", 100_000)), ("lists", "{{ " + times("[", 100_000) + " }}"),
    ("closed lists", "{{ " + times("[", 90) + times("]", 90) + " }}{{ " + times("[", 5_000)),
    ("not", "{{ " + times("not ", 100_000) + "x }}"),
    ("signs", "{{ " + times("-", 100_000) + "1 }}"),
    ("blocks", times("{% if x %}", 100_000)), ("loops", times("{% for x in y %}", 100_000)),
    ("else", "{{ " + times("1 if x else ", 100_000) + "1 }}"),
    ("tests", "{{ x is " + times("in [1 is ", 100_000) + " }}"),
    ("targets", "{% set " + times("(", 100_000) + "x = 1 %}"),
    ("macros", times("{% macro f() %}", 100_000)), ("comment", times("{#", 100_000)),
    ("raw", times("{% raw %}", 100_000)), ("a long template", times("x", 1 << 20 + 1)),
  ]

  @Test(arguments: nested)
  func nesting(name: String, source: String) {
    #expect(throws: TemplateError.self) { try ChatTemplate(source) }
  }

  static let long: [(String, String)] = [
    ("chain of attributes", "{{ messages" + times("[0]", 50_000) + " }}"),
    ("chain of sums", "{{ 1" + times(" + 1", 50_000) + " }}"),
    ("chain of filters", "{{ 'a'" + times("|upper", 50_000) + " }}"),
    ("elif", "{% if 0 %}" + times("{% elif 0 %}", 30_000) + "{% endif %}"),
    ("names", (0..<20_000).map { "{% set a\($0) = \($0) %}" }.joined()),
  ]

  @Test(arguments: long)
  func longButShallow(name: String, source: String) {
    Self.survive(source)
  }

  @Test(
    .serialized,
    arguments: [
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
      "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
      "{{ range(1000000000)|list }}", "{{ range(-9223372036854775807, 9223372036854775807) }}",
      "{{ 'x' * 1000000000 }}", "{{ [0] * 1000000000 }}",
      "{{ ('x' * 100000)|replace('x', 'y' * 100000) }}",
      "{{ ('x' * 100000)|replace('', 'y' * 100000) }}", "{{ range(99999)|join('y' * 100000) }}",
      "{{ ('y' * 100000).join(('x' * 100000)|list) }}", "{{ ('a\n' * 100000)|indent(100000) }}",
      "{{ [[[1]]]|tojson(indent=1000000000) }}",
      "{{ [[[[[1, 2]]]]]|tojson(indent='x' * 1000000) }}",
      "{% set ns = namespace(x='x') %}{% for i in range(99999) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
      "{% set ns = namespace(x='x') %}{% for i in range(99999) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(99999) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}",
      "{% set ns = namespace(x={}) %}{% for i in range(99999) %}{% set ns.x = {'a': ns.x} %}{% endfor %}",
      "{% set ns = namespace(x=(1, 2)) %}{% for i in range(99) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ ns.x }}",
      "{% set ns = namespace(x=(1, 2)) %}{% for i in range(99) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} }}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|tojson }}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == ns.x }}",
      "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x < ns.x }}",
      "{% set ns = namespace() %}{% set ns.ns = ns %}{{ ns }}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}",
      "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(20) }}{{ f(40) }}",
      "{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}",
      "{% set x = 'ab' * 1000000 %}{% for i in range(99999) %}{{ 'b' * 1000000 in x }}{% endfor %}",
      "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{% if x.split('a' * 500000 ~ 'b') %}{% endif %}{% endfor %}",
      "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{% if x|upper == x %}{% endif %}{% endfor %}",
      "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{% if {x: 1}[x] %}{% endif %}{% endfor %}",
      "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{% if x[:999999] %}{% endif %}{% endfor %}",
      "{% set x = ('é' * 1000000) %}{% for i in range(99999) %}{% if x[999999] %}{% endif %}{% endfor %}",
      "{% for i in range(99999) %}{% if range(99999)|list|sort %}{% endif %}{% endfor %}",
      "{% for i in range(99999) %}{% if range(99999)|map('string')|join %}{% endif %}{% endfor %}",
      "{% for i in range(99999) %}{% if 99998 in range(99999) %}{% endif %}{% endfor %}",
      "{% for i in range(99999) %}{{ 'y' * 9999 }}{% endfor %}",
      "{% for i in range(99999) if range(99999)|sum > 0 %}{% endfor %}",
      "{% set ns = namespace(x=0) %}{% for i in range(99999) %}{% for j in range(999) %}{% set ns.x = namespace(y=ns.x) %}{% endfor %}{% endfor %}",
      "{{ strftime_now('%c' * 1000000) }}", "{{ ('9' * 10000000)|int }}", "{{ 9 ** 9 ** 9 ** 9 }}",
      "{{ dict([('a' * 10000000, 1)] * 1000) }}", "{{ [('x' * 1000000)] * 100000 }}",
      "{{ (['x' * 1000000] * 1000)|join }}", "{{ (['x' * 1000000] * 1000) }}",
      "{{ (['\\n' * 1000000] * 1000)|tojson }}",
      "{{ messages[0].content[::9223372036854775807] * 99999999999 }}",
    ])
  func bombs(source: String) throws {
    let template = try ChatTemplate(source)
    let clock = ContinuousClock()
    let start = clock.now
    #expect(throws: TemplateError.self) {
      try template.render([("messages", Self.messages)], date: Self.date, limits: Self.limits)
    }
    // A debug build on a busy machine needs a second at the most; a bomb would need years.
    #expect(clock.now - start < .seconds(20))
  }

  /// What costs time or memory without being written or counted as a list.
  @Test(
    .serialized,
    arguments: [
      "{% set x = 'a' * 1000000 %}L{% if [][x] %}{% endif %}E",
      "{% set x = 'a' * 1000000 %}L{% if x is filter %}{% endif %}E",
      "{% set x = 'a' * 1000000 %}L{% if x|trim %}{% endif %}E",
      "{% set x = 'a' * 1000000 %}L{% if x|replace('b', 'c') %}{% endif %}E",
      "{% set x = 'a' * 1000000 %}L{% if 'a'.rfind(x) %}{% endif %}E",
      "{% set x = 'a' * 1000000 %}{% set y = (x ~ 'b',) * 99999 %}L{% if x.startswith(y) %}{% endif %}E",
      "{% set x = 'a.' * 1000000 %}L{% if [1]|map(attribute=x) %}{% endif %}E",
      "{% set x = 'a,' * 900000 %}{{ range(99999)|sort(attribute=x) }}",
      "{% set x = '%z' * 1000000 %}L{% if strftime_now(x) %}{% endif %}E",
      "L{% if range(99999) == range(99998) %}{% endif %}E",
      "{% macro f() %}{{ varargs }}{% endmacro %}{% set x = [1] * 99999 %}L{% if f(*x) %}{% endif %}E",
      "L{% if LONG %}{% endif %}E", "L{% if [].LONG %}{% endif %}E",
      "L{% macro f() %}{% endmacro %}{% continue %}SETS E", "{{ f(KEYWORDS) }}",
      "{% macro f(PARAMETERS) %}{% endmacro %}",
    ])
  func hiddenCosts(source: String) throws {
    let names = (0..<30_000).map { "a\($0)" }
    let texts = [
      ("KEYWORDS", names.map { $0 + "=1" }.joined(separator: ",")),
      ("PARAMETERS", names.joined(separator: ",")),
      ("SETS ", names.map { "{% set \($0) = 1 %}" }.joined()), ("LONG", Self.times("x", 500_000)),
      ("L{", "{% for i in range(99999) %}{% for j in range(9) %}{"),
      ("}E", "}{% endfor %}{% endfor %}"),
    ]
    let written = texts.reduce(source) { $0.replacing($1.0, with: $1.1) }
    let clock = ContinuousClock()
    let start = clock.now
    #expect(throws: TemplateError.self) {
      try ChatTemplate(written).render(
        [("messages", Self.messages)], date: Self.date, limits: Self.limits)
    }
    #expect(clock.now - start < .seconds(20))
  }

  @Test func deepVariables() throws {
    var value: JSONValue = .integer(1)
    for _ in 0..<10_000 { value = .array([value]) }
    #expect(throws: TemplateError.self) {
      try ChatTemplate("{{ x }}").render([("x", value)], date: Self.date)
    }
    // Freeing it level by level; the destructor of nested arrays would recurse.
    while case .array(let elements) = value { value = elements[0] }
  }

  @Test func longConversationsStayWithinTheBounds() throws {
    let turns = (0..<2_000).map { index -> JSONValue in
      let role: JSONValue = index % 2 == 0 ? "user" : "assistant"
      return .object(["role": role, "content": .string(Self.times("word ", 100))])
    }
    let folder = Place.goldens.appending(path: "templates")
    for name in ["turns", "thinking", "alternating"] {
      let source = try String(
        contentsOf: folder.appending(path: name + ".jinja"), encoding: .utf8)
      let input = ChatInput(messages: .array(turns), specialTokens: ["bos_token": "<s>"])
      #expect(try ChatTemplate(source).render(input, date: Self.date).utf8.count > 900_000)
    }
  }
}
