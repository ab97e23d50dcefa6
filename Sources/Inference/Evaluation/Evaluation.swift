/// How good a model is: how well it predicts a text, and how far it is from a reference on it.
///
/// Logits are compared as they come, some positions at a time: nothing of the size of the text times
/// the vocabulary is kept.
public struct Evaluation: Sendable, Equatable {
  /// Means over the scored predictions of one window, for paired comparisons between models.
  public struct Window: Sendable, Equatable {
    /// Beside the reference.
    public struct Reference: Sendable, Equatable {
      /// The reference's loss, in nats.
      public let loss: Double
      /// KL divergence, in nats.
      public let divergence: Double
      /// Share of predictions with the same best token.
      public let top1Agreement: Double
    }

    /// Negative log-likelihood of a token, in nats.
    public let loss: Double
    /// Nil without a reference.
    public let reference: Reference?
  }

  /// How far an evaluation is.
  public struct Progress: Sendable {
    /// Tokens that the model has read, of all.
    public let doneCount: Int
    /// Tokens that it will read.
    public let totalCount: Int
    /// Mean loss of the predictions scored so far, in nats; nil before the first.
    public let loss: Double?
    /// Their mean KL divergence, in nats; nil also without a reference.
    public let divergence: Double?
  }

  /// Scored predictions.
  public let tokenCount: Int
  /// Of the model.
  public let perplexity: Perplexity
  /// Nil without a reference.
  public let divergence: Divergence?
  /// By depth, from the embedding on; empty unless asked for.
  public let layers: [LayerDivergence]
  /// In the order of the text.
  public let windows: [Window]

  /// Evaluates a model, each window from position 0.
  ///
  /// - Parameters:
  ///   - session: of the model; what it holds is forgotten.
  ///   - reference: of a model with the same vocabulary.
  ///   - comparingLayers: whether hidden states are compared too, which needs a reference.
  ///   - progress: called after every few positions.
  /// - Throws: ``InferenceError`` (``InferenceError/vocabularies(_:_:)`` and
  ///   ``InferenceError/layers(_:_:)`` for models that cannot be compared), `CancellationError`.
  public init(
    of session: Session, reference: Session? = nil, on windows: TokenWindows,
    comparingLayers: Bool = false, progress: (Progress) -> Void = { _ in }
  ) throws {
    var run = try EvaluationRun(
      session: session, reference: reference, windows: windows, comparingLayers: comparingLayers)
    for window in windows.windows { try run.evaluate(window, progress: progress) }
    tokenCount = windows.scoredCount
    perplexity = run.predictions.perplexity
    divergence = run.predictions.divergence
    layers = run.layers?.result ?? []
    self.windows = run.predictions.windows
  }
}
