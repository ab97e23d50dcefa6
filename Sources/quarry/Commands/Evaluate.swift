import ArgumentParser
import Inference
import JSON
import ModelFiles
import TensorCore
import Tokenization

struct Evaluate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure how well a model predicts a text, and how far it is from a reference.",
    discussion: """
      The text is tokenized as it is (no tokenizer that Quarry executes adds a beginning-of-text \
      token) and cut into windows of --context tokens; what is left over is dropped. Each window is \
      read by itself, and of each the predictions of the second half are scored, as llama.cpp's \
      perplexity tool does, so that figures can be compared: of 512 tokens the last 255. --skip N \
      scores all but the first N predictions instead.

      With --reference, another slab or the checkpoint that the slab was made of is run beside it, in \
      the same process: KL divergence of the slab's predictions from the reference's, in nats, how \
      often both have the same best token, and the change of perplexity. A checkpoint is computed in \
      float32 (its KV cache too); a reference slab is run as the slab is. --layers compares hidden \
      states after every layer, at the scored positions: mean cosine, and mean length of the difference \
      over that of the reference's.

      Errors (±) are standard errors of the mean. Those over tokens are what llama.cpp reports and \
      treat tokens as independent of each other; those over windows do not.

      JSON
        model, reference, text  the paths; root_digest, reference_root_digest: which slabs they are
        context, skip           as above; windows: how many; predictions: how many were scored
        activations, kv         how the model was run
        loss, reference_loss    mean negative log-likelihood in nats (E, see below)
        perplexity              value, standard_error, window_standard_error
        reference_perplexity    the same of the reference
        log_perplexity_ratio    ln(perplexity / reference perplexity), paired (E)
        kl                      E, and median, percentile_99, maximum
        same_best_token         share of predictions (E)
        layers                  depth (0: embedding), cosine, relative_error
        by_window               loss, reference_loss, kl, same_best_token of each window
      E is mean, standard_error (over tokens), window_standard_error (null for one window). Numbers are \
      finite, or null; members that need a reference or --layers are absent without.

      EXAMPLES
        quarry evaluate granite.slab --text wiki.test.raw
        quarry evaluate granite.slab --text notes.txt --reference granite-3.3-2b-instruct
        quarry evaluate granite-q4s.slab --text notes.txt --reference granite-q8.slab --windows 16
        quarry evaluate granite.slab --text notes.txt --reference granite-3.3-2b-instruct --layers \
      --json
      """)

  @Argument(
    help: "A slab or a checkpoint directory; without one, the bundled demonstration model Pebble.",
    completion: .file())
  var model: String?
  @Option(help: "The text to predict (UTF-8); - is standard input.", completion: .file())
  var text: String
  @Option(help: "A slab or a checkpoint directory to compare with.", completion: .file())
  var reference: String?
  @Option(parsing: .unconditional, help: "Tokens of a window.")
  var context = 512
  @Option(
    parsing: .unconditional,
    help: "Predictions at the beginning of a window that are not scored (default: half of it).")
  var skip: Int?
  @Option(parsing: .unconditional, help: "Windows to evaluate at most.")
  var windows: Int?
  @Option(
    help: "int8: activations of slabs are quantized too, as when they generate; f32: weights alone."
  )
  var activations = ActivationPrecision.int8
  @OptionGroup var loading: LoadingOptions
  @OptionGroup var cache: CacheOptions
  @OptionGroup var runtime: RuntimeOptions
  @Flag(help: "Compare hidden states with the reference's, layer by layer.")
  var layers = false
  @Flag(help: "Print one JSON object.")
  var json = false

  func validate() throws {
    if context < 2 { throw ValidationError("--context must be at least 2, not \(context).") }
    if let skip, !(0...context - 2).contains(skip) {
      throw ValidationError("--skip must be from 0 to --context - 2, not \(skip).")
    }
    if let windows, windows < 1 {
      throw ValidationError("--windows must be at least 1, not \(windows).")
    }
    if layers && reference == nil { throw ValidationError("--layers needs a --reference.") }
  }

  func run() throws {
    Interrupt.watch()
    let content = try InputFiles.readText(text)
    let pool = runtime.makePool()
    let evaluated = try load(model, pool: pool)
    let reference = try reference.map { try load($0, pool: pool) }
    let windows = try tokenWindows(content, evaluated, reference)
    let session = try makeSession(evaluated)
    let referenceSession = try reference.map(makeSession)
    let progress = Progress("evaluating")
    defer { progress.finish() }
    let evaluation: Evaluation
    do {
      evaluation = try Evaluation(
        of: session, reference: referenceSession, on: windows, comparingLayers: layers
      ) { progress.update($0.doneCount, of: $0.totalCount, $0.detail) }
    } catch is CancellationError {
      throw Interrupt.exitCode
    }
    progress.finish()
    let report = EvaluationReport(
      evaluation: evaluation, windows: windows, evaluated: evaluated, reference: reference,
      text: text, activations: session.activations, cacheType: session.cacheType)
    try Console.write(json ? report.json.serialized(indented: true) + "\n" : report.table)
  }

  private func load(_ path: String?, pool: WorkerPool) throws -> EvaluatedModel {
    if let path, InputFiles.isDirectory(path) {
      return try EvaluatedModel(checkpoint: Checkpoint(directory: path), pool: pool)
    }
    return try EvaluatedModel(slab: path, loading: loading, pool: pool)
  }

  /// A checkpoint is run in float32 throughout, whatever the options say: it is what others are
  /// compared with.
  private func makeSession(_ side: EvaluatedModel) throws -> Session {
    let session = try Session(
      model: side.model, contextLength: context,
      activations: side.isCheckpoint ? .f32 : activations,
      cacheType: side.isCheckpoint ? .f32 : cache.kv)
    session.isCancelled = { Interrupt.isRequested }
    return session
  }

  /// Cuts the text, and refuses a reference that would cut it differently.
  private func tokenWindows(
    _ content: String, _ evaluated: EvaluatedModel, _ reference: EvaluatedModel?
  ) throws -> TokenWindows {
    guard let tokens = try evaluated.model.tokenizer?.encode(content) else {
      throw InputError("\(evaluated.name) has no tokenizer.json, so it cannot read a text")
    }
    if let reference, let other = try reference.model.tokenizer?.encode(content), other != tokens {
      let place = zip(tokens, other).enumerated().first { $1.0 != $1.1 }?.offset
      throw InputError(
        "the tokenizers of \(evaluated.name) and \(reference.name) differ "
          + "(on this text from token \(place ?? min(tokens.count, other.count)) on): their "
          + "predictions cannot be compared")
    }
    let windows = TokenWindows(tokens, length: context, skip: skip, limit: self.windows ?? .max)
    guard !windows.windows.isEmpty else {
      throw InputError(
        "the text has \(tokens.count) tokens, less than one window of \(context); give a longer "
          + "text or a smaller --context")
    }
    return windows
  }
}

extension Evaluation.Progress {
  fileprivate var detail: String {
    [
      loss.map { "perplexity \(Format.decimal(PortableMath.exp($0), 2))" },
      divergence.map { "KL \(Format.significant($0))" },
    ].compactMap { $0 }.joined(separator: ", ")
  }
}
