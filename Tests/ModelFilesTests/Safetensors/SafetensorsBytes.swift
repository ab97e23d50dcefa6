import Foundation
import ModelFiles
import TestSupport

/// Safetensors files as bytes, right or wrong.
enum SafetensorsBytes {
  /// A file with that header and `byteCount` bytes after it.
  static func file(_ header: String, byteCount: Int = 0, length: UInt64? = nil) -> [UInt8] {
    let text = Array(header.utf8)
    let prefix = withUnsafeBytes(of: (length ?? UInt64(text.count)).littleEndian) { Array($0) }
    return prefix + text + (0..<byteCount).map { UInt8(truncatingIfNeeded: $0) }
  }

  /// An entry of a header.
  static func entry(
    _ name: String, _ dtype: String = "F32", _ shape: [Int], _ offsets: [Int]
  ) -> String {
    "\"\(name)\":{\"dtype\":\"\(dtype)\",\"shape\":\(shape),\"data_offsets\":\(offsets)}"
  }

  /// Opens the bytes as a file.
  static func open(_ bytes: [UInt8]) throws -> SafetensorsFile {
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "test.safetensors")
      try Data(bytes).write(to: path)
      return try SafetensorsFile(path: path.path)  // stays mapped when the file is gone
    }
  }
}
