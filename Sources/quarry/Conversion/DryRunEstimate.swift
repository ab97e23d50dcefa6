import Conversion
import ModelFiles
import TensorCore

/// About how long a conversion takes: what its parts cost on random weights, times how much of each the
/// checkpoint asks for. All in seconds; nil where it could not be measured.
struct ConversionEstimate {
  /// Encoding matrices, the search for codebooks included.
  let quantizing: Double?
  /// Finding column scales.
  let scaling: Double?
  /// Running the calibration text.
  let calibrating: Double?
  /// Digests of source and slab.
  let hashing: Double
  /// Reading the checkpoint from where its pages are now, beside the rest.
  let reading: Double?

  /// - Parameter slabByteCount: about.
  init(
    _ plan: ConversionPlan, of checkpoint: Checkpoint, calibration: Calibration,
    slabByteCount: Int, probe: SpeedProbe
  ) {
    let tied = checkpoint.configuration.tiedEmbeddings
    let isCalibrated = calibration.isWanted && plan.isQuantized
    let calibrated = isCalibrated ? plan.calibratedEntries(tiedEmbeddings: tied) : []
    let matrices = plan.entries.filter { $0.encoding != nil }
    var costs: [BlockEncoding: SpeedProbe.EncodingCost] = [:]
    for encoding in Set(matrices.compactMap(\.encoding)) {
      costs[encoding] = probe.encoding(encoding)
    }
    quantizing = Self.sum(matrices) { entry in
      costs[entry.encoding!]?.seconds(entry.tensor.elementCount)
    }
    var scalings: [BlockEncoding: Double] = [:]
    for encoding in Set(calibrated.compactMap(\.encoding)) {
      scalings[encoding] = probe.scaling(encoding)
    }
    scaling = Self.sum(calibrated) { entry in
      let columns = entry.tensor.shape.last!
      let rows = min(entry.tensor.elementCount / columns, SpeedProbe.scalingRows)
      return scalings[entry.encoding!].map { $0 * Double(rows * columns) }
    }
    let weights = plan.layerEntries.reduce(0) { $0 + $1.tensor.elementCount }
    let products = plan.layerEntries.reduce(0) {
      $0 + Double($1.tensor.elementCount) * $1.usedShare
    }
    if calibration.tokenLimit == 0 || !plan.isQuantized {
      calibrating = 0
    } else if let rate = probe.calibrating(), let cost = probe.encoding(.q8b16) {
      // The layers are put into 8 bits first. What is no product is about as much as a quarter of it.
      calibrating =
        cost.seconds(weights) + 1.25 * products * Double(calibration.tokenLimit) / rate
    } else {
      calibrating = nil
    }
    // The source twice: its tensors, and its files.
    hashing = Double(2 * plan.sourceByteCount + slabByteCount) / probe.hashing()
    reading = checkpoint.weightFiles.first.flatMap { SpeedProbe.reading($0.path) }
      .map { Double(plan.sourceByteCount) / $0 }
  }

  /// Reading goes on beside the rest.
  var seconds: Double? {
    guard let quantizing, let scaling, let calibrating else { return nil }
    return max(quantizing + scaling + calibrating + hashing, reading ?? 0)
  }

  private static func sum(
    _ entries: [ConversionPlan.Entry], _ seconds: (ConversionPlan.Entry) -> Double?
  ) -> Double? {
    var sum = 0.0
    for entry in entries {
      guard let seconds = seconds(entry) else { return nil }
      sum += seconds
    }
    return sum
  }
}
