import Foundation
import Glibc

/// A client of the plainest kind: bytes over a socket, so that a test decides each of them.
public final class HTTPClient {
  private let socket: Int32
  private var buffer: [UInt8] = []

  public struct Failure: Error {
    public let message: String

    public init(message: String) { self.message = message }
  }

  /// - Parameter receiveBuffer: bytes that arrive before they are read, about; nil for as many as the
  ///   system likes.
  public init(port: Int, receiveBuffer: Int32? = nil) throws {
    socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    if var receiveBuffer {
      setsockopt(
        socket, SOL_SOCKET, SO_RCVBUF, &receiveBuffer, socklen_t(MemoryLayout<Int32>.size))
    }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard result == 0 else { throw Failure(message: "connect: \(errno)") }
    var timeout = timeval(tv_sec: 60, tv_usec: 0)
    setsockopt(
      socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit { close(socket) }

  public func send(_ text: String) { send(Array(text.utf8)) }

  public func send(_ bytes: [UInt8]) {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes {
        Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count <= 0 { return }
      sent += count
    }
  }

  /// Reads more; false at the end of the connection.
  private func fill() -> Bool {
    var chunk = [UInt8](repeating: 0, count: 65536)
    let count = recv(socket, &chunk, chunk.count, 0)
    if count > 0 { buffer += chunk[..<count] }
    return count > 0
  }

  private func line() throws -> String {
    while true {
      if let end = buffer.firstIndex(of: 0x0A) {
        defer { buffer.removeFirst(end + 1) }
        return String(decoding: buffer[..<end], as: UTF8.self)
          .trimmingCharacters(in: .newlines)
      }
      guard fill() else { throw Failure(message: "the connection ended") }
    }
  }

  private func take(_ count: Int) throws -> [UInt8] {
    while buffer.count < count {
      guard fill() else { throw Failure(message: "the connection ended") }
    }
    defer { buffer.removeFirst(count) }
    return Array(buffer[..<count])
  }

  public struct Response: Sendable {
    public let status: Int
    /// By names in lower case.
    public let headers: [String: String]
    public var body = ""
  }

  /// The status and headers of the next response.
  public func head() throws -> Response {
    let words = try line().split(separator: " ")
    guard words.count > 1, let status = Int(words[1]) else { throw Failure(message: "no status") }
    var headers: [String: String] = [:]
    while case let line = try line(), !line.isEmpty {
      let parts = line.split(separator: ":", maxSplits: 1).map(String.init)
      headers[parts[0].lowercased()] =
        parts.count > 1
        ? parts[1].trimmingCharacters(in: .whitespaces) : ""
    }
    return Response(status: status, headers: headers)
  }

  /// The next piece of a chunked body; nil at its end.
  public func chunk() throws -> String? {
    let count = Int(try line(), radix: 16) ?? 0
    let bytes = try take(count)
    _ = try line()
    return count == 0 ? nil : String(decoding: bytes, as: UTF8.self)
  }

  /// The next response with its body.
  public func response() throws -> Response {
    var response = try head()
    response.body = try body(of: response)
    return response
  }

  /// The body that follows a head.
  public func body(of response: Response) throws -> String {
    if let length = response.headers["content-length"].flatMap({ Int($0) }) {
      return String(decoding: try take(length), as: UTF8.self)
    }
    var body = ""
    if response.headers["transfer-encoding"] == "chunked" {
      while let chunk = try chunk() { body += chunk }
    }
    return body
  }

  /// Whether something arrives in some milliseconds.
  public func hasMore(within milliseconds: Int32) -> Bool {
    var descriptor = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
    return !buffer.isEmpty || poll(&descriptor, 1, milliseconds) > 0
  }

  /// Whether the server has closed the connection, after waiting for more.
  public func isClosed() -> Bool { buffer.isEmpty && !fill() }
}
