import Hummingbird
import JSON
import NIOCore

/// Server-sent events as the body of a response.
enum EventStream {
  /// - Parameters:
  ///   - pingInterval: between comments that tell the client, and those between, that the connection
  ///     lives.
  ///   - departure: ends the events.
  ///   - events: called with what sends an event, in the bytes that carry it.
  ///   - finished: called at the end, with the error that ended the events, if one did.
  static func body(
    pingInterval: Duration, departure: Departure,
    _ events: @escaping @Sendable (_ send: @Sendable (String) -> Void) async throws -> Void,
    finished: @escaping @Sendable ((any Error)?) -> Void
  ) -> ResponseBody {
    ResponseBody { writer in
      let (lines, output) = AsyncStream<String>.makeStream()
      departure.act { output.finish() }
      defer { departure.act(nil) }
      let failure: (any Error)? = await withTaskGroup(of: (any Error)?.self) { group in
        group.addTask {
          defer { output.finish() }
          do {
            try await events { output.yield($0) }
            return nil
          } catch {
            if !(error is CancellationError) {
              output.yield("data: \(APIError(error).json.serialized())\n\n")
            }
            return .some(error)
          }
        }
        group.addTask {
          while true {
            do { try await Task.sleep(for: pingInterval) } catch { return nil }
            output.yield(": ping\n\n")
          }
        }
        do {
          for await line in lines { try await writer.write(ByteBuffer(string: line)) }
        } catch {
          group.cancelAll()
          return .some(error)
        }
        group.cancelAll()
        var failure: (any Error)?
        for await error in group { failure = failure ?? error }
        return failure
      }
      finished(failure)
      try await writer.finish(nil)
    }
  }
}
