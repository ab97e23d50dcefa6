import JSON

/// The small files of a checkpoint directory, as they are.
struct CheckpointAssets {
  private let directory: String
  private(set) var assets: [SlabAsset] = []
  private(set) var files: [String] = []
  private(set) var warnings: [String] = []

  init(directory: String) throws(CheckpointError) {
    self.directory = directory
    guard SystemCalls.isDirectory(directory) else {
      throw CheckpointError(
        .noCheckpoint, in: directory,
        expected: "a directory with config.json and safetensors files",
        found: "something else or nothing")
    }
    for name in Checkpoint.assetNames {
      let path = directory + "/" + name
      do throws(FileError) {
        let bytes = try MappedFile.contents(of: path, limit: Checkpoint.maximumAssetByteCount)
        assets.append(SlabAsset(name: name, bytes: bytes))
        files.append(path)
      } catch {
        guard SystemCalls.isMissing(error) else { throw CheckpointError(error) }
      }
    }
    if bytes(of: "tokenizer.json") == nil {
      warnings.append(
        "\(directory.shown) has no tokenizer.json: the slab will understand token ids only, no text."
      )
    }
  }

  func configuration() throws(CheckpointError) -> ModelConfiguration {
    guard let bytes = bytes(of: "config.json") else {
      throw CheckpointError(.noCheckpoint, in: directory, expected: "a config.json", found: "none")
    }
    do throws(ConfigurationError) {
      return try ModelConfiguration(json: bytes)
    } catch {
      throw CheckpointError(.configuration, in: directory + "/config.json", found: "\(error)")
    }
  }

  func checkGenerationConfiguration(
    _ configuration: ModelConfiguration
  ) throws(CheckpointError) {
    let name = "generation_config.json"
    guard let bytes = bytes(of: name) else { return }
    do throws(ConfigurationError) {
      _ = try GenerationConfiguration(json: bytes, vocabularySize: configuration.vocabularySize)
    } catch {
      throw CheckpointError(.configuration, in: directory + "/" + name, found: "\(error)")
    }
  }

  private func bytes(of name: String) -> [UInt8]? { assets.first { $0.name == name }?.bytes }
}
