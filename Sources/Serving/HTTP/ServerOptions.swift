import Glibc

/// Where and for whom a server listens.
public struct ServerOptions: Sendable {
  public var host: String
  /// 0 for any that is free.
  public var port: Int
  /// Keys of which a request has to show one; without any, everyone is served.
  public var keys: [String] = []
  /// Names besides `localhost` and addresses by which clients may call the server.
  public var allowedHosts: [String] = []
  /// Origins, like `https://example.org`, whose pages may use the server.
  public var allowedOrigins: [String] = []
  /// Seconds that running answers have once the server is told to end.
  public var grace = 30
  /// Bytes of a request's body.
  public var bodyLimit = 8 << 20
  /// Seconds in which a body has to arrive.
  public var bodyTimeout = 30
  /// Seconds after which a connection is closed that has no request, or whose client does not read.
  public var idleTimeout = 75
  /// Connections that are served at once; others wait. By default fewer than the process may have open
  /// files.
  public var connectionLimit = min(1000, max(8, openFileLimit - 100))
  /// Seconds after the end of a prediction for which its inputs, output and logs are kept.
  public var retention = 3600
  /// Whether clients may name addresses that are called when something happens to a prediction, and
  /// whether those may be this machine's and of private networks.
  public var allowsWebhooks = false
  public var allowsPrivateWebhooks = false
  /// Whether `POST /shutdown` ends the server.
  public var allowsShutdown = false
  /// Seconds between signs of life in a stream.
  public var pingInterval = 15

  private static var openFileLimit: Int {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    return Int(clamping: limit.rlim_cur)
  }

  public init(host: String, port: Int) {
    self.host = host
    self.port = port
  }

  /// Whether only this machine can reach the server.
  public var isLoopback: Bool {
    host == "localhost" || host == "::1"
      || host.wholeMatch(of: /127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}/) != nil
  }
}
