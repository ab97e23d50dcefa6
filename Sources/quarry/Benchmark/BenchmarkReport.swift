import Foundation
import Inference
import JSON
import TensorCore

/// What a benchmark found, as JSON: the form in which reports are kept and compared.
struct BenchmarkReport {
  let json: JSONValue

  init(
    _ subject: BenchmarkModel, cacheType: CacheType, bandwidths: [Benchmark.Bandwidth],
    figures: [BenchmarkFigure],
    predictedByteCount: Int
  ) {
    let workload = subject.model.workload(cacheType: cacheType)
    json = .object([
      "quarry": .string(Quarry.version),
      "numerics": .integer(Reference.numericsVersion),
      "model": .object([
        "name": .string(subject.name),
        "recipe": subject.recipe.map { .string($0) } ?? .null,
        "linear_weights": .integer(workload.linearWeightCount),
        "weight_bytes": .integer(subject.weightByteCount),
        "decoded_bytes_per_token": .integer(workload.weightByteCount),
        "cache_type": .string(cacheType.rawValue),
        "cache_bytes_per_position": .integer(workload.cacheBytesPerPosition),
        "state_bytes": .integer(workload.stateByteCount),
      ]),
      "machine": .object([
        "processor": .string(Doctor.processorName),
        "processors": .integer(ProcessorLimits.current.processorCount),
        "instruction_set": .string(subject.model.kernels.instructionSet.rawValue),
        "threads": .integer(subject.model.pool.threadCount),
      ]),
      "load_seconds": .double(subject.loadTime / .seconds(1)),
      "resident_bytes": SystemMemory.residentByteCount.map { .integer($0) } ?? .null,
      "predicted_bytes": .integer(predictedByteCount),
      "ceilings": .object([
        "read_bytes_per_second": .object(
          JSONObject(
            bandwidths.map { (key: $0.kind.rawValue, value: .double($0.bytesPerSecond)) })
        ),
        "int8_operations_per_second": Ceilings.int8Peak(pool: subject.model.pool).map {
          .double($0)
        } ?? .null,
      ]),
      "results": .array(figures.map(\.json)),
    ])
  }

  /// A report that was written earlier.
  static func read(_ path: String) throws -> JSONValue {
    let report = try InputFiles.readJSON(path)
    guard report["results"]?.array != nil, report["model"]?.object != nil else {
      throw InputError("\(path) is not a report as `quarry bench --json` writes it")
    }
    return report
  }

  /// A table for people.
  ///
  /// - Parameter earlier: a report to compare with.
  func text(comparedWith earlier: JSONValue?) -> String {
    let model = json["model"]
    let machine = json["machine"]
    let bandwidths = json["ceilings"]?["read_bytes_per_second"]?.object?.members ?? []
    let operations = json["ceilings"]?["int8_operations_per_second"]?.double
    func bytes(_ value: JSONValue?) -> String { value?.integer.map(Format.bytes) ?? "unknown" }
    var lines = [
      "model     \(Self.title(json)): \(bytes(model?["weight_bytes"])) of weights, "
        + "\(bytes(model?["decoded_bytes_per_token"])) read for a token, "
        + "\(model?["cache_type"]?.string ?? "") cache",
      "machine   \(machine?["processor"]?.string ?? ""), \(machine?["threads"]?.plain ?? "") threads, "
        + "\(machine?["instruction_set"]?.string ?? ""), numerics \(json["numerics"]?.plain ?? "")",
      "loading   \(Format.decimal(json["load_seconds"]?.double ?? 0, 2)) s",
      "memory    \(bytes(json["resident_bytes"])) resident, "
        + "\(bytes(json["predicted_bytes"])) predicted",
      "ceilings  "
        + (bandwidths.map {
          "\(Format.decimal(($0.value.double ?? 0) / 1e9, 1)) GB/s from \($0.key)"
        }
        + [operations.map { "\(Format.decimal($0 / 1e12, 2)) Top/s in int8" }].compactMap { $0 })
        .joined(separator: ", "),
      "",
    ]
    if let earlier {
      lines.insert(
        "against   \(Self.title(earlier)), quarry \(earlier["quarry"]?.plain ?? "")", at: 5)
    }
    let rows = (json["results"]?.array ?? []).map { row($0, earlier) }
    let header = [
      "", "tokens", "depth", "sequences", "tokens/s", "ceiling", "share", "spread", "against",
    ]
    lines.append(
      Format.table(
        Array(header.prefix(earlier == nil ? 8 : 9)),
        rows.map { Array($0.prefix(earlier == nil ? 8 : 9)) },
        right: [1, 2, 3, 4, 5, 6, 7, 8]))
    return lines.joined(separator: "\n")
  }

  private func row(_ result: JSONValue, _ earlier: JSONValue?) -> [String] {
    func percent(_ value: JSONValue?) -> String? {
      value?.double.map { Format.decimal($0 * 100, 1) }
    }
    let before = earlier?["results"]?.array?.first { other in
      ["phase", "tokens", "depth", "sequences"].allSatisfy { result[$0] == other[$0] }
    }
    let rate = result["tokens_per_second"]?.double ?? 0
    let spread = (result["share_range"]?.array ?? []).compactMap(percent)
    return [
      result["phase"]?.string ?? "", result["tokens"]?.plain ?? "", result["depth"]?.plain ?? "",
      result["sequences"]?.plain ?? "",
      Format.decimal(rate, 2),
      result["ceiling_tokens_per_second"]?.double.map { Format.decimal($0, 1) } ?? "",
      percent(result["share_of_ceiling"]).map { $0 + " %" } ?? "",
      spread.joined(separator: "–"),
      before?["tokens_per_second"]?.double.map { Format.decimal(rate / $0, 3) + "×" } ?? "",
    ]
  }

  private static func title(_ report: JSONValue) -> String {
    let model = report["model"]
    return [model?["name"]?.string, model?["recipe"]?.string].compactMap { $0 }
      .joined(separator: " ")
  }
}

extension BenchmarkFigure {
  fileprivate var json: JSONValue {
    .object(
      JSONObject(
        [
          ("phase", .string(phase.rawValue)), ("tokens", .integer(tokens)),
          ("depth", .integer(depth)), ("sequences", .integer(sequences)),
        ] + pairs.members(unit: "tokens_per_second")))
  }
}
