import Foundation
import JSON
import ModelFiles
import Pebble
import TestSupport
import Testing

/// What a conversion shows while it works: a bar on a terminal, lines elsewhere.
@Suite struct ProgressTests {
  /// Runs with standard error on a terminal of so many columns.
  /// - Returns: everything that the terminal was sent.
  private func runOnTerminal(
    columns: UInt16, _ arguments: [String]
  ) throws -> (status: Int32, screen: String) {
    let terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
    try #require(terminal >= 0)
    defer { close(terminal) }
    // What unlockpt and ptsname of C do, which Swift does not see.
    var (unlocked, number): (Int32, Int32) = (0, 0)
    #expect(ioctl(terminal, 0x4004_5431, &unlocked) == 0)  // TIOCSPTLCK
    #expect(ioctl(terminal, 0x8004_5430, &number) == 0)  // TIOCGPTN
    var size = winsize(ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0)
    #expect(ioctl(terminal, UInt(TIOCSWINSZ), &size) == 0)
    let device = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY | O_CLOEXEC)
    try #require(device >= 0)
    let process = Process()
    process.executableURL = quarry.executable
    process.arguments = arguments
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle(fileDescriptor: device, closeOnDealloc: false)
    try process.run()
    close(device)
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = read(terminal, &piece, piece.count)  // fails once nobody has the device open
      if count <= 0 { break }
      bytes += piece[..<count]
    }
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: bytes, as: UTF8.self))
  }

  @Test(arguments: [60, 200] as [UInt16]) func barOnATerminal(columns: UInt16) throws {
    try Place.withTemporaryDirectory { directory in
      let slab = directory.appending(path: "a.slab").path
      // Each layer reads for longer than a bar stays, so that it is seen to.
      let text = directory.appending(path: "text")
      let handbook = try String(
        contentsOf: Place.goldens.appending(path: "text/quarry-handbook.txt"), encoding: .utf8)
      try Data(String(repeating: handbook, count: 1 + 800_000 / handbook.utf8.count).utf8)
        .write(to: text)
      let (status, screen) = try runOnTerminal(
        columns: columns,
        [
          "convert", Pebble.directory.path, "-o", slab, "--calibration", text.path,
          "--calibration-tokens", "65536", "--threads", "1",
        ])
      #expect(status == 0)
      let clear = "\r\u{1B}[K"
      // Drawn again and again on one line, and gone at the end.
      let drawn = screen.components(separatedBy: clear)
      #expect(drawn.count > 2 && drawn.first == "" && drawn.last == "", "\(screen)")
      #expect(!screen.contains("\n"))
      for line in drawn.dropFirst().dropLast() {
        #expect(line.count < Int(columns), "\(line)")
        #expect(line.hasPrefix("█") || line.hasPrefix("░"), "\(line)")
        #expect(line.contains(" % ") || line.contains(" %,"), "\(line)")
      }
      #expect(drawn[1].contains("0 %, 0 B of "))
      if columns > 100 {
        for layer in 1...8 {
          #expect(screen.contains("calibrating layer \(layer) of 8"), "\(screen)")
        }
        #expect(screen.contains("NMSE ") && screen.contains("weighted "))
        #expect(screen.contains("100 %") && screen.contains("completing the file"))
      }
      #expect(try quarry.run(["verify", slab]).status == 0)
    }
  }

  @Test func linesAndTheBarShareATerminal() throws {
    try Place.withTemporaryDirectory { directory in
      let (status, screen) = try runOnTerminal(
        columns: 250,
        ["convert", Pebble.directory.path, "-o", directory.path + "/a.slab", "--verbose"])
      #expect(status == 0)
      // A terminal shows what stands behind the last carriage return.
      let lines = screen.replacing("\r\n", with: "\n").split(separator: "\n").map {
        $0.components(separatedBy: "\r\u{1B}[K").last!
      }
      let tensors = lines.filter { $0.hasPrefix("[") }
      #expect(tensors.last?.hasPrefix("[\(tensors.count)/\(tensors.count)]") == true)
      #expect(lines.filter { $0.hasPrefix("layer ") }.count == 8)
      #expect(lines.allSatisfy { $0.isEmpty || $0.hasPrefix("[") || $0.hasPrefix("layer ") })
    }
  }

  /// Without a terminal, whole lines, and not many.
  @Test func linesElsewhere() throws {
    try Place.withTemporaryDirectory { directory in
      let checkpoint = try SyntheticCheckpoint.make(in: directory, layers: 12, hiddenSize: 512)
      let journal = directory.appending(path: "a.slab.journal").path
      let outcome = try quarry.run([
        "convert", checkpoint.path, "-o", directory.appending(path: "a.slab").path, "--threads",
        "1", "--calibration", "none",
      ]) { process, _ in
        while process.isRunning, !FileManager.default.fileExists(atPath: journal) { usleep(1000) }
        // Nobody is told of what is over at once.
        kill(process.processIdentifier, SIGSTOP)
        usleep(2_100_000)
        kill(process.processIdentifier, SIGCONT)
      }
      #expect(outcome.status == 0)
      #expect(!outcome.errors.contains("\r") && !outcome.errors.contains("\u{1B}"))
      let lines = outcome.errors.split(separator: "\n").filter { !$0.hasPrefix("warning: ") }
      #expect((1...20).contains(lines.count), "\(outcome.errors)")
      for line in lines {
        #expect(line.hasPrefix("converting: "))
        #expect(line.contains(" left, ") || line.contains("100 %"), "\(line)")
      }
      #expect(lines.last?.contains("100 %") == true && lines.last?.contains("NMSE ") == true)
    }
  }
}
