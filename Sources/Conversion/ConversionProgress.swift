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
    /// The tensor that comes next; nil at the end.
    public let tensor: String?
    /// The tensor that has just been done; nil at the beginning.
    public let finished: FinishedTensor?
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
  private var finished: Converter.FinishedTensor?

  init(_ plan: ConversionPlan) {
    self.plan = plan
    totalByteCount = plan.sourceByteCount
  }

  var current: Converter.Progress {
    let entries = plan.entries
    return Converter.Progress(
      doneByteCount: doneByteCount, totalByteCount: totalByteCount,
      doneTensorCount: doneTensorCount, totalTensorCount: entries.count,
      tensor: doneTensorCount < entries.count ? entries[doneTensorCount].tensor.name : nil,
      finished: finished)
  }

  /// The tensor that was next is done.
  mutating func finish(_ statistics: ErrorStatistics?) {
    let entry = plan.entries[doneTensorCount]
    finished = Converter.FinishedTensor(entry: entry, statistics: statistics)
    doneByteCount += entry.tensor.byteCount
    doneTensorCount += 1
  }
}
