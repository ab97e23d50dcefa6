import JSON
import ModelFiles
import TensorCore

/// A row for each tensor, which the page's script sorts, filters, and opens to show distributions.
struct TensorTable {
  private struct Column {
    let title: String
    var isNumber = true
    /// What is shown, and what is sorted by where that is a number.
    let cell: (ListedTensor) -> (text: String, value: Double?)
  }

  private let listing: ModelListing

  init(_ listing: ModelListing) { self.listing = listing }

  private var columns: [Column] {
    func number(_ title: String, _ value: @escaping (ListedTensor) -> Double?) -> Column {
      Column(title: title) { tensor in
        let value = value(tensor)
        return (value.map { Format.significant($0, 4) } ?? "", value)
      }
    }
    func bytes(_ title: String, _ value: @escaping (ListedTensor) -> Int) -> Column {
      Column(title: title) { (Format.bytes(value($0)), Double(value($0))) }
    }
    let statistics = listing.tensors.compactMap(\.statistics)
    var columns = [
      Column(title: "role", isNumber: false) { ($0.role, nil) },
      Column(title: "layer") { ($0.layer.map { "\($0)" } ?? "", $0.layer.map { Double($0) }) },
      Column(title: "shape") { (Format.shape($0.shape), Double($0.elementCount)) },
      Column(title: "encoding", isNumber: false) { ($0.encoding, nil) },
      Column(title: "bits") { (Format.decimal($0.bitsPerWeight, 2), $0.bitsPerWeight) },
      bytes("size") { $0.logicalByteCount },
    ]
    if listing.tensors.contains(where: { $0.storedByteCount != $0.logicalByteCount }) {
      columns.append(bytes("stored") { $0.storedByteCount })
    }
    if !statistics.isEmpty {
      columns.append(number("NMSE") { $0.statistics?.normalizedMeanSquaredError })
      if statistics.contains(where: { $0.weightedError != nil }) {
        columns.append(number("weighted NMSE") { $0.statistics?.weightedError })
      }
      columns.append(number("max error") { $0.statistics?.maximumAbsoluteError })
      columns.append(
        Column(title: "cosine") { tensor in
          let cosine = tensor.statistics?.cosineSimilarity
          return (cosine.map { Format.decimal($0, 6) } ?? "", cosine)
        })
    }
    return columns
  }

  var html: HTML {
    let columns = columns
    let head = columns.map { Self.header($0.title, isNumber: $0.isNumber) }
    let rows = listing.tensors.enumerated().map { index, tensor -> HTML in
      let cells = columns.map { column -> HTML in
        let (text, value) = column.cell(tensor)
        let key: HTML = value.map { value -> HTML in " data-v=\"\("\(value)")\"" } ?? ""
        return "<td\(column.isNumber ? " class=\"number\"" : "" as HTML)\(key)>\(text)</td>"
      }
      return """
        <tr data-i="\(index)" data-role="\(tensor.role)"><th scope="row">\
        <button type="button" aria-expanded="false">\(tensor.name)</button></th>\(cells)</tr>

        """
    }
    let roles = listing.roles.map { role -> HTML in
      "<option value=\"\(role.name)\">\(role.name)</option>"
    }
    return """
      <section><h2>Tensors</h2>
      <noscript><p>Sorting, filtering and histograms need the page's own script.</p></noscript>
      <form id="filter"><label>Name <input type="search" id="name" autocomplete="off" \
      placeholder="part of a name"></label>
      <label>Role <select id="role"><option value="">all</option>\(roles)</select></label>
      <output id="count" aria-live="polite">\(listing.tensors.count) tensors</output></form>
      <p>A name opens the distribution of its values, scales and codes.</p>
      <div class="scroller" role="region" tabindex="0" aria-label="Tensors">
      <table id="tensors"><thead><tr>\(Self.header("name", isNumber: false))\(head)</tr></thead>
      <tbody>\(rows)</tbody></table></div></section>
      """
  }

  private static func header(_ title: String, isNumber: Bool) -> HTML {
    let style: HTML = isNumber ? " class=\"number\"" : ""
    return """
      <th scope="col"\(style) aria-sort="none"><button type="button">\(title)</button></th>
      """
  }
}
