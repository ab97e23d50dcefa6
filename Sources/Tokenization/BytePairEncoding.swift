/// Byte pair encoding (Sennrich, Haddow and Birch, 2016): the pieces of a word are its bytes at
/// first, then the pair of neighbours with the lowest rank is merged, the leftmost first among
/// equals, until no pair of neighbours has a rank.
struct BytePairEncoding: Sendable {
  /// Id of the piece of every single byte; -1 where the vocabulary has none. Such bytes are left
  /// out, as Hugging Face's tokenizers leaves out what has no piece when `unk_token` is null.
  /// (Granite 3.x lacks 0xF1, with which only unassigned characters begin, and the bytes that
  /// UTF-8 does not use.)
  let byteIDs: [TokenID]
  let merges: PairTable

  /// Longest word that is merged by looking at all pairs after every merge; longer ones use a heap.
  private static let shortWord = 48

  /// Working memory, kept from word to word.
  struct Scratch {
    fileprivate var ids = [TokenID](repeating: 0, count: shortWord)
    fileprivate var pairs = [PairTable.Value](
      repeating: PairTable.Value(rank: PairTable.noRank, id: -1), count: shortWord)
  }

  /// Appends the ids of `word`, at most `Int32.max` bytes long.
  func encode(
    _ word: UnsafeBufferPointer<UInt8>, scratch: inout Scratch, to result: inout [TokenID]
  ) {
    if word.count <= Self.shortWord {
      encodeShort(word, &scratch, &result)
    } else {
      encodeLong(word, &result)
    }
  }

  private func encodeShort(
    _ word: UnsafeBufferPointer<UInt8>, _ scratch: inout Scratch, _ result: inout [TokenID]
  ) {
    var count = 0
    for byte in word where byteIDs[Int(byte)] >= 0 {
      scratch.ids[count] = byteIDs[Int(byte)]
      count += 1
    }
    // pairs[i] describes the neighbours i and i + 1.
    for at in 1..<max(count, 1) {
      scratch.pairs[at - 1] = merges.find(scratch.ids[at - 1], scratch.ids[at])
    }
    while count > 1 {
      var best = 0
      for at in 1..<count - 1 where scratch.pairs[at].rank < scratch.pairs[best].rank { best = at }
      guard scratch.pairs[best].rank != PairTable.noRank else { break }
      scratch.ids[best] = scratch.pairs[best].id
      count -= 1
      for at in best + 1..<max(count, best + 1) {
        scratch.ids[at] = scratch.ids[at + 1]
        scratch.pairs[at - 1] = scratch.pairs[at]
      }
      if best > 0 {
        scratch.pairs[best - 1] = merges.find(scratch.ids[best - 1], scratch.ids[best])
      }
      if best + 1 < count {
        scratch.pairs[best] = merges.find(scratch.ids[best], scratch.ids[best + 1])
      }
    }
    result.append(contentsOf: scratch.ids[..<count])
  }

  /// The same with a linked list of pieces and a heap of (rank, position): O(n log n).
  ///
  /// Entries of the heap go stale when a neighbour is merged away; an entry counts only if the pair
  /// at its position still has its rank. (A pair at the same position is the same pair whenever it
  /// has the same rank: positions only ever grow to the right.)
  private func encodeLong(
    _ word: UnsafeBufferPointer<UInt8>, _ result: inout [TokenID]
  ) {
    var ids = Array(word.lazy.map { byteIDs[Int($0)] }.filter { $0 >= 0 })
    let count = ids.count
    var next = (0..<count).map { Int32($0 + 1) }
    var previous = (0..<count).map { Int32($0 - 1) }
    var heap = MinimumHeap()
    for at in 0..<max(count - 1, 0) {
      let rank = merges.find(ids[at], ids[at + 1]).rank
      if rank != PairTable.noRank { heap.push(UInt64(rank) << 32 | UInt64(at)) }
    }
    while let entry = heap.pop() {
      let at = Int(entry & 0xFFFF_FFFF)
      let right = Int(next[at])
      guard ids[at] >= 0, right < count else { continue }
      let pair = merges.find(ids[at], ids[right])
      guard UInt64(pair.rank) == entry >> 32 else { continue }
      ids[at] = pair.id
      ids[right] = -1
      let after = Int(next[right])
      next[at] = Int32(after)
      if after < count {
        previous[after] = Int32(at)
        let rank = merges.find(ids[at], ids[after]).rank
        if rank != PairTable.noRank { heap.push(UInt64(rank) << 32 | UInt64(at)) }
      }
      let before = Int(previous[at])
      if before >= 0 {
        let rank = merges.find(ids[before], ids[at]).rank
        if rank != PairTable.noRank { heap.push(UInt64(rank) << 32 | UInt64(before)) }
      }
    }
    result.append(contentsOf: ids.lazy.filter { $0 >= 0 })
  }
}

/// A binary heap of integers, the least on top.
struct MinimumHeap {
  private var elements: [UInt64] = []

  mutating func push(_ element: UInt64) {
    elements.append(element)
    var at = elements.count - 1
    while at > 0 {
      let parent = (at - 1) / 2
      guard elements[parent] > element else { break }
      elements[at] = elements[parent]
      at = parent
    }
    elements[at] = element
  }

  mutating func pop() -> UInt64? {
    guard let top = elements.first else { return nil }
    let last = elements.removeLast()
    let count = elements.count
    guard count > 0 else { return top }
    var at = 0
    while true {
      var child = 2 * at + 1
      guard child < count else { break }
      if child + 1 < count, elements[child + 1] < elements[child] { child += 1 }
      guard elements[child] < last else { break }
      elements[at] = elements[child]
      at = child
    }
    elements[at] = last
    return top
  }
}
