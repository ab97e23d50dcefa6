import Glibc

/// A local date and time of day, which a template may ask for with `strftime_now`.
public struct TemplateDate: Sendable, Equatable {
  /// Of the Gregorian calendar.
  public var year: Int
  /// From 1.
  public var month: Int
  /// Day of the month, from 1.
  public var day: Int
  /// From 0 to 23.
  public var hour: Int
  /// From 0 to 59.
  public var minute: Int
  /// From 0 to 59.
  public var second: Int

  /// A moment of that calendar; midnight unless a time is given.
  public init(
    year: Int, month: Int, day: Int, hour: Int = 0, minute: Int = 0, second: Int = 0
  ) {
    self.year = year
    self.month = month
    self.day = day
    self.hour = hour
    self.minute = minute
    self.second = second
  }

  /// The current date and time in the local time zone.
  public static func today() -> TemplateDate {
    var seconds = time(nil)
    var local = tm()
    localtime_r(&seconds, &local)
    return TemplateDate(
      year: Int(local.tm_year) + 1900, month: Int(local.tm_mon) + 1, day: Int(local.tm_mday),
      hour: Int(local.tm_hour), minute: Int(local.tm_min), second: Int(local.tm_sec))
  }

  private static let months = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
  ]
  private static let weekdays = [
    "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
  ]
  private static let monthLengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

  private static func isLeap(_ year: Int) -> Bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
  }

  /// Whether this is a day of the Gregorian calendar, in the years that Python's dates have.
  public var isValid: Bool {
    guard (1...9999).contains(year), (1...12).contains(month) else { return false }
    let length = Self.monthLengths[month - 1] + (month == 2 && Self.isLeap(year) ? 1 : 0)
    return (1...length).contains(day) && (0..<24).contains(hour) && (0..<60).contains(minute)
      && (0..<60).contains(second)
  }

  /// Days since the first of January.
  private var dayOfYear: Int {
    Self.monthLengths[..<(month - 1)].reduce(0, +) + day - 1
      + (month > 2 && Self.isLeap(year) ? 1 : 0)
  }

  /// 0 is Sunday.
  private var weekday: Int {
    let past = year - 1
    return (1 + past * 365 + past / 4 - past / 100 + past / 400 + dayOfYear) % 7
  }

  /// Year and week by ISO 8601.
  private var isoWeek: (year: Int, week: Int) {
    let monday = (weekday + 6) % 7
    let week = (dayOfYear - monday + 10) / 7
    if week < 1 {
      let last = TemplateDate(year: year - 1, month: 12, day: 31)
      return (year - 1, last.isoWeek.week)
    }
    let daysInYear = Self.isLeap(year) ? 366 : 365
    if week == 53, dayOfYear - monday + 3 >= daysInYear { return (year + 1, 1) }
    return (year, week)
  }

  /// What C's `strftime` gives in the C locale, without a time zone.
  ///
  /// - Throws: For a date that is not valid, and for a conversion that is not supported.
  func formatted(_ format: String) throws(TemplateError) -> String {
    guard isValid else { throw TemplateError("the date is not valid", line: 1) }
    var result = ""
    var rest = format.unicodeScalars[...]
    while let scalar = rest.popFirst() {
      guard scalar == "%" else {
        result.unicodeScalars.append(scalar)
        continue
      }
      var flag: Unicode.Scalar?
      if let next = rest.first, ["-", "_", "0", "^"].contains(next) { flag = rest.popFirst() }
      guard let conversion = rest.popFirst() else {
        throw TemplateError("a date format ends with '%'", line: 1)
      }
      guard let text = field(conversion, flag) else {
        throw TemplateError("the date format '%\(conversion)' is not supported", line: 1)
      }
      result += text
    }
    return result
  }

  private func field(_ conversion: Unicode.Scalar, _ flag: Unicode.Scalar?) -> String? {
    func number(_ value: Int, _ width: Int, _ pad: String = "0") -> String {
      let pad = flag == "-" ? "" : flag == "_" ? " " : flag == "0" ? "0" : pad
      let digits = "\(value)"
      return String(repeating: pad, count: max(width - digits.count, 0)) + digits
    }
    func word(_ text: String) -> String { flag == "^" ? text.uppercased() : text }
    let twelve = (hour + 11) % 12 + 1
    switch conversion {
    case "a": return word(String(Self.weekdays[weekday].prefix(3)))
    case "A": return word(Self.weekdays[weekday])
    case "b", "h": return word(String(Self.months[month - 1].prefix(3)))
    case "B": return word(Self.months[month - 1])
    case "c": return word(nested("%a %b %e %H:%M:%S ")) + "\(year)"
    case "C": return number(year / 100, 2)
    case "d": return number(day, 2)
    case "D", "x": return nested("%m/%d/%y")
    case "e": return number(day, 2, " ")
    case "f": return "000000"
    case "F": return "\(year)" + nested("-%m-%d")
    case "g": return number(isoWeek.year % 100, 2)
    case "G": return "\(isoWeek.year)"
    case "H": return number(hour, 2)
    case "I": return number(twelve, 2)
    case "j": return number(dayOfYear + 1, 3)
    case "k": return number(hour, 2, " ")
    case "l": return number(twelve, 2, " ")
    case "m": return number(month, 2)
    case "M": return number(minute, 2)
    case "n": return "\n"
    case "p": return hour < 12 ? "AM" : "PM"
    case "P": return hour < 12 ? "am" : "pm"
    case "r": return nested("%I:%M:%S %p")
    case "R": return nested("%H:%M")
    case "S": return number(second, 2)
    case "t": return "\t"
    case "T", "X": return nested("%H:%M:%S")
    case "u": return "\((weekday + 6) % 7 + 1)"
    case "U": return number((dayOfYear + 7 - weekday) / 7, 2)
    case "V": return number(isoWeek.week, 2)
    case "w": return "\(weekday)"
    case "W": return number((dayOfYear + 7 - (weekday + 6) % 7) / 7, 2)
    case "y": return number(year % 100, 2)
    case "Y": return "\(year)"
    case "z", "Z": return ""
    case "%": return "%"
    default: return nil
    }
  }

  /// A format made of conversions that are known.
  private func nested(_ format: String) -> String { (try? formatted(format)) ?? "" }
}
