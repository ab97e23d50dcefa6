import Foundation
import JSON
import ModelFiles
import QuarryKit
import Synchronization

/// Answers the requests of a file, many at once, and writes the answers into another.
///
/// Answers are kept in `OUTPUT.journal` as they come; a run that was ended in whatever way goes on with
/// the requests that have none. The output has them in the order of the requests, and appears when all
/// are there.
public struct BatchRun: Sendable {
  /// What was done, in this run and earlier ones.
  public struct Report: Sendable, Equatable {
    public var requests = 0
    /// Requests whose answer is an error.
    public var failures = 0
    /// Requests that an earlier run had answered.
    public var resumed = 0
    /// Of this run.
    public var promptTokens = 0
    public var completionTokens = 0
  }

  private let input: BatchInput
  private let inputPath: String
  private let output: String
  private let title: String
  private let seed: UInt64
  private let replacing: Bool
  private let restarting: Bool

  /// Reads the requests.
  ///
  /// - Parameters:
  ///   - text: of the file at `path`.
  ///   - prompts: whether each line is what a user says; otherwise they are as OpenAI's.
  ///   - seed: of requests without one: it is added to their number.
  ///   - replacing: whether an existing output may be replaced.
  ///   - restarting: whether answers of an earlier run are discarded.
  /// - Throws: `SlabError` for an output that cannot be written.
  public init(
    _ text: [UInt8], path: String, output: String, prompts: Bool, seed: UInt64, replacing: Bool,
    restarting: Bool
  ) throws {
    input = BatchInput(text, form: prompts ? .prompts : .requests)
    inputPath = path
    self.output = output
    self.seed = seed
    self.replacing = replacing
    self.restarting = restarting
    title = "quarry batch 1, requests \(Digest(of: text)), prompts \(prompts), seed \(seed)"
    try OutputFile.check(output, replacing: replacing, inputs: [path])
  }

  /// Where answers are kept until all are there.
  public var journalPath: String { output + ".journal" }

  public var requestCount: Int { input.requests.count }

  /// Answers what has no answer yet.
  ///
  /// - Parameters:
  ///   - model: whose engine has room in its queue for as many requests as it has slots. It is stopped
  ///     in the end. Answers of another model are not gone on with.
  ///   - progress: called with the requests that are answered, and the tokens that this run has chosen.
  /// - Throws: `CancellationError` when the task is cancelled, with all answers so far in the journal;
  ///   `FileError`, `SlabError`.
  public func run(
    on model: ServedModel,
    progress: @escaping @Sendable (_ done: Int, _ tokens: Int) -> Void
  ) async throws -> Report {
    defer { model.engine.stop() }
    let journal = try LineJournal(
      path: journalPath, title: "\(title), model \(model.version)", inputs: [inputPath],
      restarting: restarting)
    var answers = try Self.answers(in: journal, count: requestCount)
    var report = Report()
    report.requests = requestCount
    report.resumed = answers.count { $0 != nil }
    var done = report.resumed
    progress(done, 0)
    let open = input.requests.indices.filter { answers[$0] == nil }
    // As many wait as run, so that no slot is ever idle.
    let width = 2 * model.engine.configuration.slots
    try await withThrowingTaskGroup(of: (Int, JSONObject).self) { group in
      var next = open.makeIterator()
      func add() {
        guard let index = next.next() else { return }
        group.addTask { (index, try await answer(index, model)) }
      }
      for _ in 0..<width { add() }
      while let (index, answer) = try await group.next() {
        let line = Array(JSONValue.object(answer).serialized().utf8)
        try journal.append(Array("\(index) ".utf8) + line)
        answers[index] = line
        report.add(answer)
        done += 1
        progress(done, report.completionTokens)
        add()
      }
    }
    report.failures = answers.count { Self.isFailure($0!) }
    try OutputFile.write(
      answers.reduce(into: []) { $0 += $1! + [0x0A] }, to: output, replacing: replacing,
      inputs: [inputPath])
    journal.remove()
    return report
  }

  /// - Throws: `CancellationError`; everything else is an answer.
  private func answer(_ index: Int, _ model: ServedModel) async throws -> JSONObject {
    let request = input.requests[index]
    let id = "batch_req_\(index + 1)"
    let (status, body) = try await respond(to: request, index, model)
    return [
      "id": .string(id), "custom_id": request.customID.map { .string($0) } ?? .null,
      "response": .object([
        "status_code": .integer(status), "request_id": .string(id), "body": body,
      ]),
      "error": .null,
    ]
  }

  private func respond(
    to request: BatchInput.Request, _ index: Int, _ model: ServedModel
  ) async throws -> (status: Int, body: JSONValue) {
    while true {
      do {
        var (endpoint, fields) = try request.outcome.get()
        if fields["seed"]?.isNull ?? true {
          fields["seed"] = .integer(Int((seed &+ UInt64(index)) & 0x7FFF_FFFF_FFFF))
        }
        let response = try await endpoint.respond(
          to: RequestFields(fields), ServedModels([model]))
        guard case .json(let value) = response.body else {
          preconditionFailure("only streams are something else")
        }
        return (response.status, value)
      } catch let error as CancellationError {
        throw error
      } catch EngineError.queueFull {
        // Requests of many choices have filled it.
        try await Task.sleep(for: .milliseconds(100))
      } catch {
        let error = APIError(error)
        return (error.status, error.json)
      }
    }
  }

  /// The answers of earlier runs: lines that begin with the number of their request.
  private static func answers(
    in journal: LineJournal, count: Int
  ) throws(FileError) -> [[UInt8]?] {
    var answers = [[UInt8]?](repeating: nil, count: count)
    for line in journal.earlier {
      let parts = line.split(separator: 0x20, maxSplits: 1)
      guard parts.count == 2, let index = Int(String(decoding: parts[0], as: UTF8.self)),
        answers.indices.contains(index), let answer = try? JSONValue(parsing: Array(parts[1])),
        answer.object != nil
      else { throw FileError(path: journal.path, reason: "it is damaged; remove it") }
      answers[index] = Array(parts[1])
    }
    return answers
  }

  private static func isFailure(_ line: [UInt8]) -> Bool {
    let status = (try? JSONValue(parsing: line))?["response"]?["status_code"]?.integer
    return status != 200
  }
}

extension BatchRun.Report {
  fileprivate mutating func add(_ answer: JSONObject) {
    let usage = answer["response"]?["body"]?["usage"]
    promptTokens += usage?["prompt_tokens"]?.integer ?? 0
    completionTokens += usage?["completion_tokens"]?.integer ?? 0
  }
}
