import ArgumentParser
import TensorCore

/// How keys and values of the context are kept.
struct CacheOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "KV cache: f16; f32, twice as large, for agreement with the reference; q8, half as large.",
      valueName: "type"))
  var kv = CacheType.f16
}
