import CKernels
import Testing

@testable import TensorCore

// One suite for each instruction set, so that one which the machine lacks shows as skipped.

@Suite struct ScalarKernelTests {
  @Test(arguments: KernelCheck.all.filter { !$0.isLarge })
  func agree(check: KernelCheck) throws { try check.run(KernelChecks(.scalar)) }
}

@Suite(.enabled(if: InstructionSet.avx2.isSupported, "this processor has no AVX2 and FMA"))
struct AVX2KernelTests {
  @Test(arguments: KernelCheck.all)
  func agree(check: KernelCheck) throws { try check.run(KernelChecks(.avx2)) }
}

@Suite(.enabled(if: ck_kernels_avxvnni() != nil, "this processor has no AVX-VNNI"))
struct AVXVNNIKernelTests {
  @Test(arguments: KernelCheck.all)
  func agree(check: KernelCheck) throws {
    try check.run(KernelChecks(Kernels(.avxvnni, table: ck_kernels_avxvnni())))
  }
}

/// The same kernels, encoded as AVX-512 does.
@Suite(.enabled(if: ck_kernels_avx512vl() != nil, "this processor has no AVX-512 VL and VNNI"))
struct AVX512VLKernelTests {
  @Test(arguments: KernelCheck.all)
  func agree(check: KernelCheck) throws {
    try check.run(KernelChecks(Kernels(.avxvnni, table: ck_kernels_avx512vl())))
  }
}

@Suite(.enabled(if: InstructionSet.avx512vnni.isSupported, "this processor has no AVX-512 VNNI"))
struct AVX512VNNIKernelTests {
  @Test(arguments: KernelCheck.all)
  func agree(check: KernelCheck) throws {
    try check.run(KernelChecks(Kernels(.avx512vnni, table: ck_kernels_avx512vnni())))
  }
}

@Suite(.enabled(if: ck_kernels_avx512vbmi() != nil, "this processor has no AVX-512 VBMI"))
struct AVX512VBMIKernelTests {
  @Test(arguments: KernelCheck.all)
  func agree(check: KernelCheck) throws {
    try check.run(KernelChecks(Kernels(.avx512vnni, table: ck_kernels_avx512vbmi())))
  }
}

@Suite(.enabled(if: InstructionSet.neon.isSupported, "no NEON here; tools/check-neon emulates it"))
struct NEONKernelTests {
  @Test(arguments: KernelCheck.all)
  func agree(check: KernelCheck) throws { try check.run(KernelChecks(.neon)) }
}

/// One comparison with ``Reference``, of any instruction set's kernels.
struct KernelCheck: Sendable, CustomTestStringConvertible {
  let testDescription: String
  /// Too much for the reference to be compared with itself.
  var isLarge = false
  let run: @Sendable (KernelChecks) throws -> Void

  static let all: [KernelCheck] =
    products.flatMap { encoding, precision in
      let product = "\(encoding.name) and \(precision)"
      return [
        KernelCheck(testDescription: "small products of \(product)") {
          try $0.smallProducts(encoding, precision: precision)
        },
        KernelCheck(testDescription: "large products of \(product)", isLarge: true) {
          try $0.largeProducts(encoding, precision: precision)
        },
        KernelCheck(testDescription: "patterns of \(product)") {
          try $0.patterns(encoding, precision: precision)
        },
        KernelCheck(testDescription: "invariance of \(product)") {
          try $0.invariance(encoding, precision: precision)
        },
        KernelCheck(testDescription: "batches of \(product)") {
          try $0.batches(encoding, precision: precision)
        },
        KernelCheck(testDescription: "groups of \(product)") {
          try $0.groups(encoding, precision: precision)
        },
      ]
    }
    + CacheType.allCases.flatMap { type in
      [16, 20, 32, 64, 80, 128, 192].map { headSize in
        KernelCheck(testDescription: "attention over \(type), heads of \(headSize)") {
          $0.attentions(type, headSize: headSize)
        }
      } + [KernelCheck(testDescription: "a cache of \(type)") { $0.entering(type) }]
    }
    + [
      KernelCheck(testDescription: "activations that are not finite") {
        try $0.nonFiniteActivations()
      },
      KernelCheck(testDescription: "norms") { $0.norms() },
      KernelCheck(testDescription: "layer norms") { $0.layerNorms() },
      KernelCheck(testDescription: "gates") { $0.gates() },
      KernelCheck(testDescription: "GELU") { $0.gelus() },
      KernelCheck(testDescription: "convolutions") { $0.convolutions() },
      KernelCheck(testDescription: "scans") { $0.scans() },
      KernelCheck(testDescription: "time steps") { $0.timeSteps() },
      KernelCheck(testDescription: "mixtures") { $0.mixtures() },
      KernelCheck(testDescription: "rotations") { $0.rotations() },
    ]

  /// The encodings, with each kind of activations that they can be multiplied with.
  private static let products: [(BlockEncoding, ActivationPrecision)] =
    BlockEncoding.allCases.flatMap { encoding in
      encoding.isQuantized ? [(encoding, .int8), (encoding, .f32)] : [(encoding, .f32)]
    }
}
