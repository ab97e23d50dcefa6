public import ModelFiles
public import TensorCore

/// Compares the weights of a slab, dequantized, with the checkpoint that they were made from: no tensor
/// may be further from its original than the slab says.
public struct SourceComparison: Sendable {
  /// A tensor or asset that is not what it should be.
  public struct Fault: Sendable, Equatable {
    /// Of the tensor or asset.
    public let name: String
    /// What is wrong, a clause.
    public let reason: String
    /// What converting did to the tensor, as the slab says.
    public let recorded: ErrorStatistics?
    /// What was found.
    public let found: ErrorStatistics?
  }

  /// Tensors that were compared.
  public private(set) var tensorCount = 0
  /// In the order of the names: none where everything is right.
  public private(set) var faults: [Fault] = []

  /// Sums that are added up in another order differ by less.
  private static let tolerance = 1e-9

  /// Compares all tensors and assets.
  ///
  /// - Parameters:
  ///   - progress: called with the elements compared so far and those of all tensors.
  ///   - isCancelled: asked for every tensor.
  /// - Returns: nil if cancelled.
  /// - Throws: `SlabError` if the slab is damaged, `CheckpointError` if the checkpoint is.
  public static func compare(
    _ slab: Slab, with checkpoint: Checkpoint, pool: WorkerPool,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in },
    isCancelled: () -> Bool = { false }
  ) throws -> SourceComparison? {
    var result = SourceComparison()
    let scales = Set(slab.tensors.compactMap(\.columnScales))
    let total = slab.tensors.reduce(0) { $0 + $1.elementCount }
    var done = 0
    for tensor in slab.tensors {
      if isCancelled() { return nil }
      if let source = checkpoint.descriptor(named: tensor.name) {
        if let fault = try fault(of: tensor, in: slab, source, checkpoint, pool) {
          result.faults.append(fault)
        }
        result.tensorCount += 1
        checkpoint.release(source)
      } else if !scales.contains(tensor.name) {
        result.faults.append(Fault(tensor, "the checkpoint has no such tensor"))
      }
      done += tensor.elementCount
      progress(done, total)
    }
    for source in checkpoint.tensors where slab.tensor(named: source.name) == nil {
      result.faults.append(Fault(source.name, "the slab has no such tensor"))
    }
    for asset in checkpoint.assets where slab.asset(named: asset.name) != asset.bytes {
      result.faults.append(Fault(asset.name, "the file is another one"))
    }
    try checkpoint.checkUnchanged()
    return result
  }

  private static func fault(
    of tensor: SlabTensor, in slab: Slab, _ source: TensorDescriptor, _ checkpoint: Checkpoint,
    _ pool: WorkerPool
  ) throws -> Fault? {
    guard tensor.shape == source.shape else {
      return Fault(tensor, "the shape is \(tensor.shape) and was \(source.shape)")
    }
    guard tensor.layout == .panel16 else {
      let isSame = try slab.values(named: tensor.name) == checkpoint.values(named: source.name)
      return isSame ? nil : Fault(tensor, "the values are others")
    }
    let found = ValueComparison(
      of: .weights(try slab.weights(named: tensor.name, pool: pool)),
      against: .view(try checkpoint.rows(named: source.name)), pool: pool
    ).statistics
    guard let recorded = tensor.statistics else {
      return Fault(tensor, "the slab does not say how far it may be from its original", found)
    }
    func exceeds(_ found: Double, _ recorded: Double) -> Bool {
      !(found <= recorded + abs(recorded) * tolerance + 1e-300)
    }
    let isFurther =
      exceeds(found.normalizedMeanSquaredError, recorded.normalizedMeanSquaredError)
      || exceeds(found.maximumAbsoluteError, recorded.maximumAbsoluteError)
    return isFurther ? Fault(tensor, "further from its original than recorded", found) : nil
  }
}

extension SourceComparison.Fault {
  fileprivate init(_ tensor: SlabTensor, _ reason: String, _ found: ErrorStatistics? = nil) {
    self.init(name: tensor.name, reason: reason, recorded: tensor.statistics, found: found)
  }

  fileprivate init(_ name: String, _ reason: String) {
    self.init(name: name, reason: reason, recorded: nil, found: nil)
  }
}
