import CKernels
import Glibc

/// Instruction sets that kernels exist for; those of one processor from the slowest on.
public enum InstructionSet: String, Sendable, CaseIterable {
  case scalar, avx2, avxvnni, avx512vnni, neon

  /// Whether this processor, operating system and build can run its kernels.
  public var isSupported: Bool { self == .scalar || table != nil }

  /// Those that can run here, the slowest first.
  public static var supported: [InstructionSet] { allCases.filter(\.isSupported) }

  /// The C kernels; nil where they cannot run, and for ``scalar``, whose kernels are ``Reference``.
  var table: UnsafePointer<ck_kernels>? {
    switch self {
    case .scalar: nil
    case .avx2: ck_kernels_avx2()
    // Where only AVX-512 encodes its instructions, in that encoding.
    case .avxvnni: ck_kernels_avxvnni() ?? ck_kernels_avx512vl()
    case .avx512vnni: ck_kernels_avx512vbmi() ?? ck_kernels_avx512vnni()
    case .neon: ck_kernels_neon()
    }
  }

  /// The environment variable that forces an instruction set.
  public static let environmentVariable = "QUARRY_ISA"

  /// The best one that can run here, or the one that the environment variable names.
  /// - Throws: ``InstructionSetError`` when that is not one, or cannot run here.
  public static func selected() throws(InstructionSetError) -> InstructionSet {
    try select(getenv(environmentVariable).map { String(cString: $0) })
  }

  /// - Parameter name: what the environment variable says; nil when it is not set.
  static func select(_ name: String?) throws(InstructionSetError) -> InstructionSet {
    guard let name else { return supported.last! }
    guard let set = InstructionSet(rawValue: name) else { throw .unknown(name) }
    guard set.isSupported else { throw .unsupported(set) }
    return set
  }
}

/// Why an instruction set cannot be used.
public enum InstructionSetError: Error, Equatable, CustomStringConvertible {
  case unknown(String)
  case unsupported(InstructionSet)

  public var description: String {
    let variable = InstructionSet.environmentVariable
    let choices = InstructionSet.supported.map(\.rawValue).joined(separator: ", ")
    return switch self {
    case .unknown(let name):
      "\(variable) is '\(name)', which is no instruction set; this machine has: \(choices)"
    case .unsupported(let set):
      "\(variable) is '\(set.rawValue)', which this processor cannot run; it can run: \(choices)"
    }
  }
}

/// A processor feature that some kernels need.
public struct ProcessorFeature: Sendable, Equatable {
  /// As compilers spell it.
  public let name: String
  /// Whether processor and operating system have it.
  public let isPresent: Bool

  /// All that kernels of this architecture ask for.
  public static var all: [ProcessorFeature] {
    var features: [ProcessorFeature] = []
    var present = false
    while let name = ck_cpu_feature(Int32(features.count), &present) {
      features.append(ProcessorFeature(name: String(cString: name), isPresent: present))
    }
    return features
  }
}
