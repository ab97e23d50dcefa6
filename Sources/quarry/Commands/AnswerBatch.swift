import ArgumentParser
import Foundation
import JSON
import Serving
import Synchronization

struct AnswerBatch: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "batch",
    abstract: "Answer many requests of a file, all slots busy.",
    discussion: """
      The file holds a request on each line, as OpenAI's batches have them: an object with custom_id, \
      method (POST), url (/v1/chat/completions or /v1/completions) and body, the request. With \
      --prompts each line is what a user says. Answers come in the order of the requests, an object \
      on each line: custom_id, and response with status_code and body; a request that cannot be \
      answered has its error there, and the others go on.

      Answers are kept in OUTPUT.journal as they come. A batch that was interrupted or killed goes on \
      with the requests that have none when the same command is run again. Requests without a seed \
      have --seed, plus their number.

      EXAMPLES
        quarry batch requests.jsonl -m granite.slab -o answers.jsonl
        quarry batch questions.txt --prompts -m granite.slab -o answers.jsonl --slots 8
      """)

  @Argument(help: "The file of requests.", completion: .file())
  var input: String
  @Option(
    name: .shortAndLong, help: "The slab (default: the bundled model Pebble).",
    completion: .file(extensions: ["slab"]))
  var model: String?
  @Option(name: .shortAndLong, help: "The file of answers to write.")
  var output: String
  @Flag(help: "Lines are prompts, not requests.")
  var prompts = false
  @Option(parsing: .unconditional, help: "Of the random numbers of requests without a seed.")
  var seed: UInt64 = 0
  @Flag(help: "Replace an existing output.")
  var force = false
  @Flag(help: "Discard the answers of an interrupted batch.")
  var restart = false
  @Flag(help: "Print what was done as JSON.")
  var json = false
  @OptionGroup var serving: ServingOptions

  func run() throws {
    let batch = try BatchRun(
      Array(Data(contentsOf: URL(filePath: input))), path: input, output: output, prompts: prompts,
      seed: seed, replacing: force, restarting: restart)
    Interrupt.watch()
    var argument = SlabArgument()
    argument.slab = model
    let served = try serving.load(
      argument, maxQueue: serving.slots + 128, isCancelled: { Interrupt.isRequested })
    let start = ContinuousClock.now
    let progress = Progress("answering")
    let outcome = Mutex<Result<BatchRun.Report, any Error>?>(nil)
    let done = DispatchSemaphore(value: 0)
    let task = Task.detached {
      let result = await Result {
        try await batch.run(on: served) { count, tokens in
          let seconds = (ContinuousClock.now - start) / .seconds(1)
          progress.update(
            count, of: batch.requestCount,
            "\(count) of \(batch.requestCount), \(Format.decimal(Double(tokens) / seconds, 1)) tokens/s"
          )
        }
      }
      outcome.withLock { $0 = result }
      done.signal()
    }
    while done.wait(timeout: .now() + .milliseconds(100)) == .timedOut {
      if Interrupt.isRequested { task.cancel() }
    }
    progress.finish()
    switch outcome.withLock({ $0! }) {
    case .success(let report):
      try show(report, seconds: (ContinuousClock.now - start) / .seconds(1))
    case .failure(is CancellationError):
      Console.note(
        "interrupted: the answers so far are kept in \(batch.journalPath); run the same command to "
          + "go on, or remove the file")
      throw Interrupt.exitCode
    case .failure(let error): throw error
    }
  }

  private func show(_ report: BatchRun.Report, seconds: Double) throws {
    if json {
      try Console.write(
        JSONValue.object([
          "output": .string(output), "requests": .integer(report.requests),
          "failures": .integer(report.failures), "resumed": .integer(report.resumed),
          "prompt_tokens": .integer(report.promptTokens),
          "completion_tokens": .integer(report.completionTokens), "seconds": .double(seconds),
        ]).serialized() + "\n")
    } else {
      let earlier = report.resumed > 0 ? ", \(report.resumed) of them by an earlier run" : ""
      let failed = report.failures > 0 ? ", \(report.failures) with an error" : ""
      let rate = Format.decimal(Double(report.completionTokens) / max(seconds, 1e-9), 1)
      try Console.write(
        "\(output): \(report.requests) answers\(earlier)\(failed); \(report.promptTokens) tokens read, "
          + "\(report.completionTokens) chosen, \(rate) a second\n")
    }
  }
}

extension Result where Failure == any Error {
  /// What an asynchronous call comes to.
  fileprivate init(_ body: () async throws -> Success) async {
    do { self = .success(try await body()) } catch { self = .failure(error) }
  }
}
