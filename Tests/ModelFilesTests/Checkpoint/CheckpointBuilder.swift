import Foundation
import ModelFiles
import TensorCore
import TestSupport

/// A tiny checkpoint as files in memory, to be bent before it is written.
struct CheckpointBuilder {
  typealias Tensor = (name: String, dtype: String, shape: [Int], bytes: [UInt8])

  var config = """
    {"model_type": "granite", "architectures": ["GraniteForCausalLM"], "hidden_size": 8,
     "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
     "intermediate_size": 6, "vocab_size": 5, "max_position_embeddings": 16,
     "tie_word_embeddings": true, "eos_token_id": 0}
    """
  var tensors: [Tensor] = []
  /// Other files, by name.
  var others: [String: [UInt8]] = ["tokenizer.json": Array("{}".utf8)]

  /// Random bf16 weights.
  init() throws {
    var random = SplitMix64(seed: 7)
    for (name, shape) in try ModelConfiguration(json: Array(config.utf8)).expectedTensors {
      let values = (0..<shape.reduce(1, *)).map { _ in random.normal().bfloat16Bits }
      tensors.append((name, "BF16", shape, values.withUnsafeBytes { Array($0) }))
    }
  }

  subscript(name: String) -> Tensor {
    get { tensors.first { $0.name == name }! }
    set {
      let index = tensors.firstIndex { $0.name == name }!
      tensors[index] = newValue
    }
  }

  /// The tensors in `range` as a safetensors file.
  func safetensors(_ range: Range<Int>? = nil) -> [UInt8] {
    var entries: [String] = []
    var bytes: [UInt8] = []
    for tensor in tensors[range ?? tensors.indices] {
      entries.append(
        SafetensorsBytes.entry(
          tensor.name, tensor.dtype, tensor.shape, [bytes.count, bytes.count + tensor.bytes.count]))
      bytes += tensor.bytes
    }
    return SafetensorsBytes.file("{" + entries.joined(separator: ",") + "}") + bytes
  }

  /// All files of the checkpoint with its weights in one.
  func files() -> [String: [UInt8]] {
    var files = others
    files["config.json"] = Array(config.utf8)
    files["model.safetensors"] = safetensors()
    return files
  }

  /// All files of the checkpoint with its weights in shards that begin at the given tensors.
  func shardedFiles(at borders: [Int] = [4, 8]) -> [String: [UInt8]] {
    var files = files()
    files["model.safetensors"] = nil
    var map: [String] = []
    let starts = [0] + borders
    for (index, start) in starts.enumerated() {
      let name = "model-0000\(index + 1)-of-0000\(starts.count).safetensors"
      let range = start..<(index + 1 < starts.count ? starts[index + 1] : tensors.count)
      files[name] = safetensors(range)
      map += tensors[range].map { "\"\($0.name)\": \"\(name)\"" }
    }
    let total = tensors.reduce(0) { $0 + $1.bytes.count }
    files["model.safetensors.index.json"] = Array(
      """
      {"metadata": {"total_size": \(total)}, "weight_map": {\(map.joined(separator: ",\n"))}}
      """.utf8)
    return files
  }

  /// Writes the files to a new directory and opens it as a checkpoint.
  static func open(_ files: [String: [UInt8]]) throws -> Checkpoint {
    try Place.withTemporaryDirectory { directory in
      for (name, bytes) in files { try Data(bytes).write(to: directory.appending(path: name)) }
      return try Checkpoint(directory: directory.path)
    }
  }
}
