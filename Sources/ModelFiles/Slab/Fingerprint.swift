/// Everything that decides the bytes of an output, in words that people can compare: an interrupted
/// job goes on only where all of it is as it was.
public struct Fingerprint: Sendable, Equatable {
  /// One of the things, as in ("recipe", "q4").
  public struct Component: Sendable, Equatable {
    /// What it is: 1 to 255 bytes without control characters.
    public let name: String
    /// Its state, exactly; a digest where it is long. At most 65,535 bytes.
    public let value: String

    public init(_ name: String, _ value: String) {
      self.name = name
      self.value = value
    }
  }

  /// In an order of the caller's.
  public let components: [Component]

  /// - Precondition: names and values keep to their limits.
  public init(_ components: [Component]) {
    precondition(components.count <= SlabFormat.maximumMetadataCount)
    for component in components {
      precondition(
        SlabFormat.isName(component.name)
          && component.value.utf8.count <= SlabFormat.maximumValueByteCount)
    }
    self.components = components
  }

  /// The first component in which `earlier` differs, as a clause; nil where nothing does.
  func difference(from earlier: Fingerprint) -> String? {
    for component in components {
      guard let old = earlier.components.first(where: { $0.isNamed(component.name) }) else {
        return "\(component.name) is new (\(component.value))"
      }
      if !old.value.utf8.elementsEqual(component.value.utf8) {
        return "\(component.name) was \(old.value) and is \(component.value)"
      }
    }
    for old in earlier.components where !components.contains(where: { $0.isNamed(old.name) }) {
      return "\(old.name) (\(old.value)) is gone"
    }
    return nil
  }
}

extension Fingerprint.Component {
  /// Compares bytes: Swift's `==` ignores differences of Unicode normalization.
  fileprivate func isNamed(_ other: String) -> Bool { name.utf8.elementsEqual(other.utf8) }
}
