import Foundation
import JSON
import ModelFiles

/// Where the bytes lie: every file to scale, in lines like text.
struct ByteMapDrawing {
  private let listing: ModelListing
  private let layout: LayoutView

  private static let lineCount = 24
  private static let (width, height, pitch) = (960.0, 14.0, 18.0)

  init(_ listing: ModelListing) {
    self.listing = listing
    layout = LayoutView(listing)
  }

  /// Neighbouring regions of one thing are one; padding is what is between.
  private func pieces(ofFile file: Int) -> [(region: FileRegion, range: Range<Int>)] {
    var pieces: [(region: FileRegion, range: Range<Int>)] = []
    for region in layout.regions where region.file == file && region.kind != .padding {
      if let last = pieces.last, last.region.kind == region.kind, let name = region.name,
        let previous = last.region.name, name.utf8.elementsEqual(previous.utf8)
      {
        pieces[pieces.count - 1].range = last.range.lowerBound..<region.range.upperBound
      } else {
        pieces.append((region, region.range))
      }
    }
    return pieces.filter { !$0.range.isEmpty }
  }

  var html: HTML {
    let perLine = max(1, (listing.fileByteCount + Self.lineCount - 1) / Self.lineCount)
    var marks: Set<ByteMark> = []
    let charts = listing.files.enumerated().map { index, file -> HTML in
      let name = URL(filePath: file.path).lastPathComponent
      let lines = max(1, (file.byteCount + perLine - 1) / perLine)
      var chart = Chart(
        "bytes-\(index)", "Bytes of \(name)", width: Self.width,
        height: Double(lines) * Self.pitch)
      for (region, range) in pieces(ofFile: index) {
        let mark = ByteMark(region)
        marks.insert(mark)
        chart.add(
          mark, path: Self.path(range, perLine),
          name: (region.name.map { "\($0.shown), " } ?? "") + mark.rawValue
            + ": \(Format.bytes(range.count)) from byte \(range.lowerBound)")
      }
      let title: HTML = listing.files.count > 1 ? "<h3>\(name)</h3>" : ""
      return title + chart.html()
    }
    return """
      <section><h2>Byte map</h2><p>A line is \(Format.bytes(perLine)). \(layout.rules)</p>
      \(charts)\(Chart.legend(marks))</section>
      """
  }

  private static func path(_ range: Range<Int>, _ perLine: Int) -> HTML {
    var parts: [HTML] = []
    var start = range.lowerBound
    while start < range.upperBound {
      let line = start / perLine
      let end = min((line + 1) * perLine, range.upperBound)
      let scale = width / Double(perLine)
      // What is too small to be seen is as wide as can just be seen.
      let length = max(0.4, Double(end - start) * scale)
      parts.append(
        Chart.rectangle(
          Double(start - line * perLine) * scale, Double(line) * pitch, length, height))
      start = end
    }
    return "\(parts)"
  }
}
