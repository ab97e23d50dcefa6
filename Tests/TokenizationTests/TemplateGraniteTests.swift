import Foundation
import JSON
import TestSupport
import Testing
import Tokenization

/// Granite's own templates, against what transformers rendered.
@Suite struct TemplateGraniteTests {
  /// A file of renderings, and the template they belong to.
  struct Golden: Sendable, CustomTestStringConvertible {
    let renderings: String
    let template: String
    var testDescription: String { renderings }
  }

  static let goldens = [
    Golden(renderings: "granite-3.0", template: "ollama-granite3-dense-2b"),
    Golden(renderings: "granite-3.1", template: "ollama-granite3.1-moe-1b"),
    Golden(renderings: "granite-3.2", template: "ollama-granite3.2-8b"),
    Golden(renderings: "granite-3.3", template: "ollama-granite3.3-2b"),
    Golden(renderings: "granite-3.3-speech", template: "granite-speech-3.3-2b_hf-api"),
    Golden(renderings: "granite-4.0-350m", template: "ollama-granite4-350m"),
    Golden(renderings: "granite-4.1", template: "ollama-granite4-latest"),
    Golden(renderings: "granite-code", template: "ollama-granite-code-3b"),
  ]

  @Test(.enabled(if: Place.shared != nil, "needs ../shared"), arguments: goldens)
  func rendersAsTransformersDoes(golden: Golden) throws {
    let folder = try #require(Place.shared).appending(path: "granite/templates")
    let source = try String(
      contentsOf: folder.appending(path: golden.template + ".jinja"), encoding: .utf8)
    let template = try ChatTemplate(source)
    let renderings = try Data(
      contentsOf: folder.appending(path: "golden/\(golden.renderings).json"))
    let cases = try #require(JSONValue(parsing: Array(renderings)).array)
    #expect(cases.count == 12)
    for item in cases {
      let name = item["case"]?.string ?? "?"
      var variables = try #require(item["args"]?.object)
      let input = ChatInput(
        messages: try #require(variables["messages"]), tools: variables["tools"],
        documents: variables["documents"],
        addGenerationPrompt: variables["add_generation_prompt"]?.bool ?? false,
        variables: {
          for name in ["messages", "tools", "documents", "add_generation_prompt"] {
            variables[name] = nil
          }
          return variables
        }())
      let date = TemplateDate(year: 2025, month: 4, day: 12)
      if let rendered = item["rendered"]?.string {
        let text = try template.render(input, date: date)
        #expect(text.utf8.elementsEqual(rendered.utf8), "\(name)")
      } else {
        #expect(throws: TemplateError.self, "\(name)") { try template.render(input, date: date) }
      }
    }
  }

  @Test(.enabled(if: Place.shared != nil, "needs ../shared"))
  func parsesEveryTemplateThere() throws {
    let folder = try #require(Place.shared).appending(path: "granite/templates")
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
      .filter { $0.hasSuffix(".jinja") }
    #expect(names.count >= 16)
    for name in names {
      let source = try String(contentsOf: folder.appending(path: name), encoding: .utf8)
      #expect(throws: Never.self, "\(name)") { try ChatTemplate(source) }
    }
  }
}
