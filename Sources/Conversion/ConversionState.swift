import ModelFiles

/// What a conversion has done and must know to go on, as the journal of its slab keeps it.
struct ConversionState {
  /// Steps of the plan that are done.
  var stepCount = 0
  /// Of the source's tensors in these steps, in the order of the plan.
  var sourceDigests: [Digest] = []

  init() {}

  /// - Parameter calibrator: has advanced through the steps that are done.
  func encoded(_ calibrator: Calibrator?) -> [UInt8] {
    var writer = ByteWriter(
      capacity: 64 + sourceDigests.count * 32 + (calibrator?.stateByteCount ?? 0))
    writer.append(UInt32(stepCount))
    writer.append(UInt32(sourceDigests.count))
    for digest in sourceDigests { writer.append(digest) }
    calibrator?.appendState(to: &writer)
    return writer.bytes
  }

  /// Takes over what an interrupted conversion journaled, and puts `calibrator` where it was.
  ///
  /// - Throws: ``SlabError`` if `resumption` is not of a conversion with this plan.
  init(
    _ resumption: Resumption, plan: ConversionPlan, _ calibrator: Calibrator?, path: String
  ) throws(SlabError) {
    let path = SlabWriter.journalPath(of: path)
    do throws(SlabError) {
      var reader = ByteReader(resumption.payload, path: path, document: "journal")
      stepCount = Int(try reader.uint32())
      let steps = plan.steps.prefix(stepCount)
      let entries = steps.flatMap(\.entries)
      let names = Set(resumption.tensors.map(\.name))
      guard steps.count == stepCount, try reader.uint32() == entries.count,
        entries.allSatisfy({ names.contains($0.tensor.name) })
      else { throw reader.malformed("the journal is of another plan") }
      for _ in entries { sourceDigests.append(try reader.digest()) }
      try calibrator?.restore(from: &reader)
      guard reader.remaining == 0 else { throw reader.malformed("the journal is too long") }
    } catch {
      throw SlabError(.journalDamaged, path: path, error.message)
    }
  }
}

extension ConversionPlan {
  /// How far a conversion is, for people: "12 of 40 layers".
  func summary(ofSteps count: Int) -> String {
    func layers(_ steps: ArraySlice<Step>) -> Int {
      steps.count { if case .layer = $0.kind { true } else { false } }
    }
    return "\(layers(steps.prefix(count))) of \(layers(steps[...])) layers"
  }
}
