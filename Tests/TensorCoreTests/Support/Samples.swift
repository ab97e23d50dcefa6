import TensorCore
import TestSupport

/// What the streams of a test matrix hold.
enum WeightPattern: CaseIterable {
  /// Any code, any block scale within ±127, moderate row scales.
  case random
  /// −128 and ±127 in codes, codebook and block scales.
  case extreme
  case zeroScales
  case denormalRowScales
  /// Infinite and undefined row scales, any byte anywhere.
  case hostile
}

/// What the activations of a test hold.
enum ActivationPattern: CaseIterable {
  case normal
  /// Every code becomes 127 or −127.
  case constantMagnitude
  /// All groups but every third are zero.
  case zeroGroups
  case outliers
  /// Denormal values, groups just above and below where they vanish.
  case tiny
  case huge
}

/// A matrix whose streams end at guard pages.
func sampleMatrix(
  _ encoding: BlockEncoding, rows: Int, columns: Int, pattern: WeightPattern = .random,
  columnScales: Bool = false, random: inout SplitMix64
) -> WeightMatrix {
  let geometry = PanelGeometry(rows: rows, columns: columns)!
  var owners: [GuardedMemory] = []
  var streams: [StreamKind: UnsafeRawBufferPointer] = [:]
  for kind in encoding.streams {
    let count = geometry.byteCount(of: kind, in: encoding)
    let memory: GuardedMemory
    switch kind {
    case .rowScales:
      memory = GuardedMemory(
        rowScales(count / 4, rows: rows, pattern: pattern, random: &random), alignment: 64)
    case .elements:
      memory = GuardedMemory(byteCount: count, alignment: 64)
      fillElements(memory, encoding: encoding, pattern: pattern, random: &random)
    case .codes, .blockScales, .codebook:
      let bytes = (0..<count).map { _ in
        byte(kind, encoding: encoding, pattern: pattern, random: &random)
      }
      memory = GuardedMemory(bytes, alignment: 64)
    }
    owners.append(memory)
    streams[kind] = UnsafeRawBufferPointer(memory.bytes)
  }
  let factors = (0..<columns).map { _ in Float.random(in: 0.25...4, using: &random) }
  return WeightMatrix(
    encoding: encoding, geometry: geometry, streams: streams,
    columnScales: columnScales && encoding.isQuantized ? ColumnScales(factors) : nil,
    owners: owners)
}

private func byte(
  _ kind: StreamKind, encoding: BlockEncoding, pattern: WeightPattern, random: inout SplitMix64
) -> Int8 {
  let any = Int8(truncatingIfNeeded: random.next())
  switch (pattern, kind) {
  case (.extreme, .codes) where encoding.hasCodebook: return any
  case (.extreme, _): return [-128, -127, 127, -128][Int(random.next() % 4)]
  case (.zeroScales, .blockScales): return random.next() % 4 == 0 ? any : 0
  case (.random, .blockScales): return max(any, -127)
  default: return any
  }
}

private func rowScales(
  _ count: Int, rows: Int, pattern: WeightPattern, random: inout SplitMix64
) -> [Float] {
  (0..<count).map { row in
    if row >= rows { return 0 }
    let scale = Float.random(in: -1e-4...1e-4, using: &random)
    switch pattern {
    case .denormalRowScales: return scale * 1e-36
    case .hostile: return [.infinity, -.infinity, .nan, scale, 3e38][Int(random.next() % 5)]
    default: return scale
    }
  }
}

private func fillElements(
  _ memory: GuardedMemory, encoding: BlockEncoding, pattern: WeightPattern,
  random: inout SplitMix64
) {
  func value() -> Float {
    switch pattern {
    case .random: return random.normal()
    case .extreme: return [3e38, -3e38, 1e-38, -0.0][Int(random.next() % 4)]
    case .zeroScales: return random.next() % 2 == 0 ? 0 : -0.0
    case .denormalRowScales: return random.normal() * 0x1p-130
    case .hostile: return Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
    }
  }
  if encoding == .f32 {
    let floats = memory.bytes.assumingMemoryBound(to: Float.self)
    for index in floats.indices { floats[index] = value() }
  } else {
    let halves = memory.bytes.assumingMemoryBound(to: UInt16.self)
    for index in halves.indices { halves[index] = UInt16(value().bitPattern >> 16) }
  }
}

/// `tokens` rows of `columns` values.
func sampleActivations(
  tokens: Int, columns: Int, pattern: ActivationPattern = .normal, random: inout SplitMix64
) -> [Float] {
  (0..<tokens * columns).map { index in
    let group = index % columns / 16
    let value = random.normal()
    switch pattern {
    case .normal: return value
    case .constantMagnitude: return value < 0 ? -0.375 : 0.375
    case .zeroGroups: return group % 3 == 0 ? value : index % 2 == 0 ? 0 : -0.0
    case .outliers: return index % 16 == group % 16 ? value * 1000 : value
    case .tiny: return value * [0x1p-133, 0x1p-101, 0x1p-100, 0x1p-99, 0x1p-126][group % 5]
    case .huge: return value.sign == .minus ? -3e38 : 3e38 * Float.random(in: 0...1, using: &random)
    }
  }
}
