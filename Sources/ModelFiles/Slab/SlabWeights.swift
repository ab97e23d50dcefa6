public import TensorCore

/// How the weights of a slab get into memory.
public enum WeightLoading: String, Sendable, CaseIterable {
  /// Raw matrices of profile `run` are used in the pages of the file, which are read ahead; several
  /// processes share them. Whatever is compressed is decompressed into memory of its own.
  case map
  /// Everything is read into memory of the process's own, in huge pages where the system has them.
  /// The file may change or vanish afterwards.
  case copy
}

/// Matrices of a slab in memory, ready for the kernels.
public struct SlabWeights: Sendable {
  public let slab: Slab
  /// Holds the streams one after the other; nil where they are used in the pages of the file.
  private let memory: AlignedBuffer?
  /// Offset in `memory` of the first stream of a tensor, by its place in the slab's index.
  private let offsets: [Int: Int]

  /// Loads all matrices with all threads of the pool.
  ///
  /// - Parameter progress: called now and then with the bytes that are ready and those of all.
  /// - Throws: ``SlabError`` if what is read is damaged, the file became shorter, or there is not
  ///   enough memory at all.
  public init(
    _ slab: Slab, loading: WeightLoading, pool: WorkerPool,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(SlabError) {
    let matrices = slab.tensorsInFileOrder.filter { $0.layout == .panel16 }
    try self.init(slab, tensors: matrices, loading: loading, pool: pool, progress: progress)
    if memory == nil, let first = matrices.first, let last = matrices.last?.streams.last {
      try slab.file.readAhead(
        first.offset..<last.bytes.byteRange.upperBound, pool: pool, progress: progress)
    }
  }

  /// - Parameter tensors: in layout `panel16`, in the order of the file.
  init(
    _ slab: Slab, tensors: [SlabTensor], loading: WeightLoading, pool: WorkerPool,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws(SlabError) {
    self.slab = slab
    if slab.profile == .run, loading == .map {
      memory = nil
      offsets = [:]
      return
    }
    var places: [(tensor: SlabTensor, stream: SlabStream, offset: Int)] = []
    var offsets: [Int: Int] = [:]
    var end = 0
    for tensor in tensors {
      offsets[slab.index.position(ofTensor: tensor.name)!] = end
      for stream in tensor.streams {
        places.append((tensor, stream, end))
        // No sum overflows: each stream is far below what could, and so is this machine's memory.
        end += stream.logicalByteCount
        try slab.file.checkFits(end, name: tensor.name, stream: stream.kind)
        end = SlabFormat.align(end, to: SlabFormat.streamAlignment)
      }
    }
    self.offsets = offsets
    let memory = AlignedBuffer(byteCount: end)
    self.memory = memory
    let reads = places.flatMap { tensor, stream, offset in
      stream.frames(
        of: tensor,
        into: UnsafeMutableRawBufferPointer(
          start: memory.base + offset, count: stream.logicalByteCount))
    }
    try slab.file.load(
      reads, check: slab.profile == .run ? .nothing : .everyBit, pool: pool, progress: progress)
  }

  /// One of the matrices, with the column scales that it names.
  /// - Throws: ``SlabError`` if there is no such matrix, or its column scales are damaged.
  public func matrix(named name: String) throws(SlabError) -> WeightMatrix {
    try slab.single(tensor(named: name), name)
  }

  /// A tensor of one or more matrices, with the column scales that it names.
  /// - Throws: ``SlabError`` if there is no such tensor, or its column scales are damaged.
  public func tensor(named name: String) throws(SlabError) -> WeightTensor {
    let tensor = try slab.require(name, .panel16)
    var streams: [StreamKind: UnsafeRawBufferPointer] = [:]
    var offset = offsets[slab.index.position(ofTensor: name)!] ?? 0
    for stream in tensor.streams {
      if let memory {
        streams[stream.kind] = UnsafeRawBufferPointer(
          start: memory.base + offset, count: stream.logicalByteCount)
        offset = SlabFormat.align(
          offset + stream.logicalByteCount, to: SlabFormat.streamAlignment)
      } else {
        streams[stream.kind] = UnsafeRawBufferPointer(
          rebasing: slab.mappedBytes[stream.bytes.byteRange])
      }
    }
    let scales = try tensor.columnScales.map { name throws(SlabError) in
      try slab.sharedColumnScales(named: name)
    }
    return WeightTensor(
      encoding: tensor.encoding, form: tensor.form!, streams: streams,
      columnScales: scales, owners: [memory ?? slab.file])
  }
}
