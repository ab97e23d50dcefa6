import Conversion
import Testing

/// Files that are no recipes: each is an error that says in which line.
@Suite struct RecipeHostileTests {
  struct Case: CustomTestStringConvertible {
    let yaml: String
    let line: Int?
    let problem: String

    init(_ yaml: String, _ line: Int?, _ problem: String) {
      (self.yaml, self.line, self.problem) = (yaml, line, problem)
    }

    var testDescription: String { String(yaml.prefix(40)) }
  }

  static func nested(_ levels: Int, _ open: String, _ close: String) -> String {
    String(repeating: open, count: levels) + "x" + String(repeating: close, count: levels)
  }

  static let bomb =
    "a: &a [x, x]\n" + (0..<30).map { "? [*a, *a]\n: &a [*a, *a]\n# \($0)\n" }.joined()

  static let cases: [Case] = [
    Case("", nil, "empty"), Case("# nothing\n", nil, "empty"),
    Case("x", 1, "a recipe is a mapping of name, base, rules"),
    Case("- x", 1, "a recipe is a mapping"), Case("{}", nil, "neither a base nor rules"),
    Case("rules: []", nil, "neither a base nor rules"),
    Case("base: q4\nrulez: []", 2, "unknown key rulez; a recipe has the keys name, base, rules"),
    Case("base: q4\nbase: q8", 1, "the key base occurs twice"),
    Case("base: q5", 1, "base is q5; it must be a preset: q4, "),
    Case("base: [q4]", 1, "base must be text"), Case("base: {a: b}", 1, "base must be text"),
    Case("base: q4\nname: q8", 2, "q8 is the name of a preset that says something else"),
    Case("base: q4\nname: ''", 2, "a name has 1 to 64 bytes"),
    Case("base: q4\nrules: q8b16", 2, "rules must be a list"),
    Case("base: q4\nrules:", 2, "rules must be a list"),
    Case("base: q4\nrules:\n  - q8b16", 3, "a rule is a mapping"),
    Case("base: q4\nrules:\n  - roles: down", 3, "the rule names no encoding"),
    Case("rules:\n- {encoding: q4_k}", 2, "unknown encoding q4_k; there are f32, bf16, q4b16"),
    Case("rules:\n- {encoding: [f32]}", 2, "encoding must be text"),
    Case("rules:\n- encoding: f32\n  role: down", 3, "unknown key role; a rule has the keys"),
    Case("rules:\n- encoding: f32\n  [a]: down", 3, "unknown key that is not text"),
    Case(
      "rules:\n- encoding: f32\n  roles: expert", 3, "unknown role expert; there are attention"),
    Case("rules:\n- encoding: f32\n  roles: []", 3, "roles is an empty list"),
    Case("rules:\n- encoding: f32\n  roles: [[down]]", 3, "a role must be text"),
    Case("rules:\n- encoding: q4b16\n  roles: [down, norm]", 2, "tensors of role norm stay f32"),
    Case("rules:\n- encoding: f32\n  tensors: ''", 3, "an empty pattern"),
    Case("rules:\n- encoding: f32\n  tensors: 'a.[0-3].b'", 3, "patterns know only * and ?"),
    Case("rules:\n- encoding: f32\n  tensors: *v_proj", 3, "must stand in quotes"),
    Case("rules:\n- encoding: f32\n  tensors: *.v_proj", 3, "must stand in quotes"),
    Case("rules:\n- encoding: f32\n  layers: 3-1", 3, "layers are numbers from 0 and ranges"),
    Case("rules:\n- encoding: f32\n  layers: -1", 3, "layers are numbers"),
    Case("rules:\n- encoding: f32\n  layers: 1-2-3", 3, "layers are numbers"),
    Case("rules:\n- encoding: f32\n  layers: 1,,2", 3, "layers are numbers"),
    Case("rules:\n- encoding: f32\n  layers: ''", 3, "layers are numbers"),
    Case("rules:\n- encoding: f32\n  layers: 99999999999999999999", 3, "layers are numbers"),
    Case("rules:\n- encoding: f32\n  first: 0", 3, "first is a number of layers, not 0"),
    Case("rules:\n- encoding: f32\n  last: few", 3, "last is a number of layers, not few"),
    Case("rules:\n- encoding: f32\n  first: 1.5", 3, "first is a number"),
    Case("rules:\n- encoding: f32\n  first: 999999", 3, "first is a number"),
    Case("base: q4\n---\nbase: q8", 2, "a recipe is one document"),
    Case("base: [q4", 2, "not YAML"), Case("base: \"q4", 1, "not YAML"),
    Case("a: b: c", 1, "not YAML"), Case("base:\tq4\n\trules: x", 2, "not YAML"),
    Case("base: q4\nname: \u{1}", 2, "not YAML"), Case("%YAML 9.9\n---\nbase: q4", 1, "not YAML"),
    Case("base: &x q4", 1, "anchors"), Case("base: q4\n# see &x", 2, "anchors"),
    Case(bomb, 1, "anchors"), Case("base: &-x q4", 1, "anchors"),
    Case("base: *x", 1, "must stand in quotes"),
    Case("base: q4\nname: \(String(repeating: "n", count: 65))", 2, "1 to 64 bytes"),
    Case(nested(30000, "[", "]"), 1, "Maximum nesting level"),
    Case(nested(10000, "{a: ", "}"), 1, "Maximum nesting level"),
    Case(nested(30000, "- ", ""), 1, "Maximum nesting level"),
    Case(nested(20000, "? ", ""), 1, "Maximum nesting level"),
    Case("x: " + String(repeating: "y", count: 65535), nil, "at most 65535 bytes"),
    Case(
      "rules:\n" + String(repeating: "- {encoding: f32}\n", count: 1001), 2, "more than 1000 rules"),
    Case(
      "rules:\n- {encoding: f32, tensors: [" + String(repeating: "a,", count: 1001) + "]}", 2,
      "more than 1000 patterns"),
    Case(
      "base: q4\nrules:\n"
        + String(repeating: "- {roles: [mlp,attention], encoding: q4b16}\n", count: 900),
      nil, "too long to be recorded"),
  ]

  @Test(arguments: cases) func isRefused(hostile: Case) throws {
    let result = Result { () throws(RecipeError) in
      try Recipe(yaml: Array(hostile.yaml.utf8), path: "r.yaml")
    }
    switch result {
    case .failure(.invalid(let path, let line, let problem)):
      #expect(path == "r.yaml")
      #expect(line == hostile.line)
      #expect(problem.contains(hostile.problem), "\(problem)")
      #expect(!problem.contains("\n") && problem.utf8.count < 400)
    default: Issue.record("\(result)")
    }
  }

  /// Keys of the same shape collide in the parser's table of them; the file is short enough for that.
  @Test func manyKeys() throws {
    let keys = (0..<9000).map { "? [a\($0)]\n" }.joined()
    #expect(throws: RecipeError.self) {
      try Recipe(yaml: Array("{\(keys)}".utf8.prefix(65000)), path: "r.yaml")
    }
    let plain = (0..<10000).map { "\($0):" }.joined(separator: "\n")
    #expect(throws: RecipeError.self) { try Recipe(yaml: Array(plain.utf8), path: "r.yaml") }
  }

  /// Every prefix and many mutations of a recipe are recipes or errors.
  @Test func mutations() {
    let text = """
      name: sensitive
      base: q4
      rules:
        - roles: [value, down]
          layers: 0-3,38
          encoding: q8b16
        - {tensors: "*.v_proj.weight", first: 2, last: 2, encoding: 'q8b32'}
      """
    let bytes = Array(text.utf8)
    for end in bytes.indices { _ = try? Recipe(yaml: Array(bytes[..<end]), path: "r") }
    let replacements: [UInt8] = [
      0, 9, 10, 32, 0x22, 0x23, 0x26, 0x2A, 0x2D, 0x3A, 0x5B, 0x7B, 0xFF,
    ]
    for index in bytes.indices {
      for byte in replacements {
        var copy = bytes
        copy[index] = byte
        _ = try? Recipe(yaml: copy, path: "r")
      }
    }
  }
}
