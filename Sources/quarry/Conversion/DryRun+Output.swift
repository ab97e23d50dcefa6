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
    lines += [
      "slab        \(sizeText), \(Format.decimal(plan.bitsPerWeight, 2)) bits per weight",
      "disk        \(diskText)",
      "conversion  \(conversionText)",
      "decoding    \(decodingText)",
      "memory to run, of which \(availableMemory.map(Format.bytes) ?? "an unknown amount") is "
        + "available now; of that the KV cache (quarry generate --kv)"
        + (stateByteCount > 0
          ? "; besides, \(Format.bytes(stateByteCount)) are the state of Mamba2 layers" : ""),
      memoryTable,
    ]
    return lines.joined(separator: "\n")
  }

  private var sizeText: String {
    let (least, most) = (fileByteCounts.lowerBound, fileByteCounts.upperBound)
    if profile == .ship { return "at most \(Format.bytes(most)), less by what compression saves" }
    let texts = [Format.bytes(least), Format.bytes(most)]
    return texts[0] == texts[1] ? "\(texts[0])" : "from \(texts[0]) to \(texts[1])"
  }

  private var diskText: String {
    let free = disk.availableByteCount.map { "\(Format.bytes($0)) are free" } ?? "no such directory"
    return
      "\(Format.bytes(disk.neededByteCount)) are needed while converting, of which "
      + "\(Format.bytes(journalByteCount)) to go on after an interruption; \(free)"
  }

  private var conversionText: String {
    guard let seconds = conversion.seconds else { return "cannot be estimated here" }
    let parts = [
      ("quantizing", conversion.quantizing), ("column scales", conversion.scaling),
      ("calibrating", conversion.calibrating), ("digests", conversion.hashing),
      ("reading, meanwhile,", conversion.reading),
    ].compactMap { name, seconds in
      seconds.flatMap { $0 > 0 ? "\(name) \(Format.duration($0))" : nil }
    }
    return "about \(Format.duration(seconds)) with \(threadCount) threads "
      + "(\(parts.joined(separator: ", "))), estimated from random weights"
  }

  private var decodingText: String {
    let bytes =
      "a token reads \(Format.bytes(plan.decodedByteCount)) of weights"
      + (stateByteCount > 0 ? ", and reads and writes the state" : "")
    guard let decoding else { return "cannot be estimated here; \(bytes)" }
    return
      "at most about \(Format.decimal(decoding, 1)) tokens/s with \(threadCount) threads and a "
      + "short context, estimated from products of random weights; \(bytes)"
  }

  private var stateByteCount: Int { memory.first?.predictions.first?.memory.stateByteCount ?? 0 }

  private var memoryTable: String {
    let rows = memory.map { memory in
      let least = memory.predictions.map(\.memory.total).min() ?? 0
      let fits = availableMemory.map { least <= $0 ? "" : "more than is available" } ?? ""
      return ["  \(memory.context) tokens"]
        + memory.predictions.flatMap { _, memory in
          [Format.bytes(memory.total), Format.bytes(memory.cacheByteCount)]
        } + [fits]
    }
    let types = memory.first?.predictions.map(\.type.rawValue) ?? []
    return Format.table(
      ["  context"] + types.flatMap { ["with \($0)", "cache"] } + [""], rows,
      right: [1, 2, 3, 4, 5, 6])
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
      "linear_weights": .integer(plan.multipliedWeightCount),
      "source_bytes": .integer(plan.sourceByteCount),
      "slab_bytes_at_least": .integer(fileByteCounts.lowerBound),
      "slab_bytes_at_most": .integer(fileByteCounts.upperBound),
      "journal_bytes_at_most": .integer(journalByteCount),
      "disk_bytes_needed": .integer(disk.neededByteCount),
      "disk_bytes_free": disk.availableByteCount.map { .integer($0) } ?? .null,
      "memory_bytes_available": availableMemory.map { .integer($0) } ?? .null,
      "memory": .array(memory.flatMap(json)),
      "decoded_bytes_per_token": .integer(plan.decodedByteCount),
      "threads": .integer(threadCount),
      "estimated_seconds": conversion.seconds.map { .double($0) } ?? .null,
      "estimated_decode_tokens_per_second_at_most": decoding.map { .double($0) } ?? .null,
    ])
  }

  private func json(_ memory: ContextMemory) -> [JSONValue] {
    memory.predictions.map { type, prediction in
      .object([
        "context": .integer(memory.context), "kv": .string(type.rawValue),
        "cache_bytes": .integer(prediction.cacheByteCount),
        "state_bytes": .integer(prediction.stateByteCount),
        "total_bytes": .integer(prediction.total),
      ])
    }
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
