import JSON

/// Decides from a request's head whether it is let in: calls by foreign names (DNS rebinding), pages of
/// other sites and, where there are keys, requests without one are not.
struct Gate: Sendable {
  private let keys: [[UInt8]]
  private let hosts: Set<String>
  private let origins: Set<String>

  init(_ options: ServerOptions) {
    keys = options.keys.map { Array($0.utf8) }
    hosts = Set((options.allowedHosts + ["localhost"]).map { $0.lowercased() })
    origins = Set(options.allowedOrigins.map { $0.lowercased() })
  }

  /// What of a head decides.
  struct Head {
    let method: String
    let path: [String]
    let host: String?
    let origin: String?
    let authorization: String?
  }

  /// - Returns: headers that the answer needs, so that a page of another site may read it.
  /// - Throws: ``APIError``.
  func check(_ head: Head) throws(APIError) -> [(name: String, value: String)] {
    guard let host = head.host, isAllowed(host: host) else {
      throw .forbidden(
        "the server is not known as '\((head.host ?? "").shown)'; --allow-host names it so")
    }
    var headers: [(name: String, value: String)] = []
    if let origin = head.origin?.lowercased() {
      if origins.contains(origin) {
        headers = [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
      } else if origin != "http://" + host.lowercased() {
        throw .forbidden("pages of \(origin.shown) may not use this server; see --allow-origin")
      }
    }
    // A question before the request carries no key.
    if head.method == "OPTIONS", !headers.isEmpty { return headers }
    let isOpen = [["health"], ["health-check"]].contains(head.path) || Page.owns(head.path)
    if !isOpen, !keys.isEmpty, !hasKey(head.authorization) { throw .unauthorized }
    return headers
  }

  /// The answer to a page's question whether it may send a request.
  static let preflight: [(name: String, value: String)] = [
    ("Access-Control-Allow-Methods", "GET, POST, PUT, OPTIONS"),
    ("Access-Control-Allow-Headers", "Authorization, Content-Type, Prefer, Cancel-After"),
    ("Access-Control-Max-Age", "600"),
  ]

  /// Addresses are no names that somebody else could point here.
  private func isAllowed(host: String) -> Bool {
    let match = host.wholeMatch(of: /(?<name>\[[0-9a-fA-F:.]+\]|[^:\[\]]*)(?::[0-9]{1,5})?/)
    guard let name = match?.name.lowercased() else { return false }
    return hosts.contains(name) || name.hasPrefix("[")
      || name.wholeMatch(of: /[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}/) != nil
  }

  private func hasKey(_ authorization: String?) -> Bool {
    let words = (authorization ?? "").split(separator: " ", maxSplits: 1)
    guard words.count == 2, ["bearer", "token"].contains(words[0].lowercased()) else {
      return false
    }
    let given = Array(words[1].utf8)
    // Looks at every key, so that the time tells nothing of them.
    return keys.reduce(false) { Self.equal(given, $1) || $0 }
  }

  /// Takes the same time wherever the two differ.
  private static func equal(_ given: [UInt8], _ key: [UInt8]) -> Bool {
    if key.isEmpty { return false }
    var difference = UInt8(given.count == key.count ? 0 : 1)
    for index in given.indices { difference |= given[index] ^ key[index % key.count] }
    return difference == 0
  }
}
