import CCurl
import Glibc
import Synchronization

/// A POST to an address that a client chose: by HTTP and HTTPS only, directly, without following
/// redirects, and to public addresses only unless others are allowed. What is answered is thrown away.
struct WebhookCall {
  enum Outcome: Equatable {
    /// The status of the answer.
    case answered(Int)
    /// Private addresses are not called.
    case refused
    /// In curl's words.
    case failed(String)
  }

  let url: String
  let headers: [(name: String, value: String)]
  let body: String
  let allowsPrivate: Bool
  /// Seconds for all of it.
  var timeout = 30

  /// Bytes of an answer that are read.
  private static let answerLimit = 64 << 10
  private static let isReady = curl_global_init(Int(CURL_GLOBAL_ALL)) == CURLE_OK

  /// What curl's callbacks look at, and what they leave.
  private final class Context {
    let allowsPrivate: Bool
    let stop: StopFlag
    var wasRefused = false
    var byteCount = 0

    init(allowsPrivate: Bool, stop: StopFlag) {
      self.allowsPrivate = allowsPrivate
      self.stop = stop
    }

    static func at(_ pointer: UnsafeMutableRawPointer?) -> Context {
      Unmanaged<Context>.fromOpaque(pointer!).takeUnretainedValue()
    }
  }

  /// Calls, on this thread.
  ///
  /// - Parameter stop: ends the call early, within about a second.
  func perform(until stop: StopFlag) -> Outcome {
    guard Self.isReady, let handle = curl_easy_init() else { return .failed("no memory") }
    defer { curl_easy_cleanup(handle) }
    var list: UnsafeMutablePointer<curl_slist>?
    defer { curl_slist_free_all(list) }
    // An empty Expect keeps curl from asking before it sends.
    for (name, value) in headers + [("Content-Type", "application/json"), ("Expect", "")] {
      list = curl_slist_append(list, value.isEmpty ? "\(name):" : "\(name): \(value)")
    }
    let context = Context(allowsPrivate: allowsPrivate, stop: stop)
    return withExtendedLifetime(context) {
      let pointer = Unmanaged.passUnretained(context).toOpaque()
      var codes = set(handle, pointer)
      codes.append(quarry_curl_set_pointer(handle, CURLOPT_HTTPHEADER, list))
      guard codes.allSatisfy({ $0 == CURLE_OK }) else { return .failed("curl lacks an option") }
      let code = curl_easy_perform(handle)
      if context.wasRefused { return .refused }
      // An answer that goes on for ever has been one all the same.
      let status = quarry_curl_response_code(handle)
      if code == CURLE_OK || (code == CURLE_WRITE_ERROR && status > 0) {
        return .answered(status)
      }
      return .failed(String(cString: curl_easy_strerror(code)))
    }
  }

  private func set(_ handle: UnsafeMutableRawPointer, _ context: UnsafeMutableRawPointer)
    -> [CURLcode]
  {
    func set(_ option: CURLoption, _ text: String) -> CURLcode {
      text.withCString { quarry_curl_set_pointer(handle, option, $0) }
    }
    func set(_ option: CURLoption, _ value: Int) -> CURLcode {
      quarry_curl_set_long(handle, option, value)
    }
    return [
      set(CURLOPT_URL, url), set(CURLOPT_PROTOCOLS_STR, "http,https"), set(CURLOPT_PROXY, ""),
      set(CURLOPT_FOLLOWLOCATION, 0), set(CURLOPT_NOSIGNAL, 1),
      set(CURLOPT_CONNECTTIMEOUT, min(timeout, 10)), set(CURLOPT_TIMEOUT, timeout),
      set(CURLOPT_USERAGENT, "quarry"), set(CURLOPT_POST, 1),
      set(CURLOPT_POSTFIELDSIZE, body.utf8.count), set(CURLOPT_COPYPOSTFIELDS, body),
      // The address is judged where it is called: a name that points elsewhere by then gains nothing.
      quarry_curl_set_open_socket(
        handle,
        { context, _, address in
          let context = Context.at(context)
          guard let address else { return CURL_SOCKET_BAD }
          // It may be longer than the field that it begins in.
          let place = UnsafeRawPointer(address) + MemoryLayout<curl_sockaddr>.offset(of: \.addr)!
          let target = place.assumingMemoryBound(to: sockaddr.self)
          guard context.allowsPrivate || PublicAddress.contains(target) else {
            context.wasRefused = true
            return CURL_SOCKET_BAD
          }
          return socket(
            address.pointee.family, address.pointee.socktype | Int32(SOCK_CLOEXEC.rawValue),
            address.pointee.protocol)
        }, context),
      quarry_curl_set_write(
        handle,
        { _, size, count, context in
          let context = Context.at(context)
          context.byteCount += size * count
          return context.byteCount > WebhookCall.answerLimit ? 0 : size * count
        }, context),
      quarry_curl_set_progress(
        handle, { context, _, _, _, _ in Context.at(context).stop.isSet ? 1 : 0 }, context),
    ]
  }
}

/// Says once and for all that work is to end.
final class StopFlag: Sendable {
  private let flag = Atomic(false)

  var isSet: Bool { flag.load(ordering: .relaxed) }
  func set() { flag.store(true, ordering: .relaxed) }
}
