/// The safetensors files of a checkpoint directory: one, or the shards of an index.
struct CheckpointWeights {
  static let singleFileName = "model.safetensors"

  let files: [SafetensorsFile]
  /// All files read, the index included.
  let paths: [String]
  private(set) var warnings: [String] = []

  init(directory: String) throws(CheckpointError) {
    let single = directory + "/" + Self.singleFileName
    let indexPath = directory + "/" + ShardIndex.fileName
    guard try Self.exists(indexPath) else {
      guard try Self.exists(single) else {
        throw CheckpointError(
          .noCheckpoint, in: directory,
          expected: "\(Self.singleFileName), or shards and \(ShardIndex.fileName)", found: "neither"
        )
      }
      files = [try SafetensorsFile(path: single)]
      paths = [single]
      return
    }
    let index = try ShardIndex(path: indexPath)
    // Which of the two a reader takes would be a guess, unless the index names the single file.
    if !index.shardNames.contains(Self.singleFileName), try Self.exists(single) {
      throw CheckpointError(
        .noCheckpoint, in: directory, expected: "one set of weights",
        found: "both \(Self.singleFileName) and \(ShardIndex.fileName) without it")
    }
    var files: [SafetensorsFile] = []
    for name in index.shardNames {
      files.append(try SafetensorsFile(path: directory + "/" + name))
    }
    try index.check(files)
    let byteCount = files.reduce(0) { $0 + $1.tensors.reduce(0) { $0 + $1.byteCount } }
    if let total = index.totalByteCount, total != byteCount {
      warnings.append(
        "\(ShardIndex.fileName) says that the tensors have \(total) bytes; they have \(byteCount).")
    }
    self.files = files
    paths = [indexPath] + files.map(\.path)
  }

  private static func exists(_ path: String) throws(CheckpointError) -> Bool {
    do throws(FileError) {
      return try SystemCalls.status(at: path) != nil
    } catch {
      throw CheckpointError(error)
    }
  }
}
