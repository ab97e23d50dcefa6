import ModelFiles

extension RowEncoding {
  var ggufType: GGUFType {
    let ids: [RowEncoding: UInt32] = [.f32: 0, .f16: 1, .q8: 8, .bf16: 30]
    return GGUFType(id: ids[self]!)!
  }

  /// `general.file_type` of a file whose matrices are of this type.
  var ggufFileType: UInt32 {
    switch self {
    case .f32: 0
    case .f16: 1
    case .q8: 7
    case .bf16: 32
    }
  }
}
