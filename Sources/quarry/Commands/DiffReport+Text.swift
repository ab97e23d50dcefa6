import JSON
import ModelFiles
import TensorCore

/// What `quarry diff` says to people. On a terminal what only B has is green, what only A has red, and
/// what both have and differs yellow.
extension DiffReport {
  private static let (onlyInA, onlyInB) = (Screen.Style.red, Screen.Style.green)
  private static let differing = Screen.Style.yellow

  /// Sections for what differs, then one line that sums it up.
  func text(_ screen: Screen) -> String {
    var sections = [
      screen.styled("--- \(Self.description(old))", Self.onlyInA) + "\n"
        + screen.styled("+++ \(Self.description(new))", Self.onlyInB)
    ]
    func append(_ title: String, _ texts: [String]) {
      guard !texts.isEmpty else { return }
      sections.append(([screen.heading(title)] + texts).joined(separator: "\n"))
    }
    append(
      "metadata", difference.metadata.map { Self.text($0.key, $0.old, $0.new, screen) })
    append("assets", difference.assets.filter { !$0.isSame }.map { Self.text($0, screen) })
    let tensors = difference.tensors.filter { !$0.isUnchanged }
    if !tensors.isEmpty { sections.append(Self.table(tensors).text(screen)) }
    return (sections + [screen.heading(summary)]).joined(separator: "\n\n")
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

  // MARK: - Texts

  private static func text(
    _ key: String, _ old: String?, _ new: String?, _ screen: Screen
  ) -> String {
    func isShort(_ text: String?) -> Bool { text.map { !$0.contains("\n") } ?? true }
    func bytes(_ text: String?) -> [UInt8]? { text.map { Array($0.utf8) } }
    let title = screen.styled("  \(key.shown):", style(old, new)) + " "
    if isShort(old), isShort(new) {
      return title + "\(old?.shown ?? "(none)") → \(new?.shown ?? "(none)")"
    }
    return title + lines(bytes(old), bytes(new), screen).joined(separator: "\n    ")
  }

  private static func text(_ asset: ModelDifference.Asset, _ screen: Screen) -> String {
    let title = screen.styled("  \(asset.name.shown):", style(asset.old, asset.new))
    return ([title] + lines(asset.old, asset.new, screen)).joined(separator: "\n    ")
  }

  private static func style<Value>(_ old: Value?, _ new: Value?) -> Screen.Style {
    old == nil ? onlyInB : new == nil ? onlyInA : differing
  }

  /// Characters of a line that are shown.
  private static let lineWidth = 400

  private static func lines(_ old: [UInt8]?, _ new: [UInt8]?, _ screen: Screen) -> [String] {
    guard let old else { return ["only in B (\(Format.bytes(new?.count ?? 0)))"] }
    guard let new else { return ["only in A (\(Format.bytes(old.count)))"] }
    guard let difference = TextDifference(old: old, new: new) else {
      return ["differs (\(Format.bytes(old.count)) → \(Format.bytes(new.count)))"]
    }
    let styles: [TextDifference.Mark: Screen.Style] = [.removed: onlyInA, .added: onlyInB]
    return ["differs"]
      + difference.hunks.flatMap { hunk in
        [screen.styled("@@ -\(hunk.oldLine) +\(hunk.newLine) @@", .cyan)]
          + hunk.lines.flatMap { line in
            let text = line.mark.rawValue + line.text.shown(atMost: lineWidth)
            return [screen.styled(text, styles[line.mark])]
              + (line.endsOpen ? ["\\ no line break at the end"] : [])
          }
      }
  }

  // MARK: - Tensors

  private static func table(_ tensors: [ModelDifference.Tensor]) -> ScreenTable {
    var table = ScreenTable(columns: [
      .init(title: "tensor"), .init(title: "A"), .init(title: "B"),
      .init(title: "NMSE", isRight: true),
      .init(title: "max error", isRight: true, expendability: 2),
      .init(title: "cosine", isRight: true, expendability: 1),
      .init(title: "difference", isFlexible: true),
    ])
    table.rows = tensors.map(row)
    table.styles = tensors.map { tensor in
      switch tensor.relation {
      case .identical, .equal: nil
      case .differing, .reshaped: differing
      case .removed: onlyInA
      case .added: onlyInB
      }
    }
    return table
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
}

extension ModelDifference.Tensor {
  fileprivate var isUnchanged: Bool { relation == .identical && !isMoved }

  fileprivate var isDiffering: Bool { if case .differing = relation { true } else { false } }
}
