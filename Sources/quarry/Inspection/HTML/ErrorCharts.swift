import Foundation
import JSON
import ModelFiles
import TensorCore

/// What encoding did to the matrices of each layer, as a slab records it: one line for each role.
struct ErrorCharts {
  private struct Point {
    let tensor: ListedTensor
    let layer: Int
    let statistics: ErrorStatistics
  }

  private let points: [Point]

  init(_ listing: ModelListing) {
    points = listing.tensors.compactMap { tensor in
      guard let layer = tensor.layer, let statistics = tensor.statistics,
        TensorRole(rawValue: tensor.role)?.isMatrix == true
      else { return nil }
      return Point(tensor: tensor, layer: layer, statistics: statistics)
    }
  }

  var html: HTML {
    guard !points.isEmpty else { return "" }
    let marks = Set(points.map { ByteMark(role: $0.tensor.role) })
    return """
      <section><h2>Error by layer</h2>
      <p>What encoding did to each matrix, as the slab records it; scales are logarithmic.</p>
      \(Chart.legend(marks, shapes: true))
      \(chart("nmse", "Normalised mean squared error") { $0.normalizedMeanSquaredError })
      \(chart("weighted", "The same, weighted by the importance of the inputs") { $0.weightedError })
      \(chart("cosine", "1 − cosine similarity") { max(0, 1 - $0.cosineSimilarity) })
      </section>
      """
  }

  private func chart(
    _ id: String, _ name: String, _ value: (ErrorStatistics) -> Double?
  ) -> HTML {
    let values = points.compactMap { point in
      value(point.statistics).flatMap { $0.isFinite ? (point: point, value: $0) : nil }
    }
    guard !values.isEmpty else { return "" }
    let logarithms = values.map(\.value).filter { $0 > 0 }.map { log10($0) }
    let (least, largest) = (logarithms.min() ?? -1, logarithms.max() ?? 0)
    let margin = max(0.1, (largest - least) / 20)
    let (bottom, top) = (least - margin, largest + margin)
    let layers = points.map(\.layer)
    let (first, last) = (layers.min()!, layers.max()!)
    let (left, right, high, low) = (70.0, 940.0, 14.0, 214.0)
    var chart = Chart("error-\(id)", name, width: 960, height: 262)
    func x(_ layer: Int) -> Double {
      last > first
        ? left + 20 + (right - left - 40) * Double(layer - first) / Double(last - first)
        : (left + right) / 2
    }
    // Exact ones lie below the scale.
    func y(_ value: Double) -> Double {
      guard value > 0 else { return low + 14 }
      return low - (low - high) * (log10(value) - bottom) / (top - bottom)
    }
    for (tick, text) in Self.ticks(bottom, top) {
      let height = low - (low - high) * (tick - bottom) / (top - bottom)
      chart.scenery.append("<path class=\"grid\" d=\"M\(left) \(height)H\(right)\"/>\n")
      chart.label(left - 8, height + 4, "axis end", text)
    }
    let exact = values.contains { $0.value == 0 }
    if exact { chart.label(left - 8, low + 18, "axis end", "0") }
    let stride = max(1, (last - first + 12) / 12)
    for layer in Swift.stride(from: first, through: last, by: stride) {
      chart.label(x(layer), low + 34, "axis middle", "\(layer)")
    }
    chart.label((left + right) / 2, low + 47, "axis middle", "layer")
    let roles = TensorRole.allCases.map { role in
      values.filter { $0.point.tensor.role == role.rawValue }.sorted {
        $0.point.layer < $1.point.layer
      }
    }
    for series in roles where series.count > 1 {
      let path = series.enumerated().map { index, item -> HTML in
        "\(index == 0 ? "M" : "L")\(x(item.point.layer)) \(y(item.value))"
      }
      let mark = ByteMark(role: series[0].point.tensor.role)
      chart.scenery.append("<path class=\"line \("\(mark)")\" d=\"\(path)\"/>\n")
    }
    for series in roles {
      for (point, value) in series {
        let mark = ByteMark(role: point.tensor.role)
        chart.add(
          mark, path: mark.shape(x(point.layer), y(value), 4),
          name: "layer \(point.layer), \(mark.rawValue), \(point.tensor.encoding): "
            + "NMSE \(Format.significant(point.statistics.normalizedMeanSquaredError))"
            + (point.statistics.weightedError.map { ", weighted \(Format.significant($0))" } ?? "")
            + ", cosine \(Format.decimal(point.statistics.cosineSimilarity, 6))")
      }
    }
    return "<h3>\(name)</h3>" + chart.html()
  }

  /// Round numbers between two logarithms: fewer of each decade where there are more decades.
  private static func ticks(_ bottom: Double, _ top: Double) -> [(Double, String)] {
    let digits = top - bottom < 1 ? Array(1...9) : top - bottom < 3 ? [1, 2, 5] : [1]
    let step = max(1, Int((top - bottom) / 8))
    return stride(from: Int(bottom.rounded(.down)), through: Int(top.rounded(.up)), by: step)
      .flatMap { decade in
        digits.map { (Double(decade) + log10(Double($0)), "\($0)e\(decade)") }
      }.filter { bottom <= $0.0 && $0.0 <= top }
  }
}
