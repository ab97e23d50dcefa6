public import Foundation

/// Places that tests read from and write to.
public enum Place {
  /// The repository's root.
  public static let root = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

  /// Reference results that the project commits, and the inputs they belong to.
  public static let goldens = root.appending(path: "Tests/Goldens")

  /// Material of third parties that lies beside a checkout, never inside it; nil where absent.
  /// Tests that need it are `.enabled(if: Place.shared != nil, "...")`, so that a skip is counted.
  public static let shared: URL? = {
    let url = root.deletingLastPathComponent().appending(path: "shared")
    return FileManager.default.fileExists(atPath: url.appending(path: "granite").path) ? url : nil
  }()

  /// Runs `body` with a new empty directory and removes it afterwards.
  public static func withTemporaryDirectory<R>(_ body: (URL) throws -> R) throws -> R {
    let url = FileManager.default.temporaryDirectory.appending(path: "quarry-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: url) }
    return try body(url)
  }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): seeded random numbers for tests.
public struct SplitMix64: RandomNumberGenerator {
  private var state: UInt64

  public init(seed: UInt64) { state = seed }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A standard normal variate (Box and Muller).
  public mutating func normal() -> Float {
    let u = Double(next() >> 11) * 0x1p-53
    let v = Double(next() >> 11) * 0x1p-53
    return Float((-2 * log(1 - u)).squareRoot() * cos(2 * .pi * v))
  }
}
