import ModelFiles
import TensorCore

/// How large a slab becomes, by the encodings of its matrices.
struct TargetSizes {
  private let plan: ConversionPlan
  private let columnScaleCount: Int
  private let weightCount: Int
  /// Logical bytes of what no choice changes: vectors and column scales.
  private let fixedByteCount: Int

  init(_ costs: EncodingCosts) {
    plan = costs.plan
    columnScaleCount = costs.columnScaleCount
    weightCount = plan.weightCount
    fixedByteCount =
      plan.entries.reduce(0) { $0 + ($1.role.isMatrix ? 0 : $1.logicalByteCount) }
      + 4 * columnScaleCount
  }

  /// Bytes that count towards a target: for bits per weight logical ones, for a file whole segments.
  func byteCount(
    _ group: [EncodingCosts.Matrix], _ encodings: [BlockEncoding], for target: SizeTarget
  ) -> Int {
    zip(group, encodings).reduce(0) { sum, matrix in
      let logical = matrix.0.geometry.byteCount(in: matrix.1)
      switch target {
      case .bitsPerWeight: return sum + logical
      // Streams begin on multiples of 64 bytes, segments on multiples of 16 KiB.
      case .fileByteCount: return sum + Self.padded(logical + 4 * 64)
      }
    }
  }

  /// Bytes that all matrices may have together.
  func budget(for target: SizeTarget) -> Int {
    switch target {
    case .bitsPerWeight(let bits):
      let bytes = (bits * Double(weightCount) / 8).rounded(.down)
      return bytes < Double(Int.max / 2) ? Int(bytes) - fixedByteCount : Int.max / 2
    case .fileByteCount(let count): return count - fileOverhead
    }
  }

  private static func padded(_ count: Int) -> Int { (count + 16383) / 16384 * 16384 }

  /// Bytes of a file besides the segments of its matrices, at most: superblock, assets, vectors, of each
  /// step also column scales, and an index with some streams for each tensor and two digests for each
  /// frame of 1 MiB.
  private var fileOverhead: Int {
    let tensors = 2 * plan.entries.count
    return 1 << 16 + plan.assetByteCount + Self.padded(fixedByteCount) + 16384 * plan.steps.count
      + 1024 * tensors + plan.sourceByteCount / (1 << 20) * 96
  }

  func error(_ target: SizeTarget, smallest: Int, largest: Int) -> TargetError {
    switch target {
    case .bitsPerWeight(let bits):
      func rate(_ count: Int) -> Double { Double(count + fixedByteCount) * 8 / Double(weightCount) }
      return .bitsPerWeight(bits, possible: rate(smallest)...rate(largest))
    case .fileByteCount(let count):
      return .fileByteCount(count, possible: smallest + fileOverhead...largest + fileOverhead)
    }
  }

  /// Logical bits for each weight.
  func bitsPerWeight(_ encodings: [String: BlockEncoding]) -> Double {
    let bytes = plan.entries.reduce(fixedByteCount) { sum, entry in
      guard let encoding = encodings[entry.tensor.name] else { return sum }
      let geometry = PanelGeometry(rows: entry.tensor.shape[0], columns: entry.tensor.shape[1])!
      return sum + geometry.byteCount(in: encoding)
    }
    return Double(bytes) * 8 / Double(weightCount)
  }
}
