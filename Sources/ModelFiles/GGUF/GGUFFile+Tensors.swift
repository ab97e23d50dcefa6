/// The list of tensors of a GGUF file.
extension GGUFFile {
  /// A tensor as the list has it.
  struct Record {
    let name: String
    let type: GGUFType
    let shape: [Int]
    let byteCount: Int
    /// From where the bytes of the tensors begin.
    let offset: UInt64
    /// Where `offset` lies in the file, for errors.
    let place: Int
  }

  static func records(
    _ count: Int, _ cursor: inout GGUFCursor
  ) throws(GGUFError) -> [Record] {
    var records: [Record] = []
    var names: Set<[UInt8]> = []
    for _ in 0..<count {
      let start = cursor.offset
      cursor.name = nil
      let name = try cursor.name(limit: maximumNameByteCount)
      cursor.name = name
      guard names.insert(Array(name.utf8)).inserted else {
        throw cursor.error(.duplicateName, at: start)
      }
      let (dimensions, dimensionsStart) = try dimensions(&cursor)
      let typeStart = cursor.offset
      let id = try cursor.integer(UInt32.self)
      guard let type = GGUFType(id: id) else {
        throw cursor.error(
          .elementType, at: typeStart, expected: "a ggml type that is known", found: "\(id)")
      }
      guard let byteCount = byteCount(of: dimensions, type) else {
        throw cursor.error(
          .shape, at: dimensionsStart,
          expected: type.isPlain
            ? "a size that can be counted"
            : "rows of whole blocks of \(type.blockSize) for \(type.name)",
          found: "\(dimensions.reversed().map { "\($0)" }.joined(separator: "×"))")
      }
      let place = cursor.offset
      records.append(
        Record(
          name: name, type: type, shape: dimensions.reversed().map { Int($0) },
          byteCount: byteCount, offset: try cursor.integer(UInt64.self), place: place))
    }
    cursor.name = nil
    return records
  }

  /// In the order of the file: the elements of a row come first.
  private static func dimensions(
    _ cursor: inout GGUFCursor
  ) throws(GGUFError) -> (sizes: [UInt64], start: Int) {
    let start = cursor.offset
    let rank = try cursor.integer(UInt32.self)
    guard rank <= maximumRank else {
      throw cursor.error(
        .shape, at: start, expected: "at most \(maximumRank) dimensions", found: "\(rank)")
    }
    var sizes: [UInt64] = []
    for _ in 0..<rank { sizes.append(try cursor.integer(UInt64.self)) }
    return (sizes, start)
  }

  /// Nil for rows that are no whole blocks, and for sizes beyond what an `Int` holds.
  private static func byteCount(of dimensions: [UInt64], _ type: GGUFType) -> Int? {
    guard (dimensions.first ?? 1) % UInt64(type.blockSize) == 0 else { return nil }
    var elements = 1
    for dimension in dimensions.reversed() {  // as ``GGUFTensor/elementCount`` multiplies
      guard let size = Int(exactly: dimension) else { return nil }
      let (product, overflow) = elements.multipliedReportingOverflow(by: size)
      guard !overflow else { return nil }
      elements = product
    }
    let (bytes, overflow) = (elements / type.blockSize)
      .multipliedReportingOverflow(by: type.blockByteCount)
    return overflow ? nil : bytes
  }

  /// Checks that every tensor lies in the file, aligned, and none on another.
  static func tensors(
    _ records: [Record], dataOffset: Int, alignment: Int, path: String, fileByteCount: Int
  ) throws(GGUFError) -> [GGUFTensor] {
    func fault(_ record: Record, expected: String, found: String) -> GGUFError {
      GGUFError(
        .offsets, path: path, offset: record.place, name: record.name, expected: expected,
        found: found)
    }
    let available = max(0, fileByteCount - dataOffset)
    var placed: [(record: Record, range: Range<Int>)] = []
    for record in records {
      guard record.offset % UInt64(alignment) == 0 else {
        throw fault(record, expected: "a multiple of \(alignment)", found: "\(record.offset)")
      }
      guard record.offset <= UInt64(available), record.byteCount <= available - Int(record.offset)
      else {
        throw fault(
          record, expected: "\(record.byteCount) bytes within the \(available) bytes of tensors",
          found: "an offset of \(record.offset)")
      }
      let start = dataOffset + Int(record.offset)
      placed.append((record, start..<start + record.byteCount))
    }
    // Of several that begin at one byte, empty ones come first: they lie on nothing.
    placed.sort {
      ($0.range.lowerBound, $0.range.upperBound, $0.record.place)
        < ($1.range.lowerBound, $1.range.upperBound, $1.record.place)
    }
    var end = dataOffset
    for (record, range) in placed {
      guard range.lowerBound >= end else {
        throw fault(
          record, expected: "an offset of at least \(end - dataOffset), where another tensor ends",
          found: "\(record.offset)")
      }
      end = range.upperBound
    }
    return placed.map { record, range in
      GGUFTensor(name: record.name, type: record.type, shape: record.shape, byteRange: range)
    }
  }
}
