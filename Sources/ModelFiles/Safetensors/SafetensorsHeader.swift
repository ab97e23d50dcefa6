import JSON

/// Reads the header of a safetensors file and checks it against the length of the file.
struct SafetensorsHeader {
  let path: String
  /// Where the bytes of the tensors begin in the file.
  let dataStart: Int
  /// Length of the file.
  let byteCount: Int

  typealias Content = (tensors: [TensorDescriptor], metadata: [(key: String, value: String)])

  func read(_ header: UnsafeBufferPointer<UInt8>) throws(CheckpointError) -> Content {
    var content: Content = ([], [])
    do {
      var scanner = JSONScanner(header)
      var names: Set<String> = []
      try scanner.object { scanner, name in
        guard names.insert(name).inserted else {
          throw CheckpointError(.duplicateName, in: path, tensor: name)
        }
        if name == "__metadata__" {
          try scanner.object { try content.metadata.append(($1, $0.string())) }
        } else {
          content.tensors.append(try tensor(named: name, &scanner))
        }
      }
      try scanner.end()
    } catch let error as CheckpointError {
      throw error
    } catch {
      throw CheckpointError(
        .malformed, in: path, expected: "a JSON header", found: "\(error) of the header")
    }
    content.tensors.sort {
      ($0.byteRange.lowerBound, $0.byteRange.upperBound)
        < ($1.byteRange.lowerBound, $1.byteRange.upperBound)
    }
    try checkCoverage(content.tensors)
    return content
  }

  /// One entry; fields in any order, each once, and no others.
  private func tensor(
    named name: String, _ scanner: inout JSONScanner
  ) throws -> TensorDescriptor {
    var dtype: String?
    var shape: [Int]?
    var offsets: [Int]?
    try scanner.object { scanner, key in
      switch key {
      case "dtype" where dtype == nil: dtype = try scanner.string()
      case "shape" where shape == nil:
        shape = try integers(&scanner, limit: SafetensorsFile.maximumRank, .shape, name)
      case "data_offsets" where offsets == nil:
        offsets = try integers(&scanner, limit: 2, .offsets, name)
      default:
        throw CheckpointError(
          .malformed, in: path, tensor: name,
          expected: "dtype, shape and data_offsets, once each", found: "the key \"\(key.shown)\"")
      }
    }
    guard let dtype, let shape, let offsets else {
      throw CheckpointError(
        .malformed, in: path, tensor: name, expected: "dtype, shape and data_offsets",
        found:
          "an entry without \(dtype == nil ? "dtype" : shape == nil ? "shape" : "data_offsets")")
    }
    guard let dataType = DataType(rawValue: dtype) else {
      throw CheckpointError(
        .elementType, in: path, tensor: name, expected: "F32, F16 or BF16", found: dtype.shown)
    }
    return try descriptor(name, dataType, shape, offsets)
  }

  private func integers(
    _ scanner: inout JSONScanner, limit: Int, _ reason: CheckpointError.Reason, _ name: String
  ) throws -> [Int] {
    var result: [Int] = []
    try scanner.array { scanner in
      let value = try scanner.integer()
      guard value >= 0 else {
        throw CheckpointError(
          reason, in: path, tensor: name, expected: "no negative number", found: "\(value)")
      }
      guard result.count < limit else {
        throw CheckpointError(
          reason, in: path, tensor: name, expected: "at most \(limit) numbers", found: "more")
      }
      result.append(value)
    }
    return result
  }

  /// Checks that the offsets are those of so many elements and lie in the file.
  private func descriptor(
    _ name: String, _ dataType: DataType, _ shape: [Int], _ offsets: [Int]
  ) throws(CheckpointError) -> TensorDescriptor {
    var bits = dataType.bitCount
    for dimension in shape {
      let (product, overflow) = bits.multipliedReportingOverflow(by: dimension)
      guard !overflow else {
        throw CheckpointError(
          .shape, in: path, tensor: name, expected: "a size that can be counted", found: "\(shape)")
      }
      bits = product
    }
    guard bits % 8 == 0 else {
      throw CheckpointError(
        .shape, in: path, tensor: name, expected: "whole bytes", found: "\(bits) bits")
    }
    let available = byteCount - dataStart
    guard offsets.count == 2, offsets[0] <= offsets[1], offsets[1] <= available else {
      throw CheckpointError(
        .offsets, in: path, tensor: name,
        expected: "[begin, end] in ascending order within the \(available) bytes after the header",
        found: "\(offsets)")
    }
    guard offsets[1] - offsets[0] == bits / 8 else {
      throw CheckpointError(
        .offsets, in: path, tensor: name,
        expected: "\(bits / 8) bytes for \(dataType.rawValue) of shape \(shape)",
        found: "\(offsets[1] - offsets[0]) bytes, \(offsets)")
    }
    return TensorDescriptor(
      name: name, dataType: dataType, shape: shape,
      byteRange: dataStart + offsets[0]..<dataStart + offsets[1])
  }

  /// Checks that `tensors`, in order of their bytes, follow each other without hole or overlap up to
  /// the end of the file.
  private func checkCoverage(_ tensors: [TensorDescriptor]) throws(CheckpointError) {
    var end = dataStart
    for tensor in tensors {
      guard tensor.byteRange.lowerBound == end else {
        let begin = tensor.byteRange.lowerBound
        throw CheckpointError(
          .offsets, in: path, tensor: tensor.name,
          expected: "a begin of \(end - dataStart), where the bytes before end",
          found: "\(begin - dataStart) (\(begin < end ? "an overlap" : "a hole"))")
      }
      end = tensor.byteRange.upperBound
    }
    guard end == byteCount else {
      throw CheckpointError(
        .offsets, in: path, expected: "a file of \(end) bytes", found: "\(byteCount)")
    }
  }
}
