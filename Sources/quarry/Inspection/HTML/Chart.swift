import ModelFiles

/// What all charts of the page share: a drawing whose marks are named, one stop of the Tab key for each
/// chart, arrow keys within it.
struct Chart {
  let id: String
  let name: String
  let size: (width: Double, height: Double)
  /// Axes, labels.
  var scenery: [HTML] = []
  private(set) var marks: [HTML] = []

  init(_ id: String, _ name: String, width: Double, height: Double) {
    (self.id, self.name, size) = (id, name, (width, height))
  }

  /// - Parameters:
  ///   - path: in SVG's language.
  ///   - name: what a reader of the screen says, and what is shown on demand.
  mutating func add(_ mark: ByteMark, path: HTML, name: String) {
    let index: HTML = marks.isEmpty ? "0" : "-1"
    marks.append(
      """
      <path class="mark \("\(mark)")" d="\(path)" tabindex="\(index)" role="img" \
      aria-label="\(name)"><title>\(name)</title></path>

      """)
  }

  mutating func label(_ x: Double, _ y: Double, _ style: HTML, _ text: String) {
    scenery.append("<text x=\"\(x)\" y=\"\(y)\" class=\"\(style)\">\(text)</text>\n")
  }

  /// - Parameter above: whether labels lie above the marks.
  func html(labelsAbove above: Bool = false) -> HTML {
    """
    <figure class="chart" id="\(id)"><div class="scroller">
    <svg viewBox="0 0 \(size.width) \(size.height)" role="group" aria-label="\(name)">
    \(above ? [] : scenery)\(marks)\(above ? scenery : [])</svg></div>
    <p class="readout" aria-hidden="true">&nbsp;</p></figure>
    """
  }

  static func rectangle(_ x: Double, _ y: Double, _ width: Double, _ height: Double) -> HTML {
    "M\(x) \(y)h\(width)v\(height)h\(-width)z"
  }

  /// What the colours mean.
  static func legend(_ marks: Set<ByteMark>, shapes: Bool = false) -> HTML {
    let items = ByteMark.allCases.filter(marks.contains).map { mark -> HTML in
      let path = shapes ? mark.shape(8, 8, 5) : rectangle(2, 2, 12, 12)
      return """
        <li><svg viewBox="0 0 16 16" aria-hidden="true"><path class="\("\(mark)")" d="\(path)"/></svg> \
        \(mark.rawValue)</li>
        """
    }
    return "<ul class=\"legend\">\(items)</ul>"
  }
}

extension ByteMark {
  /// Told apart without colours, too: a circle, square, triangle or diamond around a point.
  func shape(_ x: Double, _ y: Double, _ r: Double) -> HTML {
    switch self {
    case .key, .gate, .output: Chart.rectangle(x - r, y - r, 2 * r, 2 * r)
    case .value, .up: "M\(x) \(y - 1.2 * r)l\(1.2 * r) \(2.2 * r)h\(-2.4 * r)z"
    case .attentionOutput, .down:
      "M\(x) \(y - 1.4 * r)l\(1.4 * r) \(1.4 * r)l\(-1.4 * r) \(1.4 * r)l\(-1.4 * r) \(-1.4 * r)z"
    default: "M\(x - r) \(y)a\(r) \(r) 0 1 0 \(2 * r) 0a\(r) \(r) 0 1 0 \(-2 * r) 0z"
    }
  }
}
