import ModelFiles
import TensorCore

extension Recipe {
  /// 4-bit blocks of 16; embedding and output in 8-bit blocks of 16.
  public static let q4 = preset("q4", layers: .q4b16, ends: .q8b16)
  /// 4-bit blocks of 32; embedding and output in 8-bit blocks of 32. Smaller, less faithful.
  public static let q4s = preset("q4s", layers: .q4b32, ends: .q8b32)
  /// ``q4`` with 8-bit blocks of 16 where an 8-bit weight does the most good: the value projections, and
  /// the first and last two layers (`formats/recipes.md` has the measurement).
  public static let balanced = Recipe(
    name: "balanced",
    rules: [
      unquantized,
      Rule(roles: [.embedding, .positions, .output, .value], encoding: .q8b16),
      Rule(layers: LayerSelection(first: 2, last: 2), encoding: .q8b16),
      Rule(encoding: .q4b16),
    ])
  /// 8-bit blocks of 16.
  public static let q8 = preset("q8", layers: .q8b16, ends: .q8b16)
  /// 8-bit blocks of 32.
  public static let q8s = preset("q8s", layers: .q8b32, ends: .q8b32)
  /// bfloat16; exact for a bfloat16 checkpoint, rounded to the nearest (ties to even) for others.
  public static let bf16 = preset("bf16", layers: .bf16, ends: .bf16)
  /// float32; exact for every checkpoint.
  public static let f32 = preset("f32", layers: .f32, ends: .f32)

  /// The recipes that have names of their own.
  public static let presets = [q4, q4s, balanced, q8, q8s, bf16, f32]

  /// The preset of that name; nil if there is none.
  public init?(named name: String) {
    guard let preset = Self.presets.first(where: { $0.name == name }) else { return nil }
    self = preset
  }

  /// Whether this is what its name stands for.
  var isPreset: Bool { Recipe(named: name) == self }

  /// What is small, and decides which weights a token meets.
  static let unquantized = Rule(roles: [.router], encoding: .f32)

  /// The rule of what is not quantized, if a model has that.
  static func unquantizedRoles(in plan: ConversionPlan) -> [Rule] {
    plan.entries.contains { unquantized.roles.contains($0.role) } ? [unquantized] : []
  }

  /// Embedding and output projection are apart, as every token's error passes through them.
  private static func preset(
    _ name: String, layers: BlockEncoding, ends: BlockEncoding
  ) -> Recipe {
    var rules: [Rule] = layers.isQuantized ? [unquantized] : []
    if ends != layers {
      rules.append(Rule(roles: [.embedding, .positions, .output], encoding: ends))
    }
    return Recipe(name: name, rules: rules + [Rule(encoding: layers)])
  }
}
