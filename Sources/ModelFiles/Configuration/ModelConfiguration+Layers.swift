import JSON

extension ModelConfiguration {
  /// What each decoder layer is. Only the hybrids have the choice: a hybrid that does not say is refused,
  /// since its published code would take all layers for Mamba2.
  static func layerKinds(
    _ fields: ConfigurationFields, _ architecture: Architecture
  ) throws(ConfigurationError) -> [LayerKind] {
    let count = try fields.require(
      "num_hidden_layers", fields.integer("num_hidden_layers", in: 1...4096))
    var found: (key: String, kinds: [LayerKind])?
    for key in ["layer_types", "layers_block_type"] {
      guard let types = try fields.strings(key) else { continue }
      var kinds: [LayerKind] = []
      for type in types {
        guard let kind = LayerKind(configurationName: type, architecture) else {
          throw .unsupported(
            field: key, found: "\"\(type.shown)\"", supported: supportedLayers(architecture))
        }
        kinds.append(kind)
      }
      guard kinds.count == count else {
        throw .invalid(
          field: key, expected: "\(count) layers (num_hidden_layers)", found: "\(kinds.count)")
      }
      if let found, found.kinds != kinds {
        throw .invalid(field: key, expected: "the layers of \(found.key)", found: "others")
      }
      found = (key, kinds)
    }
    guard let found else {
      if architecture == .graniteHybrid { throw .missing(field: "layer_types") }
      return Array(repeating: .attention, count: count)
    }
    if !found.kinds.contains(.attention) {
      throw .unsupported(
        field: found.key, found: "no layer with attention", supported: "at least one")
    }
    return found.kinds
  }

  private static func supportedLayers(_ architecture: Architecture) -> String {
    architecture == .graniteHybrid
      ? "\"attention\", \"full_attention\", \"mamba\" and \"linear_attention\""
      : "\"attention\" or \"full_attention\" in every layer"
  }

  /// Sizes of the Mamba2 layers. Missing fields mean what they mean to the published model code.
  static func mambaShape(
    _ fields: ConfigurationFields, hiddenSize: Int
  ) throws(ConfigurationError) -> MambaShape {
    try fields.accept("mamba_proj_bias", only: [.bool(false)], supported: "false")
    try acceptUnlimitedTimeSteps(fields)
    let expansion = try fields.integer("mamba_expand", in: 1...64) ?? 2
    let inner = expansion * hiddenSize
    guard inner <= 1 << 22 else {
      throw .invalid(
        field: "mamba_expand", expected: "at most \(1 << 22) features in all heads",
        found: "\(inner)")
    }
    let heads = try fields.integer("mamba_n_heads", in: 1...1 << 14) ?? 128
    guard inner % heads == 0 else {
      throw .invalid(
        field: "mamba_n_heads", expected: "a divisor of mamba_expand · hidden_size (\(inner))",
        found: "\(heads)")
    }
    if fields["mamba_d_head"] != .string("auto"),
      let size = try fields.integer("mamba_d_head", in: 1...1 << 22), size * heads != inner
    {
      throw .invalid(
        field: "mamba_d_head",
        expected: "mamba_expand · hidden_size / mamba_n_heads (\(inner / heads))", found: "\(size)")
    }
    let groups = try fields.integer("mamba_n_groups", in: 1...1 << 14) ?? 1
    guard heads % groups == 0 else {
      throw .invalid(
        field: "mamba_n_groups", expected: "a divisor of mamba_n_heads (\(heads))",
        found: "\(groups)")
    }
    return MambaShape(
      headCount: heads, headSize: inner / heads,
      stateSize: try fields.integer("mamba_d_state", in: 1...1 << 12) ?? 256, groupCount: groups,
      convolutionSize: try fields.integer("mamba_d_conv", in: 1...16) ?? 4,
      hasConvolutionBias: try fields.bool("mamba_conv_bias") ?? true)
  }

  /// Nothing may limit time steps further than softplus does. Transformers 5 writes infinity as an
  /// object, since JSON has no such number.
  private static func acceptUnlimitedTimeSteps(
    _ fields: ConfigurationFields
  ) throws(ConfigurationError) {
    guard let limits = fields["time_step_limit"] else { return }
    let values = limits.array ?? []
    guard values.count == 2, values[0].double == 0,
      values[1].object?["__float__"] == .string("Infinity")
    else {
      throw .unsupported(field: "time_step_limit", found: limits.shown, supported: "0 to infinity")
    }
  }
}

extension ModelConfiguration.LayerKind {
  /// Both spellings: of the published files and of transformers 5.
  fileprivate init?(
    configurationName name: String, _ architecture: ModelConfiguration.Architecture
  ) {
    switch name {
    case "attention", "full_attention": self = .attention
    case "mamba", "linear_attention":
      guard architecture == .graniteHybrid else { return nil }
      self = .mamba
    default: return nil
    }
  }
}
