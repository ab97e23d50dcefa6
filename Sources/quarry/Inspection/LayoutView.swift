import Foundation
import JSON
import ModelFiles

/// Where the bytes lie: every file as text to scale, then what they are spent on.
struct LayoutView: InspectionView {
  let name = "layout"
  let listing: ModelListing
  let regions: [FileRegion]

  /// Lines that all files together take, about.
  private static let lineCount = 16

  init(_ listing: ModelListing) {
    self.listing = listing
    regions = listing.regions
  }

  var json: JSONValue {
    .object([
      "alignment": .object(JSONObject(alignments.map { ($0.key, .integer($0.value)) })),
      "regions": .array(
        regions.map { region in
          .object([
            "file": .integer(region.file), "offset": .integer(region.range.lowerBound),
            "bytes": .integer(region.range.count), "kind": .string(region.kind.rawValue),
            "name": .optional(region.name), "role": .optional(region.role),
            "layer": .optional(region.layer), "stream": .optional(region.stream.map { "\($0)" }),
            "codec": .optional(region.codec?.name), "frames": .optional(region.frameCount),
            "logical_bytes": .integer(region.logicalByteCount),
          ])
        }),
    ])
  }

  private var alignments: [(key: String, value: Int)] {
    switch listing.source {
    case .slab: [("segment", 16384), ("stream", 64), ("frame", 1 << 20)]
    case .safetensors: []
    case .gguf(let file): [("tensor", file.alignment)]
    }
  }

  func text(_ screen: Screen) -> String {
    let width = screen.drawingWidth - 14
    let total = listing.fileByteCount
    let cell = max(1, (total + width * Self.lineCount - 1) / (width * Self.lineCount))
    var lines = [
      screen.titled(
        "byte map", "one character for each \(Format.bytes(cell)), what most of it is")
    ]
    for (index, file) in listing.files.enumerated() {
      if listing.files.count > 1 {
        lines.append(URL(filePath: file.path).lastPathComponent.shown)
      }
      lines += map(regions.filter { $0.file == index }, file.byteCount, cell, width, screen)
    }
    return (lines + [legend(screen), "", table(screen), "", screen.paragraph(rules)]).joined(
      separator: "\n")
  }

  /// Lines of one file.
  private func map(
    _ regions: [FileRegion], _ byteCount: Int, _ cell: Int, _ width: Int, _ screen: Screen
  ) -> [String] {
    var cells = Array(repeating: [ByteMark: Int](), count: (byteCount + cell - 1) / cell)
    for region in regions {
      var start = region.range.lowerBound
      while start < region.range.upperBound {
        let end = min((start / cell + 1) * cell, region.range.upperBound)
        cells[start / cell][ByteMark(region), default: 0] += end - start
        start = end
      }
    }
    // Of two that take as much of a cell, always the same one.
    let marks = cells.map { cell in
      cell.max { ($0.value, $1.key.letter) < ($1.value, $0.key.letter) }?.key ?? .padding
    }
    return stride(from: 0, to: marks.count, by: width).map { start in
      var line = ""
      var run: (mark: ByteMark, count: Int)?
      func flush() {
        guard let run else { return }
        line += screen.styled(
          String(repeating: run.mark.letter, count: run.count), run.mark.style)
      }
      for mark in marks[start..<min(start + width, marks.count)] {
        if run?.mark == mark {
          run!.count += 1
        } else {
          flush()
          run = (mark, 1)
        }
      }
      flush()
      let offset = String(start * cell)
      return String(repeating: " ", count: max(0, 12 - offset.count)) + offset + "  " + line
    }
  }

  private func legend(_ screen: Screen) -> String {
    let present = Set(regions.map(ByteMark.init))
    var lines = [""]
    var length = 0
    for mark in ByteMark.allCases where present.contains(mark) {
      let item = "\(mark.letter) \(mark.rawValue)"
      if length + item.count + 2 > screen.drawingWidth {
        lines.append("")
        length = 0
      }
      lines[lines.count - 1] +=
        (length > 0 ? "  " : "")
        + screen.styled("\(mark.letter)", mark.style) + item.dropFirst()
      length += item.count + 2
    }
    return lines.joined(separator: "\n")
  }

  /// Sums by layer and, outside the layers, by mark.
  private func table(_ screen: Screen) -> String {
    struct Part {
      var name: String
      var offset: Int
      var byteCount = 0
      var logicalByteCount = 0
      var frameCount = 0
      var regionCount = 0
    }
    var parts: [Part] = []
    var places: [String: Int] = [:]
    for region in regions {
      let name = region.layer.map { "layer \($0)" } ?? ByteMark(region).rawValue
      if places[name] == nil {
        places[name] = parts.count
        parts.append(Part(name: name, offset: region.range.lowerBound))
      }
      let place = places[name]!
      parts[place].byteCount += region.range.count
      parts[place].logicalByteCount += region.logicalByteCount
      parts[place].frameCount += region.frameCount ?? 0
      parts[place].regionCount += 1
    }
    let isSlab = listing.kind == .slab
    var columns: [ScreenTable.Column] = [
      .init(title: "part"), .init(title: "begins at", isRight: true, expendability: 3),
      .init(title: "bytes", isRight: true), .init(title: "share", isRight: true),
      .init(title: "pieces", isRight: true, expendability: 2),
    ]
    if isSlab {
      columns.append(.init(title: "frames", isRight: true, expendability: 4))
      columns.append(.init(title: "of its size", isRight: true, expendability: 1))
    }
    var table = ScreenTable(columns: columns + [.init(title: "", expendability: 5)])
    let largest = parts.map(\.byteCount).max() ?? 0
    let total = listing.fileByteCount
    table.rows = parts.map { part in
      var cells = [
        part.name, "\(part.offset)", "\(part.byteCount)", Format.percent(part.byteCount, of: total),
        "\(part.regionCount)",
      ]
      if isSlab {
        cells += [
          "\(part.frameCount)", Format.percent(part.byteCount, of: part.logicalByteCount),
        ]
      }
      return cells + [Screen.bar(Double(part.byteCount), of: Double(largest), width: 16)]
    }
    return table.text(screen)
  }

  /// Where things may begin.
  var rules: String {
    let padding = regions.filter { $0.kind == .padding }.reduce(0) { $0 + $1.range.count }
    switch listing.source {
    case .slab:
      let frames = regions.reduce(0) { $0 + ($1.frameCount ?? 0) }
      let compressed = regions.filter { $0.codec != nil && $0.codec != .raw }
        .reduce(0) { $0 + ($1.frameCount ?? 0) }
      return """
        Segments begin at multiples of 16 KiB, streams at multiples of 64 bytes; \
        \(Format.bytes(padding)) of padding. \
        Frames hold 1 MiB each: \(frames) of them, \(compressed) compressed.
        """
    case .safetensors: return "Tensors follow each other without padding."
    case .gguf(let file):
      return "Tensors begin at multiples of \(file.alignment) bytes; "
        + "\(Format.bytes(padding)) of padding."
    }
  }
}
