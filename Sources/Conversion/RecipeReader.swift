import JSON
import ModelFiles
import TensorCore
import Yams

/// Takes a recipe's YAML apart.
struct RecipeReader {
  let path: String

  func error(_ node: Node, _ problem: String) -> RecipeError {
    .invalid(path: path, line: node.mark?.line, problem: problem)
  }

  func root(_ bytes: [UInt8]) throws(RecipeError) -> Node {
    func fail(_ problem: String, line: Int? = nil) -> RecipeError {
      .invalid(path: path, line: line, problem: problem)
    }
    guard bytes.count <= Recipe.maximumByteCount else {
      throw fail("a recipe has at most \(Recipe.maximumByteCount) bytes")
    }
    guard let text = String(validating: bytes, as: UTF8.self) else { throw fail("not UTF-8 text") }
    if let offset = Self.anchor(in: bytes) {
      let line = 1 + bytes[..<offset].count { $0 == UInt8(ascii: "\n") }
      throw fail("anchors (&) have no place in a recipe, not even in a comment", line: line)
    }
    let node: Node?
    do {
      // The basic resolver does not guess at types: every scalar is read as text.
      node = try Parser(yaml: text, resolver: .basic, encoding: .utf8).singleRoot()
    } catch let error as YamlError {
      throw .invalid(path: path, line: error.line, problem: error.problem)
    } catch {
      throw fail("\(error)")
    }
    guard let node else { throw fail("empty") }
    return node
  }

  /// Offset of the first `&` that could begin an anchor: before a letter, digit, `-` or `_`, as the
  /// names of anchors begin, and not after a letter, digit or `_`, after which no token begins.
  ///
  /// Without anchors an alias is an error at once; with them, comparing keys could take for ever.
  private static func anchor(in bytes: [UInt8]) -> Int? {
    func isWord(_ byte: UInt8) -> Bool {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
        true
      default: false
      }
    }
    return bytes.indices.first { index in
      bytes[index] == UInt8(ascii: "&") && index + 1 < bytes.count
        && (isWord(bytes[index + 1]) || bytes[index + 1] == UInt8(ascii: "-"))
        && (index == 0 || !isWord(bytes[index - 1]))
    }
  }

  func rule(_ node: Node) throws(RecipeError) -> Recipe.Rule {
    let fields = try fields(
      of: node, keys: ["tensors", "roles", "layers", "first", "last", "encoding"], "a rule")
    guard let encodingNode = fields["encoding"] else {
      throw error(node, "the rule names no encoding")
    }
    let name = try text(encodingNode, "encoding")
    guard let encoding = BlockEncoding(name: name) else {
      let known = BlockEncoding.allCases.map(\.name).joined(separator: ", ")
      throw error(encodingNode, "unknown encoding \(name.shown); there are \(known)")
    }
    var layers: Recipe.LayerSelection?
    if fields["layers"] != nil || fields["first"] != nil || fields["last"] != nil {
      layers = Recipe.LayerSelection(
        ranges: try fields["layers"].map(ranges) ?? [],
        first: try fields["first"].map { node throws(RecipeError) in try count(node, "first") }
          ?? 0,
        last: try fields["last"].map { node throws(RecipeError) in try count(node, "last") } ?? 0)
    }
    let rule = Recipe.Rule(
      names: try fields["tensors"].map(patterns) ?? [], roles: try fields["roles"].map(roles) ?? [],
      layers: layers, encoding: encoding)
    if let vector = rule.roles.first(where: { !$0.isMatrix }), encoding != .f32 {
      throw error(
        node, "\(encoding.name) is for matrices; tensors of role \(vector.rawValue) stay f32")
    }
    return rule
  }

  private func patterns(_ node: Node) throws(RecipeError) -> [Recipe.Glob] {
    var result: [Recipe.Glob] = []
    for item in try list(node, "tensors") {
      let pattern = try text(item, "a pattern")
      guard !pattern.isEmpty else { throw error(item, "an empty pattern") }
      if pattern.contains(where: { "[]{}".contains($0) }) {
        throw error(item, "in \(pattern.shown): patterns know only * and ?")
      }
      result.append(Recipe.Glob(pattern))
    }
    return result
  }

  /// Roles, and the names of groups of them.
  private func roles(_ node: Node) throws(RecipeError) -> [TensorRole] {
    var found: Set<TensorRole> = []
    for item in try list(node, "roles") {
      let name = try text(item, "a role")
      if let group = TensorRole.groups.first(where: { $0.name == name }) {
        found.formUnion(group.roles)
      } else if let role = TensorRole(rawValue: name) {
        found.insert(role)
      } else {
        let known = TensorRole.groups.map(\.name) + TensorRole.allCases.map(\.rawValue)
        throw error(
          item, "unknown role \(name.shown); there are \(known.joined(separator: ", "))")
      }
    }
    return Array(found)
  }

  /// `0-3,38`, `38`, or a list of such.
  private func ranges(_ node: Node) throws(RecipeError) -> [ClosedRange<Int>] {
    var result: [ClosedRange<Int>] = []
    for item in try list(node, "layers") {
      let text = try text(item, "layers")
      for part in text.split(separator: ",", omittingEmptySubsequences: false) {
        let ends = part.split(separator: "-", omittingEmptySubsequences: false)
          .map { Self.number($0.trimmingSpaces) }
        guard (1...2).contains(ends.count), let low = ends[0], let high = ends[ends.count - 1],
          low <= high
        else {
          throw error(
            item, "layers are numbers from 0 and ranges, as in 0-3,38; not \(text.shown)")
        }
        result.append(low...high)
      }
    }
    return result
  }

  private func count(_ node: Node, _ key: String) throws(RecipeError) -> Int {
    let text = try text(node, key)
    guard let number = Self.number(text[...]), number > 0 else {
      throw error(node, "\(key) is a number of layers, not \(text.shown)")
    }
    return number
  }

  /// A number of at most five digits; no model has more layers.
  private static func number(_ text: Substring) -> Int? {
    guard (1...5).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) })
    else { return nil }
    return Int(text)
  }

  /// The items of a list, or what stands in place of a list of one.
  private func list(_ node: Node, _ key: String) throws(RecipeError) -> [Node] {
    guard let items = node.sequence else { return [node] }
    guard !items.isEmpty else { throw error(node, "\(key) is an empty list") }
    return Array(items)
  }

  func text(_ node: Node, _ what: String) throws(RecipeError) -> String {
    guard let scalar = node.scalar else { throw error(node, "\(what) must be text") }
    return scalar.string
  }

  /// Keys that occur twice have been refused by the parser.
  func fields(
    of node: Node, keys: [String], _ what: String
  ) throws(RecipeError) -> [String: Node] {
    guard let mapping = node.mapping else {
      throw error(node, "\(what) is a mapping of \(keys.joined(separator: ", "))")
    }
    var result: [String: Node] = [:]
    for (key, value) in mapping {
      guard let name = key.scalar?.string, keys.contains(name) else {
        let found = key.scalar.map { $0.string.shown } ?? "that is not text"
        throw error(
          key, "unknown key \(found); \(what) has the keys \(keys.joined(separator: ", "))")
      }
      result[name] = value
    }
    return result
  }
}

extension Substring {
  fileprivate var trimmingSpaces: Substring {
    var text = self
    while text.first == " " { text.removeFirst() }
    while text.last == " " { text.removeLast() }
    return text
  }
}

extension YamlError {
  /// Where the parser stopped; nil where it does not say.
  fileprivate var line: Int? {
    switch self {
    case .scanner(_, _, let mark, _), .parser(_, _, let mark, _), .composer(_, _, let mark, _):
      mark.line
    case .reader(_, let offset?, _, let yaml):
      1 + yaml.utf8.prefix(offset).count { $0 == UInt8(ascii: "\n") }
    case .duplicatedKeysInMapping(_, let context): context.mark.line
    default: nil
    }
  }

  /// What it did not like, in our words where those help more.
  fileprivate var problem: String {
    switch self {
    case .composer(_, let problem, _, _) where problem.contains("alias"),
      .scanner(_, let problem, _, _) where problem.contains("alphabetic or numeric"):
      "a pattern that begins with * must stand in quotes, as in \"*.v_proj.weight\""
    case .composer(_, let problem, _, _) where problem.contains("document"):
      "a recipe is one document"
    case .duplicatedKeysInMapping(let keys, _):
      "the key \((keys.first ?? "").shown) occurs twice"
    case .scanner(_, let problem, _, _), .parser(_, let problem, _, _),
      .composer(_, let problem, _, _), .reader(let problem, _, _, _):
      "not YAML: \(problem)"
    default: "not YAML"
    }
  }
}
