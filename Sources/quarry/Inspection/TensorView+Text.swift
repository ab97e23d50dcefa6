import JSON
import ModelFiles
import TensorCore

extension TensorView {
  func text(_ screen: Screen) -> String {
    var sections = [facts(screen)]
    if let streams = streams(screen) { sections.append(streams) }
    sections.append(LayoutDrawing(tensor, matrix).text(screen))
    if let values { sections.append(distribution(values, screen)) }
    if let blocks {
      sections += [scales(blocks, screen), codes(blocks, screen), coarsest(blocks, screen)]
    }
    if let sourceErrors { sections.append(sourceErrors.text(screen)) }
    if let values, let channels = channels(values, screen) { sections.append(channels) }
    if let corner {
      sections.append(screen.heading("first values") + "\n" + corner.text(screen))
    } else {
      sections.append("The values of \(tensor.encoding) are not decoded.")
    }
    return sections.joined(separator: "\n\n")
  }

  private func facts(_ screen: Screen) -> String {
    var facts: [(String, String)] = [
      ("shape", Format.shape(tensor.shape) + dimensions),
      (
        "role", tensor.role + (tensor.layer.map { ", layer \($0)" } ?? "")
      ),
      (
        "encoding",
        "\(tensor.encoding), layout \(tensor.layout), "
          + "\(Format.decimal(tensor.bitsPerWeight, 3)) bits per weight"
      ),
      (
        "bytes",
        "\(tensor.logicalByteCount) (\(Format.bytes(tensor.logicalByteCount)))"
          + (tensor.storedByteCount == tensor.logicalByteCount
            ? "" : ", stored in \(tensor.storedByteCount)")
          + ", from byte \(tensor.offset)"
          + (listing.files.count > 1 ? " of \(listing.files[tensor.file].path.shown)" : "")
      ),
    ]
    if listing.kind == .slab { facts.append(("made from", tensor.sourceType)) }
    if let scales = tensor.columnScales { facts.append(("column scales", scales.shown)) }
    if let digest = tensor.digest { facts.append(("digest", "\(digest)")) }
    if let error = tensor.statistics {
      let weighted = error.weightedError.map {
        ", by importance \(Format.significant($0))"
      }
      facts.append(
        (
          "error",
          "NMSE \(Format.significant(error.normalizedMeanSquaredError))"
            + "\(weighted ?? ""), largest \(Format.significant(error.maximumAbsoluteError)), "
            + "cosine \(Format.decimal(error.cosineSimilarity, 6)), as recorded when it was made"
        ))
    }
    let width = facts.reduce(0) { max($0, $1.0.count) }
    let lines = facts.map { name, value in
      "  " + name + String(repeating: " ", count: width - name.count + 2)
        + screen.paragraph(value, indent: width + 4)
    }
    return ([screen.heading(tensor.name.shown)] + lines).joined(separator: "\n")
  }

  private var dimensions: String {
    switch tensor.shape.count {
    case 2: " (rows × columns)"
    case 3 where TensorRole(rawValue: tensor.role)?.isOfExperts == true:
      " (experts × rows × columns); rows are counted through all experts"
    default: ""
    }
  }

  private func streams(_ screen: Screen) -> String? {
    guard let slabTensor else { return nil }
    var table = ScreenTable(columns: [
      .init(title: "stream"), .init(title: "begins at", isRight: true),
      .init(title: "bytes", isRight: true), .init(title: "stored", isRight: true),
      .init(title: "codec"), .init(title: "frames", isRight: true, expendability: 1),
    ])
    table.rows = slabTensor.streams.map { stream in
      [
        LayoutDrawing.name(stream.kind), "\(stream.offset)", "\(stream.logicalByteCount)",
        "\(stream.storedByteCount)", stream.codec.name, "\(stream.frameCount)",
      ]
    }
    return table.text(screen)
  }

  /// The values in a sentence.
  static func summary(_ values: ValueStatistics) -> String {
    var text =
      "\(values.count), from \(values.minimum) to \(values.maximum), "
      + "mean \(Format.significant(values.mean)), RMS \(Format.significant(values.rootMeanSquare))"
    if values.zeroCount > 0 {
      text += ", \(Format.percent(values.zeroCount, of: values.count)) zero"
    }
    if values.nonFiniteCount > 0 {
      text += ", \(values.nonFiniteCount) not finite"
    }
    return text
  }

  /// The scales in a sentence.
  static func summary(_ blocks: BlockStatistics) -> String {
    let scales = blocks.rowScales
    return "\(blocks.blockCount), of which \(blocks.zeroBlockCount) are 0 and "
      + "\(blocks.saturatedBlockCount) at ±127; row scales from \(scales.minimum) to "
      + "\(scales.maximum), median \(scales.median)"
  }

  private func distribution(_ values: ValueStatistics, _ screen: Screen) -> String {
    let title = screen.titled("values", Self.summary(values))
    guard values.bound > 0 else { return title }
    let width = 2 * Double(values.bound) / Double(values.histogram.count)
    let rows = values.histogram.enumerated().map { index, count in
      (
        Format.significant(-Double(values.bound) + (Double(index) + 0.5) * width), count
      )
    }
    return title + "\n" + Self.histogram(rows, screen)
  }

  private func scales(_ blocks: BlockStatistics, _ screen: Screen) -> String {
    var bins: [(String, Int)] = []
    for start in stride(from: 0, to: 256, by: 16) {
      bins.append(
        ("\(start - 128)…\(start - 113)", blocks.scaleCounts[start..<start + 16].reduce(0, +)))
    }
    // A writer of 8-bit codes has no use for negative scales.
    while bins.count > 1, bins[0].1 == 0 { bins.removeFirst() }
    let title = screen.titled("block scales", Self.summary(blocks))
    return title + "\n" + Self.histogram(bins, screen)
  }

  private func codes(_ blocks: BlockStatistics, _ screen: Screen) -> String {
    if blocks.codeValues.count == 16 {
      let rows = blocks.codeValues.enumerated().map { code, value in
        ("\(code) = \(value)", blocks.codeCounts[code])
      }
      return screen.titled("codebook", "code = value, and how many weights have it") + "\n"
        + Self.histogram(rows, screen)
    }
    let rows = stride(from: 0, to: 256, by: 16).map { start in
      ("\(start - 128)…\(start - 113)", blocks.codeCounts[start..<start + 16].reduce(0, +))
    }
    return screen.titled("codes", "how many weights have them") + "\n"
      + Self.histogram(rows, screen)
  }

  private func coarsest(_ blocks: BlockStatistics, _ screen: Screen) -> String {
    var table = ScreenTable(columns: [
      .init(title: "row", isRight: true), .init(title: "columns"),
      .init(title: "scale", isRight: true), .init(title: "largest rounding", isRight: true),
    ])
    let size = matrix?.encoding.blockSize ?? 1
    table.rows = blocks.coarsest.map { block in
      let end = min(block.column + size, tensor.shape.last!)
      return [
        "\(block.row)", "\(block.column)…\(end - 1)", "\(block.scale)",
        Format.significant(Double(block.largestRounding)),
      ]
    }
    let what = "where a weight can be rounded furthest: half of the widest step"
    return screen.titled("coarsest blocks", what) + "\n" + table.text(screen)
  }

  private func channels(_ values: ValueStatistics, _ screen: Screen) -> String? {
    var table = ScreenTable(columns: [
      .init(title: "channel"), .init(title: "RMS", isRight: true),
      .init(title: "times the median", isRight: true),
    ])
    for (kind, channels) in [("column", values.columns), ("row", values.rows)] {
      table.rows += channels.map { channel in
        [
          "\(kind) \(channel.index)", Format.significant(channel.rootMeanSquare),
          Format.significant(channel.ratio),
        ]
      }
    }
    guard !table.rows.isEmpty else { return nil }
    return screen.titled("largest channels", "those far above the median are outliers") + "\n"
      + table.text(screen)
  }

  /// A line for each bin: label, bar, count, share.
  private static func histogram(_ rows: [(label: String, count: Int)], _ screen: Screen) -> String {
    let labels = rows.reduce(0) { max($0, $1.label.count) }
    let largest = rows.reduce(0) { max($0, $1.count) }
    let total = rows.reduce(0) { $0 + $1.count }
    let width = max(10, min(50, screen.drawingWidth - labels - 28))
    return rows.map { label, count in
      let bar = Screen.bar(Double(count), of: Double(largest), width: width)
      let share = count > 0 ? "  \(count)  \(Format.percent(count, of: total))" : ""
      return String(repeating: " ", count: labels - label.count + 2) + label + "  "
        + screen.styled(bar, .cyan) + share
    }.joined(separator: "\n")
  }
}
