import CCrypto
import Foundation

/// What calls of a server are signed with, as clients of the published service check it: HMAC-SHA256
/// over the call's id, its time and its body.
struct WebhookSecret: Sendable {
  /// `whsec_` and the key in base64.
  let text: String
  private let key: Data

  /// - Parameter text: nil where it is none.
  init?(_ text: String) {
    guard text.hasPrefix("whsec_"), let key = Data(base64Encoded: String(text.dropFirst(6))),
      !key.isEmpty
    else { return nil }
    self.text = text
    self.key = key
  }

  /// A new one of 256 random bits.
  init() {
    var random = SystemRandomNumberGenerator()
    key = Data((0..<32).map { _ in UInt8.random(in: 0 ... .max, using: &random) })
    text = "whsec_" + key.base64EncodedString()
  }

  /// The headers that prove a call.
  func headers(
    id: String, time: Int, body: String
  ) -> [(name: String, value: String)] {
    let signature = Data(authenticationCode(Array("\(id).\(time).\(body)".utf8)))
    return [
      ("webhook-id", id), ("webhook-timestamp", String(time)),
      ("webhook-signature", "v1," + signature.base64EncodedString()),
    ]
  }

  private func authenticationCode(_ message: [UInt8]) -> [UInt8] {
    let key = Array(key)
    var (code, count) = ([UInt8](repeating: 0, count: 32), UInt32(0))
    HMAC(EVP_sha256(), key, Int32(key.count), message, message.count, &code, &count)
    precondition(count == 32)
    return code
  }
}
