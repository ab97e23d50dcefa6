import Glibc
import Hummingbird
import HummingbirdCore
public import Logging
import NIOCore
import QuarryKit
import ServiceLifecycle
import Synchronization

/// Serves models over HTTP: OpenAI's API, Replicate's and Cog's.
///
/// It listens before there are any, and answers 503 until there is.
public final class Server: Sendable {
  private let options: ServerOptions
  private let logger: Logger
  private let api: API
  private let group: ServiceGroup
  private let listening: AsyncStream<Int>.Continuation
  private let ports: AsyncStream<Int>
  private let failure = Mutex<(any Error)?>(nil)

  /// - Parameter predictions: where those are kept.
  /// - Throws: errors of the store.
  public init(_ options: ServerOptions, predictions: PredictionStore, logger: Logger) throws {
    self.options = options
    self.logger = logger
    (ports, listening) = AsyncStream<Int>.makeStream()
    let webhooks = Webhooks(
      secret: try predictions.webhookSecret(), allowsPrivate: options.allowsPrivateWebhooks,
      logger: logger)
    let api = API(
      options,
      predictions: Predictions(
        store: predictions, retention: options.retention, webhooks: webhooks, logger: logger))
    self.api = api
    let connection = HTTP1Channel.Configuration(
      additionalChannelHandlers: [
        ConnectionGuard(
          deadline: .seconds(Int64(options.bodyTimeout) + 10), byteLimit: options.bodyLimit * 2,
          stallLimit: .seconds(Int64(options.idleTimeout)))
      ],
      idleTimeout: .seconds(Int64(options.idleTimeout)),
      httpDecoderConfiguration: .init(
        maxHeaderFieldSize: 16 << 10, maxHeaderListSize: 32 << 10, maxHeaderFieldCount: 100))
    var quiet = logger
    quiet.logLevel = max(.warning, logger.logLevel)
    let application = Application(
      responder: Responder(
        api: api, options: options, gate: Gate(options), logger: logger),
      server: .http1(configuration: connection),
      configuration: ApplicationConfiguration(
        address: .hostname(options.host, port: options.port), serverName: "quarry",
        availableConnectionsDelegate: MaximumAvailableConnections(options.connectionLimit)),
      onServerRunning: { [listening] channel in
        listening.yield(channel.localAddress?.port ?? options.port)
        listening.finish()
      },
      logger: quiet)
    var services = ServiceGroupConfiguration(
      services: [.init(service: Listener(application, api: api, grace: options.grace))],
      logger: quiet)
    // Who does not even read why it ends does not keep the server.
    services.maximumGracefulShutdownDuration = .seconds(options.grace + 10)
    group = ServiceGroup(configuration: services)
    api.whenShutDown { [group] in Task { await group.triggerGracefulShutdown() } }
  }

  /// Listens, loads the models meanwhile, and answers until ``shutDown()``.
  ///
  /// - Parameters:
  ///   - started: called with the port once the server listens.
  ///   - load: called on a thread of its own.
  ///   - ready: called once the models are there.
  /// - Throws: what `load` throws; errors of the system where the address cannot be had.
  public func run(
    started: @escaping @Sendable (_ port: Int) -> Void,
    load: @escaping @Sendable () throws -> ServedModels,
    ready: @escaping @Sendable (ServedModels) -> Void = { _ in }
  ) async throws {
    // Nobody waits for models that come when the server has ended.
    Task { [self] in
      for await port in ports {
        started(port)
        WorkThread.start {
          let outcome = Result { try load() }
          switch outcome {
          case .success(let models):
            if self.api.serve(models) { ready(models) } else { models.stop() }
          case .failure(let error):
            self.failure.withLock { $0 = error }
            Task { await self.shutDown() }
          }
        }
      }
    }
    defer {
      listening.finish()
      api.predictions.end()
    }
    do {
      try await group.run()
      // Nobody may be connected to a prediction that runs.
      await api.predictions.settle()
    } catch let error as IOError {
      throw ServingError.cannotListen(
        host: options.host, port: options.port,
        reason: String(cString: strerror(error.errnoCode)))
    }
    api.stop()
    if let error = failure.withLock({ $0 }) { throw error }
  }

  /// Takes no more requests, lets running answers finish for the time of grace, and ends the rest.
  public func shutDown() async { await group.triggerGracefulShutdown() }
}

/// The listening socket and its connections, with what happens when they have to end.
private struct Listener<Wrapped: Service>: Service {
  private let application: Wrapped
  private let api: API
  private let grace: Int

  init(_ application: Wrapped, api: API, grace: Int) {
    self.application = application
    self.api = api
    self.grace = grace
  }

  func run() async throws {
    try await withGracefulShutdownHandler {
      do {
        try await application.run()
      } catch is CancellationError {}
    } onGracefulShutdown: { [api, grace] in
      api.close()
      Task {
        try? await Task.sleep(for: .seconds(grace))
        api.stop()
      }
    }
  }
}
