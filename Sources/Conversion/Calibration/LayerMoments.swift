import Inference
import ModelFiles
import TensorCore

/// The second moments of all inputs of one decoder layer.
struct LayerMoments {
  private let configuration: ModelConfiguration
  private var inputs: [LinearInput: SecondMoments] = [:]
  /// Of each expert.
  private var experts: [LinearInput: [SecondMoments]] = [:]

  /// The weight of the mean over all tokens, in tokens, in what an expert's columns count: an expert
  /// that saw few tokens hardly differs from it.
  static let priorTokenCount = 16.0

  init(layer: Int, _ configuration: ModelConfiguration) {
    self.configuration = configuration
    for input in LinearInput.ofLayer(layer, configuration) {
      inputs[input] = SecondMoments(columns: input.columnCount(configuration))
    }
    for input in LinearInput.ofExperts(configuration) {
      experts[input] = Array(
        repeating: SecondMoments(columns: input.columnCount(configuration)),
        count: configuration.experts!.count)
    }
  }

  mutating func add(_ input: ObservedInput, pool: WorkerPool) {
    if let expert = input.expert {
      experts[input.kind]![expert].add(input, pool: pool)
    } else {
      inputs[input.kind]!.add(input, pool: pool)
    }
  }

  /// What statistics have of the layer.
  func statistics(layer: Int) -> [String: [Float]] {
    var result = Dictionary(
      uniqueKeysWithValues: inputs.map { ($0.key.name(layer: layer), $0.value.means()) })
    for (input, moments) in experts {
      // What all experts see together, weighed by how often they do.
      let all = moments.reduce(into: SecondMoments(columns: input.columnCount(configuration))) {
        $0.add($1)
      }
      let prior = input == .experts ? inputs[.mlp]! : all
      result[input.name(layer: layer)] = moments.flatMap {
        $0.means(prior: prior, of: Self.priorTokenCount)
      }
      result[ImportanceStatistics.tokensName(layer: layer)] = moments.map { Float($0.tokenCount) }
    }
    return result
  }
}
