import JSON

/// Compares the tensors that are there with those that the configuration asks for.
struct CheckpointValidation {
  typealias Place = (file: SafetensorsFile, tensor: TensorDescriptor)

  let directory: String
  let configuration: ModelConfiguration
  /// In the end, only what the configuration asks for.
  private(set) var places: [String: Place]
  private(set) var warnings: [String] = []

  init(directory: String, configuration: ModelConfiguration, places: [String: Place]) {
    self.directory = directory
    self.configuration = configuration
    self.places = places
  }

  mutating func run() throws(CheckpointError) {
    try removeTiedOutput()
    let expected = configuration.expectedTensors
    for (name, shape) in expected { try check(name, shape) }
    try removeUnexpected(Set(expected.map(\.name)))
  }

  private func check(_ name: String, _ shape: [Int]) throws(CheckpointError) {
    guard let (file, tensor) = places[name] else {
      throw CheckpointError(
        .missingTensor, in: directory, tensor: name,
        expected: "it with shape \(shape), as config.json asks",
        found: "\(places.count) other tensors")
    }
    guard tensor.elementType != nil else {
      throw CheckpointError(
        .elementType, in: file.path, tensor: name, expected: "F32, F16 or BF16",
        found: tensor.dataType.rawValue)
    }
    guard tensor.shape == shape else {
      throw CheckpointError(
        .shape, in: file.path, tensor: name, expected: "\(shape), as config.json asks",
        found: "\(tensor.shape)")
    }
  }

  /// A checkpoint that ties the output to the embedding may store both, if they are the same.
  private mutating func removeTiedOutput() throws(CheckpointError) {
    let name = "lm_head.weight"
    guard configuration.tiedEmbeddings, let output = places[name],
      let embedding = places[configuration.embeddingName]
    else { return }
    guard output.tensor.dataType == embedding.tensor.dataType,
      output.tensor.shape == embedding.tensor.shape,
      output.file.bytes(of: output.tensor).isEqual(to: embedding.file.bytes(of: embedding.tensor))
    else {
      throw CheckpointError(
        .untiedOutput, in: output.file.path, tensor: name,
        expected: "the bytes of \(configuration.embeddingName), as tie_word_embeddings says")
    }
    places[name] = nil
    warnings.append("\(name) repeats the embedding, to which config.json ties it; it is left out.")
  }

  /// Tables of rotary frequencies, which older writers stored, are left out; any other tensor would
  /// be a part of the model that is not understood.
  private mutating func removeUnexpected(_ expected: Set<String>) throws(CheckpointError) {
    let extra = places.keys.filter { !expected.contains($0) }.sorted()
    let unknown = extra.filter { !$0.hasSuffix(".rotary_emb.inv_freq") }
    if let first = unknown.first, let place = places[first] {
      throw CheckpointError(
        .unexpectedTensor, in: place.file.path, tensor: first,
        expected: "only tensors of \(configuration.architecture.rawValue)",
        found: unknown.count == 1 ? "it" : "it and \(unknown.count - 1) more")
    }
    for name in extra { places[name] = nil }
    if !extra.isEmpty {
      warnings.append(
        "\(extra.count) stored tables of rotary frequencies (\(extra[0].shown)…) are left out.")
    }
  }
}

extension UnsafeRawBufferPointer {
  fileprivate func isEqual(to other: UnsafeRawBufferPointer) -> Bool {
    count == other.count && SystemCalls.areEqual(self, other)
  }
}
