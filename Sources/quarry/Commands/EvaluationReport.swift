import Inference
import JSON
import TensorCore

/// What `quarry evaluate` prints.
struct EvaluationReport {
  let evaluation: Evaluation
  let windows: TokenWindows
  let evaluated: EvaluatedModel
  let reference: EvaluatedModel?
  /// Path of the text.
  let text: String
  let activations: ActivationPrecision
  let cacheType: CacheType
}

// MARK: - For people

extension EvaluationReport {
  var table: String {
    let header =
      "\(evaluated.name) on \(text): \(windows.windows.count) windows of \(windows.length) tokens, "
      + "the last \(windows.scoredPerWindow) predictions of each scored (\(evaluation.tokenCount))\n"
      + "activations \(activations.rawValue), KV cache \(cacheType.rawValue)"
      + (reference.map { "; reference \($0.name)" } ?? "")
    let figures = Format.table(
      ["", "", "± over tokens", "± over windows"], rows, right: [1, 2, 3])
    return [header, figures, layers].compactMap { $0 }.joined(separator: "\n\n") + "\n"
  }

  private var rows: [[String]] {
    let perplexity = [row("perplexity", evaluation.perplexity)]
    guard let divergence = evaluation.divergence else { return perplexity }
    func single(_ name: String, _ value: Double) -> [String] {
      [name, Format.significant(value), "", ""]
    }
    let ratio = divergence.logPerplexityRatio
    return perplexity + [
      row("perplexity of the reference", divergence.referencePerplexity),
      // To first order in the logarithm, whose error is relative.
      row("change of perplexity, %", ratio, of: 100 * (PortableMath.exp(ratio.mean) - 1)) {
        100 * PortableMath.exp(ratio.mean) * $0
      },
      row("KL divergence, mean", divergence.mean),
      single("KL divergence, median", divergence.median),
      single("KL divergence, 99th percentile", divergence.percentile99),
      single("KL divergence, maximum", divergence.maximum),
      row("same best token, %", divergence.top1Agreement, of: 100 * divergence.top1Agreement.mean) {
        100 * $0
      },
    ]
  }

  private func row(_ name: String, _ perplexity: Perplexity) -> [String] {
    row(name, perplexity.loss, of: perplexity.value) { perplexity.value * $0 }
  }

  /// - Parameters:
  ///   - value: to show instead of the mean.
  ///   - scaled: a standard error of the mean as one of the value.
  private func row(
    _ name: String, _ estimate: Estimate, of value: Double? = nil,
    _ scaled: (Double) -> Double = { $0 }
  ) -> [String] {
    [
      name, Format.significant(value ?? estimate.mean, 5),
      Format.significant(scaled(estimate.standardError), 2),
      estimate.windowStandardError.map { Format.significant(scaled($0), 2) } ?? "",
    ]
  }

  private var layers: String? {
    guard !evaluation.layers.isEmpty else { return nil }
    return Format.table(
      ["after", "cosine", "relative error"],
      evaluation.layers.map { layer in
        [
          layer.depth == 0 ? "embedding" : "layer \(layer.depth - 1)",
          Format.decimal(layer.cosine, 6), Format.significant(layer.relativeError),
        ]
      }, right: [1, 2])
  }
}

// MARK: - For programs

extension EvaluationReport {
  var json: JSONValue {
    var members: JSONObject = [
      "model": .string(evaluated.name),
      "root_digest": evaluated.rootDigest.map { .string($0) },
      "reference": reference.map { .string($0.name) },
      "reference_root_digest": reference?.rootDigest.map { .string($0) },
      "text": .string(text),
      "context": .integer(windows.length),
      "skip": .integer(windows.skip),
      "windows": .integer(windows.windows.count),
      "predictions": .integer(evaluation.tokenCount),
      "activations": .string(activations.rawValue),
      "kv": .string(cacheType.rawValue),
      "loss": json(evaluation.perplexity.loss),
      "perplexity": json(evaluation.perplexity),
    ]
    if let divergence = evaluation.divergence {
      members["reference_loss"] = json(divergence.referencePerplexity.loss)
      members["reference_perplexity"] = json(divergence.referencePerplexity)
      members["log_perplexity_ratio"] = json(divergence.logPerplexityRatio)
      var kl = json(divergence.mean).object!
      kl["median"] = .double(divergence.median)
      kl["percentile_99"] = .double(divergence.percentile99)
      kl["maximum"] = .double(divergence.maximum)
      members["kl"] = .object(kl)
      members["same_best_token"] = json(divergence.top1Agreement)
    }
    if !evaluation.layers.isEmpty {
      members["layers"] = .array(
        evaluation.layers.map { layer in
          .object([
            "depth": .integer(layer.depth), "cosine": .double(layer.cosine),
            "relative_error": .double(layer.relativeError),
          ])
        })
    }
    members["by_window"] = .array(
      evaluation.windows.map { window in
        .object([
          "loss": .double(window.loss),
          "reference_loss": window.reference.map { .double($0.loss) },
          "kl": window.reference.map { .double($0.divergence) },
          "same_best_token": window.reference.map { .double($0.top1Agreement) },
        ])
      })
    return .object(members)
  }

  private func json(_ estimate: Estimate) -> JSONValue {
    .object([
      "mean": .double(estimate.mean), "standard_error": .double(estimate.standardError),
      "window_standard_error": estimate.windowStandardError.map { .double($0) } ?? .null,
    ])
  }

  private func json(_ perplexity: Perplexity) -> JSONValue {
    .object([
      "value": .double(perplexity.value), "standard_error": .double(perplexity.standardError),
      "window_standard_error": perplexity.windowStandardError.map { .double($0) } ?? .null,
    ])
  }
}
