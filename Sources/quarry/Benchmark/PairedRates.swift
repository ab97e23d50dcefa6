import JSON

/// Rates of a workload between those of the ceiling that binds it, in turns: ceiling, workload,
/// ceiling and so on. Whatever slows the machine down for a while slows both.
struct PairedRates {
  /// Of every run of the workload.
  let runs: [Double]
  /// In the same unit, before every run and after the last; empty where there is nothing to measure
  /// it with.
  let ceilings: [Double]

  /// Runs the workload once more than that, the first time to fill caches and allocate what stays.
  init(_ repetitions: Int, ceiling: () -> Double?, run: () throws -> Double) rethrows {
    _ = try run()
    var runs: [Double] = []
    var ceilings = [ceiling()]
    for _ in 0..<repetitions {
      runs.append(try run())
      ceilings.append(ceiling())
    }
    self.runs = runs
    self.ceilings = ceilings.compactMap { $0 }
  }

  var median: Double { Self.median(runs) }

  var ceiling: Double? { ceilings.isEmpty ? nil : Self.median(ceilings) }

  /// The median share of the ceiling measured around a run, and the range of all.
  var share: (median: Double, range: ClosedRange<Double>)? {
    if ceilings.isEmpty { return nil }
    let shares = runs.indices.map { 2 * runs[$0] / (ceilings[$0] + ceilings[$0 + 1]) }
    return (Self.median(shares), shares.min()!...shares.max()!)
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
      ("runs", .array(runs.map { .double($0) })),
      ("ceiling_\(unit)", ceiling.map { .double($0) } ?? .null),
      ("share_of_ceiling", share.map { .double($0.median) } ?? .null),
      (
        "share_range",
        share.map { .array([.double($0.range.lowerBound), .double($0.range.upperBound)]) } ?? .null
      ),
    ]
  }
}
