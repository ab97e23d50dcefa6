import ArgumentParser
import Dispatch
import Foundation
import Inference
import Logging
import ModelFiles
import QuarryKit
import Serving
import Synchronization
import TensorCore

struct Serve: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serve models over HTTP, as OpenAI's and Replicate's APIs do.",
    discussion: """
      The server listens at once and answers 503 until the model is loaded. Requests run together, each \
      with the text that it would have alone; a prompt that begins like an earlier one is computed from \
      where it differs. Ctrl-C and SIGTERM let running answers finish (--grace) and end the program \
      with exit code 0; a second one ends it at once. The address goes to standard output.

      PATHS
        POST /v1/chat/completions, /v1/completions
        POST /v1/models/ID/predictions, /v1/predictions, /v1/predictions/N/cancel
        GET  /v1/predictions, /v1/predictions/N, /v1/predictions/N/stream
        GET  /v1/models, /v1/models/ID, /v1/models/ID/versions, /v1/webhooks/default/secret
        POST /tokenize, /detokenize, /apply-template
        POST /predictions, /predictions/N/cancel, /shutdown; PUT /predictions/N (Cog's)
        GET  /v1/openapi.json: all of these in detail; /openapi.json, /health-check: Cog's
        GET  /health, /metrics
        GET  /inspect: what the model is; / in a browser: a page to try it on

      A model is called local/NAME, after the slab's file, unless --model names it. The first one \
      answers requests that name none, and those to ibm-granite/granite-3.3-8b-instruct unless \
      another one has this name. Requests by other names of this machine \
      than localhost and its addresses, and from pages of other sites, are refused.

      Predictions are kept in a folder (--data): by default serve-PORT in $XDG_STATE_HOME/quarry, which \
      is commonly ~/.local/state/quarry; with --port 0 in memory. Their inputs, outputs and logs are \
      removed after --retention. With --allow-webhooks clients may name addresses that are called \
      about their predictions, signed as Replicate's calls are.

      The log goes to standard error: a line for each request, without what was said, which --verbose \
      adds.

      EXAMPLES
        quarry serve granite.slab
        quarry serve granite.slab --slots 8 --context 8192
        quarry serve --model small=granite-2b.slab --model large=granite-8b.slab
        quarry serve granite.slab --host 0.0.0.0 --api-key-file keys.txt
        REPLICATE_API_TOKEN=none REPLICATE_BASE_URL=http://localhost:8080 python -c 'import replicate;
          print(*replicate.run("local/granite", input={"prompt": "What is granite?"}))'
        curl localhost:8080/v1/chat/completions \\
          -d '{"messages": [{"role": "user", "content": "What is granite?"}]}'
      """)

  @OptionGroup var slab: SlabArgument
  @Option(
    name: .customLong("model"),
    help: ArgumentHelp(
      "A slab to serve under a name, which its owner may precede (OWNER/NAME=SLAB); repeatable.",
      valueName: "name=slab"))
  var models: [NamedSlab] = []
  @Option(help: "Address to listen on.")
  var host = "127.0.0.1"
  @Option(help: "Port to listen on; 0 for any that is free.")
  var port = 8080
  @Option(help: "Requests that may wait for a slot; more are answered with 429.")
  var maxQueue = 64
  @Option(
    help: "File with keys, one a line, of which requests have to show one.",
    completion: .file())
  var apiKeyFile: String?
  @Option(help: "Another name that reaches the first model; repeatable.")
  var alias: [String] = []
  @Option(
    help: ArgumentHelp(
      "Seconds that running answers have to finish when the server is told to end.",
      valueName: "seconds"))
  var grace = 30
  @Option(
    help: ArgumentHelp(
      "Folder in which predictions are kept (default: serve-PORT in the state folder).",
      valueName: "dir"), completion: .directory)
  var data: String?
  @Option(
    help: ArgumentHelp(
      "How long inputs, outputs and logs of predictions are kept: 90s, 30m, 7d (default: 1h).",
      valueName: "time"),
    transform: {
      guard let time = TimeSpan($0) else {
        throw ValidationError("it must be a time such as 90s, 30m, 1h30m or 7d, not \($0).")
      }
      return time
    })
  var retention: TimeSpan?
  @Flag(help: "Let requests bring chat templates of their own.")
  var allowRequestTemplates = false
  @Flag(help: "Let clients name addresses that are called about their predictions.")
  var allowWebhooks = false
  @Flag(help: "As --allow-webhooks, also addresses of this machine and of private networks.")
  var allowPrivateWebhooks = false
  @Flag(help: "Let clients end the server with POST /shutdown.")
  var enableShutdown = false
  @Option(help: "Another name by which clients may call this server; repeatable.")
  var allowHost: [String] = []
  @Option(help: "An origin like https://example.org whose pages may use the server; repeatable.")
  var allowOrigin: [String] = []
  @Flag(help: "Listen on other addresses than this machine's own without a key.")
  var insecure = false
  @Option(help: "How the log is written: text or json.")
  var log = ServerLog.Form.text
  @Flag(help: "Log prompts, as the model reads them.")
  var verbose = false
  @OptionGroup var serving: ServingOptions

  func validate() throws {
    guard (0...65535).contains(port) else {
      throw ValidationError("--port must be from 0 to 65535, not \(port).")
    }
    guard (0...100_000).contains(maxQueue) else {
      throw ValidationError("--max-queue must be from 0 to 100000, not \(maxQueue).")
    }
    guard (0...86400).contains(grace) else {
      throw ValidationError("--grace must be from 0 to 86400 seconds, not \(grace).")
    }
    var names = Set<String>()
    for id in served.map(\.id) where !names.insert(id).inserted {
      throw ValidationError(
        "two models are called \(id); give one of them another name with --model")
    }
    if apiKeyFile == nil, !insecure, !ServerOptions(host: host, port: port).isLoopback {
      throw ValidationError(
        "\(host) can be reached from other machines: give --api-key-file, or --insecure to serve "
          + "everyone.")
    }
  }

  /// What is served, the first one first.
  private var served: [(id: String, slab: SlabArgument)] {
    let named = models.map { (id: $0.id, slab: $0.slab) }
    return slab.slab != nil || named.isEmpty ? [(slab.modelID, slab)] + named : named
  }

  func run() throws {
    var options = ServerOptions(host: host, port: port)
    options.keys = try apiKeyFile.map(Self.readKeys) ?? []
    options.allowedHosts = allowHost
    options.allowedOrigins = allowOrigin
    options.grace = grace
    if let retention { options.retention = retention.seconds }
    options.allowsWebhooks = allowWebhooks || allowPrivateWebhooks
    options.allowsPrivateWebhooks = allowPrivateWebhooks
    options.allowsShutdown = enableShutdown
    let logger = Logger(label: "quarry") { [log, verbose] _ in
      ServerLog(log, level: verbose ? .debug : .info)
    }
    let server = try Server(options, predictions: try openStore(), logger: logger)
    let signals = ShutdownSignals(server, logger)
    defer { signals.stop() }
    let outcome = Mutex<Result<Void, any Error>>(.success(()))
    let done = DispatchSemaphore(value: 0)
    Task.detached {
      do {
        try await server.run {
          // For programs too, which may have asked for any port.
          try? Console.write("http://\(host.contains(":") ? "[\(host)]" : host):\($0)\n")
        } load: {
          let models = try served.map { id, slab in
            try serving.load(
              slab, id: id, among: served.count, maxQueue: maxQueue,
              allowsRequestTemplates: allowRequestTemplates,
              isCancelled: { signals.isRequested })
          }
          return ServedModels(models, aliases: alias)
        } ready: { models in
          for model in models.all {
            let configuration = model.engine.configuration
            logger.info(
              """
              \(model.id) is ready: \(configuration.slots) slots of \(configuration.contextLength) \
              tokens, \(Format.bytes(model.cacheByteCount)) for the KV cache
              """)
          }
        }
      } catch {
        outcome.withLock { $0 = .failure(error) }
      }
      done.signal()
    }
    done.wait()
    if signals.isRequested { return }
    try outcome.withLock { $0 }.get()
  }

  /// Where predictions are kept. One that nobody asked for is not worth ending over.
  private func openStore() throws -> PredictionStore {
    if let data { return try PredictionStore(directory: data) }
    let environment = ProcessInfo.processInfo.environment
    let state =
      environment["XDG_STATE_HOME"].flatMap { $0.hasPrefix("/") ? $0 : nil }
      ?? environment["HOME"].map { $0 + "/.local/state" }
    guard port != 0, let state else { return try PredictionStore() }
    do {
      return try PredictionStore(directory: "\(state)/quarry/serve-\(port)")
    } catch let error as PredictionStoreError {
      Console.note("predictions are kept in memory only: \(error)")
      return try PredictionStore()
    }
  }

  /// The keys of a file: its lines, without blanks around them and without empty ones.
  private static func readKeys(_ path: String) throws -> [String] {
    let keys = try InputFiles.readText(path).split(whereSeparator: \.isNewline)
      .map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
    if keys.isEmpty { throw InputError("\(path) holds no key") }
    return keys
  }
}

/// Ctrl-C and SIGTERM: the first one lets the server finish, the second one ends the program.
private final class ShutdownSignals: @unchecked Sendable {  // the sources are the owner's alone
  private let count = Atomic<Int>(0)
  private var sources: [any DispatchSourceSignal] = []

  init(_ server: Server, _ logger: Logger) {
    for number in [SIGINT, SIGTERM] {
      signal(number, SIG_IGN)  // the source gets it nevertheless
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler { [weak self] in
        guard let self else { return }
        if self.count.add(1, ordering: .relaxed).oldValue > 0 { exit(128 + number) }
        logger.info("finishing what runs; once more to end at once")
        Task { await server.shutDown() }
      }
      source.resume()
      sources.append(source)
    }
  }

  var isRequested: Bool { count.load(ordering: .relaxed) > 0 }

  func stop() { sources.forEach { $0.cancel() } }
}

extension ServerLog.Form: ExpressibleByArgument {}
