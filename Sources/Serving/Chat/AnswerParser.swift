/// A part of an answer, as OpenAI's API tells them apart.
enum AnswerPart: Equatable {
  case content(String)
  case reasoning(String)
  case toolCall(ToolCall)
}

/// Tells apart what Granite's models write into one text, piece by piece: thoughts (`<think>…</think>`
/// at the beginning, the rest perhaps in `<response>…</response>`), and calls of tools
/// (`<|tool_call|>[…]` of version 3, `<tool_call>{…}</tool_call>` of version 4). What looks like a call
/// and is none is content.
struct AnswerParser {
  private enum State { case start, reasoning, afterReasoning, content, call, afterCall }

  private let expectsCalls: Bool
  private var state = State.start
  /// Whether the content is in `<response>`.
  private var inResponse = false
  /// Whether blanks are to be dropped before the content goes on.
  private var dropsBlanks = false
  /// What the call began with.
  private var callMarker = ""
  /// Text of which nothing can be told yet.
  private var held: [UInt8] = []

  /// - Parameter expectsCalls: whether tools were offered; otherwise calls are text.
  init(expectsCalls: Bool) { self.expectsCalls = expectsCalls }

  /// Takes more of the text; returns what can be told of it.
  mutating func append(_ text: String) -> [AnswerPart] {
    held += text.utf8
    return parts(isLast: false)
  }

  /// The rest, once no more text comes.
  mutating func finish() -> [AnswerPart] { parts(isLast: true) }

  private mutating func parts(isLast: Bool) -> [AnswerPart] {
    var parts: [AnswerPart] = []
    while advance(isLast, &parts) {}
    return parts
  }

  /// Goes on by one marker; false once nothing more can be told.
  private mutating func advance(_ isLast: Bool, _ parts: inout [AnswerPart]) -> Bool {
    switch state {
    case .start:
      guard let found = skip("<think>", isLast) else { return false }
      state = found ? .reasoning : .content
    case .reasoning:
      let (text, marker) = take(until: ["</think>"], isLast)
      if !text.isEmpty { parts.append(.reasoning(text)) }
      if marker == nil { return false }
      state = .afterReasoning
    case .afterReasoning:
      guard let found = skip("<response>", isLast) else { return false }
      inResponse = found
      (state, dropsBlanks) = (.content, true)
    case .content:
      if dropsBlanks { held.removeFirst(blankCount) }
      if !held.isEmpty { dropsBlanks = false }
      let calls = expectsCalls ? ["<|tool_call|>", "<tool_call>"] : []
      let (text, marker) = take(until: calls + (inResponse ? ["</response>"] : []), isLast)
      if !text.isEmpty { parts.append(.content(text)) }
      guard let marker else { return false }
      if marker == "</response>" {
        (inResponse, dropsBlanks) = (false, true)
      } else {
        (state, callMarker) = (.call, marker)
      }
    case .call:
      let body = held[blankCount...]
      guard let length = ToolCall.jsonLength(body) ?? (isLast ? 0 : nil) else { return false }
      if let calls = ToolCall.parse(Array(body.prefix(length))) {
        parts += calls.map { .toolCall($0) }
        held = Array(body.dropFirst(length))
        state = .afterCall
      } else {
        parts.append(.content(callMarker))
        state = .content
      }
    case .afterCall:
      guard skip("</tool_call>", isLast) != nil else { return false }
      (state, dropsBlanks) = (.content, true)
    }
    return true
  }

  private var blankCount: Int { held.prefix { [0x20, 0x09, 0x0A, 0x0D].contains($0) }.count }

  /// Passes over `marker` where the text goes on with it, blanks before it too.
  ///
  /// - Returns: whether it does; nil while that is open.
  private mutating func skip(_ marker: String, _ isLast: Bool) -> Bool? {
    let text = held[blankCount...]
    if text.starts(with: marker.utf8) {
      held = Array(text.dropFirst(marker.utf8.count))
      return true
    }
    return isLast || !marker.utf8.starts(with: text) ? false : nil
  }

  /// Takes the text up to the first of `markers` and passes over that one; without one, all that can be
  /// no part of one.
  private mutating func take(
    until markers: [String], _ isLast: Bool
  ) -> (text: String, marker: String?) {
    for index in held.indices {
      let rest = held[index...]
      if let marker = markers.first(where: { rest.starts(with: $0.utf8) }) {
        defer { held.removeFirst(index + marker.utf8.count) }
        return (String(decoding: held[..<index], as: UTF8.self), marker)
      }
      if !isLast, markers.contains(where: { $0.utf8.starts(with: rest) }) {
        defer { held.removeFirst(index) }
        return (String(decoding: held[..<index], as: UTF8.self), nil)
      }
    }
    defer { held = [] }
    return (String(decoding: held, as: UTF8.self), nil)
  }
}
