/// A table that fits a screen: columns that matter less go first, then what is long is shortened.
struct ScreenTable {
  struct Column {
    let title: String
    var isRight = false
    /// Columns of a higher number are left out first; those of 0 stay.
    var expendability = 0
    /// Whether cells may be shortened.
    var isFlexible = false
  }

  let columns: [Column]
  var rows: [[String]] = []
  /// Of each row, where they have any.
  var styles: [Screen.Style?] = []
  /// Whether the last row is a sum.
  var hasTotal = false

  /// What stays of a flexible cell as long as there are columns to leave out, and after that.
  private static let (readableWidth, minimumWidth) = (30, 8)

  func text(_ screen: Screen) -> String {
    // What no row says anything about is no column.
    var kept = columns.indices.filter { column in
      columns[column].expendability == 0 || rows.contains { !$0[column].isEmpty }
    }
    var widths = fittedWidths(kept, screen.width, Self.readableWidth)
    while let limit = screen.width, Self.total(widths) > limit,
      let last = kept.max(by: { columns[$0].expendability < columns[$1].expendability }),
      columns[last].expendability > 0
    {
      kept.removeAll { $0 == last }
      widths = fittedWidths(kept, limit, Self.readableWidth)
    }
    if let limit = screen.width, Self.total(widths) > limit {
      widths = fittedWidths(kept, limit, Self.minimumWidth)
    }
    func line(_ cells: [String]) -> String {
      let padded = zip(kept, widths).map { column, width in
        let cell = Screen.shortened(cells[column], to: width)
        let space = String(repeating: " ", count: max(0, width - cell.count))
        return columns[column].isRight ? space + cell : cell + space
      }
      var text = padded.joined(separator: "  ")
      while text.last == " " { text.removeLast() }
      return text
    }
    var lines = [screen.styled(line(columns.map(\.title)), .dim)]
    for (index, row) in rows.enumerated() {
      let style = styles.indices.contains(index) ? styles[index] : nil
      lines.append(
        screen.styled(line(row), hasTotal && index == rows.count - 1 ? .bold : style))
    }
    return lines.joined(separator: "\n")
  }

  /// Widths of some columns; the widest flexible ones give up what is too much.
  private func fittedWidths(_ kept: [Int], _ limit: Int?, _ minimum: Int) -> [Int] {
    var widths = kept.map { column in
      rows.reduce(columns[column].title.count) { max($0, $1[column].count) }
    }
    guard let limit else { return widths }
    while Self.total(widths) > limit {
      let flexible = kept.indices.filter {
        columns[kept[$0]].isFlexible && widths[$0] > minimum
      }
      guard let widest = flexible.max(by: { widths[$0] < widths[$1] }) else { break }
      widths[widest] -= 1
    }
    return widths
  }

  /// With two spaces between columns.
  private static func total(_ widths: [Int]) -> Int {
    widths.reduce(0, +) + 2 * max(0, widths.count - 1)
  }
}
