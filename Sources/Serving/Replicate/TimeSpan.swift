/// A time as people write it: `90`, `90s`, `5m`, `1h30m`, `7d`.
public struct TimeSpan: Sendable {
  public let seconds: Int

  /// Nil for what is no such time, and for more than 100 years.
  public init?(_ text: String) {
    guard !text.isEmpty,
      let match = text.wholeMatch(
        of: /(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,10})s?)?/)
    else { return nil }
    let parts = [(match.1, 86400), (match.2, 3600), (match.3, 60), (match.4, 1)]
    seconds = parts.reduce(0) { $0 + ($1.0.flatMap { Int($0) } ?? 0) * $1.1 }
    if seconds > 100 * 366 * 86400 { return nil }
  }
}
