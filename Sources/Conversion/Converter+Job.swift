import ModelFiles
import TensorCore

/// A conversion as a job that can be taken up again: what its slab depends on and comes from, and what is
/// kept where it ends early.
extension Converter {
  /// Everything that decides the bytes of the slab.
  func fingerprint(_ calibration: PreparedCalibration) -> Fingerprint {
    let recipe =
      self.recipe.isPreset
      ? self.recipe.name
      : "\(self.recipe.name) (sha256 \(Digest(of: Array(self.recipe.yaml.utf8))))"
    let own: [Fingerprint.Component] = [
      .init("program", Self.program),
      .init("recipe", recipe), .init("calibration", calibration.fingerprint),
    ]
    return Fingerprint(own + checkpoint.fingerprint)
  }

  /// The slab, where the same conversion was interrupted when it was there already.
  func finishedSlab(at path: String, _ calibration: PreparedCalibration) -> Slab? {
    restarting
      ? nil
      : SlabWriter.finishedSlab(
        at: path, profile: profile, fingerprint: fingerprint(calibration))
  }

  /// Where the slab comes from: nothing that depends on the machine, the time or the place.
  ///
  /// Digests of the source files are known at the end only.
  ///
  /// - Parameter calibration: what was run, or "none".
  func metadata(calibration: String) -> [String: String] {
    var own = [
      "calibration": calibration,
      "tool": "quarry \(Self.version)",
      "numerics": "\(Reference.numericsVersion)",
      "source": checkpoint.weightFileNames.joined(separator: "\n"),
      Self.sourceDigestsKey: SourceHashing.placeholder(for: checkpoint),
    ]
    own["source-revision"] = checkpoint.download?.revision
    own["source-repository"] = checkpoint.download?.repository
    return own.merging(recipe.metadata) { $1 }
  }

  /// What computes, as far as results depend on it.
  static let program = "quarry \(version), numerics \(Reference.numericsVersion)"

  static let sourceDigestsKey = "source-sha256"

  /// Takes over what an interrupted conversion did, once the source has been found to hold what that
  /// read.
  func restore(
    _ writer: SlabWriter, plan: ConversionPlan, _ calibrator: Calibrator?, path: String
  ) throws(ConversionError) -> ConversionState {
    guard let resumption = writer.resumption else { return ConversionState() }
    resumed(resumption.summary)
    let state: ConversionState
    do throws(SlabError) {
      state = try ConversionState(resumption, plan: plan, calibrator, path: path)
    } catch {
      throw .output(error)
    }
    for (entry, digest) in zip(plan.entries, state.sourceDigests) {
      if isCancelled() { throw .cancelled(path: path) }
      guard checkpoint.digest(of: entry.tensor, pool: pool) == digest else {
        throw .output(
          SlabError(
            .otherJob, path: SlabWriter.partialPath(of: path), name: entry.tensor.name,
            "a conversion was interrupted here, with \(resumption.summary) done, but the bytes of "
              + "this tensor in the checkpoint are others now"))
      }
      checkpoint.release(entry.tensor)
    }
    return state
  }

  /// Ends the writer: keeps what was recorded if the same conversion can succeed another time.
  /// - Returns: what to tell the caller.
  func ended(
    _ error: ConversionError, _ writer: SlabWriter, path: String
  ) -> ConversionError {
    let error = error.isCancellation ? .cancelled(path: path) : error
    guard error.isPassing else {
      writer.cancel()
      return error
    }
    writer.suspend()
    if case .output = error { return error }  // says it itself
    guard let kept = writer.recorded else { return error }
    return .suspended(error, path: path, kept: kept)
  }
}

extension PreparedCalibration {
  /// Tells apart what gives different slabs.
  var fingerprint: String {
    guard case .source(let source) = self else { return "none" }
    guard case .statistics(let statistics) = source else { return source.origin }
    var writer = ByteWriter()
    for (name, values) in statistics.moments.sorted(by: { $0.key < $1.key }) {
      writer.append(name: name)
      values.withUnsafeBytes { writer.append($0) }
    }
    return "statistics of \(source.origin) (sha256 \(Digest(of: writer.bytes)))"
  }
}

extension ConversionError {
  /// Whether the same conversion can succeed another time.
  var isPassing: Bool {
    switch self {
    case .cancelled, .output: true
    case .checkpoint(let error): [.vanished, .unreadableFile].contains(error.reason)
    default: false
    }
  }
}
