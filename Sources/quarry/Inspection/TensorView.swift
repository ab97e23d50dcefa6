import Foundation
import JSON
import ModelFiles
import TensorCore

/// One tensor: how it is stored and what is in it.
struct TensorView: InspectionView {
  let name = "tensor"
  let listing: ModelListing
  let tensor: ListedTensor
  /// Nil for a type whose values are not decoded.
  let rows: TensorRows?
  let values: ValueStatistics?
  /// Of a quantized matrix.
  let blocks: BlockStatistics?
  /// Where a checkpoint to compare with was given.
  let sourceErrors: SourceErrors?
  /// The first values.
  let corner: ValuesView?

  /// Reads every value of the tensor, twice.
  /// - Parameter source: what the tensor was made of.
  init(
    _ listing: ModelListing, _ tensor: ListedTensor, source: ModelListing? = nil, pool: WorkerPool
  ) throws {
    self.listing = listing
    self.tensor = tensor
    let isDecoded =
      listing.kind == .slab || ElementType(rawValue: tensor.sourceType) != nil
    guard isDecoded || source != nil else {  // comparing says why it cannot be
      (rows, values, blocks, sourceErrors, corner) = (nil, nil, nil, nil, nil)
      return
    }
    let rows = try listing.rows(of: tensor, pool: pool)
    self.rows = rows
    sourceErrors = try source.map { try SourceErrors(of: tensor, rows, in: $0, pool: pool) }
    values = ValueStatistics(rows, pool: pool)
    corner = ValuesView(TensorSlice(cornerOf: tensor), rows)
    if case .weights(let weights) = rows {
      blocks = BlockStatistics(weights, pool: pool)
    } else {
      blocks = nil
    }
  }

  /// The first of a tensor in layout `panel16`.
  var matrix: WeightMatrix? {
    if case .weights(let weights)? = rows { weights.matrices[0] } else { nil }
  }

  var slabTensor: SlabTensor? { listing.slab?.tensor(named: tensor.name) }

  // MARK: - JSON

  var json: JSONValue {
    .object([
      "tensor": tensor.json,
      "streams": slabTensor.map { tensor in
        .array(
          tensor.streams.map { stream in
            .object([
              "kind": .string("\(stream.kind)"), "offset": .integer(stream.offset),
              "stored_bytes": .integer(stream.storedByteCount),
              "logical_bytes": .integer(stream.logicalByteCount),
              "codec": .string(stream.codec.name), "frames": .integer(stream.frameCount),
            ])
          })
      } ?? .null,
      "values": values.map(Self.json) ?? .null,
      "blocks": blocks.map(Self.json) ?? .null,
      "source_error": sourceErrors?.json ?? .null,
      "first_values": corner?.json ?? .null,
    ])
  }

  private static func json(_ values: ValueStatistics) -> JSONValue {
    func channels(_ channels: [ValueStatistics.Channel]) -> JSONValue {
      .array(
        channels.map { channel in
          .object([
            "index": .integer(channel.index),
            "root_mean_square": .double(channel.rootMeanSquare),
            "ratio_to_median": channel.ratio.isFinite ? .double(channel.ratio) : "inf",
          ])
        })
    }
    return .object([
      "count": .integer(values.count), "non_finite": .integer(values.nonFiniteCount),
      "zeros": .integer(values.zeroCount), "minimum": .float(values.minimum),
      "maximum": .float(values.maximum), "mean": .double(values.mean),
      "root_mean_square": .double(values.rootMeanSquare),
      "histogram": .object([
        "from": .float(-values.bound), "to": .float(values.bound),
        "counts": .array(values.histogram.map { .integer($0) }),
      ]),
      "largest_columns": channels(values.columns), "largest_rows": channels(values.rows),
    ])
  }

  private static func json(_ blocks: BlockStatistics) -> JSONValue {
    .object([
      "count": .integer(blocks.blockCount), "zero": .integer(blocks.zeroBlockCount),
      "saturated": .integer(blocks.saturatedBlockCount),
      "scale_counts": .array(blocks.scaleCounts.map { .integer($0) }),
      "code_values": .array(blocks.codeValues.map { .integer(Int($0)) }),
      "code_counts": .array(blocks.codeCounts.map { .integer($0) }),
      "row_scales": .object([
        "minimum": .float(blocks.rowScales.minimum), "median": .float(blocks.rowScales.median),
        "maximum": .float(blocks.rowScales.maximum),
      ]),
      "coarsest": .array(
        blocks.coarsest.map { block in
          .object([
            "row": .integer(block.row), "column": .integer(block.column),
            "scale": .integer(Int(block.scale)), "largest_rounding": .float(block.largestRounding),
          ])
        }),
    ])
  }
}
