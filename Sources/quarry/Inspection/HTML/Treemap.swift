import JSON
import ModelFiles

/// What takes the space: areas of roles, divided among the layers. Areas as in "Squarified treemaps"
/// (Bruls, Huizing and van Wijk, 2000).
struct Treemap {
  private struct Area {
    var x, y, width, height: Double
  }

  private struct Part {
    let role: String
    let layer: Int?
    var byteCount = 0
  }

  private let parts: [(role: String, parts: [Part])]
  private let total: Int

  init(_ listing: ModelListing) {
    var sums: [String: [Int: Part]] = [:]
    for tensor in listing.tensors where tensor.logicalByteCount > 0 {
      sums[tensor.role, default: [:]][
        tensor.layer ?? -1, default: Part(role: tensor.role, layer: tensor.layer)
      ].byteCount += tensor.logicalByteCount
    }
    total = listing.total.logicalByteCount
    parts = listing.roles.compactMap { role in
      sums[role.name].map { parts in (role.name, parts.sorted { $0.key < $1.key }.map(\.value)) }
    }.sorted { Self.sum($0.parts) > Self.sum($1.parts) }
  }

  private static func sum(_ parts: [Part]) -> Int { parts.reduce(0) { $0 + $1.byteCount } }

  var html: HTML {
    guard total > 0 else { return "" }
    var chart = Chart("treemap", "Size by role and layer", width: 960, height: 420)
    let whole = Area(x: 0, y: 0, width: 960, height: 420)
    let areas = Self.divide(whole, parts.map { Double(Self.sum($0.parts)) })
    for (area, (role, parts)) in zip(areas, parts) {
      let cells = Self.divide(area, parts.map { Double($0.byteCount) })
      for (cell, part) in zip(cells, parts) {
        let place = part.layer.map { ", layer \($0)" } ?? ""
        chart.add(
          ByteMark(role: role), path: Chart.rectangle(cell.x, cell.y, cell.width, cell.height),
          name: "\(role)\(place): \(Format.bytes(part.byteCount)), "
            + Format.percent(part.byteCount, of: total))
      }
      if area.width > 9 * Double(role.count) + 8, area.height > 22 {
        chart.label(area.x + 6, area.y + 17, "area", role)
      }
    }
    let marks = Set(parts.map { ByteMark(role: $0.role) })
    return """
      <section><h2>Size by role and layer</h2>
      <p>Decompressed bytes; an area for each role, divided among its layers.</p>
      \(chart.html(labelsAbove: true))\(Chart.legend(marks))</section>
      """
  }

  /// Rows of cells along the shorter side, each row as long as that makes its cells squarer.
  private static func divide(_ area: Area, _ sizes: [Double]) -> [Area] {
    let order = sizes.indices.sorted { (sizes[$1], $0) < (sizes[$0], $1) }
    var result = Array(repeating: area, count: sizes.count)
    var rest = area
    var left = sizes.reduce(0, +)
    var next = 0
    while next < order.count {
      let side = min(rest.width, rest.height)
      let scale = left > 0 ? rest.width * rest.height / left : 0
      var (end, sum) = (next, 0.0)
      var best = Double.infinity
      while end < order.count {
        let grown = (sum + sizes[order[end]]) * scale
        let thickness = side > 0 ? grown / side : 0
        // Sizes descend: one of the two ends of the row is the least square.
        let worst = [order[next], order[end]].map { index -> Double in
          let length = thickness > 0 ? sizes[index] * scale / thickness : 0
          return length > 0 ? max(length / thickness, thickness / length) : .infinity
        }.max()!
        if end > next, worst > best { break }
        best = worst
        sum += sizes[order[end]]
        end += 1
      }
      let thickness = side > 0 ? sum * scale / side : 0
      var offset = 0.0
      for index in order[next..<end] {
        let length = sum > 0 ? side * sizes[index] / sum : 0
        result[index] =
          rest.width >= rest.height
          ? Area(x: rest.x, y: rest.y + offset, width: thickness, height: length)
          : Area(x: rest.x + offset, y: rest.y, width: length, height: thickness)
        offset += length
      }
      if rest.width >= rest.height {
        rest.x += thickness
        rest.width = max(0, rest.width - thickness)
      } else {
        rest.y += thickness
        rest.height = max(0, rest.height - thickness)
      }
      left -= sum
      next = end
    }
    return result
  }
}
