import CPCRE2

/// A regular expression or a literal string, compiled by PCRE2 with Unicode properties and, where
/// the machine has it, its just-in-time compiler.
///
/// Characters have the properties of the Unicode version that the installed PCRE2 knows (14 in
/// 10.42); ones that are younger count as unassigned.
final class Pattern: @unchecked Sendable {
  // Compiled code is never changed after `init`; PCRE2 allows threads to share it.
  private let code: OpaquePointer

  /// Longest pattern that is compiled, in bytes.
  private static let maximumLength = 65536
  /// Steps of backtracking in one match before it is given up.
  private static let matchLimit: UInt32 = 10_000_000
  /// Memory for the backtracking of compiled and of interpreted code.
  private static let stackBytes = 32 << 20

  /// Throws `TokenizerError.invalidPattern` for what PCRE2 does not accept and
  /// `TokenizerError.unsupported` for what it would understand differently from Oniguruma.
  convenience init(regex: String) throws {
    try Self.checkLength(regex)
    try self.init(
      RegexDialect.translate(regex), shown: regex,
      options: PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C)
  }

  /// A pattern that matches `literal` and nothing else.
  convenience init(literal: String) throws {
    try Self.checkLength(literal)
    try self.init(literal, shown: literal, options: PCRE2_UTF | PCRE2_LITERAL)
  }

  private static func checkLength(_ pattern: String) throws {
    guard pattern.utf8.count <= maximumLength else {
      throw TokenizerError.invalid(
        component: "a pattern", reason: "is longer than \(maximumLength) bytes")
    }
  }

  private init(_ text: String, shown: String, options: UInt32) throws {
    let context = pcre2_compile_context_create_8(nil)
    defer { pcre2_compile_context_free_8(context) }
    pcre2_set_newline_8(context, UInt32(PCRE2_NEWLINE_LF))
    var number: Int32 = 0
    var offset = 0
    let text = Array(text.utf8)
    guard
      let code = pcre2_compile_8(text, text.count, options, &number, &offset, context)
    else {
      throw TokenizerError.invalidPattern(
        pattern: shown, reason: Self.message(number), offset: offset)
    }
    self.code = code
    // Without the just-in-time compiler matching is slower and otherwise the same.
    _ = pcre2_jit_compile_8(code, PCRE2_JIT_COMPLETE)
  }

  deinit { pcre2_code_free_8(code) }

  /// Whether PCRE2 accepts a regular expression in its own dialect.
  static func compiles(_ text: String) -> Bool {
    var number: Int32 = 0
    var offset = 0
    let text = Array(text.utf8)
    let options = PCRE2_UTF | PCRE2_UCP
    guard let code = pcre2_compile_8(text, text.count, options, &number, &offset, nil) else {
      return false
    }
    pcre2_code_free_8(code)
    return true
  }

  /// The version of Unicode whose properties characters have, as PCRE2 says it.
  static var unicodeVersion: String {
    var text = [UInt8](repeating: 0, count: 64)
    _ = pcre2_config_8(UInt32(PCRE2_CONFIG_UNICODE_VERSION), &text)
    return String(decoding: text.prefix { $0 != 0 }, as: UTF8.self)
  }

  private static func message(_ number: Int32) -> String {
    var buffer = [UInt8](repeating: 0, count: 256)
    let count = pcre2_get_error_message_8(number, &buffer, buffer.count)
    return count >= 0 ? String(decoding: buffer[..<Int(count)], as: UTF8.self) : "error \(number)"
  }

  /// What one thread needs for matching.
  struct Matcher: ~Copyable {
    private let pattern: Pattern
    private let data: OpaquePointer
    private let context: OpaquePointer
    private let stack: OpaquePointer?
    private let bounds: UnsafeMutablePointer<Int>

    init(_ pattern: Pattern) {
      self.pattern = pattern
      data = pcre2_match_data_create_8(1, nil)
      context = pcre2_match_context_create_8(nil)
      stack = pcre2_jit_stack_create_8(32 << 10, Pattern.stackBytes, nil)
      bounds = pcre2_get_ovector_pointer_8(data)
      pcre2_set_match_limit_8(context, Pattern.matchLimit)
      pcre2_set_heap_limit_8(context, UInt32(Pattern.stackBytes >> 10))
      if let stack { pcre2_jit_stack_assign_8(context, nil, UnsafeMutableRawPointer(stack)) }
    }

    deinit {
      pcre2_match_data_free_8(data)
      pcre2_match_context_free_8(context)
      if let stack { pcre2_jit_stack_free_8(stack) }
    }

    /// The first match in `text` (valid UTF-8) that begins at `start` (the border of a scalar) or
    /// later. Throws `TokenizerError.matchFailed` when a limit is reached.
    borrowing func match(
      in text: UnsafeBufferPointer<UInt8>, from start: Int
    ) throws(TokenizerError) -> Range<Int>? {
      let result = pcre2_match_8(
        pattern.code, text.baseAddress, text.count, start, PCRE2_NO_UTF_CHECK, data, context)
      if result == PCRE2_ERROR_NOMATCH { return nil }
      // 0: more groups than there is room for, which is fine; the match itself is always told.
      guard result >= 0 else {
        throw TokenizerError.matchFailed(reason: Pattern.message(result), offset: start)
      }
      // \K can move the beginning of a match.
      guard bounds[0] >= start, bounds[0] <= bounds[1] else {
        throw TokenizerError.matchFailed(reason: "a match lies before its start", offset: start)
      }
      return bounds[0]..<bounds[1]
    }
  }
}
