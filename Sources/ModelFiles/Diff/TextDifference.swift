/// What differs between two texts, line by line, with three lines of context.
public struct TextDifference: Sendable {
  public enum Mark: String, Sendable {
    case common = " "
    case removed = "-"
    case added = "+"
  }

  public struct Line: Sendable {
    public let mark: Mark
    /// Without the line break.
    public let text: String
    /// Whether the text ends here without a line break.
    public let endsOpen: Bool
  }

  /// Lines around changes that are close together.
  public struct Hunk: Sendable {
    /// Number of the first line in each text, from 1.
    public let oldLine: Int
    public let newLine: Int
    public let lines: [Line]
  }

  public let hunks: [Hunk]

  /// Lines between the first and the last difference, of both texts together, that are compared: memory
  /// grows with the square of how many differ.
  static let maximumLineCount = 4000
  private static let context = 3

  /// - Returns: nil if one of them is no UTF-8 text, or too much differs to be shown.
  public init?(old: [UInt8], new: [UInt8]) {
    guard String(validating: old, as: UTF8.self) != nil,
      String(validating: new, as: UTF8.self) != nil
    else { return nil }
    let (old, new) = (Piece.pieces(of: old), Piece.pieces(of: new))
    let shorter = min(old.count, new.count)
    var start = 0
    while start < shorter, old[start] == new[start] { start += 1 }
    var tail = 0
    while tail < shorter - start, old[old.count - 1 - tail] == new[new.count - 1 - tail] {
      tail += 1
    }
    let (oldEnd, newEnd) = (old.count - tail, new.count - tail)
    guard oldEnd - start + newEnd - start <= Self.maximumLineCount else { return nil }

    var (removed, added): (Set<Int>, Set<Int>) = ([], [])
    for change in Array(new[start..<newEnd]).difference(from: Array(old[start..<oldEnd])) {
      switch change {
      case .remove(let offset, _, _): removed.insert(start + offset)
      case .insert(let offset, _, _): added.insert(start + offset)
      }
    }
    var steps: [Step] = []
    var (i, j) = (max(0, start - Self.context), max(0, start - Self.context))
    while i < min(old.count, oldEnd + Self.context) || j < min(new.count, newEnd + Self.context) {
      if removed.contains(i) {
        steps.append(Step(mark: .removed, piece: old[i], oldLine: old[i].line, newLine: nil))
        i += 1
      } else if added.contains(j) {
        steps.append(Step(mark: .added, piece: new[j], oldLine: nil, newLine: new[j].line))
        j += 1
      } else {
        steps.append(
          Step(mark: .common, piece: old[i], oldLine: old[i].line, newLine: new[j].line))
        (i, j) = (i + 1, j + 1)
      }
    }
    hunks = Self.hunks(steps)
  }

  private struct Step {
    let mark: Mark
    let piece: Piece
    let oldLine: Int?
    let newLine: Int?
  }

  private static func hunks(_ steps: [Step]) -> [Hunk] {
    var ranges: [Range<Int>] = []
    for (index, step) in steps.enumerated() where step.mark != .common {
      let range = max(0, index - context)..<min(steps.count, index + context + 1)
      if let last = ranges.last, range.lowerBound <= last.upperBound {
        ranges[ranges.count - 1] = last.lowerBound..<range.upperBound
      } else {
        ranges.append(range)
      }
    }
    return ranges.map { range in
      let steps = steps[range]
      return Hunk(
        oldLine: steps.lazy.compactMap(\.oldLine).first ?? 1,
        newLine: steps.lazy.compactMap(\.newLine).first ?? 1,
        lines: steps.map { step in
          let text = step.piece.bytes
          return Line(
            mark: step.mark,
            text: String(decoding: text.last == 0x0A ? text.dropLast() : text, as: UTF8.self),
            endsOpen: step.piece.isLast && text.last != 0x0A)
        })
    }
  }

  /// A line, or a part of a long one: JSON keeps whole chat templates on one line, which are cut behind
  /// the line breaks that its strings spell `\n`.
  private struct Piece: Equatable {
    let bytes: ArraySlice<UInt8>
    let line: Int
    var isLast = false

    static func == (a: Piece, b: Piece) -> Bool { a.bytes == b.bytes }

    private static let longLine = 200

    static func pieces(of text: [UInt8]) -> [Piece] {
      var result: [Piece] = []
      var line = 0
      var start = 0
      while start < text.count {
        line += 1
        let end = text[start...].firstIndex(of: 0x0A).map { $0 + 1 } ?? text.count
        if end - start > longLine {
          for part in parts(of: text[start..<end]) {
            result.append(Piece(bytes: part, line: line))
          }
        } else {
          result.append(Piece(bytes: text[start..<end], line: line))
        }
        start = end
      }
      if !result.isEmpty { result[result.count - 1].isLast = true }
      return result
    }

    private static func parts(of line: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
      let (backslash, n) = (UInt8(ascii: "\\"), UInt8(ascii: "n"))
      var result: [ArraySlice<UInt8>] = []
      var (start, index) = (line.startIndex, line.startIndex)
      while index + 1 < line.endIndex {
        guard line[index] == backslash else {
          index += 1
          continue
        }
        index += 2  // an escaped backslash is no beginning of an escape
        if line[index - 1] == n {
          result.append(line[start..<index])
          start = index
        }
      }
      if start < line.endIndex { result.append(line[start...]) }
      return result
    }
  }
}
