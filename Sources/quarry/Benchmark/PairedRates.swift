import JSON

/// Rates of a workload between those of the ceiling that binds it, in turns: ceiling, workload,
/// ceiling and so on. Whatever slows the machine down for a while slows both.
struct PairedRates {
  /// A run of the workload and what it could have been.
  struct Run {
    let rate: Double
    /// In the same unit; nil where there is nothing to measure it with.
    let ceiling: Double?
  }

  let runs: [Run]

  /// Runs the workload once more than that, the first time to fill caches and allocate what stays.
  ///
  /// - Parameters:
  ///   - parts: into which a run is cut, with a measurement of the ceiling before and after each: where
  ///     the speed of memory changes within a tenth of a second, only short pieces see the same.
  ///   - begin: what comes before a run and is no part of it.
  ///   - run: one part, of the same amount of work; its rate.
  init(
    _ repetitions: Int, parts: Int = 1, ceiling: () -> Double?, begin: () throws -> Void = {},
    run: () throws -> Double
  ) rethrows {
    try begin()
    for _ in 0..<parts { _ = try run() }
    runs = try (0..<repetitions).map { _ in
      try begin()
      var before = ceiling()
      var (seconds, ceilingSeconds) = (0.0, before.map { _ in 0.0 })
      for _ in 0..<parts {
        seconds += 1 / (try run())
        let after = ceiling()
        if let before, let after { ceilingSeconds! += 2 / (before + after) }
        before = after
      }
      return Run(
        rate: Double(parts) / seconds, ceiling: ceilingSeconds.map { Double(parts) / $0 })
    }
  }

  /// Of the runs' rates.
  var median: Double { Self.median(runs.map(\.rate)) }

  var ceiling: Double? {
    let ceilings = runs.compactMap(\.ceiling)
    return ceilings.isEmpty ? nil : Self.median(ceilings)
  }

  /// The median share of the ceiling measured around a run, and the range of all.
  var share: (median: Double, range: ClosedRange<Double>)? {
    let shares = runs.compactMap { run in run.ceiling.map { run.rate / $0 } }
    return shares.isEmpty ? nil : (Self.median(shares), shares.min()!...shares.max()!)
  }

  /// Not of an empty array.
  private static func median(_ values: [Double]) -> Double {
    let ordered = values.sorted()
    return (ordered[(values.count - 1) / 2] + ordered[values.count / 2]) / 2
  }
}

extension PairedRates {
  /// Members of a report's row.
  ///
  /// - Parameter unit: as in `tokens_per_second`.
  func members(unit: String) -> [(key: String, value: JSONValue)] {
    let share = share
    return [
      (unit, .double(median)),
      ("runs", .array(runs.map { .double($0.rate) })),
      ("ceiling_\(unit)", ceiling.map { .double($0) } ?? .null),
      ("share_of_ceiling", share.map { .double($0.median) } ?? .null),
      (
        "share_range",
        share.map { .array([.double($0.range.lowerBound), .double($0.range.upperBound)]) } ?? .null
      ),
    ]
  }
}
