/// Patterns in tokenizer.json are written for Oniguruma, as Hugging Face's tokenizers compiles them
/// (Ruby syntax). This says the same for PCRE2, and refuses what it cannot say.
///
/// The differences: PCRE2's `\s` contains U+180E, its `\w` and `\b` know neither marks nor
/// connectors, `[:upper:]` and its like are general categories instead of Unicode's properties,
/// script names mean script extensions, `\u` is unknown. In Ruby's syntax `\h` is a hexadecimal
/// digit, brackets nest and intersect, `(?m)` makes the dot match line ends, `(?i)` reaches to the
/// end of the group across alternatives, and `+` after an interval repeats.
enum RegexDialect {
  private static let space = #"\p{White_Space}"#
  private static let notSpace = #"\P{White_Space}"#
  /// `\w` within brackets.
  private static let wordClass = #"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}"#
  /// `\w` elsewhere: there Oniguruma counts the superscripts and fractions of Latin-1 too.
  private static let word = wordClass + "²³¹¼½¾"

  /// Throws `TokenizerError.unsupported` for constructs that the two understand differently.
  static func translate(_ pattern: String) throws(TokenizerError) -> String {
    var result = ""
    var rest = Substring(pattern).unicodeScalars
    var inClass = false
    func refuse(_ construct: String) -> TokenizerError {
      .unsupported(component: "\(construct) in the pattern \(pattern)")
    }
    while let scalar = rest.popFirst() {
      switch scalar {
      case "\\":
        guard let escaped = rest.popFirst() else {
          result += "\\"  // PCRE2 reports it
          continue
        }
        switch escaped {
        case "s": result += space
        case "S": result += notSpace
        case "w": result += inClass ? wordClass : "[\(word)]"
        case "W" where !inClass: result += "[^\(word)]"
        case "b" where !inClass: result += border(positive: true)
        case "B" where !inClass: result += border(positive: false)
        case "u":
          let digits = take(4, of: &rest)
          guard digits.utf8.count == 4, UInt16(digits, radix: 16) != nil, digits.first != "+" else {
            throw refuse("\\u")
          }
          result += "\\x{\(digits)}"
        case "x", "o":
          result += "\\\(escaped)"
          if rest.first == "{", let end = rest.prefix(64).firstIndex(of: "}") {
            result += take(rest.distance(from: rest.startIndex, to: end) + 1, of: &rest)
          }
        case "h", "H", "y", "Y", "O", "W", "B": throw refuse("\\\(escaped)")
        case "p", "P": result += "\\\(escaped)" + property(&rest)
        default:
          result.unicodeScalars.append("\\")
          result.unicodeScalars.append(escaped)
        }
      case "[":
        if inClass {
          guard let property = posixClass(&rest) else { throw refuse("a bracket within brackets") }
          result += property
        } else {
          inClass = true
          result += "["
          // A bracket that comes first is a literal one.
          if rest.first == "^" { result += take(1, of: &rest) }
          if rest.first == "]" { result += "\\" + take(1, of: &rest) }
        }
      case "]":
        inClass = false
        result += "]"
      case "&" where inClass && rest.first == "&": throw refuse("&&")
      case "(" where !inClass && rest.first == "*": throw refuse("(*")
      case "(" where !inClass && rest.first == "?":
        let flags = rest.dropFirst().prefix { $0 == "-" || ($0.properties.isAlphabetic) }
        let end = rest.dropFirst(1 + flags.count).first
        if !flags.isEmpty, end == ":" || end == ")", !flags.allSatisfy({ $0 == "i" || $0 == "-" }) {
          throw refuse("(?\(Substring(flags)))")
        }
        if !flags.isEmpty, end == ")", !result.isEmpty { throw refuse("(?i) within a pattern") }
        result += "("
      case "{" where !inClass:
        let bounds = rest.prefix { ("0"..."9").contains($0) || $0 == "," }
        result += bounds.first == "," ? "{0" : "{"
        result += take(bounds.count, of: &rest)
        if !bounds.isEmpty, rest.first == "}", rest.dropFirst().first == "+" {
          throw refuse("+ after an interval")
        }
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// `\b` as the ends of words, or `\B`.
  private static func border(positive: Bool) -> String {
    let sides = positive ? ("!", "=") : ("=", "!")
    return "(?:(?<=[\(word)])(?\(sides.0)[\(word)])|(?<![\(word)])(?\(sides.1)[\(word)]))"
  }

  /// The property that the rest of `[:name:]` stands for.
  private static func posixClass(_ rest: inout Substring.UnicodeScalarView) -> String? {
    let properties = [
      "alpha": #"\p{Alphabetic}"#, "digit": #"\p{Nd}"#, "alnum": #"\p{Alphabetic}\p{Nd}"#,
      "upper": #"\p{Uppercase}"#, "lower": #"\p{Lowercase}"#, "space": space,
    ]
    guard
      let (name, property) = properties.first(where: {
        rest.starts(with: ":\($0.key):]".unicodeScalars)
      })
    else { return nil }
    rest = rest.dropFirst(name.utf8.count + 3)
    return property
  }

  /// The rest of `\p{Name}`; names of scripts get the prefix without which PCRE2 takes extensions.
  private static func property(_ rest: inout Substring.UnicodeScalarView) -> String {
    guard rest.first == "{", let end = rest.prefix(64).firstIndex(of: "}") else { return "" }
    let name = String(Substring(rest[..<end].dropFirst()))
    rest = rest[rest.index(after: end)...]
    let isScript = Pattern.compiles("\\p{sc:\(name)}")
    return isScript ? "{sc:\(name)}" : "{\(name)}"
  }

  private static func take(_ count: Int, of rest: inout Substring.UnicodeScalarView) -> String {
    let text = String(Substring(rest.prefix(count)))
    rest = rest.dropFirst(count)
    return text
  }
}
