import JSON

/// `model.safetensors.index.json`: which shard holds which tensor.
struct ShardIndex {
  static let fileName = "model.safetensors.index.json"
  /// Bytes of an index that are read; that of a model of 60,000 tensors has a quarter.
  static let maximumByteCount = 32 << 20

  let path: String
  /// Shard of every tensor.
  let shards: [String: String]
  /// Names of the shards, sorted.
  let shardNames: [String]
  /// Bytes of all tensors, if the index says so.
  let totalByteCount: Int?

  init(path: String) throws(CheckpointError) {
    self.path = path
    let bytes: [UInt8]
    do throws(FileError) {
      bytes = try MappedFile.contents(of: path, limit: Self.maximumByteCount)
    } catch {
      throw CheckpointError(error)
    }
    let document: JSONValue
    do throws(JSONError) {
      document = try JSONValue(parsing: bytes)
    } catch {
      let reason: CheckpointError.Reason =
        error.reason.hasPrefix("duplicate key") ? .duplicateName : .malformed
      throw CheckpointError(reason, in: path, found: "\(error)".shown)
    }
    guard let map = document["weight_map"]?.object else {
      throw CheckpointError(
        .malformed, in: path, expected: "an object weight_map",
        found: document["weight_map"]?.kind ?? "none")
    }
    var shards: [String: String] = [:]
    for (tensor, value) in map.members {
      guard let shard = value.string else {
        throw CheckpointError(
          .malformed, in: path, tensor: tensor, expected: "the name of a shard", found: value.kind)
      }
      guard Self.isPlainName(shard) else {
        throw CheckpointError(
          .shardName, in: path, tensor: tensor,
          expected: "a name that ends in .safetensors, without a path", found: shard.shown)
      }
      shards[tensor] = shard
    }
    self.shards = shards
    shardNames = Set(shards.values).sorted()
    totalByteCount = document["metadata"]?["total_size"]?.double.flatMap { Int(exactly: $0) }
  }

  /// Whether `name` can only be a file of the checkpoint's own directory.
  private static func isPlainName(_ name: String) -> Bool {
    name.hasSuffix(".safetensors") && !name.hasPrefix(".")
      && name.utf8.allSatisfy { $0 >= 0x20 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "\\") }
  }

  /// Checks that the shards hold what the index says, no more and no less.
  func check(_ files: [SafetensorsFile]) throws(CheckpointError) {
    var missing = shards
    for file in files {
      let shard = file.path.lastPathComponent
      for tensor in file.tensors {
        guard let promised = shards[tensor.name] else {
          throw CheckpointError(
            .unexpectedTensor, in: file.path, tensor: tensor.name,
            expected: "only tensors that \(Self.fileName) lists")
        }
        guard missing[tensor.name] != nil else {
          throw CheckpointError(
            .duplicateName, in: file.path, tensor: tensor.name, expected: "it in one shard only")
        }
        guard promised == shard else {
          throw CheckpointError(
            .unexpectedTensor, in: file.path, tensor: tensor.name,
            expected: "it in \(promised.shown), as \(Self.fileName) says")
        }
        missing[tensor.name] = nil
      }
    }
    if let first = missing.min(by: { $0.key < $1.key }) {
      throw CheckpointError(
        .missingTensor, in: path, tensor: first.key,
        expected: "it in \(first.value.shown), as the index says")
    }
  }
}

extension String {
  /// The text after the last slash.
  var lastPathComponent: String {
    utf8.lastIndex(of: UInt8(ascii: "/")).map { String(self[index(after: $0)...]) } ?? self
  }
}
