/// A size that a slab must keep within.
public enum SizeTarget: Sendable, Hashable {
  /// Logical bits of all tensors for each weight; scales, codebooks and padding included.
  case bitsPerWeight(Double)
  /// Bytes of the file.
  case fileByteCount(Int)

  /// What a recipe for it is called.
  public var name: String {
    switch self {
    case .bitsPerWeight(let bits): "target-\(bits)bpw"
    case .fileByteCount(let count): "target-\(count)B"
    }
  }
}

/// Why no encodings keep within a size.
public enum TargetError: Error, Equatable, CustomStringConvertible {
  /// Even the smallest encodings are larger, or the largest smaller.
  case bitsPerWeight(Double, possible: ClosedRange<Double>)
  /// Even the smallest encodings are larger, or the largest smaller. Before weights are read, what is
  /// possible are bounds.
  case fileByteCount(Int, possible: ClosedRange<Int>)
  /// Nothing has been measured of a model without matrices.
  case noMatrices

  public var description: String {
    switch self {
    case .bitsPerWeight(let wanted, let possible):
      "\(wanted) bits per weight are not possible: with encodings of 4 and 8 bits this model has from "
        + "\(Self.rounded(possible.lowerBound, .up)) to \(Self.rounded(possible.upperBound, .down))"
    case .fileByteCount(let wanted, let possible):
      "a file of \(wanted) bytes is not possible: with encodings of 4 and 8 bits this model needs from "
        + "\(possible.lowerBound) to \(possible.upperBound)"
    case .noMatrices: "the model has no matrices to choose encodings of"
    }
  }

  /// Two decimals, so rounded that the number itself is possible.
  private static func rounded(_ value: Double, _ rule: FloatingPointRoundingRule) -> Double {
    (value * 100).rounded(rule) / 100
  }
}
