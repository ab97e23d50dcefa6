import ArgumentParser
import Foundation

/// Standard output and standard error, and what kind of thing they are connected to.
enum Console {
  static let inputIsTerminal = isatty(STDIN_FILENO) == 1
  static let errorIsTerminal = isatty(STDERR_FILENO) == 1

  /// Columns of the terminal, or 80.
  static var width: Int {
    var size = winsize()
    guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
    return Int(size.ws_col)
  }

  /// Gives the standard descriptors that the parent closed to a device, so that no file that is
  /// opened later gets their numbers and the text meant for them. Using them stays an error.
  static func reserveDescriptors() {
    for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) == -1 {
      _ = open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY)
    }
  }

  /// Makes errors of writes to a pipe that nobody reads and to a file that may not grow, whose signals
  /// would end the program and leave half an output behind.
  static func surviveFailedWrites() {
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)
  }

  /// Writes to standard output at once: streamed text must not wait in a buffer.
  ///
  /// - Throws: ``InputError`` where that fails; where nobody reads any more, an exit code alone.
  static func write(_ text: String) throws {
    do {
      try FileHandle.standardOutput.write(contentsOf: Data(text.utf8))
    } catch {
      let code = InputFiles.systemCode(error)
      if code == EPIPE { throw ExitCode.failure }
      throw InputError("cannot write to standard output: \(InputFiles.reason(error))")
    }
  }

  /// Writes to standard error; there is nobody to tell where that fails.
  static func writeError(_ text: String) {
    try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
  }

  /// A remark on standard error.
  static func note(_ text: String) { writeError(text + "\n") }

  static func warn(_ text: String) { note("warning: \(text)") }
}

/// Text for people.
enum Format {
  /// Bytes with a binary unit: `1.45 GiB`.
  static func bytes(_ count: Int) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    var value = Double(count)
    var unit = 0
    while value >= 1024, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    return unit == 0 ? "\(count) B" : String(format: "%.2f ", value) + units[unit]
  }

  /// `0.4 s`, `12 s`, `3 min 5 s`, `2 h 7 min`.
  static func duration(_ seconds: Double) -> String {
    guard seconds >= 10 else { return "\(decimal(max(0, seconds), 1)) s" }
    guard seconds < 1e9 else { return "for ever" }
    let whole = Int(seconds.rounded())
    switch whole {
    case ..<60: return "\(whole) s"
    case ..<3600: return "\(whole / 60) min \(whole % 60) s"
    default: return "\(whole / 3600) h \(whole / 60 % 60) min"
    }
  }

  static func decimal(_ value: Double, _ digits: Int) -> String {
    String(format: "%.\(digits)f", value)
  }

  /// Significant digits, with an exponent where that is shorter.
  static func significant(_ value: Double, _ digits: Int = 3) -> String {
    String(format: "%.\(digits)g", value)
  }

  /// Rows as columns padded to their widest cell; columns named in `right` are aligned right.
  static func table(_ header: [String], _ rows: [[String]], right: Set<Int> = []) -> String {
    let widths = header.indices.map { column in
      ([header] + rows).map { $0[column].count }.max() ?? 0
    }
    let lines = ([header] + rows).map { row in
      row.indices.map { column in
        let padding = String(repeating: " ", count: widths[column] - row[column].count)
        return right.contains(column) ? padding + row[column] : row[column] + padding
      }.joined(separator: "  ").trimmingTrailingSpaces()
    }
    return lines.joined(separator: "\n")
  }
}

extension String {
  fileprivate func trimmingTrailingSpaces() -> String {
    var text = self[...]
    while text.last == " " { text.removeLast() }
    return String(text)
  }
}
