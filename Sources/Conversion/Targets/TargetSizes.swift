import ModelFiles
import TensorCore

/// What counts towards a size, by the encodings of a model's matrices.
struct TargetSizes {
  private let costs: EncodingCosts
  private let target: SizeTarget
  private let plan: ConversionPlan
  /// Logical bytes of what no choice changes: vectors, column scales, and what stays float32.
  private let fixedByteCount: Int

  init(_ costs: EncodingCosts, _ target: SizeTarget) {
    self.costs = costs
    self.target = target
    plan = costs.plan
    fixedByteCount =
      plan.entries.reduce(0) {
        $0 + ($1.encoding?.isQuantized == true ? 0 : $1.logicalByteCount)
      }
      + 4 * costs.columnScaleCount
  }

  /// Bytes that count: for bits per weight logical ones, for a file all.
  var limit: Int {
    switch target {
    case .bitsPerWeight(let bits):
      let bytes = (bits * Double(plan.weightCount) / 8).rounded(.down)
      return bytes < Double(Int.max / 2) ? Int(bytes) : Int.max / 2
    case .fileByteCount(let count): return count
    }
  }

  /// What a choice takes of the limit; of a file, the most that it can be.
  func byteCount(_ choice: TargetChoice) -> Int {
    switch target {
    case .bitsPerWeight: logicalByteCount(choice.encodings)
    case .fileByteCount: costs.fileByteCount(choice.recipe(named: Self.longestName))
    }
  }

  /// What matrices add to that.
  func byteCount(_ group: [EncodingCosts.Matrix], _ encodings: [BlockEncoding]) -> Int {
    zip(group, encodings).reduce(0) { sum, matrix in
      switch target {
      case .bitsPerWeight: sum + matrix.0.form.byteCount(in: matrix.1)
      case .fileByteCount: sum + SlabSize.segmentByteCount(matrix.0.form, matrix.1)
      }
    }
  }

  /// Logical bytes of all tensors.
  func logicalByteCount(_ encodings: [String: BlockEncoding]) -> Int {
    plan.entries.reduce(fixedByteCount) { sum, entry in
      guard let encoding = encodings[entry.tensor.name] else { return sum }
      return sum + MatrixForm(shape: entry.tensor.shape)!.byteCount(in: encoding)
    }
  }

  func error(_ possible: ClosedRange<Int>) -> TargetError {
    switch target {
    case .bitsPerWeight(let bits):
      func rate(_ count: Int) -> Double { Double(count) * 8 / Double(plan.weightCount) }
      return .bitsPerWeight(
        bits, possible: rate(possible.lowerBound)...rate(possible.upperBound))
    case .fileByteCount(let count): return .fileByteCount(count, possible: possible)
    }
  }

  /// As long as the name of a recipe for a size may be: slabs record it.
  private static let longestName = String(repeating: "n", count: 40)
}
