/// The experts of a mixture, the same in every layer.
public struct ExpertConfiguration: Sendable, Equatable {
  /// What the tensors of a layer are called.
  public enum Naming: Sendable {
    /// As published: `router.layer.weight`, `input_linear.weight`, `output_linear.weight`.
    case linear
    /// As transformers 5 saves: `router.weight`, `experts.gate_up_proj`, `experts.down_proj`.
    case parameters
  }

  /// Experts of a layer.
  public var count: Int
  /// Experts that a token is sent to; at most ``count``.
  public var usedCount: Int
  /// Features inside an expert.
  public var intermediateSize: Int
  public var naming: Naming

  public init(
    count: Int, usedCount: Int, intermediateSize: Int, naming: Naming = .linear
  ) {
    self.count = count
    self.usedCount = usedCount
    self.intermediateSize = intermediateSize
    self.naming = naming
  }

  private static let module = "block_sparse_moe."

  /// Name of the router within a layer; its shape is [experts, hidden].
  public var router: String {
    Self.module + (naming == .linear ? "router.layer.weight" : "router.weight")
  }
  /// The gate rows of each expert, then its up rows: [experts, 2 · intermediate, hidden].
  public var gateUp: String {
    Self.module + (naming == .linear ? "input_linear.weight" : "experts.gate_up_proj")
  }
  /// [experts, hidden, intermediate].
  public var down: String {
    Self.module + (naming == .linear ? "output_linear.weight" : "experts.down_proj")
  }
}

extension ExpertConfiguration {
  /// - Returns: nil for a model without experts.
  /// - Parameter isOptional: whether a model of this kind may be without.
  init?(_ fields: ConfigurationFields, isOptional: Bool) throws(ConfigurationError) {
    let key = "num_local_experts"
    // Missing fields mean what the published model code says.
    count = try fields.integer(key, in: (isOptional ? 0 : 1)...1 << 12) ?? 8
    if count == 0 { return nil }
    usedCount = try fields.integer("num_experts_per_tok", in: 1...count) ?? min(2, count)
    intermediateSize = try fields.require(
      "intermediate_size", fields.integer("intermediate_size", in: 1...1 << 22))
    naming = .linear
  }
}
