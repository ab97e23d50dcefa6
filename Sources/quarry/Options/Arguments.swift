public import ArgumentParser
public import ModelFiles
public import TensorCore
public import Tokenization

// How values of the rooms below are spelled on the command line.

extension ActivationPrecision: ExpressibleByArgument {}
extension WeightLoading: ExpressibleByArgument {}
extension CacheType: ExpressibleByArgument {}

extension SlabProfile: ExpressibleByArgument {
  public init?(argument: String) { self.init(name: argument) }

  public static var allValueStrings: [String] { allCases.map(\.name) }

  public static var allValueDescriptions: [String: String] { [:] }
}

extension TemplateDate: ExpressibleByArgument {
  public init?(argument: String) {
    guard argument.wholeMatch(of: /[0-9]{4}-[0-9]{2}-[0-9]{2}/) != nil else { return nil }
    let parts = argument.split(separator: "-").compactMap { Int($0) }
    let (year, month, day) = (parts[0], parts[1], parts[2])
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    let days = [31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    guard year > 0, (1...12).contains(month), (1...days[month - 1]).contains(day) else {
      return nil
    }
    self.init(year: year, month: month, day: day)
  }
}
