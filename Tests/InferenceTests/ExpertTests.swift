import JSON
import ModelFiles
import TensorCore
import TestSupport
import Testing

@testable import Inference

/// Mixtures of experts, against the formula applied token by token.
@Suite struct ExpertTests {
  private static let (count, used, hidden) = (7, 3, 40)
  /// Features; in the panels of 24, rows of gate and up meet.
  private static let inner = 24

  /// Random experts; two of them have equal rows in the router, so that their logits are equal.
  private static func experts(
    _ encoding: BlockEncoding, inner: Int = inner, seed: UInt64
  ) -> Experts {
    var random = SplitMix64(seed: seed)
    let rows = (0..<count).map { _ in (0..<hidden).map { _ in random.normal() } }
    func matrices(_ rows: Int, _ columns: Int) -> [WeightMatrix] {
      let geometry = PanelGeometry(rows: rows, columns: columns)!
      return (0..<count).map { _ in
        encoding == .f32
          ? .packed(geometry) { _, _ in random.normal() / 6 }
          : .random(geometry, encoding: encoding, using: &random)
      }
    }
    return Experts(
      router: .packed(PanelGeometry(rows: count, columns: hidden)!) {
        rows[$0 == 4 ? 1 : $0][$1] / 6
      },
      gateUp: MatrixList(matrices(2 * inner, hidden)), down: MatrixList(matrices(hidden, inner)),
      usedCount: used,
      intermediateSize: inner)
  }

  private static func product(
    _ matrix: WeightMatrix, _ input: [Float], _ kernels: Kernels
  ) throws -> [Float] {
    let pool = WorkerPool(threadCount: 1)
    let activations = Activations(maximumTokens: 1, maximumColumns: input.count)
    try activations.load(
      input, tokenCount: 1, inputStride: input.count, for: matrix, precision: .int8,
      kernels: kernels, pool: pool)
    var output = [Float](repeating: 0, count: matrix.geometry.paddedRows)
    kernels.multiply(
      matrix, activations, output: &output, outputStride: output.count, pool: pool)
    return Array(output.prefix(matrix.geometry.rows))
  }

  private static func expected(
    _ experts: Experts, _ input: [Float], _ kernels: Kernels
  ) throws -> [Float] {
    let logits = try product(experts.router, input, kernels)
    var chosen = [Int](repeating: 0, count: used)
    var weights = [Float](repeating: 0, count: used)
    Reference.route(logits, count: count, used: used, chosen: &chosen, weights: &weights)
    var sum: [Float]?
    for (expert, weight) in zip(chosen, weights).sorted(by: { $0.0 < $1.0 }) {
      let both = try product(experts.gateUp[expert], input, kernels)
      let inner = experts.intermediateSize
      let gated = (0..<inner).map { Reference.silu(both[$0]) * both[inner + $0] }
      let result = try product(experts.down[expert], gated, kernels)
      sum =
        sum.map { sum in zip(sum, result).map { $0.addingProduct(weight, $1) } }
        ?? result.map { weight * $0 }
    }
    return sum!
  }

  @Test(arguments: [BlockEncoding.f32, .q4b16, .q8b32], [InstructionSet.scalar, .supported.last!])
  func everyTokenGetsItsExperts(encoding: BlockEncoding, instructionSet: InstructionSet) throws {
    for inner in [Self.inner, 48] {
      try everyTokenGetsItsExperts(
        Self.experts(encoding, inner: inner, seed: 3), Kernels(instructionSet))
    }
  }

  private func everyTokenGetsItsExperts(_ experts: Experts, _ kernels: Kernels) throws {
    var random = SplitMix64(seed: 9)
    let input = (0..<23).map { _ in (0..<Self.hidden).map { _ in random.normal() } }
    let expected = try input.map { try Self.expected(experts, $0, kernels) }
    let shape = try ModelShape(
      TinyModel([
        "model_type": "granitemoe", "num_local_experts": .integer(Self.count),
        "num_experts_per_tok": .integer(Self.used),
        "intermediate_size": .integer(experts.intermediateSize),
      ]).configuration)
    for (threads, cut) in [(1, 23), (2, 1), (3, 5), (2, 22)] {
      let workspace = Workspace(shape: shape, tokenCapacity: cut)
      for first in stride(from: 0, to: input.count, by: cut) {
        let some = Array(input[first..<min(first + cut, input.count)])
        for (token, values) in some.enumerated() {
          workspace.normalized[token].update(from: values, count: values.count)
        }
        let compute = Compute(
          kernels: kernels, pool: WorkerPool(threadCount: threads), precision: .int8,
          tokenCount: some.count)
        var steps = Steps(compute)
        try FeedForward(mlp: nil, experts: experts).add(
          to: &steps, of: workspace.normalized, workspace: workspace, into: workspace.branch,
          preparing: { _ in }, finishing: { _, _ in })
        try steps.run()
        for token in some.indices {
          let found = Array(
            UnsafeBufferPointer(start: workspace.branch[token], count: Self.hidden))
          #expect(found == expected[first + token], "token \(first + token) of \(cut)")
        }
      }
    }
  }

  /// Beside an MLP, experts and MLP give the sum of what each gives alone, and both see rows that are
  /// computed only then.
  @Test(arguments: [1, 9], [BlockEncoding.f32, .q4b16])
  func expertsAddToAnMLP(tokenCount: Int, encoding: BlockEncoding) throws {
    let experts = Self.experts(.q4b16, seed: 5)
    var random = SplitMix64(seed: 6)
    func linear(_ rows: Int, _ columns: Int) -> Linear {
      let geometry = PanelGeometry(rows: rows, columns: columns)!
      return Linear(
        weight: encoding == .f32
          ? .packed(geometry) { _, _ in random.normal() / 6 }
          : .random(geometry, encoding: encoding, using: &random), bias: nil)
    }
    let size = 32
    let fused = MLP(
      input: .fused(linear(2 * size, Self.hidden)), down: linear(Self.hidden, size),
      intermediateSize: size)
    let separate = MLP(
      input: .separate(gate: linear(size, Self.hidden), up: linear(size, Self.hidden)),
      down: linear(Self.hidden, size), intermediateSize: size)
    let input = (0..<tokenCount).map { _ in (0..<Self.hidden).map { _ in random.normal() } }
    let shape = try ModelShape(
      TinyModel([
        "model_type": "granitemoeshared", "num_local_experts": .integer(Self.count),
        "num_experts_per_tok": .integer(Self.used), "intermediate_size": .integer(Self.inner),
        "shared_intermediate_size": .integer(size),
      ]).configuration)
    let compute = Compute(
      kernels: Kernels(.supported.last!), pool: WorkerPool(threadCount: 2), precision: .int8,
      tokenCount: tokenCount)
    func results(_ layer: FeedForward) throws -> [[Float]] {
      let workspace = Workspace(shape: shape, tokenCapacity: tokenCount)
      let sums = workspace.hidden
      var steps = Steps(compute)
      try layer.add(
        to: &steps, of: workspace.normalized, workspace: workspace, into: workspace.branch,
        preparing: { workspace.normalized[$0].update(from: input[$0], count: Self.hidden) },
        finishing: { token, rows in for row in rows { sums[token][row] += 1 } })
      try steps.run()
      for token in 0..<tokenCount {
        #expect((0..<Self.hidden).allSatisfy { sums[token][$0] == 1 }, "finished once each")
      }
      return (0..<tokenCount).map {
        Array(UnsafeBufferPointer(start: workspace.branch[$0], count: Self.hidden))
      }
    }
    let alone = try results(FeedForward(mlp: nil, experts: experts))
    for mlp in [fused, separate] {
      let shared = try results(FeedForward(mlp: mlp, experts: nil))
      let both = try results(FeedForward(mlp: mlp, experts: experts))
      #expect(both == zip(alone, shared).map { zip($0, $1).map { $0 + $1 } })
    }
  }

  /// Every row is shown to the observer, with the expert that reads it.
  @Test func routedRowsAreShown() throws {
    let experts = Self.experts(.f32, seed: 3)
    var random = SplitMix64(seed: 4)
    let input = (0..<11).map { _ in (0..<Self.hidden).map { _ in random.normal() } }
    let shape = try ModelShape(
      TinyModel([
        "model_type": "granitemoe", "num_local_experts": .integer(Self.count),
        "num_experts_per_tok": .integer(Self.used), "intermediate_size": .integer(Self.inner),
      ]).configuration)
    let workspace = Workspace(shape: shape, tokenCapacity: input.count)
    for (token, values) in input.enumerated() {
      workspace.normalized[token].update(from: values, count: values.count)
    }
    var seen: [LinearInput: [Int: [[Float]]]] = [:]
    var compute = Compute(
      kernels: Kernels(.scalar), pool: WorkerPool(threadCount: 2), precision: .int8,
      tokenCount: input.count)
    compute.observer = { observed in
      for row in 0..<observed.tokenCount {
        let values = UnsafeBufferPointer(
          start: observed.rows + row * observed.stride, count: observed.columns)
        seen[observed.kind, default: [:]][observed.expert ?? -1, default: []].append(
          Array(values))
      }
    }
    var steps = Steps(compute)
    try FeedForward(mlp: nil, experts: experts).add(
      to: &steps, of: workspace.normalized, workspace: workspace, into: workspace.branch,
      preparing: { _ in }, finishing: { _, _ in })
    try steps.run()
    #expect(seen[.mlp] == [-1: input])
    var routed: [Int: [[Float]]] = [:]
    for token in input {
      let logits = try Self.product(experts.router, token, Kernels(.scalar))
      var chosen = [Int](repeating: 0, count: Self.used)
      var weights = [Float](repeating: 0, count: Self.used)
      Reference.route(
        logits, count: Self.count, used: Self.used, chosen: &chosen, weights: &weights)
      for expert in chosen { routed[expert, default: []].append(token) }
    }
    #expect(seen[.experts] == routed)
    #expect(seen[.expertDown]?.mapValues(\.count) == routed.mapValues(\.count))
    #expect(seen[.expertDown]?.values.joined().allSatisfy { $0.count == Self.inner } == true)
  }
}
