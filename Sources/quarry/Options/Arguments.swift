public import ArgumentParser
public import Conversion
public import ModelFiles
public import TensorCore
public import Tokenization

// How values of the rooms below are spelled on the command line.

extension Recipe: ExpressibleByArgument {}
extension ActivationPrecision: ExpressibleByArgument {}

extension SlabProfile: ExpressibleByArgument {
  public init?(argument: String) { self.init(name: argument) }

  public var defaultValueDescription: String { name }

  public static var allValueStrings: [String] { allCases.map(\.name) }
}

extension TemplateDate: ExpressibleByArgument {
  public init?(argument: String) {
    let parts = argument.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
    guard parts.count == 3, let year = parts[0], let month = parts[1], let day = parts[2],
      (1...9999).contains(year), (1...12).contains(month), (1...31).contains(day)
    else { return nil }
    self.init(year: year, month: month, day: day)
  }
}
