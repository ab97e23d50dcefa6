/// What an engine has done, in the text format of Prometheus.
enum Metrics {
  static func text(_ statistics: EngineStatistics) -> String {
    var text = ""
    func add(_ name: String, _ type: String, _ help: String, _ value: Int) {
      text += "# HELP quarry_\(name) \(help)\n# TYPE quarry_\(name) \(type)\n"
      text += "quarry_\(name) \(value)\n"
    }
    func add(_ name: String, _ help: String, _ histogram: Histogram) {
      text += "# HELP quarry_\(name) \(help)\n# TYPE quarry_\(name) histogram\n"
      var sum = 0
      for (bound, count) in zip(Histogram.bounds, histogram.counts) {
        sum += count
        text += "quarry_\(name)_bucket{le=\"\(bound)\"} \(sum)\n"
      }
      text += "quarry_\(name)_bucket{le=\"+Inf\"} \(histogram.count)\n"
      text += "quarry_\(name)_sum \(histogram.sum)\nquarry_\(name)_count \(histogram.count)\n"
    }
    let s = statistics
    add("requests_total", "counter", "Sequences that were asked for.", s.requests)
    add("requests_cancelled_total", "counter", "Sequences whose reader left.", s.cancelled)
    add("requests_failed_total", "counter", "Sequences that failed.", s.failed)
    add("prompt_tokens_total", "counter", "Prompt tokens computed.", s.prefilledTokens)
    add("prefix_tokens_total", "counter", "Prompt tokens known already.", s.reusedTokens)
    add("generated_tokens_total", "counter", "Tokens generated.", s.generatedTokens)
    add("steps_total", "counter", "Passes over the weights.", s.steps)
    add("sequence_steps_total", "counter", "Sequences in all passes together.", s.sequenceSteps)
    add("preemptions_total", "counter", "Sequences that made room for others.", s.preemptions)
    add("sequences_running", "gauge", "Sequences that run.", s.running)
    add("sequences_waiting", "gauge", "Sequences that wait for a slot.", s.waiting)
    add("slots", "gauge", "Sequences that can run.", s.slots)
    add("kv_cache_tiles", "gauge", "Tiles of 256 positions in use.", s.cacheTiles)
    add(
      "kv_cache_tiles_limit", "gauge", "Tiles of 256 positions that there may be.", s.cacheTileLimit
    )
    add("time_to_first_token_seconds", "From the request to its first token.", s.firstToken)
    add("time_between_tokens_seconds", "From one token to the next.", s.betweenTokens)
    return text
  }
}
