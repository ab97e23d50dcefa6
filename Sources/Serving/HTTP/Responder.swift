import Foundation
import HTTPTypes
import Hummingbird
import JSON
import Logging
import NIOCore

/// What a request comes with besides itself.
struct ServerContext: InitializableFromSource {
  typealias Source = ApplicationRequestContextSource
  let channel: any Channel

  init(source: ApplicationRequestContextSource) { channel = source.channel }
}

/// Carries requests to the API and its answers back.
struct Responder: HTTPResponder {
  let api: API
  let options: ServerOptions
  let gate: Gate
  let logger: Logger
  private let executor = RequestExecutor()

  func respond(to request: Request, context: ServerContext) async -> Response {
    let response = await answer(request, context)
    // What follows a head would pass for the next answer.
    return request.method == .head ? response.createHeadResponse() : response
  }

  private func answer(_ request: Request, _ context: ServerContext) async -> Response {
    let entry = LogEntry(request, logger: logger)
    do {
      let departure = try await context.channel.eventLoop.submit {
        try context.channel.pipeline.syncOperations.handler(type: ConnectionGuard.self).departure
      }.get()
      return try await respond(to: request, departure: departure, entry)
    } catch {
      let failure = error is CancellationError ? nil : APIError(error)
      let status = failure?.status ?? 499
      entry.finish(status: status, error: error)
      let dialect = ErrorDialect(path: (try? Self.pathParts(request.uri.path)) ?? [])
      return makeResponse(APIResponse(failure ?? .server("the client left"), dialect), entry)
    }
  }

  private func respond(
    to request: Request, departure: Departure, _ entry: LogEntry
  ) async throws -> Response {
    let parts = try Self.pathParts(request.uri.path)
    let method = request.method.rawValue
    let headers = try gate.check(
      Gate.Head(
        method: method, path: parts, host: request.head.authority,
        origin: request.headers[.origin], authorization: request.headers[.authorization]))
    var response: APIResponse
    if method == "OPTIONS", !headers.isEmpty {
      response = APIResponse(status: 204, body: .text("", type: "text/plain"))
      response.headers = Gate.preflight
    } else {
      let call = APIRequest(
        method: method == "HEAD" ? "GET" : method, path: parts,
        query: Dictionary(
          request.uri.queryParameters.map { (String($0.key), String($0.value)) }
        ) { $1 },
        headers: Dictionary(request.headers.map { ($0.name.canonicalName, $0.value) }) {
          $0 + ", " + $1
        }, host: request.head.authority ?? "", body: try await body(of: request), id: entry.id)
      response = try await LogEntry.$current.withValue(entry) {
        try await untilDeparture(departure) { try await api.respond(to: call) }
      }
    }
    response.headers += headers
    if method != "HEAD", let events = Self.events(response.body) {
      let body = EventStream.body(
        pingInterval: .seconds(options.pingInterval), departure: departure, events
      ) { entry.finish(status: 200, error: $0) }
      return makeResponse(response, entry, body: body)
    }
    entry.finish(status: response.status, error: nil)
    return makeResponse(response, entry)
  }

  /// What sends the events of a body that is made of some.
  private static func events(
    _ body: APIResponse.Body
  ) -> (@Sendable (_ send: @Sendable (String) -> Void) async throws -> Void)? {
    switch body {
    case .json, .text: nil
    case .frames(let events): events
    case .events(let events): { send in try await events { send("data: \($0)\n\n") } }
    }
  }

  /// Does the work on threads of its own, and cancels it when the client leaves.
  private func untilDeparture<T: Sendable>(
    _ departure: Departure, _ work: @escaping @Sendable () async throws -> T
  ) async throws -> T {
    let task = Task(executorPreference: executor) { try await work() }
    departure.act { task.cancel() }
    defer { departure.act(nil) }
    return try await withTaskCancellationHandler {
      try await task.value
    } onCancel: {
      task.cancel()
    }
  }

  private func body(of request: Request) async throws -> [UInt8] {
    if let length = request.headers[.contentLength].flatMap({ Int($0) }),
      length > options.bodyLimit
    {
      throw APIError.tooLarge(options.bodyLimit)
    }
    return try await withThrowingTaskGroup(of: [UInt8].self) { group in
      group.addTask {
        var bytes: [UInt8] = []
        for try await buffer in request.body {
          bytes += buffer.readableBytesView
          if bytes.count > options.bodyLimit { throw APIError.tooLarge(options.bodyLimit) }
        }
        try Task.checkCancellation()
        return bytes
      }
      group.addTask {
        try await Task.sleep(for: .seconds(options.bodyTimeout))
        throw APIError.slowBody
      }
      defer { group.cancelAll() }
      return try await group.next() ?? []
    }
  }

  /// - Throws: ``APIError`` for escapes that are no text.
  private static func pathParts(_ path: String) throws(APIError) -> [String] {
    var parts: [String] = []
    for part in path.split(separator: "/") {
      guard let text = part.removingPercentEncoding else {
        throw .invalid("the path is not valid")
      }
      parts.append(text)
    }
    return parts
  }

  private func makeResponse(
    _ response: APIResponse, _ entry: LogEntry, body: ResponseBody? = nil
  ) -> Response {
    var headers = HTTPFields()
    let type: String
    let content: ResponseBody
    switch response.body {
    case .json(let value):
      type = "application/json"
      content = ResponseBody(byteBuffer: ByteBuffer(string: value.serialized() + "\n"))
    case .text(let text, let textType):
      type = textType
      content = ResponseBody(byteBuffer: ByteBuffer(string: text))
    case .events, .frames:
      type = "text/event-stream; charset=utf-8"
      content = body ?? ResponseBody()
      headers[.init("X-Accel-Buffering")!] = "no"
    }
    headers[.contentType] = type
    headers[.cacheControl] = "no-cache"
    headers[.xContentTypeOptions] = "nosniff"
    headers[.init("X-Request-Id")!] = entry.id
    for (name, value) in response.headers {
      if let name = HTTPField.Name(name) { headers[name] = value }
    }
    // Not after a body that is too large: what still comes of it is read and thrown away, within the
    // bounds of the guard, or the client would lose the answer with the connection.
    if [408, 503].contains(response.status) { headers[.connection] = "close" }
    return Response(
      status: HTTPResponse.Status(code: response.status), headers: headers, body: content)
  }
}
