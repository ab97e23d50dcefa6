internal import Inference
public import ModelFiles
public import TensorCore

/// A slab as a GGUF file for llama.cpp and what is built on it: weights dequantized with their column
/// scales and written anew, with hyperparameters, tokenizer and chat template.
///
/// Names, keys and the order of rows are those of llama.cpp's `convert_hf_to_gguf.py`.
public enum GGUFExport {
  /// Element types that matrices are written in; other tensors are float32.
  public static let types = [RowEncoding.f16, .bf16, .q8]

  /// Writes the file, which appears when it is complete. Holds one tensor of the slab in memory, and
  /// checks every digest.
  ///
  /// - Parameters:
  ///   - path: must not exist.
  ///   - name: what the file calls the model.
  ///   - type: of matrices, one of ``types``. Of `q8_0`, matrices whose rows are no whole blocks of 32
  ///     become f16, as in llama.cpp.
  ///   - progress: called with the elements that are written, and those of all tensors.
  ///   - isCancelled: asked now and then; once true, nothing is left and `CancellationError` thrown.
  /// - Returns: the bytes of weights.
  /// - Throws: ``ExportError``, `InferenceError`, `SlabError`, `FileError`, `CancellationError`.
  @discardableResult
  public static func write(
    _ slab: Slab, to path: String, name: String, as type: RowEncoding = .f16, pool: WorkerPool,
    progress: @escaping (_ done: Int, _ total: Int) -> Void = { _, _ in },
    isCancelled: @escaping () -> Bool = { false }
  ) throws -> Int {
    precondition(types.contains(type))
    let rows = try SlabRows(slab, pool: pool, progress: progress, isCancelled: isCancelled)
    let assets = try ModelAssets(slab: slab)
    let configuration = assets.configuration.resolved { slab.tensor(named: $0) != nil }
    try check(rows.tensors, of: slab, are: configuration)
    let tensors = rows.tensors.flatMap { GGUFTensorPlan.plans(for: $0, configuration, type) }
    let tokenizer = try GGUFTokenizer(slab: slab, assets: assets)
    let writer = try GGUFWriter(
      path: path,
      metadata: hyperparameters(configuration, name: name, type) + tokenizer.metadata,
      tensors: tensors.map { ($0.name, $0.encoding.ggufType, $0.shape) })
    defer { writer.close() }
    var byteCount = 0
    for plan in tensors {
      let rowByteCount = plan.encoding.byteCount(columns: plan.tensor.shape.last ?? 1)
      try rows.encode(
        plan.tensor, rows: plan.rows, source: plan.source, rowByteCount: rowByteCount,
        type: plan.encoding.rawValue, with: plan.encode
      ) {
        try writer.append(bytes: $0)
        byteCount += $0.count
      }
    }
    try writer.finish()
    return byteCount
  }

  /// `LLAMA_MAX_EXPERTS`: llama.cpp ends the process that loads a model with more.
  private static let maximumExpertCount = 1024

  /// Requires that the slab's tensors are exactly those of its configuration.
  private static func check(
    _ tensors: [SlabTensor], of slab: Slab, are configuration: ModelConfiguration
  ) throws {
    func refusal(_ what: String) -> ExportError {
      .unsupported(
        path: slab.path, what: what,
        instead: "llama.cpp would not load the file (--to safetensors writes all tensors)")
    }
    if let inner = configuration.mamba?.innerSize, inner != 2 * configuration.hiddenSize {
      throw refusal(
        "its Mamba2 layers have \(inner) features, and llama.cpp takes twice the hidden size only")
    }
    if let count = configuration.experts?.count, count > maximumExpertCount {
      throw refusal(
        "its layers have \(count) experts, and llama.cpp takes \(maximumExpertCount) at most")
    }
    let expected = configuration.expectedTensors
    for (name, shape) in expected {
      guard let tensor = slab.tensor(named: name) else {
        throw refusal("the tensor \(name), which config.json asks for, is not in the slab")
      }
      guard tensor.shape == shape else {
        throw refusal("\(name) has shape \(tensor.shape); config.json asks for \(shape)")
      }
    }
    let names = Set(expected.map(\.name))
    if let tensor = tensors.first(where: { !names.contains($0.name) }) {
      throw refusal("\(tensor.name) is no tensor of \(configuration.architecture.rawValue)")
    }
  }
}
