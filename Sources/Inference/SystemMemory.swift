import Glibc

/// What this machine has; the one file of Inference that is Linux's alone.
public enum SystemMemory {
  /// Bytes that new work can have without swapping (`MemAvailable`); nil where the system does not
  /// say.
  public static var availableByteCount: Int? {
    guard let file = fopen("/proc/meminfo", "r") else { return nil }
    defer { fclose(file) }
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = fread(&buffer, 1, buffer.count, file)
    return availableByteCount(meminfo: String(decoding: buffer[..<count], as: UTF8.self))
  }

  /// Bytes of memory that there are at all.
  public static let physicalByteCount =
    Int(sysconf(Int32(_SC_PHYS_PAGES))) * Int(sysconf(Int32(_SC_PAGESIZE)))

  /// Bytes of this process that are in memory, mapped files included; nil where the system does not
  /// say.
  public static var residentByteCount: Int? {
    guard let file = fopen("/proc/self/statm", "r") else { return nil }
    defer { fclose(file) }
    var buffer = [UInt8](repeating: 0, count: 256)
    let count = fread(&buffer, 1, buffer.count, file)
    let fields = String(decoding: buffer[..<count], as: UTF8.self).split(separator: " ")
    return fields.dropFirst().first.flatMap { Int($0) }.map {
      $0 * Int(sysconf(Int32(_SC_PAGESIZE)))
    }
  }

  /// The most bytes of this process that ever were in memory, mapped files included; nil where the
  /// system does not say.
  public static var peakByteCount: Int? {
    var usage = rusage()
    guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return nil }
    return usage.ru_maxrss * 1024
  }

  static func availableByteCount(meminfo: String) -> Int? {
    let line = meminfo.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
    let kibibytes = line?.split(separator: " ").dropFirst().first.flatMap { Int($0) }
    return kibibytes.map { $0.multipliedReportingOverflow(by: 1024).partialValue }
  }
}
