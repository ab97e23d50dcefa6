import Glibc

/// What Linux says about processors.
enum SystemProcessors {
  static var count: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  /// The first kilobytes of a file of `/sys` or `/proc`, without the line break at their end; nil if
  /// it cannot be read.
  static func text(_ path: String) -> String? {
    guard let file = fopen(path, "re") else { return nil }
    defer { fclose(file) }
    var buffer = [UInt8](repeating: 0, count: 8192)
    var count = fread(&buffer, 1, buffer.count, file)
    if count > 0, buffer[count - 1] == UInt8(ascii: "\n") { count -= 1 }
    return ferror(file) == 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
  }
}
