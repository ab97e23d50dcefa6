import Hummingbird
import JSON
import Logging
import QuarryKit

/// A request's line in the log: what was asked, how it went and how long it took; of what was said,
/// the prompts, where the log tells everything.
struct LogEntry: Sendable {
  /// That of the request whose work the task does.
  @TaskLocal static var current: LogEntry?

  let id = Identifiers.make("req_")
  private let line: String
  private let logger: Logger
  private let start = ContinuousClock.now

  init(_ request: Request, logger: Logger) {
    // Without the query, and without what could write lines of its own.
    line = "\(request.method.rawValue) \(request.uri.path)".shown
    self.logger = logger
  }

  /// Whether the log is to hold prompts.
  var tellsPrompts: Bool { logger.logLevel <= .debug }

  /// - Parameter prompt: as the model reads it.
  func tell(prompt: String) {
    logger.debug("prompt", metadata: ["request": "\(id)", "prompt": "\(prompt)"])
  }

  func finish(status: Int, error: (any Error)?) {
    let time = (ContinuousClock.now - start) / .milliseconds(1)
    var metadata: Logger.Metadata = [
      "request": "\(id)", "status": .stringConvertible(status),
      "ms": .stringConvertible(Int(time.rounded())),
    ]
    switch error {
    case nil: break
    case is CancellationError: metadata["end"] = "the client left"
    case let error?: metadata["end"] = "\(APIError(error).code ?? "error")"
    }
    logger.info("\(line)", metadata: metadata)
    if status >= 500, let error, !(error is EngineError) {
      logger.error("request failed: \("\(type(of: error))".shown)", metadata: ["request": "\(id)"])
    }
  }
}
