public import TensorCore

/// Which encoding each matrix gets: rules in order, of which the first that matches decides.
/// One-dimensional tensors stay float32 in every recipe.
public struct Recipe: Sendable, Hashable, CustomStringConvertible {
  /// Of a preset its own, otherwise what its author calls it. A slab records it.
  public let name: String
  /// Asked in order; the first that matches a tensor decides.
  public let rules: [Rule]

  public init(name: String, rules: [Rule]) {
    self.name = name
    self.rules = rules
  }

  public var description: String { name }

  /// Place in ``rules`` of the one that decides about a matrix; nil if none matches.
  ///
  /// - Parameters:
  ///   - name: the published name.
  ///   - layer: nil for a tensor outside the decoder layers.
  ///   - layerCount: decoder layers of the model.
  public func ruleIndex(
    forTensor name: String, role: TensorRole, layer: Int?, layerCount: Int
  ) -> Int? {
    rules.firstIndex {
      $0.matches(tensor: name, role: role, layer: layer, layerCount: layerCount)
    }
  }

  /// The encoding of a tensor; nil for one-dimensional ones, which stay plain float32, and for a
  /// matrix that no rule matches, which a ``ConversionPlan`` refuses.
  public func encoding(
    ofTensor name: String, role: TensorRole, layer: Int?, layerCount: Int
  ) -> BlockEncoding? {
    guard role.isMatrix else { return nil }
    return ruleIndex(forTensor: name, role: role, layer: layer, layerCount: layerCount).map {
      rules[$0].encoding
    }
  }
}

extension Recipe {
  /// 4-bit blocks of 16; embedding and output in 8-bit blocks of 16.
  public static let q4 = preset("q4", layers: .q4b16, ends: .q8b16)
  /// 4-bit blocks of 32; embedding and output in 8-bit blocks of 32. Smaller, less faithful.
  public static let q4s = preset("q4s", layers: .q4b32, ends: .q8b32)
  /// 8-bit blocks of 16.
  public static let q8 = preset("q8", layers: .q8b16, ends: .q8b16)
  /// 8-bit blocks of 32.
  public static let q8s = preset("q8s", layers: .q8b32, ends: .q8b32)
  /// bfloat16; exact for a bfloat16 checkpoint, rounded to the nearest (ties to even) for others.
  public static let bf16 = preset("bf16", layers: .bf16, ends: .bf16)
  /// float32; exact for every checkpoint.
  public static let f32 = preset("f32", layers: .f32, ends: .f32)

  /// The recipes that have names of their own.
  public static let presets = [q4, q4s, q8, q8s, bf16, f32]

  /// The preset of that name; nil if there is none.
  public init?(named name: String) {
    guard let preset = Self.presets.first(where: { $0.name == name }) else { return nil }
    self = preset
  }

  /// Embedding and output projection are apart, as every token's error passes through them.
  private static func preset(
    _ name: String, layers: BlockEncoding, ends: BlockEncoding
  ) -> Recipe {
    let all = Rule(encoding: layers)
    let rules =
      ends == layers ? [all] : [Rule(roles: [.embedding, .output], encoding: ends), all]
    return Recipe(name: name, rules: rules)
  }
}
