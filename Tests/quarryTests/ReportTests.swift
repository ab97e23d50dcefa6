import Foundation
import JSON
import Pebble
import TestSupport
import Testing

/// `quarry inspect --html` through the real program; `tools/check-report` looks at pages in a browser.
@Suite struct ReportTests {
  /// The page, and the data in it, of which one entry belongs to each tensor.
  private func page(_ path: String, in directory: URL) throws -> (text: String, data: [JSONValue]) {
    let file = directory.appending(path: "report.html")
    let made = try quarry.run(["inspect", path, "--html", file.path, "--force"])
    try #require(made.status == 0, "\(made.errors)")
    #expect(made.output.isEmpty && made.errors.contains(file.path))
    let text = try String(contentsOf: file, encoding: .utf8)
    let opening = try #require(text.range(of: #"<script type="application/json" id="data">"#))
    let rest = text[opening.upperBound...]
    let end = try #require(rest.range(of: "</script>"))
    let data = try JSONValue(parsing: String(rest[..<end.lowerBound]))
    return (text, try #require(data.array))
  }

  @Test func everyKindHasItsParts() throws {
    try Place.withTemporaryDirectory { directory in
      let slab = directory.appending(path: "pebble.slab").path
      let made = try quarry.run([
        "convert", Pebble.directory.path, "-o", slab, "--calibration", "none",
      ])
      try #require(made.status == 0, "\(made.errors)")
      let gguf = Place.goldens.appending(path: "gguf/tiny.gguf").path
      let shard = Pebble.directory.appending(path: "model-00001-of-00002.safetensors").path
      for (path, isSlab) in [
        (slab, true), (Pebble.directory.path, false), (shard, false), (gguf, false),
      ] {
        let listing = try quarry.run(["inspect", path, "--tensors", "--json"])
        let tensors = try JSONValue(parsing: listing.output)["tensors"]?.array
        let (text, data) = try page(path, in: directory)
        #expect(data.count == tensors?.count)
        for part in [
          "Content-Security-Policy", "default-src &#39;none&#39;", "Size by role", "Byte map",
        ] {
          let isThere = text.contains(part)  // not the whole page in the message
          #expect(isThere, "\(path): \(part)")
        }
        #expect(text.contains("Error by layer") == isSlab)
        #expect(text.contains(#"<section id="recipe">"#) == isSlab)
        #expect(!text.contains("src=") && !text.contains("href="))
      }
      // The same figures as those of the view of one tensor.
      let name = "model.layers.0.mlp.down_proj.weight"
      let one = try quarry.run(["inspect", slab, "--tensor", name, "--tensors", "--json"])
      let report = try JSONValue(parsing: one.output)
      let index = try #require(report["tensors"]?.array?.firstIndex { $0["name"]?.string == name })
      let figures = try #require(try page(slab, in: directory).data[index]["figures"]?.array)
      #expect(figures.count == 3)
      #expect(figures[0]["counts"] == report["tensor"]?["values"]?["histogram"]?["counts"])
      #expect(figures[2]["counts"] == report["tensor"]?["blocks"]?["code_counts"])
    }
  }

  @Test func hostileNamesStayText() throws {
    try Place.withTemporaryDirectory { directory in
      let name = #"</script><!--<img src=x onerror=alert(1)>'&\u2028\u202e"#
      let header =
        #"{"__metadata__":{"<b>key":"</script>\u2029<i>"},"\#(name.replacing("\"", with: "\\\""))":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#
      var bytes = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
      bytes += Data(header.utf8) + Data(count: 8)
      let file = directory.appending(path: "hostile.safetensors")
      try bytes.write(to: file)
      let (text, data) = try page(file.path, in: directory)
      #expect(data.count == 1)
      for markup in ["<img", "<b>", "<i>", "\u{2028}", "\u{2029}", "\u{202e}", "onerror=alert(1)>"]
      {
        #expect(!text.contains(markup), "\(markup)")
      }
      #expect(text.contains("&lt;/script&gt;&lt;!--&lt;img src=x onerror=alert(1)&gt;&#39;&amp;"))
      // Of the data and of the program.
      #expect(text.components(separatedBy: "</script>").count == 3)
    }
  }

  @Test func nothingIsLost() throws {
    try Place.withTemporaryDirectory { directory in
      let model = directory.appending(path: "tiny.gguf")
      let original = try Data(contentsOf: Place.goldens.appending(path: "gguf/tiny.gguf"))
      try original.write(to: model)
      let output = directory.appending(path: "report.html")
      try Data("mine".utf8).write(to: output)
      let refused = try quarry.run(["inspect", model.path, "--html", output.path])
      #expect(refused.status == 1 && refused.errors.contains("--force"))
      #expect(try Data(contentsOf: output) == Data("mine".utf8))
      let itself = try quarry.run(["inspect", model.path, "--html", model.path, "--force"])
      #expect(itself.status == 1 && itself.errors.contains("is the input"))
      #expect(try Data(contentsOf: model) == original)
      let nowhere = directory.appending(path: "missing/report.html").path
      #expect(try quarry.run(["inspect", model.path, "--html", nowhere]).status == 1)
      #expect(try quarry.run(["inspect", model.path, "--force"]).status == 64)
      let replaced = try quarry.run([
        "inspect", model.path, "--html", output.path, "--force", "--layers",
      ])
      #expect(replaced.status == 0 && replaced.output.contains("layer"))
      #expect(try Data(contentsOf: output).count > 1000)
      let names = try FileManager.default.contentsOfDirectory(atPath: directory.path)
      #expect(names.sorted() == ["report.html", "tiny.gguf"])
    }
  }
}
