import JSON
import ModelFiles

/// What `NAME[a:b,c:d]` selects of a tensor.
struct TensorSlice {
  let tensor: ListedTensor
  /// Indices in each dimension.
  let ranges: [Range<Int>]

  /// Values that are shown at once.
  static let maximumCount = 1 << 24
  private static let cornerCount = 8

  var count: Int { ranges.reduce(1) { $0 * $1.count } }

  /// The first values of a tensor.
  init(cornerOf tensor: ListedTensor) {
    self.tensor = tensor
    ranges = tensor.shape.map { 0..<min($0, Self.cornerCount) }
  }

  /// As numpy writes it.
  var description: String {
    "[" + ranges.map { "\($0.lowerBound):\($0.upperBound)" }.joined(separator: ", ") + "]"
  }

  /// - Throws: ``InputError`` for a tensor that is not there and a selection that makes no sense.
  init(_ text: String, in listing: ModelListing) throws {
    if let tensor = listing.tensor(named: text) {
      self = TensorSlice(cornerOf: tensor)
      return
    }
    guard text.hasSuffix("]"), let bracket = text.lastIndex(of: "[") else {
      throw listing.missing(text)
    }
    tensor = try listing.require(String(text[..<bracket]))
    let inside = text[text.index(after: bracket)...].dropLast()
    let parts = inside.split(separator: ",", omittingEmptySubsequences: false)
    let shape = tensor.shape
    guard parts.count <= max(shape.count, 1), !(shape.isEmpty && !inside.isEmpty) else {
      throw InputError(
        "\(tensor.name.shown) has \(shape.count) dimensions, \(Format.shape(shape)); "
          + "[\(String(inside).shown)] has \(parts.count)")
    }
    ranges = try shape.indices.map { dimension in
      guard dimension < parts.count else { return 0..<shape[dimension] }
      return try Self.range(String(parts[dimension]), size: shape[dimension])
    }
    guard ranges.reduce(into: true, { $0 = $0 && !$1.isEmpty }) || shape.contains(0) else {
      throw InputError(
        "\(text.shown) selects nothing of \(Format.shape(shape))")
    }
    var count = 1
    for range in ranges {
      let (product, overflow) = count.multipliedReportingOverflow(by: range.count)
      guard !overflow, product <= Self.maximumCount else {
        throw InputError(
          "\(text.shown) selects more than \(Self.maximumCount) values; select fewer")
      }
      count = product
    }
  }

  /// `i`, `a:b`, `a:`, `:b` or `:`; negative numbers count from the end.
  private static func range(_ text: String, size: Int) throws -> Range<Int> {
    let text = text.filter { $0 != " " }
    let ends = text.split(separator: ":", omittingEmptySubsequences: false)
    func number(_ part: Substring, _ otherwise: Int) throws -> Int {
      if part.isEmpty { return otherwise }
      guard let value = Int(part) else {
        throw InputError(
          "\(text.shown) is no selection; write an index or a range such as 0:8, 100: or :")
      }
      return value < 0 ? value.addingReportingOverflow(size).partialValue : value
    }
    switch ends.count {
    case 1 where !text.isEmpty:
      let index = try number(ends[0], 0)
      guard (0..<size).contains(index) else {
        throw InputError("the index \(text.shown) is outside of 0..<\(size)")
      }
      return index..<index + 1
    case 2:
      let start = min(max(0, try number(ends[0], 0)), size)
      return start..<max(start, min(max(0, try number(ends[1], size)), size))
    default:
      throw InputError(
        "\"\(text.shown)\" is no selection; write an index or a range such as 0:8, 100: or :")
    }
  }
}

extension ModelListing {
  func require(_ name: String) throws -> ListedTensor {
    guard let tensor = tensor(named: name) else { throw missing(name) }
    return tensor
  }

  /// That there is no such tensor, and which ones are called alike.
  func missing(_ name: String) -> InputError {
    let alike = tensors.lazy.map(\.name).filter { !name.isEmpty && $0.contains(name) }.prefix(3)
      .map(\.shown)
    let advice =
      alike.isEmpty
      ? "quarry inspect \(path.shown) --tensors lists them"
      : "there is \(alike.joined(separator: ", "))"
    return InputError("\(path.shown) has no tensor \(name.shown); \(advice)")
  }
}
