public import ModelFiles
public import TensorCore

/// Where a model's weights come from, under their published names.
public protocol WeightSource {
  /// What to call it in errors.
  var path: String { get }

  /// Nil where there is no such tensor.
  func shape(ofTensor name: String) -> [Int]?

  /// A matrix, or those of the experts in order, ready for the kernels; only called for tensors of two
  /// or three dimensions.
  func matrices(named name: String, pool: WorkerPool) throws -> [WeightMatrix]

  /// A tensor of one dimension.
  func vector(named name: String) throws -> [Float]
}

extension SlabWeights: WeightSource {
  public var path: String { slab.path }

  public func shape(ofTensor name: String) -> [Int]? { slab.tensor(named: name)?.shape }

  public func matrices(named name: String, pool: WorkerPool) throws -> [WeightMatrix] {
    try tensor(named: name).matrices
  }

  public func vector(named name: String) throws -> [Float] { try slab.values(named: name) }
}
