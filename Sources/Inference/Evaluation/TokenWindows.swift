import Tokenization

/// Cuts a text into windows of equal length, each evaluated by itself from position 0.
///
/// What is left over at the end is dropped, unless it is all there is.
/// - Precondition: `length` is positive.
func tokenWindows(_ tokens: [TokenID], length: Int) -> [ArraySlice<TokenID>] {
  if tokens.count < length { return tokens.isEmpty ? [] : [tokens[...]] }
  return (0..<tokens.count / length).map { tokens[$0 * length..<($0 + 1) * length] }
}

/// Mean and standard error of the mean.
func meanAndStandardError(_ values: [Double]) -> (mean: Double, standardError: Double) {
  let count = Double(values.count)
  if values.isEmpty { return (0, 0) }
  let mean = values.reduce(0, +) / count
  let squares = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
  return (mean, values.count < 2 ? 0 : (squares / (count - 1) / count).squareRoot())
}
