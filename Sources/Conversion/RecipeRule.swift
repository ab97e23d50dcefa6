public import ModelFiles
public import TensorCore

extension Recipe {
  /// Says of some tensors how they are encoded. A tensor matches when it meets every condition that is
  /// given; a rule without conditions matches all matrices.
  public struct Rule: Sendable, Hashable {
    /// Patterns of names, any of which may match; empty where names do not matter.
    public let names: [Glob]
    /// Roles, any of which may match, in the order of ``TensorRole``; empty where they do not matter.
    public let roles: [TensorRole]
    /// Nil where layers do not matter; otherwise tensors outside the layers do not match.
    public let layers: LayerSelection?
    /// What the tensors become.
    public let encoding: BlockEncoding

    public init(
      names: [Glob] = [], roles: [TensorRole] = [], layers: LayerSelection? = nil,
      encoding: BlockEncoding
    ) {
      self.names = names
      self.roles = TensorRole.allCases.filter(roles.contains)
      self.layers = layers
      self.encoding = encoding
    }

    func matches(tensor name: String, role: TensorRole, layer: Int?, layerCount: Int) -> Bool {
      if !roles.isEmpty, !roles.contains(role) { return false }
      if let layers {
        guard let layer, layers.contains(layer, of: layerCount) else { return false }
      }
      return names.isEmpty || names.contains { $0.matches(name) }
    }
  }

  /// Some of a model's decoder layers, which are counted from 0.
  public struct LayerSelection: Sendable, Hashable {
    /// Layers by number, ascending, without overlaps and neighbours.
    public let ranges: [ClosedRange<Int>]
    /// So many from the beginning, besides.
    public let first: Int
    /// So many from the end, besides.
    public let last: Int

    public init(ranges: [ClosedRange<Int>] = [], first: Int = 0, last: Int = 0) {
      self.ranges = Self.merged(ranges)
      self.first = first
      self.last = last
    }

    private static func merged(_ ranges: [ClosedRange<Int>]) -> [ClosedRange<Int>] {
      var result: [ClosedRange<Int>] = []
      for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
        if let last = result.last, range.lowerBound - 1 <= last.upperBound {
          result[result.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
        } else {
          result.append(range)
        }
      }
      return result
    }

    func contains(_ layer: Int, of layerCount: Int) -> Bool {
      layer < first || layer >= layerCount - last || ranges.contains { $0.contains(layer) }
    }
  }

  /// A pattern of names in which `*` stands for any characters, also none, and `?` for one.
  public struct Glob: Sendable, Hashable {
    public let pattern: String
    private let bytes: [UInt8]

    public init(_ pattern: String) {
      self.pattern = pattern
      bytes = Array(pattern.utf8)
    }

    /// Whether all of `name` is matched. Takes at most time in proportion to the product of lengths:
    /// what an earlier `*` stands for never needs to be reconsidered once a later one is reached.
    public func matches(_ name: String) -> Bool {
      let name = Array(name.utf8)
      var (position, place) = (0, 0)
      var retry: (position: Int, place: Int)?
      while position < name.count {
        if place < bytes.count, bytes[place] == UInt8(ascii: "*") {
          retry = (position, place + 1)
          place += 1
        } else if place < bytes.count,
          bytes[place] == name[position] || bytes[place] == UInt8(ascii: "?")
        {
          (position, place) = (position + 1, place + 1)
        } else if let start = retry {
          retry = (start.position + 1, start.place)
          (position, place) = (start.position + 1, start.place)
        } else {
          return false
        }
      }
      return bytes[place...].allSatisfy { $0 == UInt8(ascii: "*") }
    }
  }
}
