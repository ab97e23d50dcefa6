import ModelFiles
public import TensorCore

extension Converter {
  /// How far a conversion is.
  public struct Progress: Sendable {
    /// Bytes of source tensors that are done, of all.
    public let doneByteCount: Int
    /// Bytes of all tensors of the source.
    public let totalByteCount: Int
    /// Tensors that are done, of all.
    public let doneTensorCount: Int
    /// Tensors of the source.
    public let totalTensorCount: Int
    /// What comes next.
    public let stage: Stage
    /// The tensor that has just been done; nil where something else has happened.
    public let finished: FinishedTensor?
  }

  /// What a conversion is at.
  public enum Stage: Sendable, Equatable {
    /// The calibration text runs through a decoder layer (`layer` of 0..<`layerCount`), of whose matrices
    /// none is written yet: `doneTokenCount` of its tokens are behind it.
    case calibrating(layer: Int, layerCount: Int, doneTokenCount: Int, tokenCount: Int)
    /// A tensor is encoded and written.
    case encoding(tensor: String)
    /// All tensors are done; the source files are still being hashed, or the slab gets its name.
    case completing
  }

  /// A tensor that has been written.
  public struct FinishedTensor: Sendable {
    /// The tensor and what became of it.
    public let entry: ConversionPlan.Entry
    /// What that did to it; nil for tensors that stay as they are.
    public let statistics: ErrorStatistics?
  }
}

/// Counts what a conversion has done of its plan.
struct ConversionProgress {
  private let plan: ConversionPlan
  private let totalByteCount: Int
  private var doneByteCount = 0
  private var doneTensorCount = 0

  init(_ plan: ConversionPlan) {
    self.plan = plan
    totalByteCount = plan.sourceByteCount
  }

  /// Before the next tensor, or behind the last.
  var current: Converter.Progress { progress() }

  /// While a decoder layer calibrates.
  func calibrating(layer: Int, done: Int, of count: Int) -> Converter.Progress {
    let layerCount = plan.steps.count { if case .layer = $0.kind { true } else { false } }
    return progress(
      .calibrating(layer: layer, layerCount: layerCount, doneTokenCount: done, tokenCount: count))
  }

  /// Tensors that an earlier run did.
  mutating func skip(_ count: Int) {
    for _ in 0..<count { advance() }
  }

  /// The tensor that was next is done.
  mutating func finish(_ statistics: ErrorStatistics?) -> Converter.Progress {
    let entry = advance()
    return progress(finished: Converter.FinishedTensor(entry: entry, statistics: statistics))
  }

  @discardableResult
  private mutating func advance() -> ConversionPlan.Entry {
    let entry = plan.entries[doneTensorCount]
    doneByteCount += entry.tensor.byteCount
    doneTensorCount += 1
    return entry
  }

  private func progress(
    _ stage: Converter.Stage? = nil, finished: Converter.FinishedTensor? = nil
  ) -> Converter.Progress {
    let entries = plan.entries
    let next =
      doneTensorCount < entries.count
      ? Converter.Stage.encoding(tensor: entries[doneTensorCount].tensor.name) : .completing
    return Converter.Progress(
      doneByteCount: doneByteCount, totalByteCount: totalByteCount,
      doneTensorCount: doneTensorCount, totalTensorCount: entries.count, stage: stage ?? next,
      finished: finished)
  }
}
