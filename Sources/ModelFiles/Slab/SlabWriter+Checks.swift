import TensorCore

/// What callers may get wrong.
extension SlabWriter {
  func invalid(_ name: String?, _ message: String) -> SlabError {
    SlabError(.invalidInput, path: file.target, name: name, message)
  }

  /// The streams that the tensor must have.
  func check(
    _ tensor: SlabTensor
  ) throws(SlabError) -> [(kind: StreamKind, byteCount: Int)] {
    guard SlabFormat.isName(tensor.name) else {
      throw invalid(
        tensor.name,
        "a name must have 1 to \(SlabFormat.maximumNameByteCount) bytes and no control characters")
    }
    guard names.insert(Array(tensor.name.utf8)).inserted else {
      throw invalid(tensor.name, "a tensor of this name was written before")
    }
    guard names.count <= SlabFormat.maximumTensorCount else {
      throw invalid(tensor.name, "a slab holds at most \(SlabFormat.maximumTensorCount) tensors")
    }
    if let statistics = tensor.statistics {
      guard statistics.normalizedMeanSquaredError.isFinite,
        statistics.maximumAbsoluteError.isFinite, statistics.cosineSimilarity.isFinite,
        statistics.weightedError?.isFinite != false
      else { throw invalid(tensor.name, "its error statistics are not finite") }
    }
    guard
      let forms = TensorForm.streams(
        shape: tensor.shape, encoding: tensor.encoding, layout: tensor.layout)
    else {
      throw invalid(
        tensor.name,
        "a slab holds no tensor of shape \(tensor.shape) as \(tensor.encoding.name) in layout "
          + "\(tensor.layout)")
    }
    return forms
  }

  static func check(
    assets: [SlabAsset], metadata: [String: String], path: String
  ) throws(SlabError) {
    func invalid(_ name: String?, _ message: String) -> SlabError {
      SlabError(.invalidInput, path: path, name: name, message)
    }
    guard assets.count <= SlabFormat.maximumAssetCount,
      assets.reduce(0, { $0 + $1.bytes.count }) <= SlabFormat.maximumAssetByteCount
    else { throw invalid(nil, "too many assets, or too long ones") }
    for (index, asset) in assets.enumerated() {
      guard SlabFormat.isAssetName(asset.name),
        index == 0 || precedes(assets[index - 1].name, asset.name)
      else { throw invalid(asset.name, "the name of an asset is no file name, or occurs twice") }
    }
    guard metadata.count <= SlabFormat.maximumMetadataCount else {
      throw invalid(nil, "too many metadata entries")
    }
    for (key, value) in metadata {
      guard SlabFormat.isName(key), value.utf8.count <= SlabFormat.maximumValueByteCount else {
        throw invalid(key, "a metadata entry is too long, or its key no name")
      }
    }
  }
}
