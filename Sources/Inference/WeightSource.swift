public import ModelFiles
public import TensorCore

/// Where a model's weights come from, under their published names.
public protocol WeightSource {
  /// What to call it in errors.
  var path: String { get }

  /// Nil where there is no such tensor.
  func shape(ofTensor name: String) -> [Int]?

  /// A matrix, ready for the kernels; only called for tensors of two dimensions.
  func matrix(named name: String, pool: WorkerPool) throws -> WeightMatrix

  /// A tensor of one dimension.
  func vector(named name: String) throws -> [Float]
}

extension Slab: WeightSource {
  public func shape(ofTensor name: String) -> [Int]? { tensor(named: name)?.shape }

  public func vector(named name: String) throws -> [Float] { try values(named: name) }
}
