import Foundation
import JSON
import ModelFiles
import Pebble
import TensorCore
import TestSupport
import Testing

/// `quarry convert` where something goes wrong: one clear sentence, an exit code, and nothing lost.
@Suite struct JobTests {
  /// Whether this system lets everyone mount a file system of their own.
  static let canMount =
    (try? Program(executable: URL(filePath: "/usr/bin/env")).run([
      "unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt",
    ]).status) == 0

  private struct Job {
    let directory: URL
    let checkpoint: URL
    var output: URL { directory.appending(path: "out.slab") }
    var partial: URL { directory.appending(path: "out.slab.partial") }
    var journal: URL { directory.appending(path: "out.slab.journal") }
    var arguments: [String] {
      ["convert", checkpoint.path, "-o", output.path, "--threads", "1", "--recipe", "q4"]
    }
    var shard: URL { checkpoint.appending(path: "model.safetensors") }

    /// Runs, and calls `action` once some layers are in the journal.
    func run(_ more: [String] = [], _ action: (Process) throws -> Void) throws -> Program.Outcome {
      try quarry.run(arguments + more) { process, _ in
        while process.isRunning, !FileManager.default.fileExists(atPath: journal.path) {
          usleep(1000)
        }
        if process.isRunning { try action(process) }
      }
    }

    var files: [String] {
      get throws {
        try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
      }
    }
  }

  private func withJob(_ body: (Job) throws -> Void) throws {
    try Place.withTemporaryDirectory { directory in
      try body(
        Job(
          directory: directory,
          checkpoint: SyntheticCheckpoint.make(in: directory, layers: 16, hiddenSize: 768)))
    }
  }

  /// The file of an uninterrupted conversion.
  private func reference(_ job: Job) throws -> Data {
    let path = job.directory.appending(path: "reference.slab")
    var arguments = job.arguments
    arguments[3] = path.path
    #expect(try quarry.run(arguments).status == 0)
    defer { try? FileManager.default.removeItem(at: path) }
    return try Data(contentsOf: path)
  }

  @Test(arguments: [SIGINT, SIGTERM, SIGKILL]) func goesOn(signal: Int32) throws {
    try withJob { job in
      let reference = try reference(job)
      let ended = try job.run { kill($0.processIdentifier, signal) }
      if signal != SIGKILL {
        #expect(ended.status == 128 + signal)
        #expect(ended.errors.contains("of 16 layers are kept in "), "\(ended.errors)")
        #expect(ended.errors.contains("run the same command"))
      }
      #expect(try job.files == ["checkpoint", "out.slab.journal", "out.slab.partial"])
      let resumed = try quarry.run(job.arguments + ["--json"])
      #expect(resumed.status == 0)
      #expect(resumed.errors.contains("going on behind "), "\(resumed.errors)")
      #expect(try Data(contentsOf: job.output) == reference)
      #expect(try job.files == ["checkpoint", "out.slab"])
      // Only what this run did is an event.
      let events = try resumed.output.split(separator: "\n").map {
        try JSONValue(parsing: String($0))
      }
      let tensors = events.filter { $0["event"]?.string == "tensor" }
      let first = try #require(tensors.first?["done_tensors"]?.integer)
      let total = try #require(tensors.first?["total_tensors"]?.integer)
      #expect(first > 7 && tensors.count == total - first + 1)
      #expect(events.last?["resumed_after"]?.string?.hasSuffix("of 16 layers") == true)
    }
  }

  /// Killed when the slab has its name and its journal is still there: the next run has nothing to do
  /// but to say so.
  @Test func theSlabWasFinished() throws {
    try withJob { job in
      _ = try job.run { kill($0.processIdentifier, SIGKILL) }
      let journal = try Data(contentsOf: job.journal)
      let made = try quarry.run(job.arguments)
      #expect(made.status == 0)
      let reference = try Data(contentsOf: job.output)
      for force in [[], ["--force"]] {
        try journal.write(to: job.journal)
        let again = try quarry.run(job.arguments + force)
        #expect(again.status == 0, "\(again.errors)")
        #expect(again.errors.contains("out.slab is complete"), "\(again.errors)")
        // The report is that of the first, but for the time.
        let kinds = [made, again].map { $0.output.split(separator: "out.slab:")[0] }
        #expect(kinds[0] == kinds[1])
        #expect(try Data(contentsOf: job.output) == reference)
        #expect(try job.files == ["checkpoint", "out.slab"])
      }
      // Without the journal the slab is one that exists.
      let refused = try quarry.run(job.arguments)
      #expect(refused.status == 1 && refused.errors.contains("the output exists"))
      // With that of another conversion too.
      try journal.write(to: job.journal)
      let other = try quarry.run(job.arguments + ["--recipe", "q8"])
      #expect(other.status == 1 && other.errors.contains("the output exists"))
      // And a slab that is not what the journal lists is no result of it.
      #expect(
        try quarry.run(job.arguments + ["--recipe", "q8", "--force"]).status == 0)
      try journal.write(to: job.journal)
      let foreign = try quarry.run(job.arguments)
      #expect(foreign.status == 1 && foreign.errors.contains("the output exists"))
      #expect(try quarry.run(job.arguments + ["--force"]).status == 0)
      #expect(try Data(contentsOf: job.output) == reference)
      #expect(try job.files == ["checkpoint", "out.slab"])
    }
  }

  @Test func anotherCommandIsRefused() throws {
    try withJob { job in
      _ = try job.run { kill($0.processIdentifier, SIGKILL) }
      let other = try quarry.run(job.arguments + ["--recipe", "q8"])
      #expect(other.status == 1)
      #expect(other.errors.contains("recipe was q4 and is q8"), "\(other.errors)")
      #expect(other.errors.contains("--restart"))
      #expect(try job.files == ["checkpoint", "out.slab.journal", "out.slab.partial"])
      // A source that was changed between two runs.
      try FileManager.default.setAttributes(
        [.modificationDate: Date(timeIntervalSince1970: 1)], ofItemAtPath: job.shard.path)
      let changed = try quarry.run(job.arguments)
      #expect(changed.status == 1)
      #expect(changed.errors.contains("model.safetensors was "), "\(changed.errors)")
      let restarted = try quarry.run(job.arguments + ["--restart"])
      #expect(restarted.status == 0 && !restarted.errors.contains("going on"))
      #expect(try job.files == ["checkpoint", "out.slab"])
    }
  }

  /// The bytes of a tensor that was used already differ, and size and time of the file do not.
  @Test func bytesThatWereUsedAreCompared() throws {
    try withJob { job in
      _ = try job.run { kill($0.processIdentifier, SIGKILL) }
      let attributes = try FileManager.default.attributesOfItem(atPath: job.shard.path)
      let source = try Checkpoint(directory: job.checkpoint.path)
      let tensor = try #require(
        source.descriptor(named: "model.layers.0.self_attn.q_proj.weight"))
      let handle = try FileHandle(forUpdating: job.shard)
      try handle.seek(toOffset: UInt64(tensor.byteRange.lowerBound))
      try handle.write(contentsOf: Data([0, 0, 0, 0]))
      try handle.close()
      var times = [timespec](repeating: timespec(), count: 2)
      var status = stat()
      #expect(stat(job.shard.path, &status) == 0)
      let date = try #require(attributes[.modificationDate] as? Date)
      times[1].tv_sec = Int(date.timeIntervalSince1970.rounded(.down))
      // Times that Foundation restores are rounded; the refusal then names the time.
      times[1].tv_nsec = Int(
        (date.timeIntervalSince1970 - date.timeIntervalSince1970.rounded(.down)) * 1e9)
      utimensat(AT_FDCWD, job.shard.path, times, 0)
      let refused = try quarry.run(job.arguments)
      #expect(refused.status == 1 && refused.errors.contains("--restart"), "\(refused.errors)")
      #expect(refused.errors.contains("model."))
    }
  }

  @Test func twoAtOnce() throws {
    try withJob { job in
      var second: Program.Outcome?
      let first = try job.run { _ in
        second = try quarry.run(job.arguments)
      }
      #expect(first.status == 0)
      #expect(second?.status == 1)
      #expect(second?.errors.contains("another process is writing this file") == true)
      #expect(try quarry.run(["verify", job.output.path]).status == 0)
    }
  }

  @Test func theSourceVanishes() throws {
    try withJob { job in
      let aside = job.directory.appending(path: "aside")
      let outcome = try job.run { _ in
        try FileManager.default.moveItem(at: job.shard, to: aside)
      }
      #expect(outcome.status == 1)
      #expect(
        outcome.errors.contains("model.safetensors: the file vanished while it was in use"),
        "\(outcome.errors)")
      #expect(outcome.errors.contains("of 16 layers are kept"))
      // It comes back.
      try FileManager.default.moveItem(at: aside, to: job.shard)
      let resumed = try quarry.run(job.arguments)
      #expect(resumed.status == 0 && resumed.errors.contains("going on behind "))
    }
  }

  @Test func theSourceChanges() throws {
    try withJob { job in
      let outcome = try job.run { _ in
        try FileManager.default.setAttributes(
          [.modificationDate: Date(timeIntervalSince1970: 1)], ofItemAtPath: job.shard.path)
      }
      #expect(outcome.status == 1)
      #expect(
        outcome.errors.contains("the file changed while it was in use: another time"),
        "\(outcome.errors)")
      #expect(try job.files == ["checkpoint"])
    }
  }

  @Test func theOutputIsAnInput() throws {
    try withJob { job in
      for name in ["model.safetensors", "config.json"] {
        let input = job.checkpoint.appending(path: name)
        let before = try Data(contentsOf: input)
        let outcome = try quarry.run(
          ["convert", job.checkpoint.path, "-o", input.path, "--force"])
        #expect(outcome.status == 1)
        #expect(outcome.errors.contains("the output is the input"))
        #expect(try Data(contentsOf: input) == before)
      }
    }
  }

  /// A good slab under the name of the output survives whatever happens to the next one.
  @Test func anExistingSlabIsNeverDamaged() throws {
    try withJob { job in
      let good = try reference(job)
      try good.write(to: job.output)
      for signal in [SIGINT, SIGKILL] {
        _ = try job.run(["--force"]) { kill($0.processIdentifier, signal) }
        #expect(try Data(contentsOf: job.output) == good)
      }
      let outcome = try quarry.run(job.arguments + ["--force"])
      #expect(outcome.status == 0 && outcome.errors.contains("going on behind "))
      #expect(try Data(contentsOf: job.output) == good)
    }
  }

  // MARK: - File systems of their own

  /// Runs a script of bash in which `$1` is the program, `$2` the checkpoint and /mnt may be mounted.
  private func runMounted(_ job: Job, _ script: String) throws -> Program.Outcome {
    try Program(executable: URL(filePath: "/usr/bin/env")).run([
      "unshare", "-Urm", "bash", "-c", "set -u\n" + script, "bash", quarry.executable.path,
      job.checkpoint.path,
    ])
  }

  @Test(.enabled(if: canMount, "needs unshare and mount"))
  func readOnlyDirectory() throws {
    try withJob { job in
      let outcome = try runMounted(
        job,
        """
        mount -t tmpfs -o ro tmpfs /mnt
        exec "$1" convert "$2" -o /mnt/out.slab
        """)
      #expect(outcome.status == 1)
      #expect(
        outcome.errors.hasSuffix(
          "/mnt/out.slab.partial: cannot create: Read-only file system.\n"), "\(outcome.errors)")
    }
  }

  /// A real full disk: refused before the work where that can be known; where the space goes away
  /// meanwhile, what is done is kept, and the same command ends with the same file.
  @Test(.enabled(if: canMount, "needs unshare and mount"))
  func fullDisk() throws {
    try withJob { job in
      let reference = try reference(job)
      let copy = job.directory.appending(path: "copy.slab").path
      let outcome = try runMounted(
        job,
        """
        mount -t tmpfs -o size=128m tmpfs /mnt
        convert=("$1" convert "$2" -o /mnt/out.slab --threads 1 --recipe q4)
        head -c 90m /dev/zero > /mnt/filler
        "${convert[@]}"; echo "first: $?" >&2
        ls /mnt >&2
        rm /mnt/filler
        "${convert[@]}" & pid=$!
        until [[ -e /mnt/out.slab.journal ]] || ! kill -0 $pid; do sleep .002; done
        cat /dev/zero > /mnt/filler 2> /dev/null
        wait $pid; echo "second: $?" >&2
        ls /mnt >&2
        rm /mnt/filler
        "${convert[@]}" > /dev/null; echo "third: $?" >&2
        ls /mnt >&2
        cp /mnt/out.slab \(copy)
        """)
      let parts = outcome.errors.split(separator: "first: ")
      #expect(parts[0].contains("not enough free disk space"), "\(outcome.errors)")
      let rest = parts[1].split(separator: "second: ")
      #expect(rest[0].hasPrefix("1\nfiller\n"), "\(outcome.errors)")
      #expect(rest[0].contains("No space left on device"), "\(outcome.errors)")
      #expect(rest[0].contains("of 16 layers are kept: free some space and run the same command"))
      #expect(rest[1].hasPrefix("1\nfiller\nout.slab.journal\nout.slab.partial\n"))
      #expect(rest[1].contains("going on behind "))
      #expect(rest[1].hasSuffix("third: 0\nout.slab\n"))
      #expect(try Data(contentsOf: URL(filePath: copy)) == reference)
    }
  }

  // MARK: - Verifying against the source

  @Test func verifiesAgainstTheSource() throws {
    try Place.withTemporaryDirectory { directory in
      let copy = directory.appending(path: "pebble")
      try FileManager.default.copyItem(at: Pebble.directory, to: copy)
      let slab = directory.appending(path: "a.slab").path
      #expect(try quarry.run(["convert", copy.path, "-o", slab]).status == 0)
      let right = try quarry.run(["verify", slab, "--source", copy.path])
      #expect(right.status == 0)
      #expect(right.output.contains("intact"))
      #expect(right.output.contains("as close to"), "\(right.output)")

      let checkpoint = try Checkpoint(directory: copy.path)
      let tensor = try #require(
        checkpoint.descriptor(named: "model.layers.2.mlp.up_proj.weight"))
      let handle = try FileHandle(forUpdating: URL(filePath: checkpoint.path(of: tensor)))
      try handle.seek(toOffset: UInt64(tensor.byteRange.lowerBound))
      try handle.write(contentsOf: Data([0, 0x42]))  // 32 in bfloat16
      try handle.close()
      let wrong = try quarry.run(["verify", slab, "--source", copy.path])
      #expect(wrong.status == 1)
      #expect(wrong.output.contains("model.layers.2.mlp.up_proj.weight"))
      #expect(wrong.output.contains("further from its original than recorded"))
      #expect(!wrong.output.contains("model.layers.1"))
      #expect(wrong.errors.contains("Error: 1 parts of"))
    }
  }

  @Test func recordsWhereASlabComesFrom() throws {
    try Place.withTemporaryDirectory { directory in
      let revision = String(repeating: "0a1b", count: 10)
      let copy = directory.appending(path: "models--ibm--pebble/snapshots/\(revision)")
      try FileManager.default.createDirectory(
        at: copy.deletingLastPathComponent(), withIntermediateDirectories: true)
      try FileManager.default.copyItem(at: Pebble.directory, to: copy)
      let path = directory.appending(path: "a.slab").path
      #expect(try quarry.run(["convert", copy.path, "-o", path]).status == 0)
      let slab = try Slab(path: path)
      #expect(
        slab.tensors.allSatisfy {
          ($0.statistics?.weightedError != nil) == $0.encoding.isQuantized
        })
      let metadata = slab.metadata
      #expect(metadata["source-revision"] == revision)
      #expect(metadata["source-repository"] == "ibm/pebble")
      let lines = try #require(metadata["source-sha256"]).split(separator: "\n")
      #expect(lines.count == (try Checkpoint(directory: copy.path)).files.count)
      for line in lines {
        let (digest, name) = (line.prefix(64), String(line.dropFirst(66)))
        let bytes = try Data(contentsOf: copy.appending(path: name))
        #expect("\(Digest(of: Array(bytes)))" == digest)
      }
    }
  }
}
