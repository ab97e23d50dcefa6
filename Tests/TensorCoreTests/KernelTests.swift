import CKernels
import Testing

@testable import TensorCore

/// The encodings, with each kind of activations that they can be multiplied with.
private let products: [(BlockEncoding, ActivationPrecision)] =
  BlockEncoding.allCases.flatMap { encoding in
    encoding.isQuantized ? [(encoding, .int8), (encoding, .f32)] : [(encoding, .f32)]
  }

// One suite for each instruction set, so that one which the machine lacks shows as skipped.

@Suite
struct ScalarKernelTests {
  private let checks = KernelChecks(.scalar)

  @Test(arguments: products)
  func smallProducts(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.smallProducts(encoding, precision: precision)
  }

  @Test(arguments: products)
  func patterns(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.patterns(encoding, precision: precision)
  }

  @Test(arguments: products)
  func invariance(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.invariance(encoding, precision: precision)
  }

  @Test func nonFiniteActivations() throws { try checks.nonFiniteActivations() }

  @Test func norms() { checks.norms() }

  @Test func gates() { checks.gates() }

  @Test(arguments: CacheType.allCases, [16, 20, 32, 64, 80, 128, 192])
  func attention(type: CacheType, headSize: Int) { checks.attentions(type, headSize: headSize) }

  @Test(arguments: CacheType.allCases) func cache(type: CacheType) { checks.entering(type) }
}

@Suite(.enabled(if: InstructionSet.avx2.isSupported, "this processor has no AVX2 and FMA"))
struct AVX2KernelTests {
  private let checks = KernelChecks(.avx2)

  @Test(arguments: products)
  func smallProducts(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.smallProducts(encoding, precision: precision)
  }

  @Test(arguments: products)
  func largeProducts(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.largeProducts(encoding, precision: precision)
  }

  @Test(arguments: products)
  func patterns(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.patterns(encoding, precision: precision)
  }

  @Test(arguments: products)
  func invariance(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.invariance(encoding, precision: precision)
  }

  @Test func nonFiniteActivations() throws { try checks.nonFiniteActivations() }

  @Test func norms() { checks.norms() }

  @Test func gates() { checks.gates() }

  @Test(arguments: CacheType.allCases, [16, 20, 32, 64, 80, 128, 192])
  func attention(type: CacheType, headSize: Int) { checks.attentions(type, headSize: headSize) }

  @Test(arguments: CacheType.allCases) func cache(type: CacheType) { checks.entering(type) }
}

@Suite(.enabled(if: ck_kernels_avxvnni() != nil, "this processor has no AVX-VNNI"))
struct AVXVNNIKernelTests {
  private let checks = KernelChecks(Kernels(.avxvnni, table: ck_kernels_avxvnni()))

  @Test(arguments: products)
  func smallProducts(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.smallProducts(encoding, precision: precision)
  }

  @Test(arguments: products)
  func largeProducts(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.largeProducts(encoding, precision: precision)
  }

  @Test(arguments: products)
  func patterns(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.patterns(encoding, precision: precision)
  }

  @Test(arguments: products)
  func invariance(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.invariance(encoding, precision: precision)
  }

  @Test func nonFiniteActivations() throws { try checks.nonFiniteActivations() }

  @Test func norms() { checks.norms() }

  @Test func gates() { checks.gates() }

  @Test(arguments: CacheType.allCases, [16, 20, 32, 64, 80, 128, 192])
  func attention(type: CacheType, headSize: Int) { checks.attentions(type, headSize: headSize) }

  @Test(arguments: CacheType.allCases) func cache(type: CacheType) { checks.entering(type) }
}

/// The same kernels, encoded as AVX-512 does.
@Suite(.enabled(if: ck_kernels_avx512vl() != nil, "this processor has no AVX-512 VL and VNNI"))
struct AVX512VLKernelTests {
  private let checks = KernelChecks(Kernels(.avxvnni, table: ck_kernels_avx512vl()))

  @Test(arguments: products)
  func smallProducts(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.smallProducts(encoding, precision: precision)
  }

  @Test(arguments: products)
  func largeProducts(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.largeProducts(encoding, precision: precision)
  }

  @Test(arguments: products)
  func patterns(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.patterns(encoding, precision: precision)
  }

  @Test(arguments: products)
  func invariance(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.invariance(encoding, precision: precision)
  }

  @Test func nonFiniteActivations() throws { try checks.nonFiniteActivations() }

  @Test func norms() { checks.norms() }

  @Test func gates() { checks.gates() }

  @Test(arguments: CacheType.allCases, [16, 20, 32, 64, 80, 128, 192])
  func attention(type: CacheType, headSize: Int) { checks.attentions(type, headSize: headSize) }

  @Test(arguments: CacheType.allCases) func cache(type: CacheType) { checks.entering(type) }
}

@Suite(.enabled(if: InstructionSet.avx512vnni.isSupported, "this processor has no AVX-512 VNNI"))
struct AVX512VNNIKernelTests {
  private let checks = KernelChecks(.avx512vnni)

  @Test(arguments: products)
  func smallProducts(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.smallProducts(encoding, precision: precision)
  }

  @Test(arguments: products)
  func largeProducts(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.largeProducts(encoding, precision: precision)
  }

  @Test(arguments: products)
  func patterns(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.patterns(encoding, precision: precision)
  }

  @Test(arguments: products)
  func invariance(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.invariance(encoding, precision: precision)
  }

  @Test func nonFiniteActivations() throws { try checks.nonFiniteActivations() }

  @Test func norms() { checks.norms() }

  @Test func gates() { checks.gates() }

  @Test(arguments: CacheType.allCases, [16, 20, 32, 64, 80, 128, 192])
  func attention(type: CacheType, headSize: Int) { checks.attentions(type, headSize: headSize) }

  @Test(arguments: CacheType.allCases) func cache(type: CacheType) { checks.entering(type) }
}

@Suite(
  .enabled(
    if: InstructionSet.neon.isSupported, "no NEON here; tools/check-neon emulates it"))
struct NEONKernelTests {
  private let checks = KernelChecks(.neon)

  @Test(arguments: products)
  func smallProducts(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.smallProducts(encoding, precision: precision)
  }

  @Test(arguments: products)
  func largeProducts(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.largeProducts(encoding, precision: precision)
  }

  @Test(arguments: products)
  func patterns(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.patterns(encoding, precision: precision)
  }

  @Test(arguments: products)
  func invariance(encoding: BlockEncoding, precision: ActivationPrecision) throws {
    try checks.invariance(encoding, precision: precision)
  }

  @Test func nonFiniteActivations() throws { try checks.nonFiniteActivations() }

  @Test func norms() { checks.norms() }

  @Test func gates() { checks.gates() }

  @Test(arguments: CacheType.allCases, [16, 20, 32, 64, 80, 128, 192])
  func attention(type: CacheType, headSize: Int) { checks.attentions(type, headSize: headSize) }

  @Test(arguments: CacheType.allCases) func cache(type: CacheType) { checks.entering(type) }
}
