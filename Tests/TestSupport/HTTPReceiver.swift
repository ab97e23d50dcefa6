import Foundation
import Synchronization

/// A server on a port of its own that keeps what it is sent, and answers with statuses of a script.
public final class HTTPReceiver: Sendable {
  public struct Request: Sendable {
    public let method: String
    public let path: String
    /// By names in lower case.
    public let headers: [String: String]
    public let body: String
  }

  private let listener: Int32
  public let port: Int
  private let kept = Mutex<[Request]>([])

  /// - Parameter answer: the status of the answer to each request, and headers of it; nil to hang up
  ///   without one.
  public init(
    answer: @escaping @Sendable (_ index: Int, _ request: Request) -> (Int, [String])? = { _, _ in
      (200, [])
    }
  ) throws {
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let listener = listener
    let result = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, size) == 0 ? getsockname(listener, $0, &size) : -1
      }
    }
    guard result == 0, listen(listener, 64) == 0 else {
      throw HTTPClient.Failure(message: "listen: \(errno)")
    }
    port = Int(UInt16(bigEndian: address.sin_port))
    Thread.detachNewThread { [weak self] in
      while true {
        let connection = accept(listener, nil, nil)
        if connection < 0 { return }
        Thread.detachNewThread { [weak self] in
          defer { close(connection) }
          guard let self, let request = Self.read(connection) else { return }
          let index = self.kept.withLock {
            $0.append(request)
            return $0.count - 1
          }
          guard let (status, headers) = answer(index, request) else { return }
          let lines = ["HTTP/1.1 \(status) X", "Content-Length: 0", "Connection: close"] + headers
          let text = lines.joined(separator: "\r\n") + "\r\n\r\n"
          _ = text.withCString { send(connection, $0, strlen($0), Int32(MSG_NOSIGNAL)) }
        }
      }
    }
  }

  /// Waits no more.
  public func end() { shutdown(listener, Int32(SHUT_RDWR)) }

  deinit { close(listener) }

  public var requests: [Request] { kept.withLock { $0 } }

  private static func read(_ connection: Int32) -> Request? {
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 65536)
    while true {
      let text = String(decoding: bytes, as: UTF8.self)
      if let end = text.range(of: "\r\n\r\n") {
        let lines = text[..<end.lowerBound].components(separatedBy: "\r\n")
        let head = lines[0].split(separator: " ").map(String.init)
        let headers = Dictionary(
          lines.dropFirst().map { line in
            let colon = line.firstIndex(of: ":") ?? line.endIndex
            return (
              line[..<colon].lowercased(),
              line[colon...].dropFirst().trimmingCharacters(in: .whitespaces)
            )
          }
        ) { $1 }
        let body = String(text[end.upperBound...])
        if head.count == 3, body.utf8.count >= Int(headers["content-length"] ?? "0") ?? 0 {
          return Request(method: head[0], path: head[1], headers: headers, body: body)
        }
      }
      let count = recv(connection, &part, part.count, 0)
      if count <= 0 { return nil }
      bytes += part.prefix(count)
    }
  }
}
