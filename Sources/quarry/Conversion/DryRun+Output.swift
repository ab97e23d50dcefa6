import Conversion
import Inference
import JSON
import ModelFiles
import TensorCore

extension DryRun {
  /// - Parameter verbose: whether every tensor is listed, and not only the groups of them.
  func text(verbose: Bool) -> String {
    var lines: [String] = []
    if verbose { lines += [tensorTable, ""] }
    lines += [groupTable, ""]
    let needed = "\(Format.bytes(disk.neededByteCount)) are needed while converting"
    let free = disk.availableByteCount.map { "\(Format.bytes($0)) are free" } ?? "no such directory"
    lines += [
      "slab        at most \(Format.bytes(plan.maximumFileByteCount)), "
        + "\(Format.decimal(plan.bitsPerWeight, 2)) bits per weight"
        + (profile == .ship ? "; ship compresses it further" : ""),
      "disk        \(needed), \(free)",
      "conversion  \(conversionText)",
      "decoding    \(decodingText)",
      "memory to run, of which \(availableMemory.map(Format.bytes) ?? "an unknown amount") is "
        + "available now",
      memoryTable,
    ]
    return lines.joined(separator: "\n")
  }

  private var conversionText: String {
    guard let seconds else { return "cannot be estimated here" }
    let parts = [("quantizing", quantizing), ("calibrating", calibrating), ("reading", reading)]
      .compactMap { name, seconds in
        seconds.flatMap { $0 > 0 ? "\(name) \(Format.duration($0))" : nil }
      }
    return "about \(Format.duration(seconds)) with \(threadCount) threads "
      + "(\(parts.joined(separator: ", "))), estimated from random weights"
  }

  private var decodingText: String {
    guard let decoding else { return "cannot be estimated here" }
    return
      "at most \(Format.decimal(decoding, 1)) tokens/s with \(threadCount) threads and a short "
      + "context; estimated from random weights"
  }

  private var memoryTable: String {
    let rows = zip(contexts, memory).map { context, memory in
      let fits = availableMemory.map { memory.total <= $0 ? "" : "more than is available" } ?? ""
      return [
        "\(context) tokens", Format.bytes(memory.total), Format.bytes(memory.cacheByteCount), fits,
      ]
    }
    return Format.table(
      ["  context", "total", "f16 cache", ""], rows.map { ["  " + $0[0]] + $0[1...] })
  }

  private var groupTable: String {
    var rows = plan.groups.map { group in
      [
        group.role.rawValue, group.encoding?.name ?? "f32", group.layers, "\(group.entries.count)",
        "\(group.weightCount)", Format.decimal(group.bitsPerWeight, 2),
        Format.bytes(group.logicalByteCount),
      ]
    }
    rows.append([
      "all", "", "", "\(plan.entries.count)", "\(plan.weightCount)",
      Format.decimal(plan.bitsPerWeight, 2), Format.bytes(plan.logicalByteCount),
    ])
    return Format.table(
      ["tensors", "become", "layers", "count", "weights", "bits", "size"], rows,
      right: [3, 4, 5, 6])
  }

  private var tensorTable: String {
    let rows = plan.entries.map { entry in
      [
        entry.tensor.name, entry.tensor.shape.map(String.init).joined(separator: "×"),
        entry.sourceType.rawValue, entry.encoding?.name ?? "f32",
        Format.bytes(entry.logicalByteCount), ruleText(entry),
      ]
    }
    return Format.table(["name", "shape", "source", "becomes", "size", "rule"], rows, right: [4])
  }

  private func ruleText(_ entry: ConversionPlan.Entry) -> String {
    guard let index = entry.ruleIndex else { return "" }
    return index < recipe.ownRuleCount && recipe.base != nil || recipe.base == nil
      ? "\(index + 1)" : "base"
  }

  /// One object, as `quarry convert --help` describes it.
  var json: JSONValue {
    .object([
      "event": "dry run",
      "checkpoint": .string(checkpoint.directory),
      "output": output.map { .string($0) } ?? .null,
      "recipe": .string(recipe.name),
      "recipe_yaml": .string(recipe.yaml),
      "profile": .string(profile.name),
      "warnings": .array(plan.warnings.map { .string($0) }),
      "problem": disk.problem.map { .string("\($0)") } ?? .null,
      "tensors": .array(plan.entries.map(json)),
      "weights": .integer(plan.weightCount),
      "bits_per_weight": .double(plan.bitsPerWeight),
      "source_bytes": .integer(plan.sourceByteCount),
      "slab_bytes_at_most": .integer(plan.maximumFileByteCount),
      "disk_bytes_needed": .integer(disk.neededByteCount),
      "disk_bytes_free": disk.availableByteCount.map { .integer($0) } ?? .null,
      "memory_bytes_available": availableMemory.map { .integer($0) } ?? .null,
      "memory": .array(
        zip(contexts, memory).map { context, memory in
          .object([
            "context": .integer(context), "total_bytes": .integer(memory.total),
            "f16_cache_bytes": .integer(memory.cacheByteCount),
          ])
        }),
      "threads": .integer(threadCount),
      "estimated_seconds": seconds.map { .double($0) } ?? .null,
      "estimated_decode_tokens_per_second_at_most": decoding.map { .double($0) } ?? .null,
    ])
  }

  private func json(_ entry: ConversionPlan.Entry) -> JSONValue {
    .object([
      "name": .string(entry.tensor.name), "role": .string(entry.role.rawValue),
      "layer": entry.layer.map { .integer($0) } ?? .null,
      "shape": .array(entry.tensor.shape.map { .integer($0) }),
      "source_type": .string(entry.sourceType.rawValue),
      "encoding": .string(entry.encoding?.name ?? "f32"),
      "rule": entry.ruleIndex.map { .integer($0 + 1) } ?? .null,
      "bytes": .integer(entry.logicalByteCount),
    ])
  }
}
