/// The pieces of a tokenizer: spellings, the bytes they stand for, and the way from one to the id.
///
/// Ids are dense, 0 to count − 1: a hole would leave an embedding row that no text can reach, and is
/// refused.
struct Vocabulary: Sendable {
  /// Spelling of every id, as tokenizer.json writes it.
  let spellings: Arena
  /// What every id stands for in a text.
  let contents: Arena
  private let table: SpellingTable

  var count: Int { spellings.count }

  /// `entries` in any order; `ids` holds the id of each. Throws `TokenizerError.invalid` unless
  /// ids are 0 to count − 1, each once, and spellings are different and not empty.
  init(entries: Arena, ids: [Int]) throws {
    var entryOf = [Int](repeating: -1, count: ids.count)
    for (entry, id) in ids.enumerated() {
      func refuse(_ reason: String) -> TokenizerError {
        let piece = String(decoding: entries[entry], as: UTF8.self)
        return .invalid(component: "the vocabulary", reason: "\"\(piece)\" has id \(id), \(reason)")
      }
      guard id >= 0 else { throw refuse("which is negative") }
      guard id < ids.count else {
        throw refuse("but \(ids.count) pieces need ids from 0 to \(ids.count - 1) without a hole")
      }
      guard entryOf[id] < 0 else { throw refuse("which another piece has too") }
      guard !entries[entry].isEmpty else { throw refuse("and is empty") }
      entryOf[id] = entry
    }
    var spellings = Arena()
    var contents = Arena()
    var table = SpellingTable(capacity: ids.count)
    var content: [UInt8] = []
    for (id, entry) in entryOf.enumerated() {
      spellings.append(entries[entry])
      guard table.insert(id, of: spellings) else {
        let piece = String(decoding: entries[entry], as: UTF8.self)
        throw TokenizerError.invalid(
          component: "the vocabulary", reason: "\"\(piece)\" occurs more than once")
      }
      content.removeAll(keepingCapacity: true)
      ByteAlphabet.appendBytes(spelledBy: entries[entry], to: &content)
      contents.append(content)
    }
    self.spellings = spellings
    self.contents = contents
    self.table = table
  }

  func contains(_ id: TokenID) -> Bool { id >= 0 && id < count }

  func id(of spelling: UnsafeRawBufferPointer) -> TokenID? { table.find(spelling, in: spellings) }

  func id(of spelling: String) -> TokenID? {
    var spelling = spelling
    return spelling.withUTF8 { id(of: UnsafeRawBufferPointer($0)) }
  }
}
