import JSON
import ModelFiles
import TensorCore

/// Some values of one tensor.
struct ValuesView: InspectionView {
  let name = "values"
  let slice: TensorSlice
  /// Row-major.
  private let values: [Float]

  init(_ slice: TensorSlice, _ rows: TensorRows) {
    self.slice = slice
    var values: [Float] = []
    values.reserveCapacity(slice.count)
    let columns = slice.ranges.last ?? 0..<1
    let outer = slice.ranges.dropLast()
    guard slice.count > 0 else {  // rows of an empty tensor may be of any length
      self.values = []
      return
    }
    withUnsafeTemporaryAllocation(of: Float.self, capacity: rows.columns) { buffer in
      Self.forEachRow(Array(outer), shape: slice.tensor.shape) { row in
        rows.copyRow(row, into: buffer.baseAddress!)
        values += buffer[columns]
      }
    }
    self.values = values
  }

  /// The rows that a selection of all dimensions but the last one names, in order.
  private static func forEachRow(
    _ ranges: [Range<Int>], shape: [Int], _ body: (Int) -> Void
  ) {
    var index = ranges.map(\.lowerBound)
    while true {
      body(zip(index, shape).reduce(0) { $0 * $1.1 + $1.0 })
      var dimension = ranges.count - 1
      while dimension >= 0 {
        index[dimension] += 1
        if index[dimension] < ranges[dimension].upperBound { break }
        index[dimension] = ranges[dimension].lowerBound
        dimension -= 1
      }
      if dimension < 0 { return }
    }
  }

  var json: JSONValue {
    .object([
      "tensor": .string(slice.tensor.name),
      "shape": .array(slice.tensor.shape.map { .integer($0) }),
      "encoding": .string(slice.tensor.encoding),
      "slice": .array(
        slice.ranges.map { .array([.integer($0.lowerBound), .integer($0.upperBound)]) }),
      "values": nested(slice.ranges[...], values[...]),
    ])
  }

  private func nested(_ ranges: ArraySlice<Range<Int>>, _ values: ArraySlice<Float>) -> JSONValue {
    guard let first = ranges.first else { return values.first.map { .float($0) } ?? .null }
    if ranges.count == 1 { return .array(values.map { .float($0) }) }
    let size = first.isEmpty ? 0 : values.count / first.count
    return .array(
      (0..<first.count).map { index in
        let start = values.startIndex + index * size
        return nested(ranges.dropFirst(), values[start..<start + size])
      })
  }

  func text(_ screen: Screen) -> String {
    let shape = Format.shape(slice.tensor.shape)
    var lines = [
      screen.heading(slice.tensor.name.shown) + slice.description
        + " of \(shape), \(slice.tensor.encoding)"
    ]
    let columns = max(1, slice.ranges.last?.count ?? 1)
    let texts = values.map { "\($0)" }
    let width = texts.reduce(0) { max($0, $1.count) }
    for start in stride(from: 0, to: texts.count, by: columns) {
      let cells = texts[start..<min(start + columns, texts.count)].map {
        String(repeating: " ", count: width - $0.count) + $0
      }
      // A row of more values than the terminal is wide goes on in the next lines.
      let perLine = screen.width.map { max(1, ($0 - 2) / (width + 2)) } ?? columns
      for first in stride(from: 0, to: cells.count, by: perLine) {
        lines.append(
          (first > 0 ? "  " : "")
            + cells[first..<min(first + perLine, cells.count)].joined(separator: "  "))
      }
    }
    return lines.joined(separator: "\n")
  }
}
