internal import Synchronization
public import TensorCore

/// An open slab: a model in one file (formats/slab.md).
///
/// Opening reads and checks superblock, index, assets and the padding between streams, so that every
/// flipped bit in them is found. Weights are read when asked for: compressed ones are checked as
/// they are decompressed; raw matrices of profile `run` are used where they are mapped, unchecked
/// until ``verify(pool:progress:)``.
///
/// The file must not be rewritten in place while it is open: where ``mappedBytes`` are gone because
/// it became shorter, reading them ends this process (SIGBUS).
public final class Slab: Sendable {
  public let path: String
  public let profile: SlabProfile
  /// What the model is: tensors and assets, however they are stored.
  public let rootDigest: Digest
  public let fileByteCount: Int
  /// Where the file comes from: tool, recipe, library versions, sources. Weighted errors are with the
  /// tensors.
  public let metadata: [String: String]
  /// Sorted by the bytes of their names.
  public var tensors: [SlabTensor] { index.tensors }
  /// Sorted by the bytes of their names.
  public let assets: [SlabAsset]

  let file: SlabFile
  let index: SlabIndex
  private let columnScales = Mutex<[Int: ColumnScales]>([:])

  /// - Throws: ``SlabError`` if the file cannot be read, is no slab, or is damaged.
  public init(path: String) throws(SlabError) {
    self.path = path
    file = try SlabFile(path: path)
    let contents = try SlabContents(of: file)
    fileByteCount = file.status.byteCount
    var index = contents.index
    index.readWeightedErrors()
    self.index = index
    profile = contents.index.profile
    metadata = contents.index.metadata.filter { !SlabIndex.isWeightedErrors($0.key) }
    rootDigest = contents.superblock.rootDigest
    assets = contents.assets
  }

  /// The description of a tensor; nil if there is none of that name.
  public func tensor(named name: String) -> SlabTensor? {
    index.position(ofTensor: name).map { index.tensors[$0] }
  }

  /// The bytes of an asset; nil if there is none of that name.
  public func asset(named name: String) -> [UInt8]? {
    assets.first { $0.name.utf8.elementsEqual(name.utf8) }?.bytes
  }

  /// The whole file, as it is mapped: where matrices of profile `run` are used in place.
  public var mappedBytes: UnsafeRawBufferPointer { file.mapping }

  /// Tensors in the order in which the file holds them.
  public var tensorsInFileOrder: [SlabTensor] { index.fileOrder }

  /// A matrix for the kernels, with the column scales that it names: mapped in place where it is
  /// raw, else decompressed by all threads of the pool. ``SlabWeights`` loads many at once.
  /// - Throws: ``SlabError`` if there is no such matrix, or what is read is damaged.
  public func matrix(named name: String, pool: WorkerPool) throws(SlabError) -> WeightMatrix {
    try single(weights(named: name, pool: pool), name)
  }

  /// The same for a tensor of one or more matrices.
  /// - Throws: ``SlabError`` if there is no such tensor, or what is read is damaged.
  public func weights(named name: String, pool: WorkerPool) throws(SlabError) -> WeightTensor {
    let tensor = try require(name, .panel16)
    return try SlabWeights(self, tensors: [tensor], loading: .map, pool: pool).tensor(named: name)
  }

  /// The matrix of a tensor that has one.
  func single(_ weights: WeightTensor, _ name: String) throws(SlabError) -> WeightMatrix {
    guard weights.form.count == 1 else {
      throw SlabError(
        .missing, path: path, name: name, expected: "one matrix",
        found: "those of \(weights.form.count) experts", "the tensor is no matrix")
    }
    return weights.matrices[0]
  }

  /// The values of a plain tensor, row-major; their digest is always checked.
  /// - Throws: ``SlabError`` if there is no such tensor, or it is damaged.
  public func values(named name: String) throws(SlabError) -> [Float] {
    let tensor = try require(name, .plain)
    return try file.values(of: tensor)
  }

  /// One object for all matrices that name the same column scales.
  func sharedColumnScales(
    named name: String
  ) throws(SlabError) -> ColumnScales {
    let position = index.position(ofTensor: name)!  // checked when the index was read
    if let scales = columnScales.withLock({ $0[position] }) { return scales }
    let scales = ColumnScales(try file.values(of: index.tensors[position]))
    return columnScales.withLock { cache in
      if let earlier = cache[position] { return earlier }
      cache[position] = scales
      return scales
    }
  }

  func require(
    _ name: String, _ layout: TensorLayout
  ) throws(SlabError) -> SlabTensor {
    guard let tensor = tensor(named: name) else {
      throw SlabError(.missing, path: path, name: name, "the slab has no tensor of this name")
    }
    guard tensor.layout == layout else {
      throw SlabError(
        .missing, path: path, name: name, expected: "\(layout)", found: "\(tensor.layout)",
        "the tensor has another layout")
    }
    return tensor
  }
}

extension SlabFile {
  /// The logical bytes of a stream; every digest is checked.
  func decoded(
    _ stream: SlabStream, of tensor: SlabTensor, pool: WorkerPool
  ) throws(SlabError) -> AlignedBuffer {
    try checkFits(stream.logicalByteCount, name: tensor.name, stream: stream.kind)
    let buffer = AlignedBuffer(byteCount: stream.logicalByteCount)
    try load(
      stream.frames(
        of: tensor,
        into: UnsafeMutableRawBufferPointer(start: buffer.base, count: buffer.byteCount)),
      check: .everyDigest, pool: pool)
    return buffer
  }

  /// The values of a plain tensor, checked.
  func values(of tensor: SlabTensor) throws(SlabError) -> [Float] {
    let buffer = try decoded(tensor.streams[0], of: tensor, pool: WorkerPool(threadCount: 1))
    return Array(UnsafeBufferPointer(start: buffer.floats, count: tensor.elementCount))
  }

  /// Refuses what this machine has no memory for: a few kilobytes can declare as many megabytes of
  /// zeros.
  func checkFits(_ byteCount: Int, name: String?, stream: StreamKind?) throws(SlabError) {
    guard byteCount <= SystemCalls.physicalByteCount else {
      throw SlabError(
        .unsupported, path: path, name: name, stream: stream,
        expected: "at most \(SystemCalls.physicalByteCount)", found: "\(byteCount) bytes",
        "the weights are larger than this machine's memory")
    }
  }
}

extension SlabStream {
  /// What to read for the whole stream.
  func frames(
    of tensor: SlabTensor, into destination: UnsafeMutableRawBufferPointer
  ) -> [FrameRead] {
    FrameRead.frames(
      of: bytes, name: tensor.name, stream: kind,
      width: TensorForm.elementByteCount(kind, tensor.encoding), into: destination)
  }
}
