import Foundation
import JSON

/// The requests of a batch, one a line.
struct BatchInput {
  /// What a line asks for.
  struct Request {
    /// Under which its answer is found.
    let customID: String?
    let outcome: Result<(Endpoint, body: JSONObject), APIError>
  }

  /// What answers a request, by the path that it names.
  enum Endpoint: String, CaseIterable {
    case chat = "/v1/chat/completions"
    case completion = "/v1/completions"

    /// - Throws: whatever an ``APIError`` can be made of; `CancellationError`.
    func respond(to fields: RequestFields, _ models: ServedModels) async throws -> APIResponse {
      let model = try models.named(try fields.string("model"))
      return switch self {
      case .chat: try await ChatCompletions(fields, model: model).respond()
      case .completion: try await Completions(fields, model: model).respond()
      }
    }
  }

  /// How lines are read.
  enum Form {
    /// As OpenAI's: objects with `custom_id`, `method`, `url` and `body`.
    case requests
    /// Each line is what a user says.
    case prompts
  }

  private(set) var requests: [Request] = []

  /// Lines without anything but white space do not count; a line at fault becomes an answer that says so.
  init(_ text: [UInt8], form: Form) {
    var lines: [String: Int] = [:]
    for (index, line) in text.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated()
    {
      let bytes = line.last == 0x0D ? line.dropLast() : line
      if bytes.allSatisfy({ $0 == 0x20 || $0 == 0x09 }) { continue }
      var request =
        switch form {
        case .requests: Self.request(Array(bytes))
        case .prompts: Self.prompt(Array(bytes), line: index + 1)
        }
      if let id = request.customID, let first = lines.updateValue(index + 1, forKey: id) {
        lines[id] = first
        request = Request(
          customID: id,
          outcome: .failure(.invalid("line \(first) has the same custom_id", "custom_id")))
      }
      requests.append(request)
    }
  }

  private static func prompt(_ bytes: [UInt8], line: Int) -> Request {
    let id = "line-\(line)"
    guard let text = String(validating: bytes, as: UTF8.self) else {
      return Request(customID: id, outcome: .failure(.invalid("the line is not UTF-8")))
    }
    let message = JSONValue.object(["role": "user", "content": .string(text)])
    return Request(
      customID: id,
      outcome: .success((.chat, ["messages": .array([message])])))
  }

  private static func request(_ bytes: [UInt8]) -> Request {
    var id: String?
    do {
      let fields = try RequestFields(body: bytes)
      id = try fields.string("custom_id")
      guard id != nil else { throw fields.wrong("custom_id", "a string") }
      guard try fields.string("method") ?? "POST" == "POST" else {
        throw fields.wrong("method", "POST")
      }
      guard let endpoint = Endpoint(rawValue: try fields.string("url") ?? Endpoint.chat.rawValue)
      else {
        throw fields.wrong("url", Endpoint.allCases.map(\.rawValue).joined(separator: " or "))
      }
      guard let body = try fields.read(.object("body")) else {
        throw fields.wrong("body", "an object")
      }
      if try RequestFields(body, path: "body.").read(SamplingFields.Field.stream) == true {
        throw APIError.unsupported("answers of a batch are no streams", "body.stream")
      }
      return Request(customID: id, outcome: .success((endpoint, body)))
    } catch {
      return Request(customID: id, outcome: .failure(APIError(error)))
    }
  }
}
