import Glibc

/// What this machine has; the one file of Inference that is Linux's alone.
public enum SystemMemory {
  /// Bytes that new work can have without swapping (`MemAvailable`); nil where the system does not
  /// say.
  public static var availableByteCount: Int? {
    text(of: "/proc/meminfo").flatMap { byteCount("MemAvailable", in: $0) }
  }

  /// Bytes of memory that there are at all.
  public static let physicalByteCount =
    Int(sysconf(Int32(_SC_PHYS_PAGES))) * Int(sysconf(Int32(_SC_PAGESIZE)))

  /// Bytes of this process that are in memory, mapped files included; nil where the system does not
  /// say.
  public static var residentByteCount: Int? {
    text(of: "/proc/self/status").flatMap { byteCount("VmRSS", in: $0) }
  }

  /// The most bytes of this process that ever were in memory, mapped files included; nil where the
  /// system does not say.
  ///
  /// Not `ru_maxrss`, which a process inherits from the one that started it.
  public static var peakByteCount: Int? {
    text(of: "/proc/self/status").flatMap { byteCount("VmHWM", in: $0) }
  }

  private static func text(of path: String) -> String? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var buffer = [UInt8](repeating: 0, count: 8192)
    let count = fread(&buffer, 1, buffer.count, file)
    return String(decoding: buffer[..<count], as: UTF8.self)
  }

  /// The value of a line like `MemAvailable:  1024 kB`.
  static func byteCount(_ name: String, in text: String) -> Int? {
    let line = text.split(separator: "\n").first { $0.hasPrefix("\(name):") }
    let value = line?.split(whereSeparator: \.isWhitespace).dropFirst().first
    return value.flatMap { Int($0) }?.multipliedReportingOverflow(by: 1024).partialValue
  }
}
