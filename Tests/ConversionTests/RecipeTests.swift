import Conversion
import Foundation
import ModelFiles
import TensorCore
import TestSupport
import Testing

/// Which rule decides, and what is said of recipes that do not fit a model.
@Suite struct RecipeTests {
  private static func read(_ yaml: String) throws -> Recipe {
    try Recipe(yaml: Array(yaml.utf8), path: "r.yaml")
  }

  /// A checkpoint of so many layers, with a tied embedding and split projections unless it is fused.
  private static func configuration(layers: Int, fused: Bool = false) throws -> ModelConfiguration {
    var configuration = try ConversionTests.golden("granite-sharded").configuration
    configuration.layerKinds = Array(repeating: .attention, count: layers)
    configuration.tiedEmbeddings = true
    configuration.hasFusedMLP = fused
    return configuration
  }

  private static func encodings(
    _ recipe: Recipe, layers: Int = 8, fused: Bool = false
  ) throws -> (of: (String) -> BlockEncoding?, warnings: [String]) {
    let matching = try RecipeMatching(recipe, configuration(layers: layers, fused: fused))
    return ({ name in matching.tensors.first { $0.name == name }?.encoding }, matching.warnings)
  }

  @Test func theFirstRuleThatMatchesDecides() throws {
    let recipe = try Self.read(
      """
      # embeddings & output, R&D
      name: mine
      base: q4s
      rules:
        - {tensors: "model.layers.1.*", roles: value, encoding: bf16}
        - roles: [value, mlp]
          layers: 0-1, 5
          first: 1
          last: 2
          encoding: q8b32
        - tensors: ["*.o_proj.weight", "model.layers.?.self_attn.k_proj.weight"]
          encoding: f32
      """)
    #expect(recipe.name == "mine" && recipe.base == "q4s" && recipe.ownRuleCount == 3)
    let (encoding, warnings) = try Self.encodings(recipe, layers: 12)
    func of(_ layer: Int, _ projection: String) -> BlockEncoding? {
      encoding("model.layers.\(layer).\(projection)_proj.weight")
    }
    #expect(of(1, "self_attn.v") == .bf16 && of(0, "self_attn.v") == .q8b32)
    for layer in 0..<12 {
      let isChosen = [0, 1, 5, 10, 11].contains(layer)
      for projection in ["gate", "up", "down"] {
        #expect(of(layer, "mlp.\(projection)") == (isChosen ? .q8b32 : .q4b32), "\(layer)")
      }
      #expect(of(layer, "self_attn.q") == .q4b32 && of(layer, "self_attn.o") == .f32)
      #expect(of(layer, "self_attn.k") == (layer < 10 ? .f32 : .q4b32), "\(layer)")
    }
    #expect(encoding("model.embed_tokens.weight") == .q8b32)
    #expect(encoding("model.norm.weight") == nil)
    #expect(warnings.count == 1 && warnings[0].contains("query, key, value"), "\(warnings)")
  }

  @Test(arguments: Recipe.presets) func presetsReadBack(preset: Recipe) throws {
    let written = try Self.read(preset.yaml)
    #expect(written == preset)
    let derived = try Self.read("base: \(preset.name)")
    #expect(derived.rules == preset.rules && derived.ownRuleCount == 0)
    #expect(try Self.read(derived.yaml) == derived)
  }

  @Test func balanced() throws {
    let (encoding, _) = try Self.encodings(.balanced, layers: 8)
    for layer in 0..<8 {
      let isEnd = layer < 2 || layer > 5
      for name in ["self_attn.q", "self_attn.k", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down"] {
        #expect(
          encoding("model.layers.\(layer).\(name)_proj.weight") == (isEnd ? .q8b16 : .q4b16))
      }
      #expect(encoding("model.layers.\(layer).self_attn.v_proj.weight") == .q8b16)
    }
    #expect(encoding("model.embed_tokens.weight") == .q8b16)
  }

  /// Files that say the same are recorded as the same text.
  @Test func writingIsCanonical() throws {
    let recipe = Recipe(
      name: "a \"b\"\\",
      rules: [
        Recipe.Rule(
          names: [Recipe.Glob("*.x"), Recipe.Glob("?")], roles: [.key, .value],
          layers: Recipe.LayerSelection(ranges: [3...3, 0...1, 2...2, 7...9], first: 1, last: 2),
          encoding: .q8b16),
        Recipe.Rule(layers: Recipe.LayerSelection(last: 1), encoding: .bf16),
        Recipe.Rule(encoding: .q4b32),
      ], base: .q8)
    #expect(
      recipe.yaml == """
        name: "a \\"b\\"\\\\"
        base: q8
        rules:
          - {tensors: ["*.x", "?"], roles: [key, value], layers: [0-3, 7-9], first: 1, last: 2, encoding: q8b16}
          - {last: 1, encoding: bf16}
          - {encoding: q4b32}

        """)
    #expect(try Self.read(recipe.yaml) == recipe)
    let loose = try Self.read(
      "rules: [{layers: '7-9,0-1,1-3', encoding: 'q8b16'}, {encoding: \"q4b16\"}] # all")
    #expect(
      loose.yaml == """
        name: "custom"
        rules:
          - {layers: [0-3, 7-9], encoding: q8b16}
          - {encoding: q4b16}

        """)
  }

  @Test(arguments: [
    ("*", "", true), ("", "", true), ("", "a", false), ("a*", "abc", true), ("a*c", "abc", true),
    ("a*c", "abcd", false), ("*b*", "abc", true), ("a?c", "abc", true), ("a?c", "ac", false),
    ("*.v_proj.*", "x.v_proj.weight", true), ("**a", "bba", true), ("a*a", "a", false),
    ("*ab*abc", "xabyabababc", true), ("*ab*abc", "xabyababac", false),
  ]) func globs(pattern: String, name: String, matches: Bool) {
    #expect(Recipe.Glob(pattern).matches(name) == matches)
  }

  /// Backtracking would take longer than the universe has been there.
  @Test func globsDoNotExplode() {
    let pattern = String(repeating: "*a", count: 200) + "b"
    #expect(!Recipe.Glob(pattern).matches(String(repeating: "a", count: 2000)))
  }

  @Test func whatMatchesNothingIsReported() throws {
    let warnings = try Self.encodings(
      Self.read(
        """
        base: q4
        rules:
          - {roles: output, encoding: q8b32}
          - {tensors: "*.w_proj.weight", encoding: q8b16}
          - {roles: mlp, encoding: q8b16}
          - {roles: down, first: 3, encoding: q8b32}
          - {roles: attention, layers: 7-8, encoding: q8b16}
          - {roles: norm, encoding: f32}
          - {roles: query, layers: 40, encoding: q8b16}
        """)
    ).warnings
    #expect(
      warnings == [
        "rule 1 {roles: output, encoding: q8b32} matches no tensor of this model: "
          + "its embedding is also its output projection",
        "rule 2 {tensors: \"*.w_proj.weight\", encoding: q8b16} matches no tensor of this model",
        "rule 4 {roles: down, first: 3, encoding: q8b32} decides nothing: "
          + "rules before it match all its tensors",
        "rule 5 {roles: [query, key, value, query-key-value, attention-output], layers: 7-8, "
          + "encoding: q8b16} goes beyond the model's last layer, 7",
        "rule 7 {roles: query, layers: 40, encoding: q8b16} matches no tensor of this model",
      ])
    let fused = try Self.encodings(
      Self.read("{base: q4, rules: [{roles: [gate, up], encoding: q8b16}]}"), fused: true)
    #expect(fused.warnings.count == 1 && fused.warnings[0].contains("of role gate-up"))
    #expect(fused.of("model.layers.0.shared_mlp.input_linear.weight") == .q4b16)
    for preset in Recipe.presets {
      for layers in [1, 3, 8] {
        #expect(try Self.encodings(preset, layers: layers).warnings.isEmpty, "\(preset)")
      }
    }
  }

  @Test func whatCannotBeIsRefused() throws {
    #expect(
      throws: RecipeError.impossible(
        recipe: "custom", rule: "rule 1 {tensors: \"*norm.weight\", encoding: q8b16}",
        problem: "matches only one-dimensional tensors, which stay f32")
    ) {
      try Self.encodings(
        Self.read("{base: q4, rules: [{tensors: '*norm.weight', encoding: q8b16}]}"))
    }
    let partial = try Self.read("rules: [{roles: [attention, mlp], encoding: q4b16}]")
    #expect(
      throws: RecipeError.unmatched(recipe: "custom", tensors: ["model.embed_tokens.weight"])
    ) { try Self.encodings(partial) }
    let checkpoint = try ConversionTests.golden("granite-untied")
    #expect(
      throws: RecipeError.unmatched(
        recipe: "custom", tensors: ["model.embed_tokens.weight", "lm_head.weight"])
    ) { try ConversionPlan(checkpoint, recipe: partial) }
    try Place.withTemporaryDirectory { directory in
      let path = directory.appending(path: "x.slab").path
      #expect {
        try Converter(
          checkpoint: checkpoint, recipe: partial, profile: .run, pool: WorkerPool(threadCount: 1)
        ).run(to: path)
      } throws: { error in
        guard case ConversionError.recipe(.unmatched)? = error as? ConversionError else {
          return false
        }
        return "\(error)".contains("base: q4")
      }
      #expect(!FileManager.default.fileExists(atPath: path))
    }
  }

  /// A slab says how it was made.
  @Test func slabsRecordTheirRecipe() throws {
    let recipe = try Self.read("{name: mixed, base: q4, rules: [{roles: value, encoding: q8b16}]}")
    let checkpoint = try ConversionTests.golden("granite-sharded")
    try Place.withTemporaryDirectory { directory in
      for recipe in [recipe, .q4] {
        let path = directory.appending(path: "\(recipe).slab").path
        let report = try Converter(
          checkpoint: checkpoint, recipe: recipe, profile: .run, pool: WorkerPool(threadCount: 2)
        ).run(to: path)
        let slab = try Slab(path: path)
        #expect(slab.metadata["recipe"] == recipe.name)
        #expect(slab.metadata["recipe-yaml"] == (recipe == .q4 ? nil : recipe.yaml))
        let value = slab.tensor(named: "model.layers.0.self_attn.v_proj.weight")?.encoding
        #expect(value == (recipe == .q4 ? .q4b16 : .q8b16))
        let kinds = report.kinds.filter { $0.role == .value }
        #expect(kinds.map(\.encoding) == [value])
      }
    }
  }
}
