import Inference
import ModelFiles
import TensorCore

/// What a conversion needs of the disk, known from headers.
extension Converter {
  /// Bytes of the slab, at least and at most. Matrices of profile `run` count exactly, assets are
  /// compressed to find out; what vectors, column scales and everything of profile `ship` are
  /// compressed to shows only when they are written.
  public func fileByteCounts(_ plan: ConversionPlan) -> ClosedRange<Int> {
    let assets = SlabSize.Assets(checkpoint.assets, pool: pool)
    let most = size(.most, plan, assets).byteCount
    return min(size(.least, plan, assets).byteCount, most)...most
  }

  /// Bytes that what is kept for another run takes at most, beside the unfinished slab: the old journal
  /// stays until the next one is complete.
  public func journalByteCount(_ plan: ConversionPlan) -> Int {
    let size = size(.most, plan, SlabSize.Assets([], pool: pool))
    // Of what experts see, that of one layer at a time.
    let moments = ImportanceStatistics.expected(checkpoint.configuration).reduce(0) {
      let layers =
        ImportanceStatistics.isInputOfExperts($1.name) ? checkpoint.configuration.layerCount : 1
      return $0 + 4 * $1.columns / layers + 300
    }
    let tokenLimit = calibration.tokenLimit
    let state = tokenLimit * checkpoint.configuration.hiddenSize * 4 + moments
    let isRun = tokenLimit > 0 && plan.isQuantized
    return 2 * (size.indexByteCount + 400 * plan.entries.count + (isRun ? state : 0) + 1 << 16)
  }

  /// - Parameter known: what a measurement has found out; nil leaves all of that to the bound.
  func size(
    _ bound: SlabSize.Bound, _ plan: ConversionPlan, _ assets: SlabSize.Assets,
    known: MeasuredSizes? = nil
  ) -> SlabSize {
    let tied = checkpoint.configuration.tiedEmbeddings
    let origin = known.map(\.calibrationOrigin) ?? expectedOrigin
    var size = SlabSize(
      bound, profile: profile, assets: assets, metadata: metadata(calibration: origin ?? "none"))
    for step in plan.steps {
      let groups = origin == nil ? [] : InputGroup.groups(of: step, tiedEmbeddings: tied)
      let scaled = groups.filter { group in
        group.isQuantized && group.mayBeScaled
          && known?.hasColumnScales(group) ?? (bound == .most)
      }
      for entry in step.entries {
        let (name, shape) = (entry.tensor.name, entry.tensor.shape)
        guard let encoding = entry.encoding else {
          size.append(name: name, shape: shape, known: known?.vectors[name])
          continue
        }
        let group = encoding.isQuantized ? groups.first { $0.contains(entry) } : nil
        let isScaled = scaled.contains { $0.name == group?.name }
        size.append(
          name: name, shape: shape, encoding: encoding,
          columnScales: isScaled ? group?.columnScalesName : nil, isWeighted: group != nil,
          weightedError: group.flatMap { known?.weightedError(of: name, in: $0) })
      }
      for group in scaled {
        size.append(
          name: group.columnScalesName,
          shape: [group.input.columnCount(checkpoint.configuration)],
          known: known?.columnScales(of: group))
      }
    }
    return size
  }

  /// What the slab will record of its calibration, as far as its length goes; nil without one.
  private var expectedOrigin: String? {
    switch calibration.source {
    case .none: nil
    case .statistics(let statistics): statistics.origin
    case .bundled, .text: "\(calibration.tokenLimit) tokens, sha256 \(Digest(of: []))"
    }
  }
}

extension ConversionPlan {
  /// Whether the recipe quantizes anything, so that calibration makes sense.
  public var isQuantized: Bool { entries.contains { $0.encoding?.isQuantized == true } }

  /// Matrices whose errors a calibration weighs, and whose input columns it tries scales on: those
  /// that read a known input.
  public func calibratedEntries(tiedEmbeddings: Bool) -> [Entry] {
    steps.flatMap { InputGroup.groups(of: $0, tiedEmbeddings: tiedEmbeddings) }
      .flatMap(\.entries).filter { $0.encoding?.isQuantized == true }
  }
}

extension Calibration {
  /// Whether errors are to be weighed by anything.
  public var isWanted: Bool { if case .none = source { false } else { true } }

  /// Tokens of a text that are run at most; 0 without a text. A token has at least one byte.
  public var tokenLimit: Int {
    switch source {
    case .none, .statistics: 0
    case .bundled: min(tokenCount, Self.bundledText.utf8.count)
    case .text(let text): min(tokenCount, text.utf8.count)
    }
  }
}
