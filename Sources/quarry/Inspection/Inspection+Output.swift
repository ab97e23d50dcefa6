import JSON
import ModelFiles
import TensorCore

extension Inspection {
  var json: JSONValue {
    .object([
      "path": .string(path),
      "kind": .string(kind),
      "facts": .object(JSONObject(facts.map { (key: $0.name, value: $0.value) })),
      "configuration": configuration,
      "assets": .array(
        assets.map { .object(["name": .string($0.name), "bytes": .integer($0.byteCount)]) }),
      "tensors": .array(tensors.map(\.json)),
      "totals": .object([
        "tensors": .integer(tensors.count),
        "elements": .integer(tensors.reduce(0) { $0 + $1.elementCount }),
        "stored_bytes": .integer(tensors.reduce(0) { $0 + $1.storedByteCount }),
        "logical_bytes": .integer(tensors.reduce(0) { $0 + $1.logicalByteCount }),
      ]),
    ])
  }

  var text: String {
    var lines = ["\(path): \(kind)"]
    for fact in facts { lines.append("  \(fact.name.shown): \(fact.value.plain)") }
    if let fields = configuration.object {
      lines.append("configuration")
      lines += fields.members.map { "  \($0.key.shown): \($0.value.plain)" }
    }
    if !assets.isEmpty {
      lines.append("assets")
      lines += assets.map { "  \($0.name.shown): \(Format.bytes($0.byteCount))" }
    }
    lines.append("tensors")
    lines.append(table)
    return lines.joined(separator: "\n")
  }

  private var table: String {
    let header = [
      "name", "shape", "source", "encoding", "layout", "offset", "stored", "logical", "bits",
      "NMSE",
      "max error",
    ]
    var rows = tensors.map { tensor in
      [
        tensor.name.shown, tensor.shape.map(String.init).joined(separator: "×"), tensor.sourceType,
        tensor.encoding, tensor.layout, "\(tensor.offset)", "\(tensor.storedByteCount)",
        "\(tensor.logicalByteCount)", Format.decimal(tensor.bitsPerWeight, 2),
        tensor.statistics.map { Format.significant($0.normalizedMeanSquaredError) } ?? "",
        tensor.statistics.map { Format.significant($0.maximumAbsoluteError) } ?? "",
      ]
    }
    let elements = tensors.reduce(0) { $0 + $1.elementCount }
    let stored = tensors.reduce(0) { $0 + $1.storedByteCount }
    rows.append([
      "\(tensors.count) tensors", "\(elements) weights", "", "", "", "", "\(stored)",
      "\(tensors.reduce(0) { $0 + $1.logicalByteCount })",
      elements > 0 ? Format.decimal(Double(stored) * 8 / Double(elements), 2) : "", "", "",
    ])
    return Format.table(header, rows, right: [5, 6, 7, 8, 9, 10])
  }
}

extension Inspection.Tensor {
  var json: JSONValue {
    .object([
      "name": .string(name),
      "shape": .array(shape.map { .integer($0) }),
      "source_type": .string(sourceType),
      "encoding": .string(encoding),
      "layout": .string(layout),
      "offset": .integer(offset),
      "stored_bytes": .integer(storedByteCount),
      "logical_bytes": .integer(logicalByteCount),
      "bits_per_weight": .double(bitsPerWeight),
      "error": statistics.map(\.json),
    ])
  }
}

extension JSONValue {
  /// For people: strings without quotes and without what a terminal would obey, cut short.
  var plain: String {
    switch self {
    case .string(let text): text.shown
    case .array(let elements) where elements.count > 8:
      elements.prefix(8).map(\.plain).joined(separator: ", ") + ", … (\(elements.count))"
    case .array(let elements): elements.map(\.plain).joined(separator: ", ")
    default: serialized()
    }
  }
}
