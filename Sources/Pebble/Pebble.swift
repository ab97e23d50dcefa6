public import Foundation

/// The bundled demonstration checkpoint: a trained Granite of seven million parameters, as a
/// checkpoint directory in the published format (bf16, two shards).
public enum Pebble {
  /// The checkpoint directory: in the resource bundle that the build lays beside the binary, or where
  /// this source lies. Nothing is there if the binary has been moved away from both.
  ///
  /// `Bundle.module` would end the program in that case.
  public static var directory: URL {
    let sources = URL(filePath: #filePath).deletingLastPathComponent()
    let binary = Bundle.main.executableURL?.resolvingSymlinksInPath().deletingLastPathComponent()
    let bundles = [Bundle.main.bundleURL, binary].compactMap {
      $0?.appending(path: "quarry_Pebble.resources")
    }
    let candidates = (bundles + [sources]).map { $0.appending(path: "Checkpoint") }
    return candidates.first { FileManager.default.fileExists(atPath: $0.path) } ?? candidates[0]
  }
}
