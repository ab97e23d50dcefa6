import TensorCore

/// An asset as the index describes it.
struct AssetRecord: Sendable {
  var name: String
  var bytes: StoredBytes
}

/// The index of a slab (formats/slab.md, section 5): everything but weights and asset bytes.
struct SlabIndex: Sendable {
  var profile: SlabProfile
  /// Where the file comes from: no part of what it is.
  var metadata: [String: String]
  /// Sorted by name.
  var assets: [AssetRecord]
  /// Sorted by name.
  var tensors: [SlabTensor]

  var rootDigest: Digest { SlabDigests.root(tensors: tensors, assets: assets) }

  /// Index in ``tensors`` of the tensor of that name.
  func position(ofTensor name: String) -> Int? {
    var low = 0
    var high = tensors.count
    while low < high {
      let middle = (low + high) / 2
      if precedes(tensors[middle].name, name) { low = middle + 1 } else { high = middle }
    }
    return low < tensors.count && tensors[low].name.utf8.elementsEqual(name.utf8) ? low : nil
  }

  /// Sets the digests of all tensors from those of their frames; those of column scales come first.
  ///
  /// The references must be valid (``columnScalesFault(of:)``).
  mutating func fillDigests() {
    for hasColumnScales in [false, true] {
      for index in tensors.indices where (tensors[index].columnScales != nil) == hasColumnScales {
        let tensor = tensors[index]
        let scales = tensor.columnScales.flatMap { position(ofTensor: $0) }
        tensors[index].digest = SlabDigests.tensor(
          shape: tensor.shape, encoding: tensor.encoding, layout: tensor.layout,
          streams: tensor.streams, columnScales: scales.map { tensors[$0].digest })
      }
    }
  }

  /// What is wrong with the column scales that a tensor names; nil if nothing is.
  func columnScalesFault(of tensor: SlabTensor) -> String? {
    guard let name = tensor.columnScales else { return nil }
    guard tensor.layout == .panel16, tensor.encoding.isQuantized else {
      return "only quantized matrices have column scales"
    }
    guard let index = position(ofTensor: name) else {
      return "the column scales \(name) are not in the file"
    }
    let columns = tensor.shape[tensor.shape.count - 1]
    guard tensors[index].layout == .plain, tensors[index].shape == [columns] else {
      return "the column scales \(name) are no plain tensor of shape [\(columns)]"
    }
    return nil
  }
}

// MARK: - Writing

extension SlabIndex {
  func encoded() -> [UInt8] {
    var writer = ByteWriter()
    writer.append(profile.rawValue)
    writer.append(UInt32(metadata.count))
    for (key, value) in metadata.sorted(by: { precedes($0.key, $1.key) }) {
      writer.append(name: key)
      writer.append(UInt32(value.utf8.count))
      writer.append(raw: value.utf8)
    }
    writer.append(UInt32(assets.count))
    for asset in assets {
      writer.append(name: asset.name)
      Self.append(asset.bytes, to: &writer)
    }
    writer.append(UInt32(tensors.count))
    for tensor in tensors { Self.append(tensor, to: &writer) }
    return writer.bytes
  }

  private static func append(_ tensor: SlabTensor, to writer: inout ByteWriter) {
    writer.append(name: tensor.name)
    writer.append(tensor.sourceType.slabID)
    writer.append(tensor.encoding.rawValue)
    writer.append(tensor.layout.rawValue)
    writer.append(UInt8(tensor.shape.count))
    for dimension in tensor.shape { writer.append(UInt64(dimension)) }
    writer.append(UInt8(tensor.columnScales == nil ? 0 : 1))
    if let name = tensor.columnScales { writer.append(name: name) }
    writer.append(UInt8(tensor.statistics == nil ? 0 : 1))
    if let statistics = tensor.statistics {
      writer.append(statistics.normalizedMeanSquaredError.bitPattern)
      writer.append(statistics.maximumAbsoluteError.bitPattern)
      writer.append(statistics.cosineSimilarity.bitPattern)
    }
    writer.append(UInt8(tensor.streams.count))
    for stream in tensor.streams {
      writer.append(stream.kind.rawValue)
      append(stream.bytes, to: &writer)
    }
  }

  private static func append(_ bytes: StoredBytes, to writer: inout ByteWriter) {
    writer.append(bytes.codec.rawValue)
    writer.append(UInt64(bytes.offset))
    writer.append(UInt64(bytes.storedByteCount))
    writer.append(UInt64(bytes.logicalByteCount))
    for frame in bytes.frames {
      writer.append(frame.digest)
      if let storedDigest = frame.storedDigest {
        writer.append(UInt32(frame.storedByteCount))
        writer.append(storedDigest)
      }
    }
  }
}

extension ElementType {
  /// The id of the index.
  fileprivate var slabID: UInt8 {
    switch self {
    case .f32: 0
    case .f16: 1
    case .bf16: 2
    }
  }

  init?(slabID: UInt8) {
    guard let match = Self.allCases.first(where: { $0.slabID == slabID }) else { return nil }
    self = match
  }
}
