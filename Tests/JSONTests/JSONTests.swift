import JSON
import Testing

@Suite struct JSONTests {
  @Test func keepsOrderAndKinds() throws {
    let value = try JSONValue(
      parsing: #" {"b": 1, "a": [1.0, -2e3, "x\u00e9\ud83d\ude00\n", null, true], "é": {}} "#)
    #expect(value.object?.members.map(\.key) == ["b", "a", "é"])
    #expect(value["b"] == .integer(1))
    #expect(
      value["a"] == .array([.double(1), .double(-2000), .string("xé😀\n"), .null, .bool(true)]))
  }

  @Test func wholeNumbersBeyondIntBecomeDoubles() throws {
    let value = try JSONValue(parsing: "[9223372036854775807, 1000000000000000019884624838656]")
    #expect(value == .array([.integer(.max), .double(1e30)]))
  }

  @Test func keysAreComparedByBytes() throws {
    let value = try JSONValue(parsing: "{\"\u{e9}\": 1, \"e\u{301}\": 2}")
    #expect(value.object?.count == 2)
  }

  @Test(arguments: [
    ("", "unexpected end"), ("[1,]", "expected a value"), ("{\"a\":1,\"a\":2}", "duplicate key"),
    ("[01]", "superfluous 0"), ("\"\\ud800\"", "half a surrogate"), ("[1] 2", "after the document"),
    ("\"a", "does not end"), ("\"\\", "does not end"), ("nul", "expected null"),
    ("1e999", "out of range"),
    ("{\"a\" 1}", "expected ':'"), ("[1 2]", "',' or ']'"), ("\"\u{1}\"", "control character"),
    ("1.", "digits after"), ("\"\\u12\"", "incomplete"), ("\"\\x\"", "unknown escape"),
    (String(repeating: "[", count: 5000), "nested too deeply"),
  ])
  func refuses(_ text: String, _ reason: String) {
    let error = #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
    #expect(error?.reason.contains(reason) == true, "\(String(describing: error))")
  }

  @Test func refusesInvalidUTF8() {
    #expect(throws: JSONError.self) { try JSONValue(parsing: [0x22, 0xC3, 0x22]) }
  }

  @Test func truncationsNeverTrap() throws {
    let text = Array(#"{"a": [1.5e3, "x\u00e9\ud83d\ude00", {"b": null}], "c": false}"#.utf8)
    for count in 0..<text.count {
      #expect(throws: JSONError.self) { try JSONValue(parsing: Array(text[..<count])) }
    }
  }
}

@Suite struct ShownTextTests {
  @Test func nothingReachesTheTerminalButText() {
    #expect("it's \"é\" \\ 😀".shown == "it's \"é\" \\ 😀")
    #expect(
      "a\u{1B}[2J\n\u{7F}\u{9B}1m\u{202E}\u{2028}".shown
        == #"a\u{1B}[2J\n\u{7F}\u{009B}1m\u{202E}\u{2028}"#)
    // One grapheme cluster of many scalars.
    #expect("e\(String(repeating: "\u{301}", count: 9000))".shown.unicodeScalars.count == 121)
    #expect("abc".shown(atMost: 2) == "ab…" && "abc".shown(atMost: 3) == "abc")
  }
}

@Suite struct JSONWriterTests {
  @Test func writesWhatItReads() throws {
    let text = #"{"a":[1,2.5,"é\u0001\n\"",{"b":null}],"c":{},"d":[]}"#
    let value = try JSONValue(parsing: text)
    #expect(value.serialized() == text)
    #expect(try JSONValue(parsing: value.serialized(indented: true)) == value)
  }

  @Test func indents() throws {
    let value = try JSONValue(parsing: #"{"a":[1,2],"b":[{"c":1}],"d":{}}"#)
    #expect(
      value.serialized(indented: true) == """
        {
          "a": [1,2],
          "b": [
            {
              "c": 1
            }
          ],
          "d": {}
        }
        """)
  }
}
