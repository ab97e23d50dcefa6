/// How many tokens of prompts a step reads: as many as keep those who wait for the step's other tokens,
/// or for its end to be admitted or cancelled, from noticing. It changes when things are computed, never
/// what.
struct PrefillPace {
  /// Tokens read per second, as far as known.
  private var rate: Double?
  private static let longest = 256
  /// Fewer would read the weights too often.
  private static let shortest = 4

  func tokens(whileDecoding: Bool) -> Int {
    // On a large model and a slow machine, even few tokens may take a while.
    guard let rate else { return whileDecoding ? Self.shortest : 8 * Self.shortest }
    let seconds = whileDecoding ? 0.3 : 0.8
    return Int(min(Double(Self.longest), max(Double(Self.shortest), rate * seconds)))
  }

  /// - Parameter time: of the whole step, with the tokens that were decoded in it.
  mutating func add(read tokens: Int, in time: Duration) {
    guard tokens >= Self.shortest / 2 else { return }
    let last = Double(tokens) / max(time / .seconds(1), 1e-6)
    rate = rate.map { ($0 + last) / 2 } ?? last
  }
}
