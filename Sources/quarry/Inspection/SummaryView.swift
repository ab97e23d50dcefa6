import Inference
import JSON
import ModelFiles
import TensorCore

/// What the file is, parameters by role, sizes, memory to run.
struct SummaryView: InspectionView {
  let name = "summary"
  let listing: ModelListing

  /// Contexts that memory is told for, as far as the model has them, and its own if that is less.
  private static let contexts = [4096, 32768, 131072]

  private struct Memory {
    let context: Int
    let cache: [(type: CacheType, byteCount: Int)]
    /// Of recurrent layers, whatever the context.
    let state: Int
    /// With an f16 cache.
    let total: Int
  }

  private var memory: [Memory] {
    let limit = listing.facts.contextLength ?? .max
    var contexts = Self.contexts.filter { $0 < limit }
    if contexts.count < Self.contexts.count { contexts.append(limit) }
    return contexts.compactMap { context in
      let weights = listing.total.logicalByteCount
      if let configuration = listing.facts.configuration {
        let predictions = CacheType.allCases.map { type in
          MemoryPrediction(
            weightByteCount: weights, configuration: configuration, contextLength: context,
            cacheType: type)
        }
        return Memory(
          context: context,
          cache: zip(CacheType.allCases, predictions).map { ($0, $1.cacheByteCount) },
          state: predictions[0].stateByteCount,
          total: predictions[CacheType.allCases.firstIndex(of: .f16)!].total)
      }
      guard let elements = listing.facts.cacheElementCount else { return nil }
      let cache = CacheType.allCases.map { type in
        let product = elements.multipliedReportingOverflow(by: type.elementByteCount)
        let bytes = product.partialValue.multipliedReportingOverflow(by: context)
        return (type, product.overflow || bytes.overflow ? Int.max : bytes.partialValue)
      }
      let half = cache.first { $0.0 == .f16 }!.1
      let total = weights.addingReportingOverflow(half)
      return Memory(
        context: context, cache: cache, state: 0, total: total.overflow ? .max : total.partialValue)
    }
  }

  private var fields: [(name: String, key: String, value: Int?)] {
    let facts = listing.facts
    return [
      ("context", "context_length", facts.contextLength), ("layers", "layers", facts.layerCount),
      ("hidden size", "hidden_size", facts.hiddenSize),
      ("MLP size", "intermediate_size", facts.intermediateSize),
      ("experts", "experts", facts.expertCount),
      ("experts per token", "experts_per_token", facts.usedExpertCount),
      ("expert size", "expert_intermediate_size", facts.expertIntermediateSize),
      ("heads", "heads", facts.headCount), ("KV heads", "kv_heads", facts.keyValueHeadCount),
      ("head size", "head_size", facts.headSize),
      ("vocabulary", "vocabulary_size", facts.vocabularySize),
    ]
  }

  var json: JSONValue {
    let total = listing.total
    return .object([
      "architecture": .optional(listing.facts.architecture),
      "runs": .bool(listing.facts.configuration != nil),
      "model": .object(JSONObject(fields.map { ($0.key, .optional($0.value)) })),
      "profile": .optional(slab?.profile.name),
      "root_digest": .optional(slab.map { "\($0.rootDigest)" }),
      "files": .array(
        listing.files.map { .object(["path": .string($0.path), "bytes": .integer($0.byteCount)]) }),
      "file_bytes": .integer(listing.fileByteCount),
      "asset_bytes": .integer(listing.assets.reduce(0) { $0 + $1.bytes.count }),
      "total": total.json,
      "roles": .array(listing.roles.map(\.json)),
      "memory": .array(
        memory.map { memory in
          .object([
            "context": .integer(memory.context),
            "kv_bytes": .object(
              JSONObject(memory.cache.map { ($0.type.rawValue, .integer($0.byteCount)) })),
            "state_bytes": .integer(memory.state), "total_bytes": .integer(memory.total),
          ])
        }),
      "notes": .array(listing.notes.map { .string($0) }),
    ])
  }

  private var slab: Slab? { listing.slab }

  func text(_ screen: Screen) -> String {
    var lines = [screen.heading(listing.path.shown) + ": " + what]
    lines += listing.notes.map { screen.styled("note: " + $0.shown(atMost: 400), .yellow) }
    lines.append(size)
    if !dimensions.isEmpty { lines.append(screen.paragraph(dimensions)) }
    if let slab { lines.append("root \(slab.rootDigest)") }
    lines += ["", roleTable.text(screen)]
    if let memoryTable {
      lines += [
        "", screen.titled("memory to run", memoryContents), memoryTable.text(screen),
      ]
    }
    return lines.joined(separator: "\n")
  }

  /// Parameters, bytes, bits per weight.
  var size: String {
    let total = listing.total
    return
      "\(Format.count(total.parameterCount)) parameters, \(Format.bytes(listing.fileByteCount))"
      + (total.bitsPerWeight.map { ", \(Format.decimal($0, 2)) bits per weight" } ?? "")
  }

  /// What the configuration says; empty where it says nothing.
  var dimensions: String {
    fields.compactMap { field in field.value.map { "\(field.name) \($0)" } }
      .joined(separator: ", ")
  }

  /// Kind of file and of model.
  var what: String {
    var words: [String]
    switch listing.source {
    case .slab(let slab): words = ["slab, profile \(slab.profile.name)"]
    case .safetensors(let files):
      words = [listing.kind.rawValue]
      if listing.kind != .safetensors {
        words.append("\(files.count) file\(files.count == 1 ? "" : "s")")
      }
    case .gguf(let file): words = ["GGUF version \(file.version)"]
    }
    if let architecture = listing.facts.architecture { words.append(architecture.shown) }
    if listing.kind == .slab || listing.kind == .checkpoint, listing.facts.configuration == nil {
      words.append("not run by this version")
    }
    return words.joined(separator: ", ")
  }

  var roleTable: ScreenTable {
    var table = ScreenTable(columns: TensorGroup.columns(title: "role"))
    let total = listing.total
    table.rows = listing.roles.map { $0.cells(of: total) } + [total.cells(of: total)]
    table.hasTotal = true
    return table
  }

  /// Nil where nothing says how much a KV cache takes.
  private var memoryContents: String {
    guard let state = memory.first?.state, state > 0 else { return "weights and KV cache" }
    return "weights, KV cache and \(Format.bytes(state)) of state"
  }

  var memoryTable: ScreenTable? {
    let memory = memory
    guard !memory.isEmpty else { return nil }
    var table = ScreenTable(columns: [
      .init(title: "context", isRight: true), .init(title: "total, f16 cache", isRight: true),
      .init(title: "f16 cache", isRight: true), .init(title: "q8 cache", isRight: true),
      .init(title: "f32 cache", isRight: true, expendability: 1),
    ])
    table.rows = memory.map { memory in
      func cache(_ type: CacheType) -> String {
        Format.bytes(memory.cache.first { $0.type == type }?.byteCount ?? 0)
      }
      return [
        "\(memory.context)", Format.bytes(memory.total), cache(.f16), cache(.q8), cache(.f32),
      ]
    }
    return table
  }
}

extension TensorGroup {
  static func columns(title: String) -> [ScreenTable.Column] {
    [
      .init(title: title), .init(title: "tensors", isRight: true, expendability: 3),
      .init(title: "parameters", isRight: true), .init(title: "size", isRight: true),
      .init(title: "share", isRight: true, expendability: 1),
      .init(title: "stored", isRight: true, expendability: 4),
      .init(title: "bits", isRight: true), .init(title: "encodings", isFlexible: true),
      .init(title: "mean NMSE", isRight: true, expendability: 2),
      .init(title: "largest", isRight: true, expendability: 5),
    ]
  }

  func cells(of total: TensorGroup) -> [String] {
    [
      name.shown, "\(tensorCount)", "\(parameterCount)", Format.bytes(logicalByteCount),
      Format.percent(logicalByteCount, of: total.logicalByteCount), Format.bytes(storedByteCount),
      bitsPerWeight.map { Format.decimal($0, 2) } ?? "",
      encodings.isEmpty ? "" : TensorGroupText.encodings(encodings),
      meanError.map { Format.significant($0) } ?? "",
      maximumError.map { Format.significant($0) } ?? "",
    ]
  }

  var json: JSONValue {
    .object([
      "name": .string(name),
      "tensors": .integer(tensorCount),
      "parameters": .integer(parameterCount),
      "stored_bytes": .integer(storedByteCount),
      "logical_bytes": .integer(logicalByteCount),
      "bits_per_weight": .optional(bitsPerWeight),
      "encodings": .object(JSONObject(encodings.map { ($0.name, .integer($0.count)) })),
      "mean_normalized_mean_squared_error": .optional(meanError),
      "largest_normalized_mean_squared_error": .optional(maximumError),
      "least_cosine_similarity": .optional(minimumCosine),
    ])
  }
}
