import Foundation
import JSON
import ModelFiles
import TensorCore

/// A row for each tensor.
struct TensorsView: InspectionView {
  let name = "tensors"
  let tensors: [ListedTensor]
  /// Whether there are several files, so that each row says which.
  private let files: [ModelListing.File]?

  /// - Parameter pattern: a shell pattern that names must match.
  init(_ listing: ModelListing, pattern: String) {
    tensors = listing.tensors.filter { fnmatch(pattern, $0.name, 0) == 0 }
    files = listing.files.count > 1 ? listing.files : nil
  }

  var json: JSONValue { .array(tensors.map(\.json)) }

  func text(_ screen: Screen) -> String {
    var columns: [ScreenTable.Column] = [
      .init(title: "name", isFlexible: true), .init(title: "shape"),
      .init(title: "encoding"), .init(title: "bits", isRight: true, expendability: 2),
      .init(title: "size", isRight: true), .init(title: "NMSE", isRight: true, expendability: 1),
      .init(title: "max error", isRight: true, expendability: 3),
      .init(title: "cosine", isRight: true, expendability: 7),
      .init(title: "offset", isRight: true, expendability: 4),
      .init(title: "stored", isRight: true, expendability: 5),
      .init(title: "source", expendability: 6), .init(title: "layout", expendability: 8),
    ]
    if files != nil { columns.append(.init(title: "file", expendability: 9)) }
    var table = ScreenTable(columns: columns)
    table.rows = tensors.map { tensor in
      let statistics = tensor.statistics
      var cells = [
        tensor.name.shown, Format.shape(tensor.shape), tensor.encoding,
        Format.decimal(tensor.bitsPerWeight, 2), Format.bytes(tensor.logicalByteCount),
        statistics.map { Format.significant($0.normalizedMeanSquaredError) } ?? "",
        statistics.map { Format.significant($0.maximumAbsoluteError) } ?? "",
        statistics.map { Format.decimal($0.cosineSimilarity, 6) } ?? "",
        "\(tensor.offset)", "\(tensor.storedByteCount)", tensor.sourceType, tensor.layout,
      ]
      if let files { cells.append(URL(filePath: files[tensor.file].path).lastPathComponent.shown) }
      return cells
    }
    let bytes = tensors.reduce(0) { $0 + $1.logicalByteCount }
    let parameters = tensors.reduce(0) { $0 + $1.parameterCount }
    return table.text(screen)
      + "\n\(tensors.count) tensors, \(parameters) parameters, \(Format.bytes(bytes))"
  }
}

extension ListedTensor {
  var json: JSONValue {
    .object([
      "name": .string(name),
      "shape": .array(shape.map { .integer($0) }),
      "role": .string(role),
      "layer": .optional(layer),
      "source_type": .string(sourceType),
      "encoding": .string(encoding),
      "layout": .string(layout),
      "file": .integer(file),
      "offset": .integer(offset),
      "stored_bytes": .integer(storedByteCount),
      "logical_bytes": .integer(logicalByteCount),
      "bits_per_weight": .double(bitsPerWeight),
      "column_scales": .optional(columnScales),
      "digest": .optional(digest.map { "\($0)" }),
      "error": statistics?.json ?? .null,
    ])
  }
}

/// A row for each layer, then for what lies outside.
struct LayersView: InspectionView {
  let name = "layers"
  let listing: ModelListing

  var json: JSONValue { .array(listing.layers.map(\.json)) }

  func text(_ screen: Screen) -> String {
    var table = ScreenTable(columns: TensorGroup.columns(title: "layer"))
    let total = listing.total
    table.rows = (listing.layers + [total]).map { $0.cells(of: total) }
    table.hasTotal = true
    return table.text(screen)
  }
}

/// The small files that travel with the weights.
struct AssetsView: InspectionView {
  let name = "assets"
  let listing: ModelListing

  var json: JSONValue {
    .array(
      listing.assets.map { asset in
        .object([
          "name": .string(asset.name), "bytes": .integer(asset.bytes.count),
          "sha256": .string("\(Digest(of: asset.bytes))"),
        ])
      })
  }

  func text(_ screen: Screen) -> String {
    listing.assets.isEmpty ? "no assets" : table.text(screen)
  }

  var table: ScreenTable {
    var table = ScreenTable(columns: [
      .init(title: "asset", isFlexible: true), .init(title: "bytes", isRight: true),
      .init(title: "size", isRight: true, expendability: 1),
      .init(title: "SHA-256", expendability: 2),
    ])
    table.rows = listing.assets.map {
      [
        $0.name.shown, "\($0.bytes.count)", Format.bytes($0.bytes.count),
        "\(Digest(of: $0.bytes))",
      ]
    }
    return table
  }
}

/// What the file says about itself; long arrays and texts cut short for people.
struct MetadataView: InspectionView {
  let name = "metadata"
  let listing: ModelListing

  private static let arrayLimit = 6
  private static let textLimit = 400

  var json: JSONValue {
    .array(
      listing.metadata.map { entry in
        .object([
          "key": .string(entry.key), "type": .string(entry.type),
          "count": .optional(entry.count), "value": entry.json(),
        ])
      })
  }

  func text(_ screen: Screen) -> String {
    guard !listing.metadata.isEmpty else { return "no metadata" }
    return listing.metadata.map { entry in
      let type = entry.type == "string" ? "" : screen.styled(" (\(entry.type))", .dim)
      return screen.heading(entry.key.shown) + type + ": " + Self.shown(entry)
    }.joined(separator: "\n")
  }

  /// The value of an entry as text.
  static func shown(_ entry: ModelListing.MetadataEntry) -> String {
    let (value, count) = (entry.json(limit: arrayLimit), entry.count)
    if let elements = value.array {
      let shown = elements.map { $0.string?.shown(atMost: 40) ?? $0.serialized().shown }
      let rest = (count ?? 0) > elements.count ? ["… (\(count ?? 0) elements)"] : []
      return "[" + (shown + rest).joined(separator: ", ") + "]"
    }
    guard let text = value.string else { return value.serialized() }
    // Recipes and templates are lines of text.
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.count > 1 else { return text.shown(atMost: textLimit) }
    let limit = 12
    return lines.prefix(limit).map { "\n  " + String($0).shown(atMost: 160) }.joined()
      + (lines.count > limit ? "\n  … (\(lines.count) lines)" : "")
  }
}
