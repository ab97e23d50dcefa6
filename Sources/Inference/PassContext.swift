import TensorCore

/// The sequences of a pass, as the steps of its layers see them when they are computed. Passes of one form
/// take the same steps, which are made once.
final class PassContext {
  /// What steps depend on.
  struct Form: Equatable {
    fileprivate let tokenCounts: [Int]
    fileprivate let pieceCount: Int
    fileprivate let joinCount: Int
  }

  /// A segment; valid during the pass.
  struct Part {
    let rows: Range<Int>
    /// Of the first token in its sequence.
    let position: Int
    let cache: KVCache.Layout
    let state: RecurrentState.Layout?
  }

  let form: Form
  /// Consecutive from row 0.
  let parts: SharedList<Part>
  let pieces: SharedList<AttentionPlan.Piece>
  let joins: SharedList<AttentionPlan.Piece>
  let slots = AttentionSlots()

  init(_ segments: [Segment], plan: AttentionPlan) {
    form = Form(segments, plan)
    (parts, pieces, joins) = (SharedList(), SharedList(), SharedList())
    update(segments, plan: plan)
  }

  /// Goes on to the segments of another pass of the same form.
  func update(_ segments: [Segment], plan: AttentionPlan) {
    parts.replace(
      with: segments.map {
        Part(
          rows: $0.rows, position: $0.position, cache: $0.cache.layout, state: $0.state?.layout)
      })
    pieces.replace(with: plan.pieces)
    joins.replace(with: plan.joins)
    slots.reserve(plan.slotCount, headSize: plan.paddedHeadSize)
  }
}

extension PassContext.Form {
  init(_ segments: [Segment], _ plan: AttentionPlan) {
    tokenCounts = segments.map(\.tokens.count)
    (pieceCount, joinCount) = (plan.pieces.count, plan.joins.count)
  }
}

/// Plain data that threads read without counting references, for which they would wait for each other.
final class SharedList<Element> {
  private var elements = UnsafeMutableBufferPointer<Element>(start: nil, count: 0)
  private(set) var count = 0

  deinit { elements.deallocate() }

  /// - Precondition: nobody reads it meanwhile; elements have no references.
  func replace(with values: [Element]) {
    precondition(_isPOD(Element.self))
    if values.count > elements.count {
      elements.deallocate()
      elements = .allocate(capacity: 2 * values.count)
    }
    _ = elements.initialize(from: values)
    count = values.count
  }

  subscript(index: Int) -> Element {
    precondition(index < count)
    return elements[index]
  }
}
