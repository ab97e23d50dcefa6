import TensorCore

/// Where streams and assets lie: every place follows from the order of the tensors and the stored
/// lengths (formats/slab.md, section 4), so that a file has neither holes nor overlaps.
struct Placement {
  /// End of the last run of bytes.
  private(set) var end = SlabFormat.superblockByteCount
  private var previousLayout: TensorLayout?
  private var hasAssets = false

  /// Offset of the first stream of the next tensor. Plain tensors that follow each other share a
  /// segment.
  mutating func startTensor(layout: TensorLayout) -> Int {
    defer { previousLayout = layout }
    return SlabFormat.align(
      end,
      to: layout == .plain && previousLayout == .plain
        ? SlabFormat.streamAlignment : SlabFormat.segmentAlignment)
  }

  /// Offset of the next stream of the same tensor.
  func nextStream() -> Int { SlabFormat.align(end, to: SlabFormat.streamAlignment) }

  /// Offset of the next asset: all assets share the last segment.
  mutating func startAsset() -> Int {
    defer { hasAssets = true }
    return SlabFormat.align(
      end,
      to: hasAssets
        ? SlabFormat.streamAlignment : SlabFormat.segmentAlignment)
  }

  /// Offset of the index.
  func index() -> Int { nextStream() }

  mutating func advance(to end: Int) { self.end = end }
}

extension SlabIndex {
  /// Tensors in the order in which the file holds them.
  var fileOrder: [SlabTensor] { tensors.sorted { $0.offset < $1.offset } }

  /// Checks that everything lies where it must.
  /// - Returns: the padding between superblock, streams, assets and index, which must be zero.
  func checkPlacement(path: String, indexOffset: Int) throws(SlabError) -> [Range<Int>] {
    var placement = Placement()
    var padding: [Range<Int>] = []

    func check(
      _ offset: Int, _ byteCount: Int, at expected: Int, name: String?, stream: StreamKind?
    ) throws(SlabError) {
      guard offset == expected else {
        throw SlabError(
          .malformed, path: path, name: name, stream: stream,
          byteRange: offset..<offset + byteCount, expected: "\(expected)", found: "\(offset)",
          offset < placement.end
            ? "it overlaps what comes before it"
            : "it does not begin where what comes before it says")
      }
      if placement.end < offset { padding.append(placement.end..<offset) }
      placement.advance(to: offset + byteCount)
    }

    for tensor in fileOrder {
      for (index, stream) in tensor.streams.enumerated() {
        let expected =
          index == 0
          ? placement.startTensor(layout: tensor.layout) : placement.nextStream()
        try check(
          stream.offset, stream.storedByteCount, at: expected, name: tensor.name,
          stream: stream.kind)
      }
    }
    for asset in assets {
      let expected = placement.startAsset()
      try check(
        asset.bytes.offset, asset.bytes.storedByteCount, at: expected, name: asset.name,
        stream: nil)
    }
    try check(indexOffset, 0, at: placement.index(), name: "index", stream: nil)
    return padding
  }
}
