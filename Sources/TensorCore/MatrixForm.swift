/// What a tensor in layout ``TensorLayout/panel16`` holds: one matrix, or one for each expert, all of
/// one shape. Every stream has the bytes of the first matrix, then those of the second, and so on.
public struct MatrixForm: Sendable, Equatable {
  /// Matrices: 1, or the number of experts.
  public let count: Int
  /// Of each.
  public let geometry: PanelGeometry

  /// The most experts that a tensor may have.
  public static let maximumCount = 1 << 12

  /// Nil when `count` is out of range, or so large that a byte count could overflow.
  public init?(count: Int, geometry: PanelGeometry) {
    guard (1...Self.maximumCount).contains(count) else { return nil }
    let largest = geometry.byteCount(of: .elements, in: .f32)
    guard !largest.multipliedReportingOverflow(by: count).overflow else { return nil }
    self.count = count
    self.geometry = geometry
  }

  /// - Parameter shape: `[rows, columns]` or `[experts, rows, columns]`; nil for any other.
  public init?(shape: [Int]) {
    guard shape.count == 2 || shape.count == 3,
      let geometry = PanelGeometry(rows: shape[shape.count - 2], columns: shape[shape.count - 1])
    else { return nil }
    self.init(count: shape.count == 3 ? shape[0] : 1, geometry: geometry)
  }

  /// Rows of all matrices, without padding.
  public var rows: Int { count * geometry.rows }
  public var panelCount: Int { count * geometry.panelCount }

  /// Logical bytes of one stream.
  public func byteCount(of stream: StreamKind, in encoding: BlockEncoding) -> Int {
    count * geometry.byteCount(of: stream, in: encoding)
  }

  /// Logical bytes of all streams.
  public func byteCount(in encoding: BlockEncoding) -> Int {
    count * geometry.byteCount(in: encoding)
  }

  /// The bytes of one matrix in a stream.
  public func range(
    ofMatrix index: Int, in stream: StreamKind, _ encoding: BlockEncoding
  ) -> Range<Int> {
    let size = geometry.byteCount(of: stream, in: encoding)
    return index * size..<(index + 1) * size
  }
}
