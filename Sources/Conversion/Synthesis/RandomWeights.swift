public import Inference
public import ModelFiles
public import TensorCore

/// Random codes and scales for every matrix that a configuration asks for, made in memory when a
/// model asks for them: a model of any shape in seconds, without a checkpoint and without quantizing.
/// It computes as fast as a real one, and nothing sensible.
public struct RandomWeights: WeightSource {
  /// What errors call this source.
  public let path = "random weights"
  private let shapes: [String: [Int]]
  private let places: [String: UInt64]
  private let encodings: [String: BlockEncoding]

  /// Weights for every tensor that `configuration` demands, encoded as `recipe` says.
  ///
  /// - Throws: ``RecipeError`` where it does not fit the model.
  public init(_ configuration: ModelConfiguration, recipe: Recipe) throws(RecipeError) {
    self.init(configuration, try RecipeMatching(recipe, configuration))
  }

  init(_ configuration: ModelConfiguration, _ matching: RecipeMatching) {
    let tensors = configuration.expectedTensors
    shapes = Dictionary(uniqueKeysWithValues: tensors.map { ($0.name, $0.shape) })
    places = Dictionary(
      uniqueKeysWithValues: tensors.enumerated().map { ($1.name, UInt64($0)) })
    encodings = matching.tensors.reduce(into: [:]) { $0[$1.name] = $1.encoding }
  }

  /// Bytes of all matrices.
  public var byteCount: Int {
    shapes.reduce(0) { sum, tensor in
      guard let encoding = encodings[tensor.key] else { return sum }
      return sum + form(tensor.value).byteCount(in: encoding)
    }
  }

  /// Shape of a tensor, slowest dimension first; nil if the model has none of this name.
  public func shape(ofTensor name: String) -> [Int]? { shapes[name] }

  /// Ones for norms, zeros for biases; convolutions average, states fade slowly.
  public func vector(named name: String) -> [Float] {
    let shape = shapes[name]!
    let value: Float =
      switch TensorRole(tensorName: name) {
      case .norm: 1
      case .convolution: 1 / Float(shape[shape.count - 1])
      case .stateSpace: name.hasSuffix(".dt_bias") ? -3 : 1
      default: 0
      }
    return Array(repeating: value, count: shape.reduce(1, *))
  }

  /// Random codes and scales of the tensor, the same at every call.
  public func matrices(named name: String, pool: WorkerPool) -> [WeightMatrix] {
    let form = form(shapes[name]!)
    return (0..<UInt64(form.count)).map { index in
      Self.matrix(
        form.geometry, encodings[name]!, seed: places[name]! + index << 32, pool: pool)
    }
  }

  /// A matrix of random codes, whose weights have a variance of about 1 / columns, so that
  /// activations stay in range.
  public static func matrix(
    _ geometry: PanelGeometry, _ encoding: BlockEncoding, seed: UInt64, pool: WorkerPool
  ) -> WeightMatrix {
    var streams: [StreamKind: AlignedBuffer] = [:]
    for kind in encoding.streams {
      let buffer = AlignedBuffer(byteCount: geometry.byteCount(of: kind, in: encoding))
      streams[kind] = buffer
      let noise = Noise(seed: seed, stream: UInt64(kind.rawValue))
      switch kind {
      case .codes, .blockScales: fill(buffer, noise, pool: pool)
      case .elements:
        // Random signs and fractions under one exponent.
        let exponent = (1 / Float(geometry.columns).squareRoot()).exponentBitPattern
        let isSingle = encoding == .f32
        let lanes: UInt64 = isSingle ? 0x1_0000_0001 : 0x1_0001_0001_0001
        fill(
          buffer, noise, keeping: (isSingle ? 0x807F_FFFF : 0x807F) * lanes,
          setting: (UInt64(exponent) << (isSingle ? 23 : 7)) * lanes, pool: pool)
      case .rowScales:
        // The root mean square of random codes is 74, that of squared block scales 7327.
        let scale = 1 / Float(geometry.columns).squareRoot() / 74 / 7327
        for row in 0..<geometry.rows { buffer.floats[row] = scale }
      case .codebook:
        for index in 0..<16 {
          buffer.base.storeBytes(of: Int8(16 * index - 120), toByteOffset: index, as: Int8.self)
        }
      }
    }
    return WeightMatrix(
      encoding: encoding, geometry: geometry, streams: streams.mapValues(\.bytes),
      owners: Array(streams.values))
  }

  private func form(_ shape: [Int]) -> MatrixForm {
    MatrixForm(shape: shape)!  // within the ranges of a configuration
  }

  /// Every stream but the codebook consists of whole words.
  private static func fill(
    _ buffer: AlignedBuffer, _ noise: Noise, keeping mask: UInt64 = .max, setting bits: UInt64 = 0,
    pool: WorkerPool
  ) {
    let words = SharedPointer(buffer.base.assumingMemoryBound(to: UInt64.self))
    pool.parallelRanges(buffer.byteCount / 8, minimum: 1 << 15) { range in
      for index in range { words.pointer[index] = noise[index] & mask | bits }
    }
  }
}
