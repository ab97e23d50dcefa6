public import TensorCore

/// Why a slab could not be read or written.
///
/// ``description`` is one sentence that names the place, then what to do about it.
public struct SlabError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What kind of failure it is, for programs.
  public enum Reason: Equatable, Sendable {
    /// The system refused; its error number where there is one.
    case system(code: Int32?)
    /// The file is no slab at all.
    case notASlab
    /// Writing the file was never finished.
    case unfinished
    /// A digest does not match, or bytes that must be zero are not: bits changed after writing.
    case damaged
    /// The digests match, but what the file says contradicts itself or the specification.
    case malformed
    /// A version, feature, encoding, layout or codec that this program does not know.
    case unsupported
    /// The file holds no tensor of that name or kind.
    case missing
    /// The output is one of the inputs.
    case outputIsInput
    /// The output exists and is not to be replaced.
    case outputExists
    /// Another process is writing the same output.
    case busy
    /// The file system lacks room.
    case insufficientSpace(needed: Int, available: Int)
    /// The caller asked to stop.
    case cancelled
    /// An interrupted job left its work here, but was about something else.
    case otherJob
    /// What an interrupted job left here cannot be used.
    case journalDamaged
    /// What the caller wants to store cannot be stored.
    case invalidInput
  }

  public var reason: Reason
  public var path: String
  /// The tensor or asset concerned.
  public var name: String?
  public var stream: StreamKind?
  /// Index of the frame within the stream.
  public var frame: Int?
  /// Bytes of the file concerned.
  public var byteRange: Range<Int>?
  public var expected: String?
  public var found: String?
  /// What is wrong, a clause without a full stop.
  public var message: String
  /// What of the work is kept for another run, as in "12 of 40 layers"; nil where nothing is.
  public internal(set) var kept: String?

  package init(
    _ reason: Reason, path: String, name: String? = nil, stream: StreamKind? = nil,
    frame: Int? = nil, byteRange: Range<Int>? = nil, expected: String? = nil,
    found: String? = nil, _ message: String
  ) {
    self.reason = reason
    self.path = path
    self.name = name
    self.stream = stream
    self.frame = frame
    self.byteRange = byteRange
    self.expected = expected
    self.found = found
    self.message = message
  }

  init(_ error: FileError) {
    self.init(.system(code: error.code), path: error.path, error.reason)
  }

  public var description: String {
    var place = [path]
    if let name { place.append(name.isEmpty ? "(no name)" : name) }
    if let stream { place.append("\(stream)") }
    if let frame { place.append("frame \(frame)") }
    if let byteRange { place.append("bytes \(byteRange.lowerBound)..<\(byteRange.upperBound)") }
    var text = place.joined(separator: ", ") + ": " + message
    switch (expected, found) {
    case (let expected?, let found?): text += " (expected \(expected), found \(found))"
    case (let expected?, nil): text += " (expected \(expected))"
    case (nil, let found?): text += " (found \(found))"
    case (nil, nil): break
    }
    return text + "." + (advice.map { " " + $0 } ?? "") + (keptAdvice.map { " " + $0 } ?? "")
  }

  /// How to go on with what is kept.
  private var keptAdvice: String? {
    guard let kept else { return nil }
    let isFull = if case .system(let code?) = reason { SystemCalls.isFull(code) } else { false }
    return
      "\(kept) are kept: \(isFull ? "free some space and run" : "run") the same command to go on."
  }

  /// What to do about it.
  private var advice: String? {
    switch reason {
    case .system, .missing, .cancelled: nil
    case .notASlab: "Give a .slab file, as `quarry convert` writes it."
    case .unfinished: "Convert again: the program that wrote it was interrupted."
    case .damaged: "Download or convert the file again."
    case .malformed: "The program that wrote the file is at fault: convert again with this one."
    case .unsupported: "Use a newer version of Quarry."
    case .outputIsInput: "Choose another output."
    case .outputExists: "Choose another output, or say that it is to be replaced (--force)."
    case .busy: "Wait for the other process, or choose another output."
    case .insufficientSpace: "Free some space, or write to another disk."
    case .otherJob:
      "Repeat the earlier command to go on, or discard what it did (--restart)."
    case .journalDamaged: "Discard it and begin again (--restart)."
    case .invalidInput: nil
    }
  }
}
