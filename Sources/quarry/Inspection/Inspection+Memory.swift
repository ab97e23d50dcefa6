import Inference
import JSON
import ModelFiles
import TensorCore

extension Inspection {
  /// Bytes of a full KV cache of each type; nothing for a model that cannot be run.
  ///
  /// - Parameter json: config.json.
  static func cacheFacts(_ json: [UInt8]?) -> [(name: String, value: JSONValue)] {
    guard let json, let configuration = try? ModelConfiguration(json: json) else { return [] }
    return CacheType.allCases.map { type in
      let prediction = MemoryPrediction(
        weightByteCount: 0, configuration: configuration, cacheType: type)
      return (
        "\(type.rawValue) cache bytes at \(configuration.contextLength) tokens",
        .integer(prediction.cacheByteCount)
      )
    }
  }
}
