/// Writing a file as a whole: nobody sees a part of it, and what was there before stays until it is
/// complete.
public enum OutputFile {
  /// Refuses, before work is put into it, an output that ``write(_:to:replacing:inputs:)`` would refuse.
  public static func check(
    _ path: String, replacing: Bool, inputs: [String]
  ) throws(SlabError) {
    try PartialFile.check(target: path, replacing: replacing, inputs: inputs)
  }

  /// - Parameters:
  ///   - replacing: whether a regular file that is there may go.
  ///   - inputs: files that the output must not be, whatever names and links lead to them.
  /// - Throws: ``SlabError``: the output exists, is an input, is being written, or the system refuses.
  public static func write(
    _ bytes: [UInt8], to path: String, replacing: Bool, inputs: [String]
  ) throws(SlabError) {
    let file = try PartialFile(
      target: path, replacing: replacing, inputs: inputs, hasJournal: false)
    try file.write(bytes, at: 0)
    try file.synchronize()
    try file.publish()
  }
}
