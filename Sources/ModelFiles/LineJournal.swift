/// A file to which lines are added one by one, each kept from the moment it is written: long work that is
/// ended in whatever way goes on behind them.
///
/// The first line says what work it is. The file is locked while it is open.
package final class LineJournal {
  package let path: String
  /// Whole lines that an earlier run left, without the first.
  package let earlier: [[UInt8]]
  private let descriptor: Int32
  private var end: Int

  /// Opens the journal, or begins it.
  ///
  /// - Parameters:
  ///   - title: what work it is; without line breaks.
  ///   - inputs: files that it must not be.
  ///   - restarting: whether what is there is discarded.
  /// - Throws: ``FileError``, also if it is of other work or another process has it.
  package init(
    path: String, title: String, inputs: [String], restarting: Bool
  ) throws(FileError) {
    self.path = path
    if let input = try SystemCalls.input(thatIs: path, among: inputs) {
      throw FileError(path: path, reason: "the journal would be the input \(input)")
    }
    guard let descriptor = try SystemCalls.createExclusively(path, emptying: restarting) else {
      throw FileError(path: path, reason: "another process is writing this file")
    }
    self.descriptor = descriptor
    do throws(FileError) {
      let bytes = try Self.read(descriptor, path)
      var lines = bytes.split(separator: 0x0A, omittingEmptySubsequences: false)
      let broken = lines.removeLast()  // a line that was not written to its end
      end = bytes.count - broken.count
      if lines.isEmpty {
        end = 0
        earlier = []
        try append(Array(title.utf8))
      } else {
        guard lines[0].elementsEqual(title.utf8) else {
          throw FileError(
            path: path, reason: "it is of other work: finish that, discard it, or remove the file")
        }
        earlier = lines.dropFirst().map(Array.init)
        try SystemCalls.truncate(descriptor, to: end, path)
      }
    } catch {
      SystemCalls.close(descriptor)
      throw error
    }
  }

  deinit { SystemCalls.close(descriptor) }

  private static func read(_ descriptor: Int32, _ path: String) throws(FileError) -> [UInt8] {
    let count = try SystemCalls.status(descriptor, path).byteCount
    var bytes = [UInt8](repeating: 0, count: count)
    try bytes.withUnsafeMutableBufferPointer { buffer throws(FileError) in
      try SystemCalls.read(
        descriptor, into: UnsafeMutableRawBufferPointer(buffer), at: 0, path)
    }
    return bytes
  }

  /// - Precondition: there is no line break in it.
  package func append(_ line: [UInt8]) throws(FileError) {
    precondition(!line.contains(0x0A))
    try (line + [0x0A]).withUnsafeBufferPointer { bytes throws(FileError) in
      try SystemCalls.write(descriptor, UnsafeRawBufferPointer(bytes), at: end, path)
    }
    end += line.count + 1
  }

  /// Its work is done.
  package func remove() { SystemCalls.remove(path) }
}
