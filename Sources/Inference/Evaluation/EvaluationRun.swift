import TensorCore
import Tokenization

/// Takes a model, and a reference beside it, through the windows of an ``Evaluation``.
struct EvaluationRun {
  private let session: Session
  private let reference: Session?
  private let windows: TokenWindows
  private(set) var predictions: LogitsComparison
  /// Nil unless hidden states are compared.
  let layers: LayerComparison?
  private var doneCount = 0

  /// Tokens whose logits are held at once.
  private static let rowsPerStep = 64

  /// - Throws: ``InferenceError/vocabularies(_:_:)``, ``InferenceError/layers(_:_:)``.
  init(
    session: Session, reference: Session?, windows: TokenWindows, comparingLayers: Bool
  ) throws(InferenceError) {
    self.session = session
    self.reference = reference
    self.windows = windows
    predictions = LogitsComparison(windowLength: windows.scoredPerWindow)
    guard let reference else {
      layers = nil
      return
    }
    let (a, b) = (reference.model.shape, session.model.shape)
    guard a.vocabularySize == b.vocabularySize else {
      throw .vocabularies(a.vocabularySize, b.vocabularySize)
    }
    guard comparingLayers else {
      layers = nil
      return
    }
    guard a.layerCount == b.layerCount, a.hiddenSize == b.hiddenSize else {
      throw .layers([a.layerCount, a.hiddenSize], [b.layerCount, b.hiddenSize])
    }
    layers = LayerComparison(depths: a.layerCount + 1, width: a.hiddenSize)
  }

  /// Reads one window: first what is context only, then what is scored, step by step.
  mutating func evaluate(
    _ window: ArraySlice<TokenID>, progress: (Evaluation.Progress) -> Void
  ) throws {
    let context = window.prefix(windows.skip)
    for session in [reference, session] {
      session?.reset()
      try session?.append(context)
    }
    report(context.count, to: progress)
    // The last token of the window has no next one.
    for start in stride(from: context.endIndex, to: window.endIndex - 1, by: Self.rowsPerStep) {
      let tokens = window[start..<min(start + Self.rowsPerStep, window.endIndex - 1)]
      layers?.begin()
      let expected = try reference.map { reference in
        try logits(of: reference, appending: tokens) { layers, depth, hidden, count in
          layers.keep(hidden, count: count, depth: depth)
        }
      }
      let found = try logits(of: session, appending: tokens) { layers, depth, hidden, count in
        layers.add(hidden, count: count, depth: depth)
      }
      predictions.add(
        found, reference: expected, next: window[start + 1..<tokens.endIndex + 1],
        pool: session.model.pool)
      report(tokens.count, to: progress)
    }
    report(1, to: progress)
  }

  /// The logits that follow every token, row-major; shows the hidden states to `observe` on the way
  /// where they are compared.
  private func logits(
    of session: Session, appending tokens: ArraySlice<TokenID>,
    observe: @escaping (LayerComparison, _ depth: Int, _ hidden: Rows, _ count: Int) -> Void
  ) throws -> [Float] {
    session.observer = layers.map { layers in { observe(layers, $0, $1, $2) } }
    defer { session.observer = nil }
    var logits: [Float] = []
    logits.reserveCapacity(tokens.count * session.model.shape.vocabularySize)
    try session.append(tokens, logits: .all) { logits += $1 }
    return logits
  }

  private mutating func report(_ count: Int, to progress: (Evaluation.Progress) -> Void) {
    doneCount += count
    let (loss, divergence) = predictions.running
    progress(
      Evaluation.Progress(
        doneCount: doneCount, totalCount: windows.windows.count * windows.length, loss: loss,
        divergence: divergence))
  }
}
