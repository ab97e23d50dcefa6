internal import Synchronization
public import TensorCore

/// An open slab: a model in one file (formats/slab.md).
///
/// Opening reads and checks superblock, index, assets and the padding between streams, so that every
/// flipped bit in them is found. Weights are read when asked for: compressed ones are checked as
/// they are decompressed; raw matrices of profile `run` are used where they are mapped, unchecked
/// until ``verify(pool:progress:)``.
///
/// The file must not be rewritten in place while it is open: shortening it would end this process.
public final class Slab: Sendable {
  public let path: String
  public let profile: SlabProfile
  /// What the model is: tensors and assets, however they are stored.
  public let rootDigest: Digest
  public let fileByteCount: Int
  /// Where the file comes from: tool, recipe, library versions, sources.
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
    index = contents.index
    profile = contents.index.profile
    metadata = contents.index.metadata
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

  /// Tensors in the order in which the file holds them.
  public var tensorsInFileOrder: [SlabTensor] { index.fileOrder }

  /// A matrix for the kernels, with the column scales that it names: mapped in place where it is
  /// raw, else decompressed by all threads of the pool.
  /// - Throws: ``SlabError`` if there is no such matrix, or what is read is damaged.
  public func matrix(named name: String, pool: WorkerPool) throws(SlabError) -> WeightMatrix {
    let tensor = try require(name, .panel16)
    var streams: [StreamKind: UnsafeRawBufferPointer] = [:]
    var owners: [AnyObject] = [file]
    for stream in tensor.streams {
      if stream.codec == .raw && profile == .run {
        streams[stream.kind] = UnsafeRawBufferPointer(
          rebasing: file.mapping[stream.bytes.byteRange])
      } else {
        let buffer = try file.decoded(stream, of: tensor, pool: pool)
        owners.append(buffer)
        streams[stream.kind] = buffer.bytes
      }
    }
    let scales = try tensor.columnScales.map { name throws(SlabError) in
      try sharedColumnScales(named: name, pool: pool)
    }
    return WeightMatrix(
      encoding: tensor.encoding, geometry: tensor.geometry!, streams: streams,
      columnScales: scales, owners: owners)
  }

  /// The values of a plain tensor, row-major; their digest is always checked.
  /// - Throws: ``SlabError`` if there is no such tensor, or it is damaged.
  public func values(named name: String) throws(SlabError) -> [Float] {
    let tensor = try require(name, .plain)
    return try file.values(of: tensor, pool: WorkerPool(threadCount: 1))
  }

  /// One object for all matrices that name the same column scales.
  private func sharedColumnScales(
    named name: String, pool: WorkerPool
  ) throws(SlabError) -> ColumnScales {
    let position = index.position(ofTensor: name)!  // checked when the index was read
    if let scales = columnScales.withLock({ $0[position] }) { return scales }
    let scales = ColumnScales(try file.values(of: index.tensors[position], pool: pool))
    return columnScales.withLock { cache in
      if let earlier = cache[position] { return earlier }
      cache[position] = scales
      return scales
    }
  }

  private func require(
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
  /// The logical bytes of a stream, checked.
  func decoded(
    _ stream: SlabStream, of tensor: SlabTensor, pool: WorkerPool
  ) throws(SlabError) -> AlignedBuffer {
    let byteCount = stream.logicalByteCount
    // A few kilobytes can declare as many megabytes of zeros.
    guard byteCount <= SystemCalls.physicalByteCount else {
      throw SlabError(
        .unsupported, path: path, name: tensor.name, stream: stream.kind,
        expected: "at most \(SystemCalls.physicalByteCount)", found: "\(byteCount) bytes",
        "the tensor is larger than this machine's memory")
    }
    let buffer = AlignedBuffer(byteCount: byteCount)
    try decode(
      stream.bytes, name: tensor.name, stream: stream.kind,
      width: TensorForm.elementByteCount(stream.kind, tensor.encoding),
      into: UnsafeMutableRawBufferPointer(start: buffer.base, count: byteCount), pool: pool)
    return buffer
  }

  /// The values of a plain tensor, checked.
  func values(of tensor: SlabTensor, pool: WorkerPool) throws(SlabError) -> [Float] {
    let buffer = try decoded(tensor.streams[0], of: tensor, pool: pool)
    return Array(UnsafeBufferPointer(start: buffer.floats, count: tensor.elementCount))
  }
}
