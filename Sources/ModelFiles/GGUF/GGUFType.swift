/// How ggml stores the elements of a tensor.
///
/// Rows are cut into blocks of ``blockSize`` elements, each of ``blockByteCount`` bytes.
public struct GGUFType: Sendable, Equatable {
  /// The id of the file format.
  public let id: UInt32
  /// As ggml and its tools spell it: `Q4_K`, `BF16`.
  public let name: String
  /// Elements of a block, all of one row; 1 for unquantized types.
  public let blockSize: Int
  /// Bytes of a block, its scales included.
  public let blockByteCount: Int

  public var bitsPerWeight: Double { Double(8 * blockByteCount) / Double(blockSize) }
  /// Whether elements are stored as they are.
  public var isPlain: Bool { blockSize == 1 }

  /// Nil for an id of no type that files hold.
  public init?(id: UInt32) {
    guard let match = Self.all.first(where: { $0.id == id }) else { return nil }
    self = match
  }

  private init(_ id: UInt32, _ name: String, _ blockSize: Int, _ blockByteCount: Int) {
    self.id = id
    self.name = name
    self.blockSize = blockSize
    self.blockByteCount = blockByteCount
  }

  /// All types; ids that are missing belong to types that were removed before files held them.
  public static let all: [GGUFType] = [
    .init(0, "F32", 1, 4), .init(1, "F16", 1, 2), .init(30, "BF16", 1, 2), .init(28, "F64", 1, 8),
    .init(24, "I8", 1, 1), .init(25, "I16", 1, 2), .init(26, "I32", 1, 4), .init(27, "I64", 1, 8),
    // A 16-bit scale and codes; a minimum, fifth bits or a sum of the block.
    .init(2, "Q4_0", 32, 2 + 16),
    .init(3, "Q4_1", 32, 4 + 16),
    .init(6, "Q5_0", 32, 2 + 4 + 16),
    .init(7, "Q5_1", 32, 4 + 4 + 16),
    .init(8, "Q8_0", 32, 2 + 32),
    .init(9, "Q8_1", 32, 8 + 32),
    .init(20, "IQ4_NL", 32, 2 + 16),
    .init(41, "Q1_0", 128, 2 + 16),
    // An 8-bit exponent; four 8-bit scales.
    .init(39, "MXFP4", 32, 1 + 16),
    .init(40, "NVFP4", 64, 4 + 32),
    // Blocks of blocks: 16-bit scales, small scales of parts, codes.
    .init(10, "Q2_K", 256, 4 + 16 + 64),
    .init(11, "Q3_K", 256, 2 + 12 + 32 + 64),
    .init(12, "Q4_K", 256, 4 + 12 + 128),
    .init(13, "Q5_K", 256, 4 + 12 + 32 + 128),
    .init(14, "Q6_K", 256, 2 + 16 + 64 + 128),
    .init(15, "Q8_K", 256, 4 + 32 + 256),
    .init(19, "IQ1_S", 256, 2 + 16 + 32),
    .init(29, "IQ1_M", 256, 8 + 16 + 32),
    .init(16, "IQ2_XXS", 256, 2 + 64),
    .init(17, "IQ2_XS", 256, 2 + 8 + 64),
    .init(22, "IQ2_S", 256, 2 + 8 + 8 + 64),
    .init(18, "IQ3_XXS", 256, 2 + 32 + 64),
    .init(21, "IQ3_S", 256, 2 + 4 + 8 + 32 + 64),
    .init(23, "IQ4_XS", 256, 2 + 2 + 4 + 128),
    .init(34, "TQ1_0", 256, 2 + 4 + 48),
    .init(35, "TQ2_0", 256, 2 + 64),
    // Interleaved rows of Q4_0 and IQ4_NL, as older files have them.
    .init(31, "Q4_0_4_4", 32, 18), .init(32, "Q4_0_4_8", 32, 18), .init(33, "Q4_0_8_8", 32, 18),
    .init(36, "IQ4_NL_4_4", 32, 18), .init(37, "IQ4_NL_4_8", 32, 18),
    .init(38, "IQ4_NL_8_8", 32, 18),
  ]
}
