import Foundation
import JSON
import ModelFiles
import Pebble
import TestSupport
import Testing

/// `quarry repair` as a program.
@Suite struct RepairCommandTests {
  private static func withSlabs(
    _ body: (_ broken: URL, _ ship: String, _ whole: Data) throws -> Void
  ) throws {
    try Place.withTemporaryDirectory { directory in
      let broken = directory.appending(path: "broken.slab")
      let ship = directory.appending(path: "ship.slab").path
      for arguments in [
        ["convert", Pebble.directory.path, "-o", broken.path, "--calibration", "none"],
        ["repack", broken.path, "-o", ship, "--profile", "ship"],
      ] {
        let outcome = try quarry.run(arguments)
        try #require(outcome.status == 0, "\(outcome.errors)")
      }
      try body(broken, ship, try Data(contentsOf: broken))
    }
  }

  @Test func repairsFromTheOtherProfile() throws {
    try Self.withSlabs { broken, ship, whole in
      var bytes = whole
      let offset = try Slab(path: broken.path).tensorsInFileOrder[0].offset
      bytes[offset + 5] ^= 1
      bytes[100] ^= 1
      try bytes.write(to: broken)
      try FileManager.default.setAttributes([.posixPermissions: 0o640], ofItemAtPath: broken.path)
      #expect(try quarry.run(["verify", broken.path]).status == 1)

      let alone = try quarry.run(["repair", broken.path])
      #expect(alone.status == 1 && alone.output.contains("not repaired (2 bad parts)"))
      #expect(alone.output.contains("Range: bytes=\(offset)-"))
      let listed = try JSONValue(
        parsing: try quarry.run(["repair", broken.path, "--json"]).output)
      #expect(listed["status"] == "damaged" && listed["complete"] == true)
      #expect(listed["missing"]?.array?.first?["begin"]?.integer == offset)
      #expect(
        listed["faults"]?.array?.map { $0["repairable"]?.bool } == [true, false])
      #expect(try Data(contentsOf: broken) == bytes)

      let repaired = try quarry.run(["repair", broken.path, "--from", ship])
      #expect(repaired.status == 0 && repaired.errors == "")
      #expect(repaired.output.contains("repaired (2 bad parts), root "))
      #expect(try Data(contentsOf: broken) == whole)
      let attributes = try FileManager.default.attributesOfItem(atPath: broken.path)
      #expect(attributes[.posixPermissions] as? Int == 0o640)
      let again = try quarry.run(["repair", broken.path, "--from", ship, "--json"])
      #expect(again.status == 0)
      #expect(try JSONValue(parsing: again.output)["status"] == "intact")
    }
  }

  @Test func whatCannotBeUsedIsAnError() throws {
    try Self.withSlabs { broken, ship, whole in
      let wrong = broken.deletingLastPathComponent().appending(path: "wrong.slab").path
      let made = try quarry.run([
        "convert", Pebble.directory.path, "-o", wrong, "--calibration", "none", "--recipe", "q8",
      ])
      try #require(made.status == 0)
      let outcome = try quarry.run(["repair", broken.path, "--from", wrong])
      #expect(outcome.status == 1 && outcome.output == "")
      #expect(outcome.errors.contains("another model"))
      #expect(try quarry.run(["repair", broken.path + ".nothing"]).status == 1)
      #expect(try Data(contentsOf: broken) == whole)
    }
  }

  /// Killed at any time, a repair leaves the broken file or the whole one.
  @Test func killedRepairsLoseNothing() throws {
    try Self.withSlabs { broken, ship, whole in
      var bytes = whole
      for tensor in try Slab(path: broken.path).tensors { bytes[tensor.offset] ^= 1 }
      var (unchanged, finished) = (0, 0)
      for delay in [0, 3, 6, 10, 15, 20, 30, 60, 120, 1000] {
        try bytes.write(to: broken)
        _ = try quarry.run(["repair", broken.path, "--from", ship]) { process, _ in
          usleep(useconds_t(delay * 1000))
          if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        }
        let found = try Data(contentsOf: broken)
        #expect(found == bytes || found == whole, "after \(delay) ms")
        if found == bytes { unchanged += 1 } else { finished += 1 }
      }
      #expect(unchanged > 0)
      try bytes.write(to: broken)
      #expect(try quarry.run(["repair", broken.path, "--from", ship]).status == 0)
      #expect(try Data(contentsOf: broken) == whole)
    }
  }
}
