import ModelFiles
import TensorCore

/// What counts towards a size, by the encodings of a model's matrices.
struct TargetSizes {
  private let costs: EncodingCosts
  private let target: SizeTarget

  init(_ costs: EncodingCosts, _ target: SizeTarget) {
    self.costs = costs
    self.target = target
  }

  /// Bytes that count: for bits per weight logical ones, for a file all.
  var limit: Int {
    switch target {
    case .bitsPerWeight(let bits):
      let bytes = (bits * Double(costs.plan.weightCount) / 8).rounded(.down)
      return bytes < Double(Int.max / 2) ? Int(bytes) : Int.max / 2
    case .fileByteCount(let count): return count
    }
  }

  /// What a choice takes of the limit; of a file, the most that it can be.
  func byteCount(_ choice: TargetChoice) -> Int {
    let size = costs.size(choice.recipe)
    return switch target {
    case .bitsPerWeight: size.logicalByteCount
    case .fileByteCount: size.byteCount
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

  /// Says what is possible. The rules of the smallest may take more than matrices differ by.
  func error(_ smallest: TargetChoice, _ largest: TargetChoice) -> TargetError {
    switch target {
    case .bitsPerWeight(let bits):
      .bitsPerWeight(bits, possible: smallest.bitsPerWeight...largest.bitsPerWeight)
    case .fileByteCount(let count):
      .fileByteCount(
        count,
        possible: ownByteCount(smallest)...max(ownByteCount(smallest), ownByteCount(largest)))
    }
  }

  /// Bytes of a file that is chosen for just these: the recipe that it records is named after them.
  private func ownByteCount(_ choice: TargetChoice) -> Int {
    let named = TargetChoice(
      target: .fileByteCount(byteCount(choice)), costs: costs, encodings: choice.encodings)
    return byteCount(named)
  }
}
