import ArgumentParser
import JSON
import ModelFiles
import TensorCore

struct Repair: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make a damaged slab what it was, from a good copy.",
    discussion: """
      Every byte is checked; what is bad is replaced, byte for byte. A good copy is a slab of the same \
      model (its root digest), of either profile; it may be damaged itself, elsewhere, and there may be \
      several. The repaired file is written beside the damaged one, which takes as much room, and \
      renamed over it: nothing changes unless everything can be repaired.

      Without a good copy, padding, bytes behind the end and most damage of the superblock are repaired; \
      for the rest the ranges of bytes are listed that must be fetched again, and the exit code is 1.

      EXAMPLES
        quarry repair granite.slab
        quarry repair granite.slab --from backup/granite-ship.slab
        quarry repair granite.slab --json
      """)

  @Argument(help: "The damaged slab.", completion: .file())
  var slab: String
  @Option(
    help: ArgumentHelp("A good copy; may be given more than once.", valueName: "slab"),
    completion: .file())
  var from: [String] = []
  @OptionGroup var runtime: RuntimeOptions
  @Flag(help: "Print JSON (formats/repair.md).")
  var json = false

  func run() throws {
    Interrupt.watch()
    let pool = runtime.makePool()
    let repair = try cancellable {
      let progress = Progress("checking")
      defer { progress.finish() }
      return try SlabRepair(
        path: slab, donors: from, pool: pool, progress: { progress.update($0, of: $1) },
        isCancelled: { Interrupt.isRequested })
    }
    let isPossible = repair.missingRanges.isEmpty
    if isPossible && !repair.faults.isEmpty {
      try cancellable {
        let progress = Progress("repairing")
        defer { progress.finish() }
        try repair.run(
          pool: pool, progress: { progress.update($0, of: $1) },
          isCancelled: { Interrupt.isRequested })
      }
    }
    try Console.write(
      (json ? repair.json.serialized(indented: true) : repair.text(slab, hasCopy: !from.isEmpty))
        + "\n")
    if !isPossible { throw ExitCode.failure }
  }

  private func cancellable<R>(_ body: () throws -> R) throws -> R {
    do {
      return try body()
    } catch let error as SlabError where error.reason == .cancelled {
      Console.note("interrupted: \(slab) is as it was")
      throw Interrupt.exitCode
    }
  }
}

extension SlabRepair {
  fileprivate func text(_ path: String, hasCopy: Bool) -> String {
    guard !faults.isEmpty else { return "\(path): intact, nothing to repair" }
    let table = Format.table(
      ["bytes", "part", "stream", "frame", ""],
      faults.map { fault in
        [
          "\(fault.byteRange.lowerBound)..<\(fault.byteRange.upperBound)",
          fault.name?.shown ?? fault.kind.description, fault.stream.map { "\($0)" } ?? "",
          fault.frame.map { "\($0)" } ?? "", fault.isRepairable ? "" : "missing",
        ]
      })
    let bad = "\(faults.count) bad part\(faults.count == 1 ? "" : "s")"
    guard !missingRanges.isEmpty else {
      return "\(table)\n\(path): repaired (\(bad)), root \(rootDigest!)"
    }
    let missing = Format.bytes(missingRanges.reduce(0) { $0 + $1.count })
    return """
      \(table)
      \(path): not repaired (\(bad)). \
      \(hasCopy ? "The copies lack" : "Give a good copy with --from, or fetch") \(missing)\
      \(hasCopy ? "; fetch these bytes" : "") again and write them in their place:
      Range: bytes=\(missingRanges.map { "\($0.lowerBound)-\($0.upperBound - 1)" }.joined(separator: ","))\
      \(isIncomplete ? "\nMore may be damaged: only the index can tell, which is lost or may be damaged itself." : "")
      """
  }

  /// formats/repair.md.
  fileprivate var json: JSONValue {
    .object([
      "path": .string(path),
      "status": faults.isEmpty ? "intact" : missingRanges.isEmpty ? "repaired" : "damaged",
      "root_digest": rootDigest.map { .string("\($0)") } ?? .null,
      "bytes": byteCount.map { .integer($0) } ?? .null,
      "complete": .bool(!isIncomplete),
      "faults": .array(
        faults.map { fault in
          .object([
            "begin": .integer(fault.byteRange.lowerBound),
            "end": .integer(fault.byteRange.upperBound),
            "part": .string(fault.kind.rawValue),
            "name": fault.name.map { .string($0) } ?? .null,
            "stream": fault.stream.map { .string("\($0)") } ?? .null,
            "frame": fault.frame.map { .integer($0) } ?? .null,
            "repairable": .bool(fault.isRepairable),
          ])
        }),
      "missing": .array(
        missingRanges.map { range in
          .object(["begin": .integer(range.lowerBound), "end": .integer(range.upperBound)])
        }),
    ])
  }
}

extension SlabRepair.Fault.Kind {
  fileprivate var description: String {
    switch self {
    case .superblock: "(superblock)"
    case .index: "(index)"
    case .padding: "(padding)"
    case .asset: "(asset)"
    case .tensor: "(tensor)"
    case .end: "(bytes behind the end)"
    case .everything: "(everything: neither superblock nor index is left)"
    }
  }
}
