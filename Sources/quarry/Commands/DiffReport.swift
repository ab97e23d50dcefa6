import JSON
import ModelFiles
import TensorCore

/// What `quarry diff` says.
struct DiffReport {
  let old: ModelListing
  let new: ModelListing
  let difference: ModelDifference

  // MARK: - For people

  /// Sections for what differs, then one line that sums it up.
  var text: String {
    var sections = ["--- \(Self.description(old))\n+++ \(Self.description(new))"]
    if !difference.metadata.isEmpty {
      sections.append(
        "metadata\n"
          + difference.metadata.map { Self.text($0.key, $0.old, $0.new) }.joined(separator: "\n"))
    }
    let assets = difference.assets.filter { !$0.isSame }
    if !assets.isEmpty {
      sections.append("assets\n" + assets.map(Self.text).joined(separator: "\n"))
    }
    let tensors = difference.tensors.filter { !$0.isUnchanged }
    if !tensors.isEmpty {
      sections.append(
        Format.table(
          ["tensor", "A", "B", "NMSE", "max error", "cosine", "difference"], tensors.map(Self.row),
          right: [3, 4, 5]))
    }
    return (sections + [summary]).joined(separator: "\n\n")
  }

  private var summary: String {
    let tensors = difference.tensors
    let counts = [
      (tensors.count { $0.relation == .identical }, "identical"),
      (tensors.count { $0.relation == .equal }, "equal in value"),
      (tensors.count { $0.isDiffering }, "differing"),
      (tensors.count { $0.relation == .reshaped }, "of another shape"),
      (tensors.count { $0.relation == .removed }, "only in A"),
      (tensors.count { $0.relation == .added }, "only in B"),
      (tensors.count { $0.isReencoded }, "re-encoded"), (tensors.count { $0.isMoved }, "moved"),
    ].filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }
    let assets = difference.assets.count { !$0.isSame }
    return "\(difference.isSameModel ? "same model" : "different"): \(tensors.count) tensors"
      + (counts.isEmpty ? "" : " (\(counts.joined(separator: ", ")))")
      + ", \(difference.assets.count) assets"
      + (difference.assets.isEmpty
        ? "" : assets == 0 ? " (all the same)" : " (\(assets) differing)")
  }

  private static func description(_ model: ModelListing) -> String {
    guard let slab = model.slab else {
      return "\(model.path.shown): checkpoint, \(Format.bytes(model.fileByteCount))"
    }
    return "\(model.path.shown): slab, \(slab.profile), \(Format.bytes(slab.fileByteCount)), root "
      + "\(slab.rootDigest)"
  }

  private static func text(_ key: String, _ old: String?, _ new: String?) -> String {
    func isShort(_ text: String?) -> Bool { text.map { !$0.contains("\n") } ?? true }
    let title = "  \(key.shown): "
    if isShort(old), isShort(new) {
      return title + "\(old?.shown ?? "(none)") → \(new?.shown ?? "(none)")"
    }
    return title
      + lines(old.map { Array($0.utf8) }, new.map { Array($0.utf8) }).joined(separator: "\n    ")
  }

  private static func text(_ asset: ModelDifference.Asset) -> String {
    (["  \(asset.name.shown):"] + lines(asset.old, asset.new)).joined(separator: "\n    ")
  }

  /// Characters of a line that are shown.
  private static let lineWidth = 400

  private static func lines(_ old: [UInt8]?, _ new: [UInt8]?) -> [String] {
    guard let old else { return ["only in B (\(Format.bytes(new?.count ?? 0)))"] }
    guard let new else { return ["only in A (\(Format.bytes(old.count)))"] }
    guard let difference = TextDifference(old: old, new: new) else {
      return ["differs (\(Format.bytes(old.count)) → \(Format.bytes(new.count)))"]
    }
    return ["differs"]
      + difference.hunks.flatMap { hunk in
        ["@@ -\(hunk.oldLine) +\(hunk.newLine) @@"]
          + hunk.lines.flatMap { line in
            [line.mark.rawValue + line.text.shown(atMost: lineWidth)]
              + (line.endsOpen ? ["\\ no line break at the end"] : [])
          }
      }
  }

  private static func row(_ tensor: ModelDifference.Tensor) -> [String] {
    var remarks: [String] = []
    var figures = ["", "", ""]
    switch tensor.relation {
    case .identical: break
    case .equal: remarks.append("equal values")
    case .differing(let count, let statistics):
      let total = (tensor.old ?? tensor.new)?.shape.reduce(1, *) ?? count
      remarks.append(count == total ? "all values differ" : "\(count) of \(total) values differ")
      if let statistics {
        figures = [
          Format.significant(statistics.normalizedMeanSquaredError),
          Format.significant(statistics.maximumAbsoluteError),
          Format.decimal(statistics.cosineSimilarity, 6),
        ]
      }
    case .reshaped: remarks.append("another shape")
    case .removed: remarks.append("only in A")
    case .added: remarks.append("only in B")
    }
    if tensor.isMoved { remarks.append("moved") }
    let showsShapes = tensor.old?.shape != tensor.new?.shape
    func cell(_ form: ModelDifference.Form?) -> String {
      form.map { $0.encoding + (showsShapes ? " \($0.shape)" : "") } ?? ""
    }
    return [tensor.name.shown, cell(tensor.old), cell(tensor.new)] + figures
      + [remarks.joined(separator: ", ")]
  }

  // MARK: - For programs

  /// formats/diff.md.
  var json: JSONValue {
    .object([
      "same_model": .bool(difference.isSameModel),
      "a": Self.json(old), "b": Self.json(new),
      "metadata": .array(
        difference.metadata.map { entry in
          .object([
            "key": .string(entry.key), "a": entry.old.map { .string($0) } ?? .null,
            "b": entry.new.map { .string($0) } ?? .null,
          ])
        }),
      "assets": .array(difference.assets.map(Self.json)),
      "tensors": .array(difference.tensors.map(Self.json)),
    ])
  }

  private static func json(_ model: ModelListing) -> JSONValue {
    .object([
      "path": .string(model.path),
      "kind": .string(model.slab == nil ? "checkpoint" : "slab"),
      "profile": model.slab.map { .string($0.profile.name) } ?? .null,
      "root_digest": model.slab.map { .string("\($0.rootDigest)") } ?? .null,
    ])
  }

  private static func json(_ asset: ModelDifference.Asset) -> JSONValue {
    let text =
      asset.isSame
      ? nil : asset.old.flatMap { old in asset.new.flatMap { TextDifference(old: old, new: $0) } }
    return .object([
      "name": .string(asset.name), "same": .bool(asset.isSame),
      "a_bytes": asset.old.map { .integer($0.count) } ?? .null,
      "b_bytes": asset.new.map { .integer($0.count) } ?? .null,
      "hunks": text.map { text in
        .array(
          text.hunks.map { hunk in
            .object([
              "a_line": .integer(hunk.oldLine), "b_line": .integer(hunk.newLine),
              "lines": .array(hunk.lines.map { .string($0.mark.rawValue + $0.text) }),
            ])
          })
      } ?? .null,
    ])
  }

  private static func json(_ tensor: ModelDifference.Tensor) -> JSONValue {
    func json(_ form: ModelDifference.Form?) -> JSONValue {
      guard let form else { return .null }
      return .object([
        "shape": .array(form.shape.map { .integer($0) }), "encoding": .string(form.encoding),
        "bytes": .integer(form.byteCount),
      ])
    }
    var (count, statistics): (Int?, ErrorStatistics?) = (nil, nil)
    if case .differing(let found, let figures) = tensor.relation {
      (count, statistics) = (found, figures)
    }
    return .object([
      "name": .string(tensor.name), "relation": .string(tensor.relationName),
      "a": json(tensor.old), "b": json(tensor.new),
      "reencoded": .bool(tensor.isReencoded), "moved": .bool(tensor.isMoved),
      "differing_values": count.map { .integer($0) } ?? .null,
      "nmse": statistics.map { .double($0.normalizedMeanSquaredError) } ?? .null,
      "max_error": statistics.map { .double($0.maximumAbsoluteError) } ?? .null,
      "cosine": statistics.map { .double($0.cosineSimilarity) } ?? .null,
    ])
  }
}

extension ModelDifference.Tensor {
  fileprivate var isUnchanged: Bool { relation == .identical && !isMoved }

  fileprivate var isDiffering: Bool { if case .differing = relation { true } else { false } }

  fileprivate var relationName: String {
    switch relation {
    case .identical: "identical"
    case .equal: "equal"
    case .differing: "differing"
    case .reshaped: "reshaped"
    case .removed: "only in a"
    case .added: "only in b"
    }
  }
}
