extension Reference {
  /// `value` rounded to IEEE binary16, to nearest even, as its bits; beyond its range infinity.
  public static func half(_ value: Float) -> UInt16 {
    let sign = UInt16(value.bitPattern >> 16 & 0x8000)
    let bits = value.bitPattern & 0x7FFF_FFFF
    if bits > 0x7F80_0000 { return sign | 0x7E00 }  // not a number
    if bits >= 0x477F_F000 { return sign | 0x7C00 }  // 65520 and more
    // Below 2^-14 the last place stays at 2^-24; the significand moves right until it is there.
    let shift = bits >= 0x3880_0000 ? 13 : min(126 - Int(bits >> 23), 31)
    let significand =
      bits >= 0x3880_0000 ? bits - 0x3800_0000 : bits & 0x007F_FFFF | 0x0080_0000
    let quotient = significand >> UInt32(shift)
    let rest = significand & (1 << UInt32(shift) - 1)
    let tie: UInt32 = 1 << UInt32(shift - 1)
    let up = rest > tie || rest == tie && quotient & 1 == 1
    return sign | UInt16(quotient + (up ? 1 : 0))
  }

  /// The value of binary16 bits; exact.
  public static func value(half bits: UInt16) -> Float {
    let sign = UInt32(bits & 0x8000) << 16
    let exponent = UInt32(bits >> 10 & 31)
    let fraction = UInt32(bits & 0x3FF)
    switch exponent {
    case 0:
      let magnitude = Float(fraction) * 0x1p-24
      return Float(bitPattern: sign | magnitude.bitPattern)
    case 31: return Float(bitPattern: sign | 0x7F80_0000 | fraction << 13)
    default: return Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
    }
  }

  /// Quantizes a head to int8 with one scale, as ``quantizeActivations`` does a group.
  ///
  /// - Parameter codes: receives as many codes as there are values.
  /// - Returns: the scale; NaN, with codes 0, where a value is not finite.
  public static func quantizeHead(
    _ values: UnsafePointer<Float>, size: Int, codes: UnsafeMutablePointer<Int8>
  ) -> Float {
    var scale: Float = 0
    let isFinite = quantizeActivations(
      values, columnScales: nil, columns: size, paddedColumns: size, groupSize: size, codes: codes,
      scales: &scale)
    if isFinite { return scale }
    for index in 0..<size { codes[index] = 0 }
    return .nan
  }

  /// Enters the key and the value of one position of a tile, `size` elements each.
  ///
  /// - Returns: false where one is not finite or too large for the type of the cache, which f32
  ///   leaves to what is computed from them; the position is then undefined.
  public static func enter(
    key: UnsafePointer<Float>, value: UnsafePointer<Float>, size: Int, position: Int,
    tile: AttentionTile
  ) -> Bool {
    let (keys, values) = (tile.keys, tile.values)
    switch tile.type {
    case .f32:
      for d in 0..<size {
        keys.storeBytes(of: key[d], toByteOffset: 4 * tile.keyIndex(position, d), as: Float.self)
        values.storeBytes(
          of: value[d], toByteOffset: 4 * tile.valueIndex(position, d), as: Float.self)
      }
      return true
    case .f16:
      var isFinite = true
      for d in 0..<size {
        let (k, v) = (half(key[d]), half(value[d]))
        isFinite = isFinite && k & 0x7C00 != 0x7C00 && v & 0x7C00 != 0x7C00
        keys.storeBytes(of: k, toByteOffset: 2 * tile.keyIndex(position, d), as: UInt16.self)
        values.storeBytes(of: v, toByteOffset: 2 * tile.valueIndex(position, d), as: UInt16.self)
      }
      return isFinite
    case .q8:
      var codes = [Int8](repeating: 0, count: size)
      let keyScale = quantizeHead(key, size: size, codes: &codes)
      for d in 0..<size {
        keys.storeBytes(of: codes[d], toByteOffset: tile.keyIndex(position, d), as: Int8.self)
      }
      let valueScale = quantizeHead(value, size: size, codes: &codes)
      for d in 0..<size {
        values.storeBytes(of: codes[d], toByteOffset: tile.valueIndex(position, d), as: Int8.self)
      }
      let isFinite = !keyScale.isNaN && !valueScale.isNaN
      tile.keyScales[position] = isFinite ? keyScale : 0
      tile.valueScales[position] = isFinite ? valueScale : 0
      return isFinite
    }
  }
}

extension AttentionTile {
  /// Where an element of a position's key lies, counted in elements.
  func keyIndex(_ position: Int, _ d: Int) -> Int {
    let group = position / 16 * headSize
    return type == .q8
      ? (group + d / 4 * 4) * 16 + position % 16 * 4 + d % 4
      : (group + d) * 16 + position % 16
  }

  func valueIndex(_ position: Int, _ d: Int) -> Int {
    type == .q8
      ? (position / 4 * headSize + d) * 4 + position % 4 : position * headSize + d
  }

  /// An element of a key as float32, or its code in q8.
  func key(_ position: Int, _ d: Int) -> Float { element(keys, keyIndex(position, d)) }

  func value(_ position: Int, _ d: Int) -> Float { element(values, valueIndex(position, d)) }

  private func element(_ elements: UnsafeMutableRawPointer, _ index: Int) -> Float {
    switch type {
    case .f32: elements.load(fromByteOffset: 4 * index, as: Float.self)
    case .f16:
      Reference.value(half: elements.load(fromByteOffset: 2 * index, as: UInt16.self))
    case .q8: Float(elements.load(fromByteOffset: index, as: Int8.self))
    }
  }
}
