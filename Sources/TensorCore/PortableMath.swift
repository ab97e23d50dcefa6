/// Elementary functions in double precision, made of the basic operations of IEEE 754 only.
///
/// A C library picks other variants on other processors; these return the same bits everywhere
/// (`formats/numerics.md`). Errors stay below one unit in the last place, near enough.
public enum PortableMath {
  /// e^x: +∞ above 709.79, 0 below −745.14.
  ///
  /// x = n ln 2 + r with ln 2 in two parts (Cody and Waite, 1980), Taylor polynomial of degree 13.
  public static func exp(_ x: Double) -> Double {
    guard x <= 709.79 else { return x.isNaN ? x : .infinity }
    guard x >= -745.14 else { return 0 }
    let n = (x * 0x1.71547652b82fep+0).rounded(.toNearestOrEven)
    let high = x - n * ln2High
    let low = n * ln2Low
    let r = high - low
    let lost = (high - r) - low  // what rounding r dropped
    var p = inverseFactorials[11]
    for coefficient in inverseFactorials[..<11].reversed() { p = p * r + coefficient }
    let y = 1 + (r + (r * r * p + lost))
    // Two factors, because 2^n alone may lie outside the range of normal numbers.
    let half = Int(n) / 2
    return y * powerOfTwo(half) * powerOfTwo(Int(n) - half)
  }

  /// The natural logarithm; −∞ for 0, NaN for negative numbers.
  ///
  /// x = 2^e (1 + f) with 1 + f in [√½, √2), s = f / (2 + f):
  /// log(1 + f) = f − f²/2 + s (f²/2 + Σ 2 s^(2j) / (2j + 1)).
  public static func log(_ x: Double) -> Double {
    guard x > 0 else { return x == 0 ? -.infinity : .nan }
    guard x < .infinity else { return x }
    var exponent = Double(x.exponent)
    var significand = x.significand
    if significand >= 0x1.6a09e667f3bcdp+0 {
      significand *= 0.5
      exponent += 1
    }
    let f = significand - 1
    let s = f / (2 + f)
    let square = s * s
    var series = 0.0
    for j in stride(from: 11, through: 1, by: -1) {
      series = (series + 2 / Double(2 * j + 1)) * square
    }
    let half = 0.5 * f * f
    return exponent * ln2High - ((half - (s * (half + series) + exponent * ln2Low)) - f)
  }

  /// The sine of an angle in radians, |x| ≤ 2²⁹; NaN beyond.
  public static func sin(_ x: Double) -> Double { sineAndCosine(x).sine }

  /// The cosine of an angle in radians, |x| ≤ 2²⁹; NaN beyond.
  public static func cos(_ x: Double) -> Double { sineAndCosine(x).cosine }

  /// Both at once. x = n π/2 + r with π/2 in four parts of which n times the first three is exact,
  /// then the Taylor polynomials of degrees 17 and 18 on |r| ≤ π/4.
  public static func sineAndCosine(_ x: Double) -> (sine: Double, cosine: Double) {
    guard x.magnitude <= 0x1p29 else { return (.nan, .nan) }
    let n = (x * 0x1.45f306dc9c883p-1).rounded(.toNearestOrEven)
    let high = ((x - n * halfPi.0) - n * halfPi.1) - n * halfPi.2
    let low = n * halfPi.3
    let r = high - low
    let lost = (high - r) - low
    let z = r * r
    var odd = sineCoefficients[7]
    var even = cosineCoefficients[7]
    for j in stride(from: 6, through: 0, by: -1) {
      odd = odd * z + sineCoefficients[j]
      even = even * z + cosineCoefficients[j]
    }
    // To first order in what r lost.
    let sine = r + (r * (z * odd) + lost * (1 - 0.5 * z))
    let cosine = 1 - (0.5 * z - (z * z * even - r * lost))
    switch Int(n) & 3 {
    case 0: return (sine, cosine)
    case 1: return (cosine, -sine)
    case 2: return (-sine, -cosine)
    default: return (-cosine, sine)
    }
  }

  /// ln 2, its first 32 bits and the rest: n · ln2High is exact for |n| < 2²¹.
  private static let ln2High = 0x1.62e42feep-1
  private static let ln2Low = 0x1.a39ef35793c76p-33
  /// π/2 in three parts of 24 bits and the rest.
  private static let halfPi = (
    0x1.921fb40000000p+0, 0x1.4442d00000000p-24, 0x1.8469880000000p-48, 0x1.8cc51701b839ap-72
  )
  /// 1/2!, 1/3!, … 1/13!
  private static let inverseFactorials = (2...13).map { 1 / factorial($0) }
  /// −1/3!, 1/5!, … 1/17!
  private static let sineCoefficients = (1...8).map {
    ($0 % 2 == 0 ? 1 : -1) / factorial(2 * $0 + 1)
  }
  /// 1/4!, −1/6!, … −1/18!
  private static let cosineCoefficients = (2...9).map { ($0 % 2 == 0 ? 1 : -1) / factorial(2 * $0) }

  /// n!, exact for n up to 18.
  private static func factorial(_ n: Int) -> Double { (1...n).reduce(1) { $0 * Double($1) } }

  private static func powerOfTwo(_ n: Int) -> Double {
    Double(bitPattern: UInt64(n + 1023) << 52)
  }
}
