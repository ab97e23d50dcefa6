public import Foundation

/// The bundled demonstration checkpoint: a trained Granite of seven million parameters, as a
/// checkpoint directory in the published format (bf16, two shards).
public enum Pebble {
  /// The checkpoint directory, inside the resource bundle that the build lays beside the binary.
  public static var directory: URL {
    Bundle.module.url(forResource: "Checkpoint", withExtension: nil)!
  }
}
