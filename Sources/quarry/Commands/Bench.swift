import ArgumentParser
import Conversion
import Foundation
import Inference
import JSON
import ModelFiles
import TensorCore

struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure how fast a model runs, beside what the machine could do at best.",
    discussion: """
      Prefill is reading a prompt, decode is choosing tokens one by one; both are whole: attention, \
      norms, output projection and sampling are inside the time. Two ceilings are measured in the same \
      run, before and after every prompt and every decoded token: int8 operations per second for prefill \
      (two for each weight of the linear layers), reading memory for decode (the bytes that a token \
      reads; for several sequences at once, those of one). Attention alone is measured beside float32 \
      multiply-adds. The share is the median of the repetitions' shares.

      A shape or a config.json gets random weights in memory; nothing is downloaded or quantized.

      EXAMPLES
        quarry bench granite.slab
        quarry bench --shape 2b --recipe q4s --json > before.json
        quarry bench --shape 2b --recipe q4s --compare before.json
        quarry bench config.json --prefill 512 --depths 0 --repetitions 9
        quarry bench --shape 2b --batch 1,4,8
        quarry bench --shape 2b --prefill 512,8192 --depths 8192 --attention 8192 --kv q8
        quarry bench --kernels
      """)

  @Argument(
    help: "A slab or a config.json; without one, and without --shape, the bundled model Pebble.",
    completion: .file())
  var model: String?
  @Option(
    help: """
      Random weights in the shape of Granite 3.3 (2b, 8b), 3.1 (1b-a400m, 3b-a800m) or 4.0 (h-350m, \
      h-1b, h-micro, h-tiny).
      """)
  var shape: BenchmarkShape?
  @Option(help: "How random weights are encoded: a preset or a file (default: q4).")
  var recipe: RecipeArgument?
  @Option(help: "Lengths of prompts, separated by commas.")
  var prefill = CountList(counts: [128, 512, 2048])
  @Option(help: "Tokens in the context before decoding, separated by commas.")
  var depths = CountList(counts: [0, 4096])
  @Option(help: "Lengths of prompts of which attention alone is measured, separated by commas.")
  var attention = CountList(counts: [])
  @Option(help: "Numbers of sequences that decode at once, separated by commas.")
  var batch = CountList(counts: [])
  @Option(help: "Repetitions of every measurement.")
  var repetitions = 5
  @Option(help: "A report written earlier with --json to compare with.", completion: .file())
  var compare: String?
  @Flag(help: "Measure matrix products alone, for every quantized encoding, without a model.")
  var kernels = false
  @OptionGroup var loading: LoadingOptions
  @OptionGroup var cache: CacheOptions
  @OptionGroup var runtime: RuntimeOptions
  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    if model != nil, shape != nil {
      throw ValidationError("Give a model or --shape, not both.")
    }
    if kernels, model != nil || shape != nil || recipe != nil || compare != nil {
      throw ValidationError("--kernels takes no model, and nothing to compare with.")
    }
    if recipe != nil, shape == nil, model?.hasSuffix(".json") != true {
      throw ValidationError("--recipe is for random weights; a slab has its own.")
    }
    for (option, counts) in [("prefill", prefill), ("attention", attention), ("batch", batch)]
    where counts.counts.contains(0) {
      throw ValidationError(
        "--\(option) takes numbers of at least 1; --\(option) '' leaves these measurements out.")
    }
    if !(1...1000).contains(repetitions) {
      throw ValidationError("--repetitions must be from 1 to 1000, not \(repetitions).")
    }
  }

  func run() throws {
    Interrupt.watch()
    if kernels { return try measureKernels() }
    let earlier = try compare.map(BenchmarkReport.read)
    let subject = try load(pool: runtime.makePool())
    let (longest, lengths, depths) = try fitting(subject)
    let session = try Session(
      model: subject.model, contextLength: longest, cacheType: cache.kv)
    session.isCancelled = { Interrupt.isRequested }
    let predicted = MemoryPrediction(
      weightByteCount: subject.weightByteCount, configuration: subject.model.configuration,
      contextLength: longest, cacheType: cache.kv)
    let results: (bandwidths: [Benchmark.Bandwidth], figures: [BenchmarkFigure])
    do {
      results = try measure(subject.model, lengths, depths, in: session)
    } catch is CancellationError {
      throw Interrupt.exitCode
    }
    // What the ceilings were measured with is gone now, and not counted as resident.
    let report = BenchmarkReport(
      subject, cacheType: cache.kv, bandwidths: results.bandwidths, figures: results.figures,
      predictedByteCount: predicted.total)
    if json {
      try Console.write(report.json.serialized(indented: true) + "\n")
      if earlier != nil { Console.note(report.text(comparedWith: earlier)) }
    } else {
      try Console.write(report.text(comparedWith: earlier) + "\n")
    }
  }

  private func measure(
    _ model: Model, _ lengths: [Int], _ depths: [Int], in session: Session
  ) throws -> (bandwidths: [Benchmark.Bandwidth], figures: [BenchmarkFigure]) {
    let progress = Progress("measuring")
    defer { progress.finish() }
    let benchmark = Benchmark(
      model: model, cacheType: cache.kv, repetitions: repetitions)
    let total = lengths.count + depths.count + batch.counts.count + attention.counts.count
    var figures: [BenchmarkFigure] = []
    for length in lengths {
      progress.update(figures.count, of: total, "prefill of \(length) tokens")
      figures.append(try benchmark.prefill(length, in: session))
    }
    for depth in depths {
      progress.update(figures.count, of: total, "decode after \(depth) tokens")
      figures.append(try benchmark.decode(depth: depth, in: session))
    }
    for length in attention.counts {
      progress.update(figures.count, of: total, "attention of \(length) tokens")
      figures.append(try benchmark.attention(length))
    }
    for count in batch.counts {
      progress.update(figures.count, of: total, "decode of \(count) sequences")
      figures.append(try benchmark.decodeBatch(count))
    }
    return (benchmark.bandwidths, figures)
  }

  private func measureKernels() throws {
    let benchmark = KernelBenchmark(
      kernels: try .selected(), pool: runtime.makePool(), repetitions: repetitions)
    let progress = Progress("measuring")
    defer { progress.finish() }
    let figures = try benchmark.run { done, total, encoding in
      if Interrupt.isRequested { throw Interrupt.exitCode }
      progress.update(done, of: total, encoding.name)
    }
    progress.finish()
    let text = json ? figures.json.serialized(indented: true) : figures.text
    try Console.write(text + "\n")
  }

  private func load(pool: WorkerPool) throws -> BenchmarkModel {
    if let shape {
      return try BenchmarkModel(
        configuration: Array(shape.configurationJSON.utf8), name: shape.rawValue,
        recipe: recipe?.load() ?? .q4, pool: pool)
    }
    if let model, model.hasSuffix(".json") {
      return try BenchmarkModel(
        configuration: InputFiles.read(model), name: model, recipe: recipe?.load() ?? .q4,
        pool: pool)
    }
    var argument = SlabArgument()
    argument.slab = model
    let slab = try argument.open(pool: pool)
    return try BenchmarkModel(slab, name: model ?? "Pebble", loading: loading, pool: pool)
  }

  /// What fits into the model's context and this machine's memory, and the context that it takes.
  private func fitting(
    _ subject: BenchmarkModel
  ) throws -> (longest: Int, lengths: [Int], depths: [Int]) {
    let configuration = subject.model.configuration
    func fits(_ positions: Int) -> Bool {
      let cache = MemoryPrediction(
        weightByteCount: 0, configuration: configuration, contextLength: positions,
        cacheType: cache.kv)
      return positions <= configuration.contextLength
        && cache.total <= SystemMemory.availableByteCount ?? .max
    }
    func positions(_ depth: Int) -> Int { max(1, depth) + Benchmark.decodedTokens + 2 }
    let lengths = prefill.counts.filter { fits($0 + 1) }
    let depths = depths.counts.filter { fits(positions($0)) }
    if lengths.count < prefill.counts.count || depths.count < self.depths.counts.count {
      Console.note("left out: what does not fit into the model's context or into memory")
    }
    let longest = (lengths.map { $0 + 1 } + depths.map(positions)).max()
    guard let longest = longest ?? (batch.counts.isEmpty && attention.counts.isEmpty ? nil : 1)
    else {
      throw InputError("there is nothing to measure")
    }
    return (longest, lengths, depths)
  }
}

/// Numbers of tokens, separated by commas.
struct CountList: ExpressibleByArgument {
  let counts: [Int]

  init(counts: [Int]) { self.counts = counts }

  init?(argument: String) {
    let words = argument.split(separator: ",")
    counts = words.compactMap { Int($0) }.filter { (0...1 << 24).contains($0) }
    if counts.count != words.count { return nil }
  }

  var defaultValueDescription: String { counts.map(String.init).joined(separator: ",") }
}

extension BenchmarkShape: ExpressibleByArgument {}
