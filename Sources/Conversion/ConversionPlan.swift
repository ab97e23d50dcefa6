public import ModelFiles
public import TensorCore

/// What a conversion will write, in the order of the file: the matrices of the layers ascending,
/// tensors that are no matrices, output projection, embedding. Costs nothing to make.
public struct ConversionPlan: Sendable {
  /// Tensors that are converted together, and after which a conversion can be taken up again.
  public struct Step: Sendable {
    /// What the tensors of a step have in common.
    public enum Kind: Sendable, Hashable {
      /// The matrices of one decoder layer.
      case layer(Int)
      /// All that are no matrices, those of the layers included.
      case vectors
      /// The output projection of a model whose embedding is not also that.
      case output
      /// The embedding, last: where it is also the output projection, its input is known only then.
      case embedding
    }

    public let kind: Kind
    /// In the order in which they are written; never empty.
    public let entries: [Entry]
  }

  /// One tensor and what becomes of it.
  public struct Entry: Sendable {
    /// The tensor of the checkpoint.
    public let tensor: TensorDescriptor
    /// What the tensor does in the model.
    public let role: TensorRole
    /// Decoder layer, from 0; nil for a tensor outside the layers.
    public let layer: Int?
    /// Element type in the checkpoint.
    public let sourceType: ElementType
    /// Nil for tensors that stay plain float32.
    public let encoding: BlockEncoding?
    /// Place of the rule that chose the encoding among the recipe's; nil for tensors that stay plain.
    public let ruleIndex: Int?
    /// Bytes of all streams, padding of rows and columns included, uncompressed.
    public let logicalByteCount: Int
    /// Matrices that a token is multiplied with: of those of the experts as many as it is sent to.
    public let usedMatrixCount: Int

    /// Part of the tensor that a token needs.
    public var usedShare: Double { Double(usedMatrixCount) / Double(tensor.matrixCount) }
    /// Bytes of that part.
    public var usedByteCount: Int {
      encoding == nil ? logicalByteCount : logicalByteCount / tensor.matrixCount * usedMatrixCount
    }
  }

  /// One for each layer, ascending; then vectors, output, embedding, those that there are.
  public let steps: [Step]
  /// One for each tensor, in the order in which they are written.
  public let entries: [Entry]
  /// What the recipe's author may not have meant, as clauses without a full stop.
  public let warnings: [String]

  /// Bytes of all source tensors.
  public var sourceByteCount: Int { entries.reduce(0) { $0 + $1.tensor.byteCount } }
  /// Bytes of all streams, uncompressed.
  public var logicalByteCount: Int { entries.reduce(0) { $0 + $1.logicalByteCount } }

  /// What `recipe` makes of the tensors of `checkpoint`; reads no weights.
  ///
  /// - Throws: ``RecipeError/unmatched(recipe:tensors:)``,
  ///   ``RecipeError/impossible(recipe:rule:problem:)``.
  public init(_ checkpoint: Checkpoint, recipe: Recipe) throws(RecipeError) {
    let configuration = checkpoint.configuration
    let matching = try RecipeMatching(recipe, configuration)
    warnings = matching.warnings
    var steps: [Step.Kind: [Entry]] = [:]
    for match in matching.tensors {
      // A checkpoint has been checked against its configuration.
      guard let tensor = checkpoint.descriptor(named: match.name), let type = tensor.elementType
      else { preconditionFailure("\(match.name) is missing") }
      let entry = Entry(
        tensor: tensor, role: match.role, layer: match.layer, sourceType: type,
        encoding: match.encoding, ruleIndex: match.ruleIndex,
        logicalByteCount: Self.byteCount(tensor, match.encoding),
        usedMatrixCount: match.role.isOfExperts ? configuration.experts?.usedCount ?? 1 : 1)
      steps[Step.Kind(match.role, layer: match.layer), default: []].append(entry)
    }
    let order =
      (0..<configuration.layerCount).map { Step.Kind.layer($0) } + [.vectors, .output, .embedding]
    self.steps = order.compactMap { kind in
      steps[kind].map { Step(kind: kind, entries: $0) }
    }
    entries = self.steps.flatMap(\.entries)
  }

  private static func byteCount(_ tensor: TensorDescriptor, _ encoding: BlockEncoding?) -> Int {
    guard let encoding else { return tensor.elementCount * 4 }
    // The configuration's ranges lie within those of a form.
    return MatrixForm(shape: tensor.shape)!.byteCount(in: encoding)
  }
}

extension ConversionPlan.Step.Kind {
  /// Where a tensor belongs.
  fileprivate init(_ role: TensorRole, layer: Int?) {
    switch role {
    case .norm, .bias, .convolution, .stateSpace: self = .vectors
    case .output: self = .output
    case .embedding, .positions: self = .embedding
    default: self = .layer(layer!)  // every other matrix that a configuration asks for is a layer's
    }
  }
}
