public import TensorCore

/// Why a model cannot be built or run.
public enum InferenceError: Error, Equatable, Sendable, CustomStringConvertible {
  case missingAsset(name: String, model: String)
  /// A file of the checkpoint that is there and not acceptable.
  case invalidAsset(name: String, model: String, reason: String)
  case missingTensor(name: String, expected: [Int], model: String)
  case wrongShape(tensor: String, expected: [Int], found: [Int], model: String)
  /// A context length that is not positive or longer than the model's.
  case contextLength(requested: Int, limit: Int)
  /// More tokens than the context holds.
  case contextExceeded(needed: Int, limit: Int)
  /// `index` counts from 0 in the tokens that were given.
  case tokenOutOfRange(token: Int, index: Int, vocabularySize: Int)
  /// A hidden state, or an input of a matrix product, was infinite or not a number; `layer` is nil
  /// after the last one.
  case nonFiniteActivation(position: Int, layer: Int?)
  case nonFiniteLogits(position: Int)
  /// A key or a value was not finite, or larger than the type of the KV cache can hold.
  case cacheRange(type: CacheType, position: Int, layer: Int)
  /// What a file claims to need is more than this machine has.
  case memory(of: String, needed: Int, physical: Int)
  case emptyPrompt
  /// Every token was ruled out, by minimum length and bias.
  case noCandidates
  /// Models that cannot be compared: the sizes of their vocabularies.
  case vocabularies(Int, Int)
  /// Models whose hidden states cannot be compared: number and width of their layers.
  case layers([Int], [Int])

  public var description: String {
    switch self {
    case .missingAsset(let name, let model): "\(model) holds no \(name)"
    case .invalidAsset(let name, let model, let reason): "\(name) in \(model): \(reason)"
    case .missingTensor(let name, let expected, let model):
      "\(model) holds no tensor \(name); its configuration calls for one of shape \(expected)"
    case .wrongShape(let tensor, let expected, let found, let model):
      "tensor \(tensor) of \(model) has shape \(found); the configuration calls for \(expected)"
    case .contextLength(let requested, let limit):
      "a context of \(requested) tokens is not possible: the model takes 1 to \(limit)"
    case .contextExceeded(let needed, let limit):
      "\(needed) tokens do not fit into the context of \(limit)"
    case .tokenOutOfRange(let token, let index, let vocabularySize):
      "token \(token) at index \(index) is not in the vocabulary of \(vocabularySize)"
    case .nonFiniteActivation(let position, let layer):
      "an activation at position \(position) is not finite "
        + (layer.map { "in layer \($0)" } ?? "after the last layer")
        + ": the weights are damaged, or unfit for these activations"
    case .nonFiniteLogits(let position):
      "the logits at position \(position) are not finite: the weights are damaged"
    case .cacheRange(let type, let position, let layer):
      "a key or a value at position \(position) in layer \(layer) is not finite or too large for a "
        + "KV cache of \(type.rawValue)" + (type == .f16 ? "; one of f32 may hold it" : "")
    case .memory(let what, let needed, let physical):
      "\(what) would take \(needed) bytes, and this machine has \(physical) bytes of memory"
    case .emptyPrompt: "the prompt is empty: generation needs at least one token to begin with"
    case .noCandidates: "no token can be chosen: minimum length and bias rule all of them out"
    case .vocabularies(let a, let b):
      "vocabularies of \(a) and \(b) tokens cannot be compared: these are different models"
    case .layers(let a, let b):
      "\(a[0]) layers of \(a[1]) features and \(b[0]) of \(b[1]) cannot be compared"
    }
  }
}
