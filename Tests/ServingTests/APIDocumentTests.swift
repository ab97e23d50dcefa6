import JSON
import TestSupport
import Testing

@testable import Serving

struct APIDocumentTests {
  private func document(
    allowsTemplates: Bool = false, _ change: (inout ServerOptions) -> Void = { _ in }
  ) -> JSONValue {
    var options = ServerOptions(host: "127.0.0.1", port: 0)
    change(&options)
    return .object(APIDocument(options: options, allowsTemplates: allowsTemplates).json)
  }

  @Test func everyRouteIsDescribed() throws {
    var described = Set<String>()
    for (path, operations) in try #require(document()["paths"]?.object).members {
      for (method, _) in operations.object!.members {
        described.insert("\(method.uppercased()) \(path)")
      }
    }
    let standIns = ["models": "{owner}/{name}", "predictions": "{id}", "versions": "{id}"]
    let routes = (API.openAIRoutes + API.replicateRoutes).map { route in
      var before = ""
      let parts = route.path.map { part in
        defer { before = part }
        return part.hasPrefix("*") ? standIns[before]! : part
      }
      return "\(route.method) /" + parts.joined(separator: "/")
    }
    #expect(described == Set(routes + ["GET /inspect"]))
  }

  @Test func everyReferenceLeadsSomewhere() throws {
    let document = document()
    let schemas = try #require(document["components"]?["schemas"]?.object)
    var used = Set<String>()
    func collect(_ value: JSONValue) {
      for element in value.array ?? [] { collect(element) }
      for (name, member) in value.object?.members ?? [] {
        if name == "$ref" { used.insert(member.string!) } else { collect(member) }
      }
    }
    collect(document)
    #expect(used == Set(schemas.members.map { "#/components/schemas/\($0.key)" }))
  }

  @Test func fieldsAreThoseThatAreRead() throws {
    func names(_ document: JSONValue, _ schema: String) -> [String] {
      let properties = document["components"]?["schemas"]?[schema]?["properties"]
      return properties?.object?.members.map(\.key) ?? []
    }
    let plain = document()
    for name in ["ChatCompletionRequest", "CompletionRequest"] {
      #expect(names(plain, name).contains("temperature") && names(plain, name).contains("stop"))
    }
    #expect(!names(plain, "ChatCompletionRequest").contains("chat_template"))
    #expect(!names(plain, "Input").contains("chat_template"))
    #expect(!names(plain, "PredictionRequest").contains("webhook"))
    let open = document(allowsTemplates: true) { $0.allowsWebhooks = true }
    #expect(names(open, "ChatCompletionRequest").contains("chat_template"))
    #expect(names(open, "Input").contains("chat_template"))
    #expect(names(open, "PredictionRequest").contains("webhook"))
    #expect(plain["security"] == nil)
    #expect(document { $0.keys = ["x"] }["security"] != nil)
  }

  @Test func itIsServed() async throws {
    try await TestServer.with { server in
      let answer = try JSONValue(parsing: try await server.get("/v1/openapi.json").body)
      #expect(answer == document())
    }
  }
}
