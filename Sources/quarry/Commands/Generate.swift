import ArgumentParser
import Inference
import JSON
import ModelFiles
import TensorCore
import Tokenization

struct Generate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Generate text from a prompt.",
    discussion: """
      The prompt becomes the user's turn of the model's chat template. A prompt that begins with the \
      template's first special token is taken as it is, and so is every prompt with --raw or for a \
      model without a template. The text streams to standard output, figures to standard error.

      With --score nothing is generated. Each given continuation is shown with its share of the \
      probability of all that are given, its own probability, and the logarithm of that. It follows \
      the prompt as it stands, spaces included.

      EXAMPLES
        quarry generate -p "What is granite?"
        quarry generate granite.slab -p "Name three rocks." --temperature 0
        quarry generate granite.slab -f notes.txt --system "One sentence, please."
        quarry generate granite.slab -f notes.txt --stats
        quarry generate granite.slab --messages chat.json --documents docs.json --seed 7
        quarry generate guardian.slab --messages chat.json --score "Yes,No"
        echo "Once upon a time" | quarry generate granite.slab --raw --max-tokens 100
      """)

  @OptionGroup var model: SlabArgument
  @Option(name: .shortAndLong, parsing: .unconditional, help: "The prompt.")
  var prompt: String?
  @Option(name: .shortAndLong, help: "A file with the prompt (default: standard input).")
  var file: String?
  @Option(parsing: .unconditional, help: "The system message.")
  var system: String?
  @Option(help: "JSON file with an array of messages, instead of a prompt.", completion: .file())
  var messages: String?
  @Flag(help: "Complete the prompt as it is, without the chat template.")
  var raw = false
  @Flag(help: "Show on standard error what the run took, beside what the machine could do at best.")
  var stats = false
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Tell how likely these texts follow, instead of generating.", valueName: "text,text…"))
  var score: String?
  @Flag(help: "Show --stats or --score as a line of JSON.")
  var json = false
  @OptionGroup var template: TemplateOptions
  @OptionGroup var engine: EngineOptions
  @OptionGroup var sampling: SamplingOptions

  func validate() throws {
    if [prompt, file, messages].count(where: { $0 != nil }) > 1 {
      throw ValidationError("Give the prompt once: with --prompt, --file or --messages.")
    }
    if messages != nil, system != nil {
      throw ValidationError("Put the system message into the file of --messages.")
    }
    if json, !stats, score == nil {
      throw ValidationError("--json is for --stats and --score.")
    }
    if let score {
      if stats {
        throw ValidationError("--stats is for what is generated; --score generates nothing.")
      }
      if score.split(separator: ",", omittingEmptySubsequences: false).contains("") {
        throw ValidationError("--score takes texts between commas, as in \"Yes,No\".")
      }
    }
    if raw, messages != nil || system != nil {
      throw ValidationError("--raw takes a prompt, not --messages or --system.")
    }
  }

  func run() throws {
    let model = try engine.load(model)
    let ready = ContinuousClock.now
    let tokens = try model.requireTokenizer().encode(try promptText(for: model))
    let session = try engine.makeSession(model)
    Interrupt.watch()
    if let score { return try show(score, after: tokens, in: session) }
    let asked = ContinuousClock.now
    let summary = try Streaming.run(
      try Generator(
        session: session, prompt: tokens, options: sampling.generationOptions(),
        keepsPromptState: false))
    Console.note(summary.line)
    if stats {
      let statistics = RunStatistics(
        summary, model: model, session: session, ready: ready, asked: asked)
      Console.note(json ? statistics.json.serialized() : statistics.text)
    }
    if summary.finishReason == .cancelled { throw Interrupt.exitCode }
  }

  private func show(_ list: String, after prompt: [TokenID], in session: Session) throws {
    session.isCancelled = { Interrupt.isRequested }
    let texts = list.split(separator: ",").map(String.init)
    let tokenizer = try session.model.requireTokenizer()
    let scores: [ContinuationScore]
    do {
      scores = try session.scores(of: try texts.map { try tokenizer.encode($0) }, after: prompt)
    } catch is CancellationError {
      throw Interrupt.exitCode
    }
    let probabilities = scores.map { PortableMath.exp($0.logprob) }
    let sum = probabilities.reduce(0, +)
    let rows = zip(texts, zip(scores, probabilities)).map { text, found in
      (text, share: sum > 0 ? found.1 / sum : 0, found.1, found.0.logprob)
    }
    if json {
      let array = rows.map { text, share, probability, logprob in
        JSONValue.object([
          "text": .string(text), "share": .double(share), "probability": .double(probability),
          "logprob": .double(logprob),
        ])
      }
      try Console.write(JSONValue.array(array).serialized() + "\n")
      return
    }
    let table = Format.table(
      ["continuation", "share", "probability", "logprob"],
      rows.map { text, share, probability, logprob in
        [
          text.shown, Format.decimal(share, 4), Format.decimal(probability, 6),
          Format.decimal(logprob, 3),
        ]
      }, right: [1, 2, 3])
    try Console.write(table + "\n")
  }

  private func promptText(for model: Model) throws -> String {
    if raw { return try prompt ?? InputFiles.readText(file ?? "-") }
    let chatTemplate = try template.override() ?? model.chatTemplate
    if let messages {
      guard let chatTemplate else { throw InputError.noChatTemplate }
      return try template.render(
        InputFiles.readJSON(messages), with: chatTemplate, specialTokens: model.specialTokens)
    }
    let text = try prompt ?? InputFiles.readText(file ?? "-")
    guard let chatTemplate, try !model.isRawPrompt(text, template: chatTemplate) else {
      if system != nil {
        throw InputError("the prompt is completed as it is, which leaves no place for --system")
      }
      return text
    }
    return try template.render(
      conversation(system: system, [("user", text)]), with: chatTemplate,
      specialTokens: model.specialTokens)
  }
}
