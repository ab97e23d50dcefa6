import Foundation
import Glibc
import JSON

/// Whom a client wants to be called, and about what.
struct Webhook: Sendable {
  enum Event: String, CaseIterable {
    case start, output, logs, completed
  }

  let url: String
  /// As the log may name it: what follows may be secret.
  let host: String
  let events: Set<Event>
  /// What is sent of a prediction.
  let body: @Sendable (PredictionRecord) -> JSONObject

  private static let byteLimit = 2048

  /// - Throws: ``APIError`` for what is no address to call.
  init(
    _ url: String, events: Set<Event>, allowsPrivate: Bool,
    body: @escaping @Sendable (PredictionRecord) -> JSONObject
  ) throws(APIError) {
    guard url.utf8.count <= Self.byteLimit, url.utf8.allSatisfy({ (0x21...0x7E).contains($0) }),
      let parts = URLComponents(string: url),
      ["http", "https"].contains(parts.scheme?.lowercased()), parts.user == nil,
      parts.password == nil, let host = parts.host, !host.isEmpty
    else {
      throw .unprocessable(
        "webhook must be an address like https://example.org/path of at most \(Self.byteLimit) bytes",
        "webhook")
    }
    if !allowsPrivate, Self.isPrivate(host) {
      throw .unprocessable(
        "webhook is refused: only a server started with --allow-private-webhooks calls "
          + host.shown, "webhook")
    }
    (self.url, self.host, self.events, self.body) = (url, host, events, body)
  }

  /// Whether the host is plainly this machine or an address that is not public. Names are looked up only
  /// when they are called.
  private static func isPrivate(_ host: String) -> Bool {
    let host = host.trimmingCharacters(in: ["[", "]", "."]).lowercased()
    if host == "localhost" || host.hasSuffix(".localhost") { return true }
    var hints = addrinfo()
    hints.ai_flags = AI_NUMERICHOST
    var list: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, nil, &hints, &list) == 0, let list else { return false }
    defer { freeaddrinfo(list) }
    return !PublicAddress.contains(list.pointee.ai_addr)
  }
}
