import Conversion
import Foundation
import JSON
import ModelFiles
import TensorCore

/// Everything about a file on one page that needs nothing else.
struct ReportPage {
  private let listing: ModelListing
  private let summary: SummaryView
  private let details: [JSONValue]

  private static let style = String(decoding: PackageResources.report_css, as: UTF8.self)
  private static let script = String(decoding: PackageResources.report_js, as: UTF8.self)

  /// - Parameter details: of each tensor (``TensorDetails``).
  init(_ listing: ModelListing, details: [JSONValue]) {
    self.listing = listing
    summary = SummaryView(listing: listing)
    self.details = details
  }

  var html: HTML {
    """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta http-equiv="Content-Security-Policy" content="\(policy)">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <meta name="generator" content="quarry \(Quarry.version)">
    <title>\(title)</title>
    <style>\(HTML(trusted: Self.style))</style>
    </head>
    <body>
    <main>
    \(heading)
    \(memory)
    \(Treemap(listing).html)
    \(ErrorCharts(listing).html)
    \(ByteMapDrawing(listing).html)
    \(TensorTable(listing).html)
    \(recipe)
    \(provenance)
    </main>
    <script type="application/json" id="data">\(json: .array(details))</script>
    <script>\(HTML(trusted: Self.script))</script>
    </body>
    </html>

    """
  }

  /// Nothing but this page's own style and script, and nothing from anywhere.
  private var policy: String {
    func hash(_ text: String) -> String {
      "'sha256-\(Data(Digest(of: Array(text.utf8)).bytes).base64EncodedString())'"
    }
    return "default-src 'none'; style-src \(hash(Self.style)); script-src \(hash(Self.script)); "
      + "base-uri 'none'; form-action 'none'"
  }

  private var title: String { URL(filePath: listing.path).lastPathComponent }

  private var heading: HTML {
    let notes = listing.notes.map { note -> HTML in "<p class=\"note\">Note: \(note)</p>" }
    let root: HTML =
      listing.slab.map { slab -> HTML in "<p>Root <code>\("\(slab.rootDigest)")</code></p>" } ?? ""
    return """
      <header><h1>\(title)</h1><p>\(summary.what)</p><p><strong>\(summary.size)</strong></p>
      <p>\(summary.dimensions)</p>\(root)\(notes)</header>
      <section><h2>By role</h2>\(summary.roleTable.html("Sums by role"))</section>
      """
  }

  private var memory: HTML {
    guard let table = summary.memoryTable else { return "" }
    return """
      <section><h2>Memory to run</h2><p>Weights and KV cache, at some lengths of context.</p>
      \(table.html("Memory to run"))</section>
      """
  }

  /// What a slab says it was made by; a preset by its name alone.
  private var recipe: HTML {
    guard let slab = listing.slab, let name = slab.metadata["recipe"] else { return "" }
    let yaml = slab.metadata["recipe-yaml"] ?? Recipe(named: name)?.yaml
    let text: HTML =
      yaml.map { yaml -> HTML in "<pre tabindex=\"0\">\(HTML(lines: yaml))</pre>" } ?? ""
    return "<section id=\"recipe\"><h2>Recipe: \(name)</h2>\(text)</section>"
  }

  private var provenance: HTML {
    let entries = listing.metadata.filter { $0.key != "recipe-yaml" }.map { entry -> HTML in
      let value = MetadataView.shown(entry)
      let long: HTML =
        value.contains("\n") ? "<pre tabindex=\"0\">\(HTML(lines: value))</pre>" : "\(value)"
      return "<dt>\(entry.key)</dt><dd>\(long)</dd>\n"
    }
    let metadata: HTML = entries.isEmpty ? "" : "<dl>\(entries)</dl>"
    guard !listing.assets.isEmpty || !entries.isEmpty else { return "" }
    let assets: HTML =
      listing.assets.isEmpty
      ? "" : "<h3>Assets</h3>\(AssetsView(listing: listing).table.html("Assets"))"
    return
      "<section id=\"provenance\"><h2>Provenance and metadata</h2>\(metadata)\(assets)</section>"
  }
}
