import Foundation
import Inference
import JSON
import TestSupport
import Testing
import Tokenization

@testable import Serving

/// Granite's own templates and the conventions of their answers behind the server, each with a model of
/// the architecture that it is published with.
@Suite(.enabled(if: Place.shared != nil, "needs ../shared")) struct FamilyTests {
  struct Member: Sendable, CustomTestStringConvertible {
    /// The renderings of transformers, and the template they belong to.
    let renderings: String
    let template: String
    /// The golden checkpoint with such layers.
    let layers: String
    let showsTools: Bool
    let showsToolCalls: Bool
    var testDescription: String { "\(renderings) on \(layers)" }
  }

  static let members = [
    Member(
      renderings: "granite-3.0", template: "ollama-granite3-dense-2b", layers: "moe",
      showsTools: true, showsToolCalls: false),
    Member(
      renderings: "granite-3.1", template: "ollama-granite3.1-moe-1b", layers: "moe",
      showsTools: true, showsToolCalls: false),
    Member(
      renderings: "granite-4.0-350m", template: "ollama-granite4-350m", layers: "hybrid-mamba",
      showsTools: true, showsToolCalls: true),
    Member(
      renderings: "granite-4.1", template: "ollama-granite4-latest", layers: "hybrid-experts",
      showsTools: true, showsToolCalls: true),
    Member(
      renderings: "granite-code", template: "ollama-granite-code-3b", layers: "bigcode",
      showsTools: false, showsToolCalls: false),
  ]

  @Test(arguments: members) func promptsAreWhatTransformersRenders(member: Member) async throws {
    let path = try templates().appending(path: "golden/\(member.renderings).json")
    let cases = try #require(JSONValue(parsing: Array(Data(contentsOf: path))).array)
    let model = try ScriptedModel.make(
      ["yes"], template: try template(member.template), layersOf: member.layers)
    try await TestServer.with(model) { server in
      for item in cases {
        let name = item["case"]?.string ?? "?"
        let arguments = try #require(item["args"]?.object)
        guard let rendered = item["rendered"]?.string else { continue }
        let request = request(from: arguments)
        if request["tools"] != nil, !member.showsTools {
          let refusal = try await server.post("/apply-template", .object(request))
          #expect(refusal.status == 400, "\(name)")
          continue
        }
        // Where a template leaves calls out, the server puts them into the message's text.
        if name == "tool_calls", !member.showsToolCalls { continue }
        let expected = rendered.replacing("April 12, 2025", with: try today())
        let prompt = try await server.json("/apply-template", request)["prompt"]?.string
        #expect(prompt == expected, "\(name)")
      }
    }
  }

  /// Calls as the models of a version write them, through a model with such layers.
  @Test(arguments: [
    (
      "ollama-granite3.1-moe-1b", "moe",
      ["<|tool_call|>", #"[{"name": "get_weather", "#, #""arguments": {"city": "#, #""Rome"}}]"#]
    ),
    (
      "ollama-granite4-350m", "hybrid-experts",
      [
        "<tool_call>", "\n", #"{"name": "get_weather", "#, #""arguments": {"city": "#, #""Rome"}}"#,
        "\n\n", "</tool_call>",
      ]
    ),
  ])
  func callsAreUnderstood(template name: String, layers: String, pieces: [String]) async throws {
    let model = try ScriptedModel.make(
      pieces, special: ["<|tool_call|>"], template: answering(try template(name)),
      layersOf: layers)
    let tool = JSONValue.object([
      "type": "function",
      "function": .object(["name": "get_weather", "parameters": .object([:])]),
    ])
    try await TestServer.with(model) { server in
      let answer = try await server.json(
        "/v1/chat/completions", ["messages": user, "tools": .array([tool])])
      let choice = answer["choices"]?.array?.first
      #expect(choice?["finish_reason"]?.string == "tool_calls")
      let call = choice?["message"]?["tool_calls"]?.array?.first?["function"]
      #expect(call?["name"]?.string == "get_weather")
      #expect(call?["arguments"]?.string == #"{"city":"Rome"}"#)
    }
  }

  @Test func codeModelsAnswer() async throws {
    let model = try ScriptedModel.make(
      ["print", "(1)"], template: answering(try template("ollama-granite-code-3b")),
      layersOf: "bigcode")
    try await TestServer.with(model) { server in
      let choice = try await server.json("/v1/chat/completions", ["messages": user])["choices"]?
        .array?.first
      #expect(choice?["message"]?["content"]?.string == "print(1)")
      #expect(choice?["finish_reason"]?.string == "stop")
    }
  }

  /// Guardian's verdict is the probability of its first token, for the risk that a request names.
  @Test func guardianJudgesTheRiskThatIsAskedFor() async throws {
    let source = try template("ibm-gguf_granite-guardian-chatml")
    let model = try ScriptedModel.make(["Yes"], template: answering(source), layersOf: "moe")
    let request: JSONObject = [
      "messages": user, "max_tokens": 1, "logprobs": true, "top_logprobs": 2,
      "chat_template_kwargs": .object([
        "guardian_config": .object(["risk_name": "violence"])
      ]),
    ]
    try await TestServer.with(model) { server in
      let prompt = try await server.json("/apply-template", request)["prompt"]?.string
      #expect(prompt?.contains("describing physical harm to individuals or groups") == true)
      #expect(prompt?.contains("Go on.") == true)
      let choice = try await server.json("/v1/chat/completions", request)["choices"]?.array?.first
      #expect(choice?["message"]?["content"]?.string == "Yes")
      let first = choice?["logprobs"]?["content"]?.array?.first
      #expect(first?["token"]?.string == "Yes")
      #expect(try #require(first?["logprob"]?.double) > -0.01)
      // A risk that the template does not know is its own error, in its words.
      var unknown = request
      unknown["chat_template_kwargs"] = .object([
        "guardian_config": .object(["risk_name": "boredom"])
      ])
      let refusal = try await server.post("/v1/chat/completions", .object(unknown))
      #expect(refusal.status == 400)
    }
  }

  private let user = JSONValue.array([.object(["role": "user", "content": "Go on."])])

  private func templates() throws -> URL {
    try #require(Place.shared).appending(path: "granite/templates")
  }

  private func template(_ name: String) throws -> String {
    try String(contentsOf: templates().appending(path: name + ".jinja"), encoding: .utf8)
  }

  /// A template whose prompts make scripted models begin.
  private func answering(_ template: String) -> String {
    template + "{{ '<|start|>' if add_generation_prompt else '' }}"
  }

  /// The arguments of a rendering as a request has them: calls' arguments as text, what templates know
  /// besides apart.
  private func request(from arguments: JSONObject) -> JSONObject {
    var request = JSONObject()
    var variables = JSONObject()
    for (name, value) in arguments.members where value != .null {
      switch name {
      case "messages":
        request[name] = .array(
          value.array!.map { message in
            guard var fields = message.object, let calls = fields["tool_calls"]?.array else {
              return message
            }
            fields["tool_calls"] = .array(calls.map(withTextOfArguments))
            return .object(fields)
          })
      case "tools", "documents", "add_generation_prompt": request[name] = value
      default: variables[name] = value
      }
    }
    if !variables.members.isEmpty { request["chat_template_kwargs"] = .object(variables) }
    return request
  }

  /// As Python writes JSON, which is what the renderings hold.
  private func withTextOfArguments(_ call: JSONValue) -> JSONValue {
    var call = call.object!
    var function = call["function"]!.object!
    let text = function["arguments"]!.object!.members
      .map { "\"\($0)\": \($1.serialized())" }.joined(separator: ", ")
    function["arguments"] = .string("{\(text)}")
    call["function"] = .object(function)
    return .object(call)
  }

  /// The day that the server's templates see, as theirs write it.
  private func today() throws -> String {
    try ChatTemplate("{{ strftime_now('%B %d, %Y') }}").render(
      ChatInput(messages: .array([])), date: .today())
  }
}
