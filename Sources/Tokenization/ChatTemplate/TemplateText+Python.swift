// What Python's string methods ask of a text.
extension TemplateText {
  /// The bytes in reverse order: no text, but good for searching from the end.
  var bytesReversed: TemplateText { TemplateText(utf8: utf8.reversed()) }

  func lastOffset(of needle: TemplateText) -> Int? {
    Self.firstOffset(of: needle.utf8.reversed(), in: utf8.reversed())
      .map { utf8.count - $0 - needle.utf8.count }
  }

  func hasSuffix(_ suffix: TemplateText) -> Bool {
    utf8.count >= suffix.utf8.count && utf8[(utf8.count - suffix.utf8.count)...] == suffix.utf8[...]
  }

  static func isLetter(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
    default: false
    }
  }

  // MARK: - Case

  private func mapped(_ map: (Unicode.Scalar) -> String) -> TemplateText {
    TemplateText(String(scalars.lazy.map(map).joined()))
  }

  var uppercased: TemplateText {
    if isASCII {
      return TemplateText(utf8: utf8.map { (0x61...0x7A).contains($0) ? $0 - 32 : $0 })
    }
    return mapped(\.properties.uppercaseMapping)
  }

  var lowercased: TemplateText {
    if isASCII {
      return TemplateText(utf8: utf8.map { (0x41...0x5A).contains($0) ? $0 + 32 : $0 })
    }
    let scalars = scalars
    return TemplateText(String(scalars.indices.lazy.map { Self.lowercase(scalars, $0) }.joined()))
  }

  /// A capital sigma becomes the final form at the end of a word (Unicode's Final_Sigma).
  private static func lowercase(_ scalars: [Unicode.Scalar], _ index: Int) -> String {
    guard scalars[index] == "Σ" else { return scalars[index].properties.lowercaseMapping }
    let before = scalars[..<index].last { !$0.properties.isCaseIgnorable }
    let after = scalars[(index + 1)...].first { !$0.properties.isCaseIgnorable }
    return before?.properties.isCased == true && after?.properties.isCased != true ? "ς" : "σ"
  }

  /// The first code point in title case, the others in lower case.
  var capitalized: TemplateText {
    guard let first = scalars.first else { return self }
    let scalars = scalars
    return TemplateText(
      first.properties.titlecaseMapping
        + String(scalars.indices.dropFirst().lazy.map { Self.lowercase(scalars, $0) }.joined()))
  }

  /// Python's `str.title`: a cased code point that follows an uncased one is in title case.
  var titlecased: TemplateText {
    let scalars = scalars
    var afterCased = false
    return TemplateText(
      scalars.indices.map { index in
        defer { afterCased = scalars[index].properties.isCased }
        return afterCased
          ? Self.lowercase(scalars, index) : scalars[index].properties.titlecaseMapping
      }.joined())
  }

  /// Python's `isupper` and `islower`.
  func isCased(upper: Bool) -> Bool {
    var found = false
    for scalar in scalars where scalar.properties.isCased {
      guard upper ? scalar.properties.isUppercase : scalar.properties.isLowercase else {
        return false
      }
      found = true
    }
    return found
  }

  // MARK: - Parts

  /// What Python's `split()` and `rsplit()` without a separator give.
  func words(atMost limit: Int, fromEnd: Bool) -> [TemplateText] {
    var rest = scalars[...]
    if fromEnd { rest = Array(scalars.reversed())[...] }
    var words: [TemplateText] = []
    while true {
      rest = rest.drop(while: Self.isSpace)
      if rest.isEmpty { break }
      let word = rest.prefix { words.count >= limit || !Self.isSpace($0) }
      rest = rest[word.endIndex...]
      words.append(fromEnd ? TemplateText(word.reversed()) : TemplateText(word))
    }
    return fromEnd ? words.reversed() : words
  }

  /// Python's `splitlines`.
  func lines(keepingEnds: Bool) -> [TemplateText] {
    let scalars = scalars
    var lines: [TemplateText] = []
    var start = 0
    var index = 0
    while index < scalars.count {
      var end = index
      switch scalars[index].value {
      case 0x0D: end += index + 1 < scalars.count && scalars[index + 1] == "\n" ? 2 : 1
      case 0x0A...0x0C, 0x1C...0x1E, 0x85, 0x2028, 0x2029: end += 1
      default: break
      }
      if end > index {
        lines.append(TemplateText(scalars[start..<(keepingEnds ? end : index)]))
        start = end
        index = end
      } else {
        index += 1
      }
    }
    if start < scalars.count { lines.append(TemplateText(scalars[start...])) }
    return lines
  }
}
