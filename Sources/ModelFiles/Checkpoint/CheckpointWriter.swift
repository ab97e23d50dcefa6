internal import JSON

/// Writes a checkpoint directory in the published form, tensor by tensor with constant memory: one
/// safetensors file, or shards with an index, and the small files.
///
/// It is called `DIRECTORY.partial`, and locked against other writers, until it is whole and on the
/// disk; what fails, is cancelled or not finished leaves nothing. What a killed writer left is taken
/// over by the next.
package final class CheckpointWriter {
  package typealias Tensor = SafetensorsWriter.Tensor

  private let directory: String
  private let partial: String
  private let lock: Int32
  private let shards: [(name: String, tensors: [Tensor])]
  private let assetNames: Set<String>
  private var position = 0
  private var shard: SafetensorsWriter?
  /// Bytes that the current shard still lacks.
  private var missing = 0
  private var isFinished = false

  /// - Parameters:
  ///   - tensors: in the order in which the elements will come.
  ///   - assets: the small files.
  ///   - maximumShardByteCount: bytes of elements in a file; a larger tensor has one of its own.
  ///   - isSparse: whether all elements will be left out, so that they need no room.
  /// - Throws: ``FileError``, also if the directory exists or the disk lacks room.
  package init(
    directory path: String, tensors: [Tensor], assets: [SlabAsset], maximumShardByteCount: Int,
    isSparse: Bool = false
  ) throws(FileError) {
    var path = path
    while path.utf8.count > 1, path.hasSuffix("/") { path.removeLast() }
    try SystemCalls.checkName(ofOutput: path)
    directory = path
    partial = path + ".partial"
    assetNames = Set(assets.map(\.name))
    shards = Self.shards(of: tensors, maximumShardByteCount)
    try SystemCalls.checkMissing(path)
    let byteCount = tensors.reduce(0) { $0 + SafetensorsWriter.byteCount(of: $1) }
    try SystemCalls.checkSpace(
      for: (isSparse ? 0 : byteCount) + assets.reduce(0) { $0 + $1.bytes.count }, path)
    lock = try Self.take(partial, assetNames)
    do throws(FileError) {
      for asset in assets {
        try SystemCalls.writeFile(partial + "/" + asset.name, asset.bytes)
      }
      if shards.count > 1 { try writeIndex(byteCount: byteCount) }
      try openShard()
    } catch {
      close()
      throw error
    }
  }

  deinit { close() }

  /// Writes the next elements as they lie in memory, little-endian; calls do not cross the end of a
  /// tensor.
  package func append(bytes: UnsafeRawBufferPointer) throws(FileError) {
    try shard!.append(bytes: bytes)
    try advance(bytes.count)
  }

  /// Leaves elements out, which read as zeros; see ``append(bytes:)``.
  package func skip(_ byteCount: Int) throws(FileError) {
    try shard!.skip(byteCount)
    try advance(byteCount)
  }

  private func advance(_ byteCount: Int) throws(FileError) {
    missing -= byteCount
    if missing == 0, position < shards.count - 1 { try nextShard() }
  }

  /// Gives the whole directory its name.
  /// - Precondition: all elements have been written.
  package func finish() throws(FileError) {
    try shard!.finish()
    shard = nil
    try SystemCalls.checkMissing(directory)  // it may have come into being meanwhile
    try SystemCalls.rename(partial, to: directory)
    isFinished = true
    SystemCalls.close(lock)
  }

  /// Gives up and removes what was written.
  package func close() {
    guard !isFinished else { return }
    isFinished = true
    shard = nil  // removes its file
    Self.removeFiles(in: partial, named: assetNames)
    SystemCalls.removeDirectory(partial)
    SystemCalls.close(lock)
  }

  private func nextShard() throws(FileError) {
    try shard!.finish()
    position += 1
    try openShard()
  }

  private func openShard() throws(FileError) {
    let (name, tensors) = shards[position]
    missing = tensors.reduce(0) { $0 + SafetensorsWriter.byteCount(of: $1) }
    shard = try SafetensorsWriter(
      path: partial + "/" + name, tensors: tensors, metadata: [("format", "pt")])
  }

  private func writeIndex(byteCount: Int) throws(FileError) {
    let map = shards.flatMap { shard in
      shard.tensors.map { (key: $0.name, value: JSONValue.string(shard.name)) }
    }
    let index: JSONValue = .object([
      "metadata": .object(["total_size": .integer(byteCount)]),
      "weight_map": .object(JSONObject(map)),
    ])
    try SystemCalls.writeFile(
      partial + "/" + ShardIndex.fileName, Array(index.serialized(indented: true).utf8))
  }

  private static func shards(
    of tensors: [Tensor], _ maximumByteCount: Int
  ) -> [(name: String, tensors: [Tensor])] {
    var shards: [[Tensor]] = [[]]
    var filled = 0
    for tensor in tensors {
      let byteCount = SafetensorsWriter.byteCount(of: tensor)
      if filled > 0, filled + byteCount > maximumByteCount {
        shards.append([])
        filled = 0
      }
      shards[shards.count - 1].append(tensor)
      filled += byteCount
    }
    if shards.count == 1 { return [(CheckpointWeights.singleFileName, shards[0])] }
    func digits(_ number: Int) -> String {
      String(repeating: "0", count: max(0, 5 - "\(number)".count)) + "\(number)"
    }
    return shards.enumerated().map {
      ("model-\(digits($0 + 1))-of-\(digits(shards.count)).safetensors", $1)
    }
  }

  // MARK: - The directory

  /// Makes and locks the directory, or takes over what an interrupted writer left.
  private static func take(
    _ partial: String, _ assetNames: Set<String>
  ) throws(FileError) -> Int32 {
    try SystemCalls.createDirectory(partial)
    guard let lock = try SystemCalls.lockDirectory(partial) else {
      throw FileError(path: partial, reason: "another process is writing this directory")
    }
    removeFiles(in: partial, named: assetNames)
    guard SystemCalls.names(in: partial).isEmpty else {
      SystemCalls.close(lock)
      throw FileError(
        path: partial, reason: "it holds files that no writer left there; remove or rename it")
    }
    return lock
  }

  /// Removes what a writer may have left: files of weights, their index, and those of the names.
  private static func removeFiles(in directory: String, named names: Set<String>) {
    for name in SystemCalls.names(in: directory) {
      let isOwn =
        name == ShardIndex.fileName || name.hasSuffix(".safetensors")
        || name.hasSuffix(".safetensors.partial")
      if isOwn || names.contains(name) { SystemCalls.remove(directory + "/" + name) }
    }
  }
}
