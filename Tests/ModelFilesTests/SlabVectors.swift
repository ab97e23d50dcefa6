import Foundation
import TensorCore
import TestSupport
import Testing

@testable import ModelFiles

/// The conformance slabs of `formats/vectors`, and what a reader must find in each.
enum SlabVectors {
  static let directory = Place.root.appending(path: "formats/vectors")

  /// The vectors. One that would be large is there in profile `ship` only.
  static let all: [Vector] = [
    Vector(name: "encodings", profile: .run), Vector(name: "encodings", profile: .ship),
    Vector(name: "extremes", profile: .run), Vector(name: "extremes", profile: .ship),
    Vector(name: "frames", profile: .ship),
    Vector(name: "experts", profile: .run), Vector(name: "experts", profile: .ship),
  ]

  struct Vector: Sendable, CustomTestStringConvertible {
    let name: String
    let profile: SlabProfile

    var file: URL { SlabVectors.directory.appending(path: "\(name)-\(profile.name).slab") }
    var json: URL { SlabVectors.directory.appending(path: "\(name)-\(profile.name).json") }
    var testDescription: String { "\(name)-\(profile.name)" }
  }

  static func write(_ vector: Vector, to path: String) throws {
    try SlabFixtures.write(
      path, profile: vector.profile, assets: vector.name == "encodings" ? assets : [],
      metadata: ["tool": "conformance vectors", "recipe": vector.name]
    ) { writer in
      switch vector.name {
      case "encodings": try appendEncodings(writer)
      case "extremes": try appendExtremes(writer)
      case "experts": try appendExperts(writer)
      default: try appendFrames(writer)
      }
    }
  }

  /// One that compresses, one that does not, one empty, one whose name is not ASCII.
  private static let assets = [
    SlabAsset(
      name: "config.json",
      bytes: Array(
        #"{"model_type": "granite", "layers": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]}"#.utf8)),
    SlabAsset(name: "empty", bytes: []),
    SlabAsset(
      name: "noise",
      bytes: {
        var random = SplitMix64(seed: 99)
        return (0..<1000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      }()),
    SlabAsset(name: "größe.txt", bytes: Array("Größe\n".utf8)),
  ]

  /// Every encoding in odd shapes, with and without column scales.
  private static func appendEncodings(_ writer: SlabWriter) throws {
    let scales = SlabFixtures.scales(37, seed: 1)
    for encoding in BlockEncoding.allCases {
      for (rows, columns) in [(1, 1), (19, 37), (33, 70)] {
        let isScaled = encoding.isQuantized && columns == 37
        try writer.append(
          SlabFixtures.matrix(
            encoding, rows: rows, columns: columns, seed: UInt64(rows),
            columnScales: isScaled ? ColumnScales(scales) : nil),
          name: "\(encoding.name).\(rows)x\(columns)", shape: [rows, columns], sourceType: .bf16,
          columnScales: isScaled ? "input.column_scales" : nil,
          statistics: ErrorStatistics(
            normalizedMeanSquaredError: 0.004, maximumAbsoluteError: 0.125,
            cosineSimilarity: 0.998))
      }
    }
    try writer.append(scales, name: "input.column_scales", shape: [37], sourceType: .f32)
    try writer.append(
      SlabFixtures.values(2048, seed: 2), name: "norm.weight", shape: [2048], sourceType: .bf16)
    try writer.append(
      SlabFixtures.values(30, seed: 3), name: "conv1d.weight", shape: [5, 1, 6], sourceType: .f16)
    try writer.append([-0.0], name: "one", shape: [1], sourceType: .f32)
  }

  /// Values at the ends of their ranges: −128, zeros, denormals, overflow to infinity.
  private static func appendExtremes(_ writer: SlabWriter) throws {
    let extremes: [Float] = [
      .leastNonzeroMagnitude, .leastNormalMagnitude, 1, 1e30, .greatestFiniteMagnitude, 0,
    ]
    let scales = (0..<40).map { extremes[$0 % 3] }
    for encoding in BlockEncoding.allCases where encoding.isQuantized {
      try writer.append(
        SlabFixtures.extremeMatrix(
          encoding, rows: 18, columns: 40, rowScales: extremes, columnScales: ColumnScales(scales)),
        name: encoding.name, shape: [18, 40], sourceType: .f32, columnScales: "scales",
        statistics: nil)
    }
    try writer.append(scales, name: "scales", shape: [40], sourceType: .f32)
    try writer.append(
      extremes + extremes.map { -$0 } + [.infinity, -.infinity], name: "values", shape: [2, 7],
      sourceType: .f32)
  }

  /// The matrices of experts in every encoding, with and without column scales.
  private static func appendExperts(_ writer: SlabWriter) throws {
    let scales = SlabFixtures.scales(37, seed: 1)
    for encoding in BlockEncoding.allCases {
      let isScaled = encoding.isQuantized
      try writer.append(
        SlabFixtures.experts(
          encoding, count: 3, rows: 19, columns: 37,
          columnScales: isScaled ? ColumnScales(scales) : nil),
        name: "\(encoding.name).3x19x37", shape: [3, 19, 37], sourceType: .bf16,
        columnScales: isScaled ? "input.column_scales" : nil, statistics: nil)
    }
    try writer.append(
      SlabFixtures.experts(.q4b32, count: 2, rows: 16, columns: 32), name: "q4b32.2x16x32",
      shape: [2, 16, 32], sourceType: .f16, columnScales: nil, statistics: nil)
    try writer.append(scales, name: "input.column_scales", shape: [37], sourceType: .f32)
  }

  /// Streams of more than one frame, of regular content so that the files stay small.
  private static func appendFrames(_ writer: SlabWriter) throws {
    for encoding in [BlockEncoding.q8b32, .bf16] {
      let (rows, columns) = encoding == .bf16 ? (1030, 530) : (1100, 1000)
      try writer.append(
        SlabFixtures.regularMatrix(encoding, rows: rows, columns: columns),
        name: encoding.name, shape: [rows, columns], sourceType: .bf16, columnScales: nil,
        statistics: nil)
    }
    try writer.append(
      (0..<300_000).map { Float($0 % 1000) / 8 }, name: "plain", shape: [300_000], sourceType: .f32)
  }

  // MARK: - What a reader must find

  /// `{"root": hex, "tensors": {name: {"shape", "encoding", "sha256_f32", "first"}}, "assets": …}`.
  ///
  /// `sha256_f32` is over the dequantized logical values, row-major, as little-endian float32;
  /// `first` has up to eight of them as C99 hexadecimal floating-point numbers.
  static func expectation(of slab: Slab) throws -> String {
    var lines: [String] = []
    for tensor in slab.tensors {
      let values = try SlabFixtures.logicalValues(of: tensor, in: slab)
      let digest = values.withUnsafeBytes { Digest(of: $0) }
      let first = values.prefix(8).map { "\"" + String(format: "%a", Double($0)) + "\"" }
      lines.append(
        """
            "\(tensor.name)": {
              "shape": \(tensor.shape),
              "encoding": "\(tensor.encoding.name)",
              "sha256_f32": "\(digest)",
              "first": [\(first.joined(separator: ", "))]
            }
        """)
    }
    let assets = slab.assets.map { "    \"\($0.name)\": \"\(Digest(of: $0.bytes))\"" }
    return """
      {
        "root": "\(slab.rootDigest)",
        "tensors": {
      \(lines.joined(separator: ",\n"))
        },
        "assets": {
      \(assets.joined(separator: ",\n"))
        }
      }

      """
  }
}

extension SlabFixtures {
  /// The dequantized values of a tensor, row-major, without padding.
  static func logicalValues(of tensor: SlabTensor, in slab: Slab) throws -> [Float] {
    guard let geometry = tensor.form?.geometry else { return try slab.values(named: tensor.name) }
    return try slab.weights(named: tensor.name, pool: pool).matrices.flatMap { matrix in
      (0..<geometry.rows).flatMap { row in
        (0..<geometry.columns).map { Reference.dequantize(matrix, row: row, column: $0) }
      }
    }
  }

  /// Codes, codebook and block scales of −128, 0 and 127 under the row scales given, in turn.
  static func extremeMatrix(
    _ encoding: BlockEncoding, rows: Int, columns: Int, rowScales: [Float],
    columnScales: ColumnScales?
  ) -> WeightMatrix {
    let extremes: [Int8] = [-128, 127, 0, 1, -1]
    return matrix(
      encoding, rows: rows, columns: columns, columnScales: columnScales,
      code: { row, column in
        encoding.hasCodebook ? Int8((row + column) % 16) : extremes[(row + column) % 5]
      },
      blockScale: { row, block in extremes[(row + 2 * block) % 5] },
      rowScale: { rowScales[$0 % rowScales.count] },
      codebook: (0..<16).map { extremes[$0 % 5] })
  }

  /// Content that compresses well.
  static func regularMatrix(_ encoding: BlockEncoding, rows: Int, columns: Int) -> WeightMatrix {
    matrix(
      encoding, rows: rows, columns: columns, columnScales: nil,
      code: { row, column in Int8(truncatingIfNeeded: (row / 16) % 100 + column % 7) },
      blockScale: { row, block in Int8(1 + block % 5) },
      rowScale: { Float(1 + $0 / 64) / 1024 }, codebook: (0..<16).map { Int8($0 * 8 - 64) })
  }
}
