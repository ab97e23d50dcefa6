import Inference
import ModelFiles
import TensorCore

/// The matrices of a step that read one input: they share its importance and its column scales.
struct InputGroup {
  let input: LinearInput
  /// Nil for the output projection.
  let layer: Int?
  /// In the order of the step.
  let entries: [ConversionPlan.Entry]

  /// Groups the matrices of a step that have a known input: an embedding has one only where it is also
  /// the output projection.
  static func groups(
    of step: ConversionPlan.Step, tiedEmbeddings: Bool
  ) -> [InputGroup] {
    LinearInput.allCases.compactMap { input in
      let entries = step.entries.filter {
        $0.role.linearInput(tiedEmbeddings: tiedEmbeddings) == input
      }
      return entries.isEmpty
        ? nil : InputGroup(input: input, layer: entries[0].layer, entries: entries)
    }
  }

  /// Whether a tensor is one of the group's matrices.
  func contains(_ entry: ConversionPlan.Entry) -> Bool {
    entries.contains { $0.tensor.name == entry.tensor.name }
  }

  /// Encodings of those of its matrices that are quantized.
  var encodings: Set<BlockEncoding> {
    Set(entries.compactMap(\.encoding).filter(\.isQuantized))
  }
  var isQuantized: Bool { !encodings.isEmpty }
  /// Whether its columns may be scaled: not where every expert has an input of its own.
  var mayBeScaled: Bool { input != .expertDown }
  /// What statistics call the input.
  var name: String { input.name(layer: layer) }
  /// What a slab calls the column scales of the group.
  var columnScalesName: String { name + ".column_scales" }
}

extension LinearInput {
  /// The name of an input in statistics: that of the module that reads it.
  ///
  /// - Parameter layer: nil for the output projection.
  func name(layer: Int?) -> String {
    let prefix = layer.map { "model.layers.\($0)." } ?? ""
    return switch self {
    case .attention: prefix + "self_attn.input"
    case .attentionOutput: prefix + "self_attn.o_proj.input"
    case .mlp: prefix + "mlp.input"
    case .down: prefix + "mlp.down_proj.input"
    case .mamba: prefix + "mamba.input"
    case .mambaOutput: prefix + "mamba.out_proj.input"
    case .experts: prefix + "experts.input"
    case .expertDown: prefix + "experts.down_proj.input"
    case .output: "lm_head.input"
    }
  }

  /// The inputs of a decoder layer, in order, but for those that every expert has of its own.
  static func ofLayer(_ layer: Int, _ configuration: ModelConfiguration) -> [LinearInput] {
    let mixer: [LinearInput] =
      switch configuration.layerKinds[layer] {
      case .attention: [.attention, .attentionOutput]
      case .mamba: [.mamba, .mambaOutput]
      }
    return mixer + [.mlp] + (configuration.intermediateSize > 0 ? [.down] : [])
  }

  /// The inputs that every expert has of its own.
  static func ofExperts(_ configuration: ModelConfiguration) -> [LinearInput] {
    configuration.experts == nil ? [] : [.experts, .expertDown]
  }

  /// Features of an input.
  func columnCount(_ configuration: ModelConfiguration) -> Int {
    switch self {
    case .attention, .mlp, .mamba, .output, .experts: configuration.hiddenSize
    case .attentionOutput: configuration.queryWidth
    case .down: configuration.intermediateSize
    case .mambaOutput: configuration.mamba!.innerSize
    case .expertDown: configuration.experts?.intermediateSize ?? 0
    }
  }
}

extension TensorRole {
  /// What a matrix of this role reads; nil for one that is only looked up, and for what is no matrix.
  fileprivate func linearInput(tiedEmbeddings: Bool) -> LinearInput? {
    switch self {
    case .query, .key, .value, .queryKeyValue: .attention
    case .attentionOutput: .attentionOutput
    case .gate, .up, .gateUp, .expertGateUp: .mlp
    case .down: .down
    case .mambaInput: .mamba
    case .mambaOutput: .mambaOutput
    case .expertDown: .expertDown
    case .output: .output
    case .embedding: tiedEmbeddings ? .output : nil
    case .router, .positions, .norm, .bias, .convolution, .stateSpace: nil
    }
  }
}
