import Inference
public import ModelFiles
import Quantization
import TensorCore

/// What a calibration saw: the mean square of every input column of every linear layer.
///
/// Kept as a safetensors file, `formats/statistics.md`.
public struct ImportanceStatistics: Sendable, Equatable {
  /// By name of the input, as ``LinearInput`` and layer give it; finite and not negative. An input that
  /// every expert has of its own has the values of one expert after the other.
  public internal(set) var moments: [String: [Float]] = [:]
  /// What text was run, in which form: slabs record it, so that a conversion by these statistics is the
  /// same file as one that ran the text itself.
  public let origin: String

  /// Value of `format` in the header of a statistics file.
  static let format = "quarry-statistics-1"
  /// Longest ``origin`` that is read.
  private static let maximumOriginByteCount = 1024

  init(origin: String) { self.origin = origin }

  /// The names and numbers of columns that a model's statistics have.
  static func expected(_ configuration: ModelConfiguration) -> [(name: String, columns: Int)] {
    (0..<configuration.layerCount).flatMap { layer in
      LinearInput.ofLayer(layer, configuration).map {
        ($0.name(layer: layer), $0.columnCount(configuration))
      } + expected(configuration, expertsOfLayer: layer)
    } + [(LinearInput.output.name(layer: nil), configuration.hiddenSize)]
  }

  private static func expected(
    _ configuration: ModelConfiguration, expertsOfLayer layer: Int
  ) -> [(name: String, columns: Int)] {
    guard let count = configuration.experts?.count else { return [] }
    return LinearInput.ofExperts(configuration).map {
      ($0.name(layer: layer), count * $0.columnCount(configuration))
    } + [(tokensName(layer: layer), count)]
  }

  /// The name of the numbers of tokens that the experts of a layer saw.
  static func tokensName(layer: Int) -> String { "model.layers.\(layer).experts.tokens" }

  /// Reads a statistics file. Whether it is of a model shows when it is used for that.
  ///
  /// - Throws: ``CalibrationError/statistics(reason:)``.
  public init(path: String) throws(CalibrationError) {
    func fault(_ reason: String) -> CalibrationError { .statistics(reason: path + ": " + reason) }
    let file: SafetensorsFile
    do throws(CheckpointError) {
      file = try SafetensorsFile(path: path)
    } catch {
      throw .statistics(reason: "\(error)")
    }
    func metadata(_ key: String) -> String? { file.metadata.first { $0.key == key }?.value }
    guard metadata("format") == Self.format else {
      throw fault("it is no statistics file of this version")
    }
    guard let origin = metadata("origin"), origin.utf8.count <= Self.maximumOriginByteCount,
      origin.utf8.allSatisfy({ (0x20..<0x7F).contains($0) })
    else { throw fault("it does not say what text it is of") }
    self.init(origin: origin)
    for tensor in file.tensors {
      let name = tensor.name
      guard tensor.dataType == .f32, tensor.shape.count == 1, tensor.elementCount > 0 else {
        throw fault(
          "\(name) has type \(tensor.dataType.rawValue) and shape \(tensor.shape), not F32 and "
            + "one dimension")
      }
      let columns = tensor.elementCount
      let view = MatrixView(file.bytes(of: tensor), elementType: .f32, rows: 1, columns: columns)
      let values = [Float](unsafeUninitializedCapacity: columns) { buffer, count in
        view.copyRow(0, into: buffer.baseAddress!)
        count = columns
      }
      if let column = values.firstIndex(where: { !($0.isFinite && $0 >= 0) }) {
        throw fault("column \(column) of \(name) is \(values[column]), not a mean square")
      }
      moments[name] = values
    }
  }

  /// Whether these are the statistics of a model of that shape.
  ///
  /// - Throws: ``CalibrationError/statistics(reason:)``.
  func check(_ configuration: ModelConfiguration) throws(CalibrationError) {
    let expected = Self.expected(configuration)
    for (name, columns) in expected {
      guard let values = moments[name] else {
        throw .statistics(reason: "\(name) is missing: they are of another model")
      }
      guard values.count == columns else {
        throw .statistics(
          reason: "\(name) has \(values.count) columns, not \(columns): they are of another model")
      }
    }
    guard moments.count == expected.count else {
      throw .statistics(
        reason:
          "they have \(moments.count) inputs, not \(expected.count): they are of another model")
    }
  }

  /// Writes a statistics file; it appears when it is complete.
  ///
  /// - Parameter inputs: files that it must not be.
  /// - Throws: `FileError`.
  public func write(to path: String, inputs: [String] = []) throws(FileError) {
    let tensors = moments.sorted { Array($0.key.utf8).lexicographicallyPrecedes($1.key.utf8) }
    let writer = try SafetensorsWriter(
      path: path, tensors: tensors.map { ($0.key, [$0.value.count]) },
      metadata: [("format", Self.format), ("origin", origin)], inputs: inputs)
    for (_, values) in tensors {
      try values.withUnsafeBufferPointer { values throws(FileError) in
        try writer.append(values)
      }
    }
    try writer.finish()
  }

  /// Forgets what each expert saw of its own, and keeps how many tokens that were.
  mutating func forgetInputsOfExperts() {
    moments = moments.filter { !Self.isInputOfExperts($0.key) }
  }

  /// Whether these are the columns of inputs that every expert has of its own.
  static func isInputOfExperts(_ name: String) -> Bool {
    name.contains(".experts.") && !name.hasSuffix(".experts.tokens")
  }

  /// Columns that were hardly ever active, so that nothing is known about how their weights are used:
  /// how many of an input lie at the floor of importance, by its name. Experts have those of their
  /// layer.
  public var idleColumns: [String: Int] {
    moments.filter { !$0.key.contains(".experts.") }
      .mapValues { ColumnScaling.idleColumnCount(importance: $0) }.filter { $0.value > 0 }
  }

  /// Experts that saw few tokens, so that mostly their layer's input is known of them: how many of a
  /// layer, by the name of its experts' numbers of tokens.
  public var rareExperts: [String: Int] {
    moments.filter { $0.key.hasSuffix(".experts.tokens") }
      .mapValues { $0.count { $0 < Float(LayerMoments.priorTokenCount) } }.filter { $0.value > 0 }
  }
}
