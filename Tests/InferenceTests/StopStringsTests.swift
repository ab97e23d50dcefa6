import TestSupport
import Testing

@testable import Inference

@Suite struct StopStringsTests {
  /// What a matcher lets through, and whether it stopped.
  private func run(_ strings: [String], _ pieces: [String]) -> (texts: [String], stopped: Bool) {
    var matcher = StopStrings(strings)
    var texts: [String] = []
    for piece in pieces {
      let (text, stopped) = matcher.append(piece, mayStop: true)
      texts.append(text)
      if stopped { return (texts, true) }
    }
    texts.append(matcher.finish())
    return (texts, false)
  }

  @Test func holdsBackWhatMayBecomeAStopString() {
    let (texts, stopped) = run(["\nQ:"], ["one", "\n", "Q", " and", "\nQ", ": two"])
    #expect(texts == ["one", "", "", "\nQ and", "", ""])
    #expect(stopped)
  }

  @Test func textBeforeTheStopStringIsEmitted() {
    #expect(run(["stop"], ["non", "stop", "rest"]).texts == ["non", ""])
    #expect(run(["stop"], ["nonst", "op rest"]).texts == ["non", ""])
    #expect(run(["stop"], ["non st", "ep sto"]).texts == ["non ", "step ", "sto"])
  }

  @Test func selfOverlappingStrings() {
    let (texts, stopped) = run(["aab"], ["a", "a", "a", "b", "c"])
    #expect(texts.joined() == "a")
    #expect(stopped)
  }

  @Test func firstToBeCompleteWinsThenTheLongest() {
    #expect(run(["bcd", "bc"], ["abcd"]).texts == ["a"])
    #expect(run(["c", "bc"], ["abcd"]).texts == ["a"])
  }

  @Test func heldTextIsWholeCharacters() {
    // é and è share their first byte.
    let (texts, stopped) = run(["xé"], ["x", "è", "x", "é"])
    #expect(texts == ["", "xè", "", ""])
    #expect(stopped)
  }

  @Test func minimumLengthLetsStopStringsPass() {
    var matcher = StopStrings(["ab"])
    #expect(matcher.append("xab", mayStop: false) == ("xab", false))
    #expect(matcher.append("a", mayStop: false) == ("", false))
    // One that ends in later text stops, wherever it begins.
    #expect(matcher.append("by", mayStop: true) == ("", true))
  }

  @Test func noStringsPassEverything() {
    #expect(run([], ["a", "b"]).texts == ["a", "b", ""])
  }

  /// Against a plain search: the outcome does not depend on where pieces end.
  @Test(arguments: 0..<300) func anyCutGivesTheSame(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    func text(_ length: ClosedRange<Int>) -> String {
      String(
        (0..<Int.random(in: length, using: &random)).map { _ in
          "abé".randomElement(using: &random)!
        })
    }
    let strings = (0..<Int.random(in: 1...3, using: &random)).map { _ in text(1...5) }
    let whole = Array(text(0...40))
    var pieces: [String] = []
    var rest = whole[...]
    while !rest.isEmpty {
      let count = Int.random(in: 0...min(6, rest.count), using: &random)
      pieces.append(String(rest.prefix(count)))
      rest = rest.dropFirst(count)
    }
    // The shortest prefix that ends with a stop string.
    var expected = String(whole)
    var stops = false
    for end in 0...whole.count {
      let prefix = String(whole[..<end])
      if let longest = strings.filter({ prefix.hasSuffix($0) }).max(by: { $0.count < $1.count }) {
        expected = String(prefix.dropLast(longest.count))
        stops = true
        break
      }
    }
    let (texts, stopped) = run(strings, pieces)
    #expect(texts.joined() == expected)
    #expect(stopped == stops)
  }
}
