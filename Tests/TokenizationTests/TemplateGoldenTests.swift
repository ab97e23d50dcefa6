import Foundation
import JSON
import TestSupport
import Testing
import Tokenization

/// Our own templates, against what Python's jinja2 rendered (tools/template_goldens.py).
@Suite struct TemplateGoldenTests {
  static let folder = Place.goldens.appending(path: "templates")

  static let files = try! FileManager.default.contentsOfDirectory(atPath: folder.path)
    .filter { $0.hasSuffix(".json") }.sorted()

  @Test(arguments: files)
  func rendersAsJinjaDoes(file: String) throws {
    let document = try JSONValue(
      parsing: Array(Data(contentsOf: Self.folder.appending(path: file))))
    let numbers = try #require(document["date"]?.array).compactMap(\.integer)
    try #require(numbers.count == 6)
    let date = TemplateDate(
      year: numbers[0], month: numbers[1], day: numbers[2], hour: numbers[3], minute: numbers[4],
      second: numbers[5])
    let shared = try #require(document["variables"]?.object).members
    let cases = try #require(document["cases"]?.array)
    #expect(!cases.isEmpty)
    for item in cases {
      let source: String
      if let file = item["file"]?.string {
        source = try String(contentsOf: Self.folder.appending(path: file), encoding: .utf8)
      } else {
        source = try #require(item["template"]?.string)
      }
      let variables = shared + (item["variables"]?.object?.members ?? [])
      let result = Result { () throws(TemplateError) in
        try ChatTemplate(source).render(variables.map { ($0.key, $0.value) }, date: date)
      }
      switch (result, item["text"]?.string, item["error"]?.string) {
      case (.success(let text), let expected?, nil):
        #expect(
          text.utf8.elementsEqual(expected.utf8),
          "\(source.debugDescription): \(text.debugDescription), not \(expected.debugDescription)")
      case (.failure, nil, .some): break
      case (.success(let text), nil, let error?):
        Issue.record("\(source.debugDescription): \(text.debugDescription), but Python: \(error)")
      case (.failure(let error), let expected?, nil):
        Issue.record("\(source.debugDescription): \(error), not \(expected.debugDescription)")
      default: Issue.record("\(source.debugDescription) has no result; run the script")
      }
    }
  }
}
