public import TensorCore

/// A run of bytes of a file and what it is for.
public struct FileRegion: Sendable {
  public enum Kind: String, Sendable {
    /// The first 4 KiB of a slab.
    case superblock
    /// What describes the tensors of a safetensors or GGUF file, its metadata included.
    case header
    case tensor
    case asset
    case index
    /// Zeros up to where the next thing may begin.
    case padding
    /// Bytes between tensors that belong to nothing and are more than padding.
    case unused
  }

  /// Index in ``ModelListing/files``.
  public let file: Int
  public let range: Range<Int>
  public let kind: Kind
  /// Of a tensor or asset.
  public let name: String?
  /// Of a tensor.
  public let role: String?
  /// Of a tensor within a layer.
  public let layer: Int?
  /// Which stream of a slab's tensor.
  public let stream: StreamKind?
  /// How a slab stores it.
  public let codec: SlabCodec?
  /// Independently stored pieces of a slab's stream or asset.
  public let frameCount: Int?
  /// Bytes once decompressed.
  public let logicalByteCount: Int
}

extension ModelListing {
  /// Every byte of every file, in order.
  public var regions: [FileRegion] {
    switch source {
    case .slab(let slab): Self.regions(slab, tensors)
    case .safetensors(let files):
      files.enumerated().flatMap { index, file in
        let start = file.tensors.first?.byteRange.lowerBound ?? file.mappedBytes.count
        return [.plain(index, 0..<start, .header)] + plainRegions(ofFile: index)
      }
    case .gguf(let file):
      Self.filled(
        [.plain(0, 0..<file.headerByteCount, .header)] + plainRegions(ofFile: 0),
        end: file.mappedBytes.count, alignment: file.alignment)
    }
  }

  private func plainRegions(ofFile file: Int) -> [FileRegion] {
    tensors.filter { $0.file == file && $0.storedByteCount > 0 }.map { tensor in
      FileRegion(
        file: file, range: tensor.offset..<tensor.offset + tensor.storedByteCount, kind: .tensor,
        name: tensor.name, role: tensor.role, layer: tensor.layer, stream: nil, codec: nil,
        frameCount: nil, logicalByteCount: tensor.storedByteCount)
    }
  }

  private static func regions(_ slab: Slab, _ tensors: [ListedTensor]) -> [FileRegion] {
    var regions = [FileRegion.plain(0, 0..<SlabFormat.superblockByteCount, .superblock)]
    for (tensor, listed) in zip(slab.tensorsInFileOrder, tensors) {
      for stream in tensor.streams {
        regions.append(
          FileRegion(
            file: 0, range: stream.bytes.byteRange, kind: .tensor, name: tensor.name,
            role: listed.role, layer: listed.layer, stream: stream.kind, codec: stream.codec,
            frameCount: stream.frameCount, logicalByteCount: stream.logicalByteCount))
      }
    }
    for asset in slab.index.assets where asset.bytes.storedByteCount > 0 {
      regions.append(
        FileRegion(
          file: 0, range: asset.bytes.byteRange, kind: .asset, name: asset.name, role: nil,
          layer: nil, stream: nil, codec: asset.bytes.codec, frameCount: asset.bytes.frames.count,
          logicalByteCount: asset.bytes.logicalByteCount))
    }
    // The index is what follows all else, up to the end of the file.
    let start = SlabFormat.align(
      regions.last!.range.upperBound, to: SlabFormat.streamAlignment)
    regions.append(.plain(0, start..<max(start, slab.fileByteCount), .index))
    return filled(regions, end: slab.fileByteCount, alignment: SlabFormat.segmentAlignment)
  }

  /// Puts what lies between regions between them.
  private static func filled(
    _ regions: [FileRegion], end: Int, alignment: Int
  ) -> [FileRegion] {
    var result: [FileRegion] = []
    var position = 0
    func fill(_ end: Int) {
      guard position < end else { return }
      let kind: FileRegion.Kind = end - position < alignment ? .padding : .unused
      result.append(.plain(0, position..<end, kind))
    }
    for region in regions {
      fill(region.range.lowerBound)
      result.append(region)
      position = region.range.upperBound
    }
    fill(end)
    return result
  }
}

extension FileRegion {
  static func plain(_ file: Int, _ range: Range<Int>, _ kind: Kind) -> FileRegion {
    FileRegion(
      file: file, range: range, kind: kind, name: nil, role: nil, layer: nil, stream: nil,
      codec: nil, frameCount: nil, logicalByteCount: range.count)
  }
}
