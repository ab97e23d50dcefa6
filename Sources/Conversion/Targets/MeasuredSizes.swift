import ModelFiles
import TensorCore

/// What decides the size of a slab and shows only when weights are read, as a measurement finds it: what
/// plain tensors are compressed to, which inputs get column scales, how long errors are as text.
///
/// Where all matrices that read an input have one encoding, that is what a conversion will find; where
/// they differ, column scales are chosen for the mixture, and neither they nor errors are known.
struct MeasuredSizes: Sendable, Equatable {
  /// What slabs record of the calibration; nil without one.
  let calibrationOrigin: String?
  /// Tensors that are no matrices, by name.
  var vectors: [String: SlabSize.Plain] = [:]
  /// Column scales of inputs by their names, with those encodings for which there are any.
  var columnScales: [String: [BlockEncoding: SlabSize.Plain]] = [:]
  /// Importance-weighted errors of matrices, by name; none without calibration.
  var weightedErrors: [String: [BlockEncoding: Double]] = [:]

  /// Whether the columns of an input will have scales; of mixtures, whether they may.
  func hasColumnScales(_ group: InputGroup) -> Bool {
    group.encodings.count > 1 || columnScales(of: group) != nil
  }

  /// How an input's column scales will be stored; nil where it has none, and for mixtures.
  func columnScales(of group: InputGroup) -> SlabSize.Plain? {
    group.onlyEncoding.flatMap { columnScales[group.name]?[$0] }
  }

  /// The error of a matrix among those that read an input; nil for mixtures, whose column scales it
  /// depends on.
  func weightedError(of name: String, in group: InputGroup) -> Double? {
    group.onlyEncoding.flatMap { weightedErrors[name]?[$0] }
  }
}

extension InputGroup {
  /// What all of its quantized matrices are; nil if they differ.
  fileprivate var onlyEncoding: BlockEncoding? { encodings.count == 1 ? encodings.first : nil }
}

// MARK: - As a journal keeps it

extension MeasuredSizes {
  /// All but weighted errors.
  func append(to writer: inout ByteWriter) {
    writer.append(UInt32(vectors.count))
    for (name, form) in vectors.sorted(by: { $0.key < $1.key }) {
      writer.append(name: name)
      form.append(to: &writer)
    }
    let scales = columnScales.flatMap { name, forms in
      forms.map { (name: name, encoding: $0.key, form: $0.value) }
    }
    writer.append(UInt32(scales.count))
    for scale in scales.sorted(by: {
      ($0.name, $0.encoding.rawValue) < ($1.name, $1.encoding.rawValue)
    }) {
      writer.append(name: scale.name)
      writer.append(UInt32(scale.encoding.rawValue))
      scale.form.append(to: &writer)
    }
  }

  mutating func restore(from reader: inout ByteReader) throws(SlabError) {
    for _ in 0..<(try reader.uint32()) {
      let name = try reader.name("name of a tensor")
      vectors[name] = try SlabSize.Plain(from: &reader)
    }
    for _ in 0..<(try reader.uint32()) {
      let name = try reader.name("name of an input")
      guard let id = UInt8(exactly: try reader.uint32()), let encoding = BlockEncoding(rawValue: id)
      else { throw reader.malformed("the journal holds an unknown encoding") }
      columnScales[name, default: [:]][encoding] = try SlabSize.Plain(from: &reader)
    }
  }
}

extension SlabSize.Plain {
  fileprivate func append(to writer: inout ByteWriter) {
    writer.append(UInt32(isCompressed ? 1 : 0))
    writer.append(UInt32(frameByteCounts.count))
    for count in frameByteCounts { writer.append(UInt32(count)) }
  }

  fileprivate init(from reader: inout ByteReader) throws(SlabError) {
    let isCompressed = try reader.uint32() != 0
    var counts: [Int] = []
    for _ in 0..<(try reader.uint32()) { counts.append(Int(try reader.uint32())) }
    self.init(frameByteCounts: counts, isCompressed: isCompressed)
  }
}
