import ModelFiles

/// What a byte is for, as one letter.
enum ByteMark: String, CaseIterable {
  case superblock, header
  case embedding, positions, query, key, value
  case queryKeyValue = "query, key and value"
  case attentionOutput = "attention output"
  case gate, up
  case gateUp = "gate and up"
  case down
  case mambaInput = "Mamba input"
  case mambaOutput = "Mamba output"
  case output, norm, bias, convolution
  case stateSpace = "state space"
  case columnScales = "column scales"
  case other, assets, index, padding, unused

  init(_ region: FileRegion) {
    switch region.kind {
    case .superblock: self = .superblock
    case .header: self = .header
    case .asset: self = .assets
    case .index: self = .index
    case .padding: self = .padding
    case .unused: self = .unused
    case .tensor:
      self.init(role: region.role ?? "")
    }
  }

  /// Of a tensor of a listing.
  init(role: String) {
    switch role {
    case "attention-output": self = .attentionOutput
    case "query-key-value": self = .queryKeyValue
    case "gate-up": self = .gateUp
    case "mamba-in": self = .mambaInput
    case "mamba-out": self = .mambaOutput
    case "state-space": self = .stateSpace
    case ListedTensor.columnScalesRole: self = .columnScales
    default: self = ByteMark(rawValue: role) ?? .other
    }
  }

  var letter: Character {
    switch self {
    case .superblock: "S"
    case .header: "h"
    case .embedding: "E"
    case .positions: "P"
    case .query: "Q"
    case .queryKeyValue: "Z"
    case .key: "K"
    case .value: "V"
    case .attentionOutput: "O"
    case .gate: "G"
    case .up: "U"
    case .gateUp: "M"
    case .down: "D"
    case .mambaInput: "X"
    case .mambaOutput: "Y"
    case .output: "H"
    case .norm: "n"
    case .bias: "b"
    case .convolution: "v"
    case .stateSpace: "s"
    case .columnScales: "c"
    case .other: "?"
    case .assets: "A"
    case .index: "I"
    case .padding: "·"
    case .unused: "!"
    }
  }

  var style: Screen.Style {
    switch self {
    case .query, .key, .value, .queryKeyValue, .attentionOutput: .cyan
    case .gate, .up, .gateUp, .down: .green
    case .mambaInput, .mambaOutput: .cyan
    case .embedding, .positions, .output: .magenta
    case .norm, .bias, .convolution, .stateSpace, .columnScales, .other: .yellow
    case .superblock, .header, .assets, .index: .blue
    case .padding: .dim
    case .unused: .red
    }
  }
}
