public import Inference
import JSON
import ModelFiles
import TensorCore
import Tokenization

/// A Granite model for an app: it answers as streams of text, several at once.
///
/// ```swift
/// import QuarryKit
///
/// let model = try LanguageModel(slab: "granite.slab")
/// for try await text in try model.reply(to: "Name three kinds of stone.") {
///   print(text, terminator: "")
/// }
/// ```
///
/// Answers that run at the same time are computed together and share what their prompts begin with; each
/// has the text that it would have alone. One that nobody reads any more is computed no further.
public final class LanguageModel: Sendable {
  /// How answers are computed, for those who want tokens, probabilities or statistics.
  public let engine: Engine
  private let tokenizer: Tokenizer

  /// Maps a slab, as `quarry convert` writes it.
  ///
  /// - Parameters:
  ///   - path: of the slab.
  ///   - contextLength: tokens of a prompt and its answer together; by default, as many as the model was
  ///     made for.
  ///   - slots: answers that are computed together; more wait their turn.
  ///   - threads: that compute; by default, one for each physical core.
  /// - Throws: `FileError` and `SlabError` for files that are no good, `InferenceError` for models that
  ///   cannot be run.
  /// - Precondition: at least one slot and one thread.
  public convenience init(
    slab path: String, contextLength: Int? = nil, slots: Int = 4, threads: Int? = nil
  ) throws {
    let model = try Model(
      slab: Slab(path: path),
      pool: WorkerPool(threadCount: threads ?? ProcessorLimits.current.threadCount),
      kernels: .selected())
    try self.init(model, contextLength: contextLength, slots: slots)
  }

  /// Answers with a model that is loaded already.
  ///
  /// - Parameters:
  ///   - model: as `Inference` loads it.
  ///   - contextLength: tokens of a prompt and its answer together; by default, as many as the model was
  ///     made for.
  ///   - slots: answers that are computed together.
  /// - Throws: `InferenceError`, `TokenizerError`.
  /// - Precondition: at least one slot.
  public init(_ model: Model, contextLength: Int? = nil, slots: Int = 4) throws {
    guard let tokenizer = try model.tokenizer else {
      throw InferenceError.missingAsset(name: "tokenizer.json", model: "the model")
    }
    let limit = model.configuration.contextLength
    if let contextLength, !(1...limit).contains(contextLength) {
      throw InferenceError.contextLength(requested: contextLength, limit: limit)
    }
    self.tokenizer = tokenizer
    engine = try Engine(
      model: model,
      configuration: EngineConfiguration(
        slots: slots, contextLength: contextLength ?? limit, maxQueue: 1024))
  }

  deinit { engine.abandon() }

  /// The answer to what a user says, as the model's chat template puts it.
  ///
  /// - Parameters:
  ///   - prompt: what the user says.
  ///   - system: what the model is to be; by default, what the template says.
  ///   - options: how tokens are chosen, and how many.
  /// - Throws: `TemplateError`, `TokenizerError`, `InferenceError`, ``EngineError``; the stream throws
  ///   what goes wrong later, and `CancellationError` when its task is cancelled.
  public func reply(
    to prompt: String, system: String? = nil, options: GenerationOptions = GenerationOptions()
  ) throws -> TextStream {
    let turns = (system.map { [ChatTurn(.system, $0)] } ?? []) + [ChatTurn(.user, prompt)]
    return try reply(to: turns, options: options)
  }

  /// The answer to a conversation.
  ///
  /// - Parameters:
  ///   - conversation: all turns so far, the user's the last.
  ///   - options: how tokens are chosen, and how many.
  /// - Throws: as ``reply(to:system:options:)``.
  public func reply(
    to conversation: [ChatTurn], options: GenerationOptions = GenerationOptions()
  ) throws -> TextStream {
    guard let template = try engine.model.chatTemplate else {
      throw InferenceError.missingAsset(name: "chat template", model: "the model")
    }
    let messages = conversation.map {
      JSONValue.object(["role": .string($0.role.rawValue), "content": .string($0.text)])
    }
    let input = ChatInput(
      messages: .array(messages), specialTokens: engine.model.specialTokens)
    return try complete(try template.render(input, date: .today()), options: options)
  }

  /// What follows a text, which the model reads as it is.
  ///
  /// - Parameters:
  ///   - text: with the special tokens that the model expects.
  ///   - options: how tokens are chosen, and how many.
  /// - Throws: as ``reply(to:system:options:)``.
  public func complete(
    _ text: String, options: GenerationOptions = GenerationOptions()
  ) throws -> TextStream {
    let prompt = try tokenizer.encode(text)
    let request = EngineRequest(prompt: prompt, options: options)
    return TextStream(events: try engine.submit(request), model: self)
  }
}

/// What somebody said in a conversation.
public struct ChatTurn: Sendable, Equatable {
  public enum Role: String, Sendable {
    case system, user, assistant
  }

  public var role: Role
  public var text: String

  public init(_ role: Role, _ text: String) {
    self.role = role
    self.text = text
  }
}

/// How tokens are chosen, and when an answer ends.
public typealias GenerationOptions = Inference.GenerationOptions
