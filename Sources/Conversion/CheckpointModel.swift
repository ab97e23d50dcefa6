public import Inference
public import ModelFiles
public import TensorCore

extension Model {
  /// Loads a checkpoint as it is, without a slab: matrices of bf16 stay so, all others become float32.
  ///
  /// All weights are in memory of the process's own.
  /// - Parameters:
  ///   - progress: called with the number of tensors that are ready and that of all.
  ///   - isCancelled: asked often, on any thread; once true, loading ends with `CancellationError`.
  /// - Throws: ``InferenceError``, ``ConversionError``, `CancellationError`.
  public convenience init(
    checkpoint: Checkpoint, pool: WorkerPool, kernels: Kernels,
    isCancelled: @escaping @Sendable () -> Bool = { false },
    progress: (_ ready: Int, _ total: Int) -> Void = { _, _ in }
  ) throws {
    let source = CheckpointSource(checkpoint: checkpoint, isCancelled: isCancelled)
    let physical = SystemMemory.physicalByteCount
    if source.byteCount > physical {
      throw InferenceError.memory(
        of: "the weights of \(source.path)", needed: source.byteCount, physical: physical)
    }
    let assets = try ModelAssets(path: checkpoint.directory) { name in
      checkpoint.assets.first { $0.name == name }?.bytes
    }
    try self.init(weights: source, assets: assets, pool: pool, kernels: kernels, progress: progress)
  }
}

/// The weights of a checkpoint, in the layout of the kernels.
struct CheckpointSource: WeightSource {
  let checkpoint: Checkpoint
  let isCancelled: @Sendable () -> Bool

  var path: String { checkpoint.directory }

  func shape(ofTensor name: String) -> [Int]? { checkpoint.descriptor(named: name)?.shape }

  func matrices(named name: String, pool: WorkerPool) throws -> [WeightMatrix] {
    guard let tensor = checkpoint.descriptor(named: name) else {
      preconditionFailure("the loader asks for \(name) after its shape")
    }
    defer { checkpoint.release(tensor) }
    let encoded = Result { () throws(ConversionError) in
      try checkpoint.encode(
        name, as: Self.encoding(of: tensor), pool: pool, isCancelled: isCancelled
      ).weights.matrices
    }
    if case .failure(let error) = encoded, error.isCancellation { throw CancellationError() }
    return try encoded.get()
  }

  func vector(named name: String) throws -> [Float] { try checkpoint.values(named: name) }

  /// Bytes of all tensors in memory.
  var byteCount: Int {
    checkpoint.tensors.reduce(0) { sum, tensor in
      guard TensorRole(tensorName: tensor.name)?.isMatrix == true,
        let form = MatrixForm(shape: tensor.shape)
      else { return sum + tensor.elementCount * 4 }
      return sum + form.byteCount(in: Self.encoding(of: tensor))
    }
  }

  private static func encoding(of tensor: TensorDescriptor) -> BlockEncoding {
    tensor.elementType == .bf16 ? .bf16 : .f32
  }
}
