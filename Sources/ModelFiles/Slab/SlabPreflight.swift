/// Whether a slab could be written to a place, found out without touching it.
public struct SlabPreflight: Sendable {
  /// Bytes that a writer asks to be free before it starts.
  public let neededByteCount: Int
  /// Bytes that are free there, those counted that an interrupted writer left and another takes over;
  /// nil where there is no such place.
  public let availableByteCount: Int?
  /// Why a writer would refuse; nil if it would start.
  public let problem: SlabError?

  /// - Parameters:
  ///   - replacing: whether an existing file may be replaced.
  ///   - inputs: files that the output must not be.
  ///   - expectedByteCount: what the file will need.
  public init(path: String, replacing: Bool, inputs: [String], expectedByteCount: Int) {
    let (needed, overflow) = expectedByteCount.addingReportingOverflow(PartialFile.margin)
    neededByteCount = overflow ? .max : needed
    let directory = SystemCalls.directory(of: path)
    let partial = SlabWriter.partialPath(of: path)
    if let free = try? SystemCalls.freeBytes(in: directory) {
      let left = (try? SystemCalls.status(at: partial))?.byteCount ?? 0
      availableByteCount = free.addingReportingOverflow(left).partialValue
    } else {
      availableByteCount = nil
    }
    let (target, available) = (path, availableByteCount)
    let result = Result { [neededByteCount] () throws(SlabError) in
      try PartialFile.check(target: target, replacing: replacing, inputs: inputs)
      do throws(FileError) {
        try SystemCalls.checkWritable(directory)
      } catch {
        throw SlabError(error)
      }
      if let available, neededByteCount > available {
        throw PartialFile.insufficientSpace(target, needed: neededByteCount, available: available)
      }
    }
    if case .failure(let error) = result { problem = error } else { problem = nil }
  }
}
