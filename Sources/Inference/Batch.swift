public import TensorCore
public import Tokenization

/// Runs several sequences of one model at once: their tokens share each pass over the weights, which
/// is what a decoded token costs.
///
/// A step takes any mixture of sequences that decode and of chunks of prompts. The logits of a
/// sequence are those that its session alone would give, bit for bit, whatever runs beside it.
public final class Batch {
  /// What one sequence does in a step.
  public struct Step {
    public let session: Session
    public let tokens: [TokenID]
    public let logits: LogitsRequest

    public init(_ session: Session, tokens: [TokenID], logits: LogitsRequest = .last) {
      self.session = session
      self.tokens = tokens
      self.logits = logits
    }
  }

  public let model: Model
  private let pass: ForwardPass

  /// - Parameter activations: that of all sessions.
  public init(model: Model, activations: ActivationPrecision = .int8) {
    self.model = model
    pass = ForwardPass(model: model, activations: activations)
  }

  /// Appends each step's tokens to its session, all in one pass.
  ///
  /// A step that fails leaves its session as it was, or, where logits fail, with the tokens appended;
  /// it does not touch the others.
  ///
  /// - Parameters:
  ///   - steps: of different sessions of the batch's model. Scratch memory grows with the number of
  ///     their tokens, so a long prompt is given in chunks, like ``Session/defaultChunkLength``.
  ///   - receive: called with the index of a step, that of one of its tokens and the logits that follow
  ///     it, valid during the call; in order for each step.
  /// - Returns: for every step what went wrong, nil where nothing did.
  /// - Precondition: the sessions differ, and have the batch's model and activations.
  public func run(
    _ steps: [Step],
    receive: (_ step: Int, _ token: Int, _ logits: UnsafeBufferPointer<Float>) throws -> Void
  ) rethrows -> [InferenceError?] {
    precondition(Set(steps.map { ObjectIdentifier($0.session) }).count == steps.count)
    var errors = steps.map { step -> InferenceError? in
      precondition(
        step.session.model === model && step.session.activations == pass.activations)
      let check = Result { () throws(InferenceError) in try step.session.check(step.tokens) }
      if case .failure(let error) = check { return error }
      return nil
    }
    let (running, segments) = forward(steps, errors: &errors)
    var wanted: [(step: Int, token: Int, row: Int)] = []
    for (step, segment) in zip(running, segments) {
      steps[step].session.tokens += steps[step].tokens
      let count = segment.tokens.count
      let tokens =
        switch steps[step].logits {
        case .none: count..<count
        case .last: count - 1..<count
        case .all: 0..<count
        }
      wanted += tokens.map { (step, $0, segment.row + $0) }
    }
    while !wanted.isEmpty {
      let some = Array(wanted.prefix(ForwardPass.logitsBatch))
      let outcome = Result { () throws(PassFailure) in try pass.logits(of: some.map(\.row)) }
      switch outcome {
      case .failure(let failure):
        let (step, token, _) = some[failure.row]
        errors[step] = error(
          failure, steps[step].session, position: token - steps[step].tokens.count)
        wanted.removeAll { $0.step == step }
      case .success(let logits):
        wanted.removeFirst(some.count)
        for ((step, token, _), logits) in zip(some, logits) where errors[step] == nil {
          if let logits {
            try receive(step, token, logits)
          } else {
            let first = steps[step].session.position - steps[step].tokens.count
            errors[step] = .nonFiniteLogits(position: first + token)
            wanted.removeAll { $0.step == step }
          }
        }
      }
    }
    return errors
  }

  /// Runs the steps that have no error and some token; where one fails, the others again without it.
  private func forward(
    _ steps: [Step], errors: inout [InferenceError?]
  ) -> (steps: [Int], segments: [Segment]) {
    while true {
      var (running, segments, row) = ([Int](), [Segment](), 0)
      for (index, step) in steps.enumerated() where errors[index] == nil && !step.tokens.isEmpty {
        let ready = Result { () throws(InferenceError) in try step.session.catchUp() }
        if case .failure(let error) = ready {
          errors[index] = error
          continue
        }
        running.append(index)
        segments.append(
          Segment(
            tokens: step.tokens[...], position: step.session.position, cache: step.session.cache,
            state: step.session.state, row: row))
        row += step.tokens.count
      }
      let outcome = Result { () throws(PassFailure) in try pass.run(segments) }
      guard case .failure(let failure) = outcome,
        let place = segments.firstIndex(where: { $0.rows.contains(failure.row) })
      else { return (running, segments) }
      let step = running[place]
      errors[step] = error(
        failure, steps[step].session, position: failure.row - segments[place].row)
    }
  }

  /// - Parameter position: relative to the session's next one.
  private func error(
    _ failure: PassFailure, _ session: Session, position: Int
  ) -> InferenceError {
    failure.error(position: session.position + position, cacheType: session.cacheType)
  }
}
