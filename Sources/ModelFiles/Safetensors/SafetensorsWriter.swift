import JSON

/// Writes tensors as a safetensors file, front to back, with constant memory.
///
/// The file appears under its name only when it is finished; until then it is `path.partial`, which
/// goes away with a writer that is not finished.
public final class SafetensorsWriter {
  /// A name, once in the file, a shape, and the type of the elements, one of whole bytes.
  public typealias Tensor = (name: String, shape: [Int], dataType: DataType)

  private let path: String
  private let descriptor: Int32
  private var offset: Int
  private let end: Int
  private var isFinished = false
  private var partialPath: String { path + ".partial" }

  /// For tensors of one element type.
  public convenience init(
    path: String, tensors: [(name: String, shape: [Int])], dataType: DataType = .f32,
    metadata: [(key: String, value: String)] = [], inputs: [String] = []
  ) throws(FileError) {
    try self.init(
      path: path, tensors: tensors.map { ($0.name, $0.shape, dataType) }, metadata: metadata,
      inputs: inputs)
  }

  /// - Parameters:
  ///   - tensors: in the order in which the values will come.
  ///   - metadata: texts that travel in the header.
  ///   - inputs: files that the output must not be, whatever names and links lead to them.
  public init(
    path: String, tensors: [Tensor], metadata: [(key: String, value: String)] = [],
    inputs: [String] = []
  ) throws(FileError) {
    try SystemCalls.checkName(ofOutput: path)
    try Self.check(path, isNoneOf: inputs)
    try Self.check(path + ".partial", isNoneOf: inputs)
    var header = JSONObject()
    if !metadata.isEmpty {
      header["__metadata__"] = .object(JSONObject(metadata.map { ($0.key, .string($0.value)) }))
    }
    var begin = 0
    for tensor in tensors {
      precondition(header[tensor.name] == nil, "the name \(tensor.name) occurs twice")
      let next = begin + Self.byteCount(of: tensor)
      header[tensor.name] = .object(
        JSONObject([
          ("dtype", .string(tensor.dataType.rawValue)),
          ("shape", .array(tensor.shape.map { .integer($0) })),
          ("data_offsets", .array([.integer(begin), .integer(next)])),
        ]))
      begin = next
    }
    var text = Array(JSONValue.object(header).serialized().utf8)
    while text.count % 8 != 0 { text.append(UInt8(ascii: " ")) }  // aligns the values
    let prefix = withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text

    self.path = path
    offset = prefix.count
    end = prefix.count + begin
    guard let descriptor = try SystemCalls.createExclusively(path + ".partial") else {
      throw FileError(path: path, reason: "another process is writing this file")
    }
    self.descriptor = descriptor
    try prefix.withUnsafeBufferPointer { bytes throws(FileError) in
      try SystemCalls.write(descriptor, UnsafeRawBufferPointer(bytes), at: 0, partialPath)
    }
  }

  deinit {
    if !isFinished { SystemCalls.remove(partialPath) }  // before the lock goes
    SystemCalls.close(descriptor)
  }

  /// Writes the next values, row-major; calls need not end where tensors or rows do.
  /// - Precondition: the tensors have room for them.
  public func append(_ values: UnsafeBufferPointer<Float>) throws(FileError) {
    try append(bytes: UnsafeRawBufferPointer(values))
  }

  /// Writes the next elements as they lie in memory, little-endian.
  /// - Precondition: the tensors have room for them.
  public func append(bytes: UnsafeRawBufferPointer) throws(FileError) {
    precondition(bytes.count <= end - offset, "more values than the tensors hold")
    try SystemCalls.write(descriptor, bytes, at: offset, partialPath)
    offset += bytes.count
  }

  /// Leaves the next `byteCount` bytes of elements out: they read as zeros, and take no space where the
  /// file system has holes.
  /// - Precondition: the tensors have room for them.
  package func skip(_ byteCount: Int) throws(FileError) {
    precondition(byteCount <= end - offset, "more values than the tensors hold")
    offset += byteCount
    try SystemCalls.truncate(descriptor, to: offset, partialPath)
  }

  /// Waits until everything is on the disk and gives the file its name, replacing what had it.
  /// - Precondition: all values have been written.
  public func finish() throws(FileError) {
    precondition(offset == end, "\(end - offset) bytes of values are missing")
    try SystemCalls.synchronize(descriptor, partialPath)
    try SystemCalls.rename(partialPath, to: path)
    isFinished = true
  }

  /// Bytes of all elements.
  static func byteCount(of tensor: Tensor) -> Int {
    tensor.dataType.bitCount / 8 * tensor.shape.reduce(1, *)
  }

  private static func check(_ output: String, isNoneOf inputs: [String]) throws(FileError) {
    guard let status = try SystemCalls.status(at: output) else { return }
    guard status.isRegular else {
      throw FileError(path: output, reason: "the output is there and is no regular file")
    }
    if let input = try SystemCalls.input(thatIs: output, among: inputs) {
      throw FileError(
        path: output, reason: "the output is the input \(input); choose another output")
    }
  }

  /// Writes whole tensors.
  /// - Precondition: every tensor has as many values as its shape says.
  public static func write(
    path: String, tensors: [(name: String, shape: [Int], values: [Float])],
    metadata: [(key: String, value: String)] = []
  ) throws(FileError) {
    let writer = try SafetensorsWriter(
      path: path, tensors: tensors.map { ($0.name, $0.shape) }, metadata: metadata)
    for tensor in tensors {
      precondition(tensor.values.count == tensor.shape.reduce(1, *))
      try tensor.values.withUnsafeBufferPointer { values throws(FileError) in
        try writer.append(values)
      }
    }
    try writer.finish()
  }
}
