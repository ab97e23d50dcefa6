import Foundation

/// Names and times that answers carry.
enum Identifiers {
  /// `prefix` and 24 random hexadecimal digits.
  static func make(_ prefix: String) -> String {
    let digits = (0..<3).map { _ in
      let part = String(UInt32.random(in: 0 ... .max), radix: 16)
      return String(repeating: "0", count: 8 - part.count) + part
    }
    return prefix + digits.joined()
  }

  /// Seconds since 1970.
  static var now: Int { Int(Date().timeIntervalSince1970) }
}
