import ArgumentParser
import Foundation
import Inference
import JSON
import Tokenization

struct Chat: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Talk with a model.",
    discussion: """
      Type a message and press return. Ctrl-C stops an answer, Ctrl-D ends the conversation.

      COMMANDS
        /system TEXT   set the system message and start afresh
        /reset         forget the conversation
        /help          show these commands
        /quit          leave

      EXAMPLES
        quarry chat
        quarry chat granite.slab --system "Answer in rhyme."
      """)

  @OptionGroup var model: SlabArgument
  @Option(parsing: .unconditional, help: "The system message.")
  var system: String?
  @OptionGroup var template: TemplateOptions
  @OptionGroup var engine: EngineOptions
  @OptionGroup var sampling: SamplingOptions

  func run() throws {
    let model = try engine.load(model)
    guard let chatTemplate = try template.override() ?? model.chatTemplate else {
      throw InputError.noChatTemplate
    }
    let tokenizer = try model.requireTokenizer()
    let session = try engine.makeSession(model)
    let options = sampling.generationOptions()
    var system = system
    var turns: [(role: String, content: String)] = []
    Console.note("\(session.contextLength) tokens of context; /help lists the commands")

    while let line = try Self.readMessage() {
      switch Command(line) {
      case .nothing: continue
      case .quit: return
      case .help: Console.note(Self.help)
      case .unknown(let name): Console.note("unknown command \(name); /help lists the commands")
      case .reset:
        turns = []
        Console.note("the conversation starts afresh")
      case .system(let text):
        system = text.isEmpty ? nil : text
        turns = []
        Console.note(text.isEmpty ? "no system message" : "system message set")
      case .message(let text):
        let messages = conversation(system: system, turns + [("user", text)])
        do {
          let prompt = try template.render(
            messages, with: chatTemplate, specialTokens: model.specialTokens)
          var answer = ""
          Interrupt.watch()
          let summary = try Streaming.run(
            try Generator(
              session: session, prompt: try tokenizer.encode(prompt),
              options: options), collecting: &answer)
          if Interrupt.endsProgram { throw Interrupt.exitCode }
          turns += [("user", text), ("assistant", answer)]
          if summary.finishReason == .length {
            Console.note("(the answer was cut: \(summary.line))")
          }
        } catch let error as InferenceError {
          Console.note("\(error); /reset forgets the conversation")
        }
      }
    }
  }

  private static let help = """
    /system TEXT   set the system message and start afresh
    /reset         forget the conversation
    /help          show this
    /quit          leave (also Ctrl-D)
    Ctrl-C stops an answer.
    """

  private enum Command {
    case nothing, help, reset, quit, system(String), message(String), unknown(String)

    init(_ line: String) {
      let words = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true)
      switch words.first {
      case nil: self = .nothing
      case "/help": self = .help
      case "/reset": self = .reset
      case "/quit", "/exit": self = .quit
      case "/system": self = .system(words.count > 1 ? String(words[1]) : "")
      case let word? where word.hasPrefix("/"): self = .unknown(String(word))
      default: self = .message(line)
      }
    }
  }

  /// The next line; nil at the end of input.
  private static func readMessage() throws -> String? {
    if Console.inputIsTerminal { try Console.write("> ") }
    Interrupt.unwatch()  // at the prompt, Ctrl-C leaves
    return readLine()
  }
}
