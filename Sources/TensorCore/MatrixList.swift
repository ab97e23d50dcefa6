import CKernels

/// Matrices of one form, as those of a layer's experts; products may leave the choice between them to the
/// loop that computes them.
public final class MatrixList: @unchecked Sendable {  // immutable
  public let matrices: [WeightMatrix]
  public let encoding: BlockEncoding
  public let geometry: PanelGeometry
  /// The matrices as kernels take them: side by side, so that a choice costs one line of the cache.
  let forms: UnsafePointer<ck_weights>

  /// - Precondition: there is one; all have the same encoding, geometry and column scales.
  public init(_ matrices: [WeightMatrix]) {
    precondition(
      matrices.allSatisfy {
        $0.encoding == matrices[0].encoding && $0.geometry == matrices[0].geometry
          && $0.columnScales === matrices[0].columnScales
      })
    self.matrices = matrices
    (encoding, geometry) = (matrices[0].encoding, matrices[0].geometry)
    let forms = UnsafeMutablePointer<ck_weights>.allocate(capacity: matrices.count)
    for (index, matrix) in matrices.enumerated() {
      (forms + index).initialize(to: ck_weights(matrix))
    }
    self.forms = UnsafePointer(forms)
  }

  deinit { forms.deallocate() }

  public var count: Int { matrices.count }

  public subscript(index: Int) -> WeightMatrix { matrices[index] }
}

extension ck_weights {
  init(_ weights: WeightMatrix) {
    self.init(
      codes: weights.codes.baseAddress, block_scales: weights.blockScales.baseAddress,
      row_scales: weights.rowScales.baseAddress, codebook: weights.codebook.baseAddress,
      column_scales: weights.columnScales?.pointer,
      padded_columns: Int64(weights.geometry.paddedColumns),
      block_size: Int32(weights.encoding.blockSize ?? 0),
      element_bits: Int32(weights.encoding.elementBits))
  }
}
