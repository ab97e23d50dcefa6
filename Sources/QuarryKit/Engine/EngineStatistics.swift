/// What an engine has done since it began, and what it is doing.
public struct EngineStatistics: Sendable {
  public internal(set) var slots = 0
  /// Sequences that run, and that wait for a slot.
  public internal(set) var running = 0
  public internal(set) var waiting = 0
  /// Tiles of the KV cache that are in use, and that there may be.
  public internal(set) var cacheTiles = 0
  public internal(set) var cacheTileLimit = 0
  /// Requests that came, and of these those that were cancelled and that failed.
  public internal(set) var requests = 0
  public internal(set) var cancelled = 0
  public internal(set) var failed = 0
  /// Tokens of prompts that were computed, and that did not have to be, for another sequence began with
  /// them.
  public internal(set) var prefilledTokens = 0
  public internal(set) var reusedTokens = 0
  public internal(set) var generatedTokens = 0
  /// Passes over the weights, and how many sequences took part in all of them together.
  public internal(set) var steps = 0
  public internal(set) var sequenceSteps = 0
  /// Sequences that had to make room and began again.
  public internal(set) var preemptions = 0
  /// Seconds from a request to its first token, and between tokens.
  public internal(set) var firstToken = Histogram()
  public internal(set) var betweenTokens = Histogram()

  mutating func add(_ latency: Latency) {
    generatedTokens += 1
    switch latency {
    case .firstToken(let time): firstToken.add(time / .seconds(1))
    case .betweenTokens(let time): betweenTokens.add(time / .seconds(1))
    }
  }
}

/// Counts of values by size.
public struct Histogram: Sendable {
  /// The upper bounds of the counts but the last.
  public static let bounds = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
  public private(set) var counts = [Int](repeating: 0, count: bounds.count + 1)
  public private(set) var sum = 0.0

  /// All values.
  public var count: Int { counts.reduce(0, +) }

  mutating func add(_ value: Double) {
    counts[Self.bounds.firstIndex { value <= $0 } ?? Self.bounds.count] += 1
    sum += value
  }
}
