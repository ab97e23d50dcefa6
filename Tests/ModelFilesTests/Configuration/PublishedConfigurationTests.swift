import Foundation
import JSON
import ModelFiles
import TestSupport
import Testing

/// Configurations as they were published, and configurations that must be refused.
@Suite struct PublishedConfigurationTests {
  static func refusals() throws -> [String: String] {
    let folder = Place.goldens.appending(path: "refused")
    let expected = try JSONValue(
      parsing: Array(Data(contentsOf: folder.appending(path: "expected.json"))))
    return Dictionary(
      uniqueKeysWithValues: (expected.object?.members ?? []).map { ($0.key, $0.value.string ?? "") }
    )
  }

  @Test(arguments: try refusals().sorted { $0.key < $1.key })
  func isRefusedByName(name: String, word: String) throws {
    let path = Place.goldens.appending(path: "refused/\(name)/config.json")
    let json = Array(try Data(contentsOf: path))
    let error = try #require(throws: ConfigurationError.self) {
      try ModelConfiguration(json: json)
    }
    #expect("\(error)".contains(word), "\(error)")
  }

  static let folder = Place.shared?.appending(path: "granite/configs")

  static func published(_ name: String) throws -> [UInt8] {
    Array(try Data(contentsOf: #require(folder).appending(path: name)))
  }

  /// Files, and parameters of the model that FAMILY.md gives (0: not given there).
  static let accepted: [(String, Int)] = [
    ("dinoml_v2/granite--ibm-granite__granite-3.0-2b-base.config.json", 2_533_525_504),
    ("dinoml_v2/granite--ibm-granite__granite-3.0-8b-base.config.json", 8_170_835_968),
    ("dinoml_v2/granite--ibm-granite__granite-3.1-8b-base.config.json", 8_170_835_968),
    ("dinoml_v2/granite--ibm-granite__granite-3.2-8b-instruct.config.json", 8_170_848_256),
    ("dinoml_v2/granite--ibm-granite__granite-3.3-8b-instruct.config.json", 8_170_864_640),
    ("dinoml_v2/granite--ibm-granite__granite-3b-code-base.config.json", 3_482_503_680),
    ("dinoml_v2/granite--ibm-granite__granite-8b-code-base.config.json", 8_054_910_976),
    (
      "dinoml_v2/granitemoehybrid--ibm-granite__granite-4.0-h-350m.config.json", 340_332_224
    ),
    ("dinoml_v2/granitemoehybrid--ibm-granite__granite-4.0-h-1b.config.json", 1_461_538_368),
    (
      "dinoml_v2/granitemoehybrid--ibm-granite__granite-4.0-h-micro-base.config.json",
      3_191_396_096
    ),
    ("dinoml_v2/granite--katuni4ka__tiny-random-granite.config.json", 0),
    ("dinoml_v2/granitemoe--ibm-granite_granite-3.0-1b-a400m-base_config.json", 1_334_625_280),
    ("dinoml_v2/granitemoe--ibm-granite_granite-3.0-3b-a800m-base_config.json", 3_298_788_864),
    ("dinoml_v2/granitemoe--ibm-granite_granite-3.1-1b-a400m-base_config.json", 1_334_625_280),
    ("dinoml_v2/granitemoe--ibm-granite_granite-3.1-3b-a800m-base_config.json", 3_298_788_864),
    ("dinoml_v2/granitemoe--ibm-research_PowerMoE-3b_config.json", 3_298_788_864),
    ("dinoml_v2/granitemoe--katuni4ka_tiny-random-granite-moe_config.json", 0),
    ("dinoml_v2/granitemoeshared--ibm-research__PowerMoE-3b.config.json", 3_298_788_864),
    ("dinoml_v2/granitemoeshared--ibm__PowerMoE-3b.config.json", 3_298_788_864),
    ("vllm-spyre/ibm-granite__granite-3.3-8b-instruct__config.json", 8_170_864_640),
    ("dinoml_v2/granitemoehybrid--ibm-granite__granite-4.0-h-small.config.json", 32_207_337_984),
    ("vllm-spyre/ibm-granite__granite-4-8b-dense-hybrid__config.json", 8_380_551_168),
    ("vllm-spyre/ibm-granite__granite-4-8b-dense__config.json", 8_380_551_168),
  ]

  @Test(.enabled(if: Place.shared != nil, "needs ../shared"), arguments: accepted)
  func isAccepted(name: String, parameters: Int) throws {
    let model = try ModelConfiguration(json: Self.published(name))
    let count = model.expectedTensors.reduce(0) { $0 + $1.shape.reduce(1, *) }
    if parameters > 0 { #expect(count == parameters) }
  }

  /// Every other published file is refused, and the error says what it is.
  @Test(.enabled(if: Place.shared != nil, "needs ../shared"))
  func everythingElseIsRefused() throws {
    let root = try #require(Self.folder)
    var refused = 0
    for folder in ["dinoml_v2", "vllm-spyre"] {
      let names = try FileManager.default.contentsOfDirectory(
        atPath: root.appending(path: folder).path)
      for name in names where name.hasSuffix("config.json") {
        let path = folder + "/" + name
        if Self.accepted.contains(where: { $0.0 == path }) { continue }
        let json = try Self.published(path)
        let error = try #require(throws: ConfigurationError.self, "\(name)") {
          try ModelConfiguration(json: json)
        }
        let words = [
          "ForCausalLM", "ForConditionalGeneration", "Roberta", "mamba", "quantization_config",
          "model_type", "JSON", "experts",
        ]
        #expect(words.contains { "\(error)".contains($0) }, "\(name): \(error)")
        refused += 1
      }
    }
    #expect(refused >= 6)
  }

  @Test(
    .enabled(if: Place.shared != nil, "needs ../shared"),
    arguments: ["h-1b", "h-350m", "h-micro-base", "h-small"])
  func generationConfigurations(name: String) throws {
    let json = try Self.published(
      "dinoml_v2/granitemoehybrid--ibm-granite__granite-4.0-\(name).generation_config.json")
    let generation = try GenerationConfiguration(json: json, vocabularySize: 100352)
    #expect(generation.eosTokenIDs == [100257])
    #expect(generation.padTokenID == 100256)
  }
}
