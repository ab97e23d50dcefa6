/// What encoding did to a tensor. Accumulated in double precision in row order, so that the figures
/// do not depend on the number of threads.
public struct ErrorStatistics: Sendable, Equatable {
  /// Σ(w − ŵ)² / Σw²; 0 for a tensor of zeros.
  public var normalizedMeanSquaredError: Double
  /// max |w − ŵ|
  public var maximumAbsoluteError: Double
  /// Σwŵ / √(Σw² Σŵ²); 1 for a tensor of zeros.
  public var cosineSimilarity: Double
  /// Σi(w − ŵ)² / Σiw² with the importance i of the input columns that encoding went by; nil where it
  /// had none.
  public var weightedError: Double?

  public init(
    normalizedMeanSquaredError: Double, maximumAbsoluteError: Double, cosineSimilarity: Double,
    weightedError: Double? = nil
  ) {
    self.normalizedMeanSquaredError = normalizedMeanSquaredError
    self.maximumAbsoluteError = maximumAbsoluteError
    self.cosineSimilarity = cosineSimilarity
    self.weightedError = weightedError
  }
}
