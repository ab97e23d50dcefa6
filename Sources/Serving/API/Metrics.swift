import QuarryKit

/// What an engine has done, in the text format of Prometheus.
enum Metrics {
  /// - Parameter models: each with a label of its own.
  static func text(_ models: ServedModels) -> String {
    let all = models.all.map {
      (label: "model=\"\(escape($0.id))\"", statistics: $0.engine.statistics)
    }
    var text = ""
    func head(_ name: String, _ type: String, _ help: String) {
      text += "# HELP quarry_\(name) \(help)\n# TYPE quarry_\(name) \(type)\n"
    }
    func add(
      _ name: String, _ type: String, _ help: String, _ value: KeyPath<EngineStatistics, Int>
    ) {
      head(name, type, help)
      for (label, statistics) in all {
        text += "quarry_\(name){\(label)} \(statistics[keyPath: value])\n"
      }
    }
    func add(_ name: String, _ help: String, _ value: KeyPath<EngineStatistics, Histogram>) {
      head(name, "histogram", help)
      for (label, statistics) in all {
        let histogram = statistics[keyPath: value]
        var sum = 0
        for (bound, count) in zip(Histogram.bounds, histogram.counts) {
          sum += count
          text += "quarry_\(name)_bucket{\(label),le=\"\(bound)\"} \(sum)\n"
        }
        text += "quarry_\(name)_bucket{\(label),le=\"+Inf\"} \(histogram.count)\n"
        text += "quarry_\(name)_sum{\(label)} \(histogram.sum)\n"
        text += "quarry_\(name)_count{\(label)} \(histogram.count)\n"
      }
    }
    add("requests_total", "counter", "Sequences that were asked for.", \.requests)
    add("requests_cancelled_total", "counter", "Sequences whose reader left.", \.cancelled)
    add("requests_failed_total", "counter", "Sequences that failed.", \.failed)
    add("prompt_tokens_total", "counter", "Prompt tokens computed.", \.prefilledTokens)
    add("prefix_tokens_total", "counter", "Prompt tokens known already.", \.reusedTokens)
    add("generated_tokens_total", "counter", "Tokens generated.", \.generatedTokens)
    add("steps_total", "counter", "Passes over the weights.", \.steps)
    add("sequence_steps_total", "counter", "Sequences in all passes together.", \.sequenceSteps)
    add("preemptions_total", "counter", "Sequences that made room for others.", \.preemptions)
    add("sequences_running", "gauge", "Sequences that run.", \.running)
    add("sequences_waiting", "gauge", "Sequences that wait for a slot.", \.waiting)
    add("slots", "gauge", "Sequences that can run.", \.slots)
    add(
      "kv_cache_tiles", "gauge",
      "Tiles of 256 positions in use; states of Mamba2 layers count as such.", \.cacheTiles)
    add(
      "kv_cache_tiles_limit", "gauge", "Tiles of 256 positions that there may be.",
      \.cacheTileLimit)
    add("time_to_first_token_seconds", "From the request to its first token.", \.firstToken)
    add("time_between_tokens_seconds", "From one token to the next.", \.betweenTokens)
    return text
  }

  /// A label's value by the format's rules.
  private static func escape(_ text: String) -> String {
    text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
  }
}
