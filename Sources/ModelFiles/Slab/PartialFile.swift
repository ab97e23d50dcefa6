/// The file under construction beside a target: `TARGET.partial`, locked while it is written,
/// renamed when it is complete, removed when it is not.
final class PartialFile {
  let target: String
  let path: String
  private let replacing: Bool
  private var descriptor: Int32?

  /// Room that must stay free beyond what the output is expected to need.
  static let margin = 16 << 20

  /// - Parameters:
  ///   - inputs: files that the output must not be, whatever names and links lead to them.
  ///   - expectedByteCount: for the check of free space; the file may become longer.
  init(
    target: String, replacing: Bool, inputs: [String], expectedByteCount: Int
  ) throws(SlabError) {
    self.target = target
    self.replacing = replacing
    path = SlabWriter.partialPath(of: target)
    try calling { () throws(FileError) in try SystemCalls.checkName(ofOutput: target) }
    try Self.check(target, isNoneOf: inputs)
    try Self.check(path, isNoneOf: inputs)
    try checkTarget()
    let path = path
    guard
      let descriptor = try calling({ () throws(FileError) in
        try SystemCalls.createExclusively(path)
      })
    else { throw SlabError(.busy, path: path, "another process is writing this file") }
    self.descriptor = descriptor
    do throws(SlabError) {
      let available = try calling { () throws(FileError) in
        try SystemCalls.freeBytes(in: SystemCalls.directory(of: target))
      }
      let (needed, overflow) = expectedByteCount.addingReportingOverflow(Self.margin)
      guard !overflow, needed <= available else {
        throw SlabError(
          .insufficientSpace(needed: overflow ? .max : needed, available: available), path: target,
          expected: "\(needed) bytes", found: "\(available) bytes", "not enough free disk space")
      }
    } catch {
      discard()
      throw error
    }
  }

  deinit { discard() }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(SlabError) {
    let (descriptor, path) = (descriptor!, path)
    try calling { () throws(FileError) in
      try SystemCalls.write(descriptor, bytes, at: offset, path)
    }
  }

  func write(_ bytes: [UInt8], at offset: Int) throws(SlabError) {
    try bytes.withUnsafeBufferPointer { buffer throws(SlabError) in
      try write(UnsafeRawBufferPointer(buffer), at: offset)
    }
  }

  /// Returns when everything written is on the disk.
  func synchronize() throws(SlabError) {
    let (descriptor, path) = (descriptor!, path)
    try calling { () throws(FileError) in try SystemCalls.synchronize(descriptor, path) }
  }

  /// Gives the complete file the name of the target.
  func publish() throws(SlabError) {
    try checkTarget()  // it may have come into being meanwhile
    let (path, target) = (path, target)
    try calling { () throws(FileError) in try SystemCalls.rename(path, to: target) }
    SystemCalls.close(descriptor!)
    descriptor = nil
  }

  /// Removes the file unless it is published.
  func discard() {
    guard let descriptor else { return }
    SystemCalls.remove(path)  // before the lock goes with the descriptor
    SystemCalls.close(descriptor)
    self.descriptor = nil
  }

  private func checkTarget() throws(SlabError) {
    let target = target
    guard
      let existing = try calling({ () throws(FileError) in try SystemCalls.status(at: target) })
    else { return }
    guard existing.isRegular else {
      throw SlabError(.invalidInput, path: target, "the output is there and is no regular file")
    }
    guard replacing else { throw SlabError(.outputExists, path: target, "the output exists") }
  }

  private static func check(_ output: String, isNoneOf inputs: [String]) throws(SlabError) {
    let input = try calling { () throws(FileError) in
      try SystemCalls.input(thatIs: output, among: inputs)
    }
    if let input {
      throw SlabError(.outputIsInput, path: output, "the output is the input \(input)")
    }
  }
}

/// Calls the system, turning its refusals into the errors of slabs.
private func calling<R>(_ body: () throws(FileError) -> R) throws(SlabError) -> R {
  do throws(FileError) {
    return try body()
  } catch {
    throw SlabError(error)
  }
}
