// swift-tools-version: 6.2
import PackageDescription

// One target per room, in dependency order: an arrow only ever points upwards in this file.
// CONTRIBUTING.md has the map; `tools/test` builds with the import check that enforces it.
let swift: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

let package = Package(
  name: "quarry",
  products: [
    .executable(name: "quarry", targets: ["quarry"]),
    .library(name: "QuarryKit", targets: ["QuarryKit"]),
    .library(name: "Serving", targets: ["Serving"]),
    .library(name: "Inference", targets: ["Inference"]),
    .library(name: "Conversion", targets: ["Conversion"]),
    .library(name: "ModelFiles", targets: ["ModelFiles"]),
    .library(name: "Tokenization", targets: ["Tokenization"]),
    .library(name: "TensorCore", targets: ["TensorCore"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    .package(
      url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
  ],
  targets: [
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    .systemLibrary(name: "CPCRE2", pkgConfig: "libpcre2-8", providers: [.apt(["libpcre2-dev"])]),
    .systemLibrary(
      name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
    .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    // -O3 also in debug builds, so that tests stay quick; no contraction, so that every instruction
    // set returns the same bits (formats/numerics.md).
    .target(
      name: "CKernels",
      cSettings: [.unsafeFlags(["-O3", "-ffp-contract=off", "-Wall", "-Wextra"])]),
    .target(name: "JSON", swiftSettings: swift),
    .target(name: "TensorCore", dependencies: ["CKernels"], swiftSettings: swift),
    .target(
      name: "ModelFiles", dependencies: ["TensorCore", "JSON", "CZstd", "CCrypto"],
      swiftSettings: swift),
    .target(name: "Tokenization", dependencies: ["JSON", "CPCRE2"], swiftSettings: swift),
    .target(name: "Quantization", dependencies: ["TensorCore"], swiftSettings: swift),
    .target(
      name: "Inference", dependencies: ["TensorCore", "JSON", "ModelFiles", "Tokenization"],
      swiftSettings: swift),
    .target(
      name: "Conversion",
      dependencies: [
        "TensorCore", "JSON", "ModelFiles", "Tokenization", "Quantization", "Inference",
        .product(name: "Yams", package: "Yams"),
      ],
      resources: [.embedInCode("Calibration/Text/calibration.txt")], swiftSettings: swift),
    .target(
      name: "QuarryKit",
      dependencies: ["TensorCore", "JSON", "ModelFiles", "Tokenization", "Inference"],
      swiftSettings: swift),
    .target(
      name: "Serving",
      dependencies: [
        "TensorCore", "JSON", "ModelFiles", "Tokenization", "Inference", "QuarryKit", "CCrypto",
        "CCurl",
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HummingbirdCore", package: "hummingbird"),
        .product(name: "GRDB", package: "GRDB.swift"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ],
      resources: [
        .embedInCode("Page/index.html"), .embedInCode("Page/page.css"),
        .embedInCode("Page/api.js"), .embedInCode("Page/chat.js"), .embedInCode("Page/code.js"),
        .embedInCode("Page/elements.js"), .embedInCode("Page/form.js"),
        .embedInCode("Page/main.js"), .embedInCode("Page/model.js"), .embedInCode("Page/run.js"),
      ],
      swiftSettings: swift),
    .target(name: "Pebble", resources: [.copy("Checkpoint")], swiftSettings: swift),
    .executableTarget(
      name: "quarry",
      dependencies: [
        "TensorCore", "JSON", "ModelFiles", "Tokenization", "Quantization", "Inference",
        "Conversion", "QuarryKit", "Serving", "Pebble",
        .product(name: "Logging", package: "swift-log"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      resources: [
        .embedInCode("Inspection/HTML/report.css"), .embedInCode("Inspection/HTML/report.js"),
      ],
      swiftSettings: swift),

    .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: swift),
    .testTarget(name: "JSONTests", dependencies: ["JSON", "TestSupport"], swiftSettings: swift),
    .testTarget(
      name: "TensorCoreTests", dependencies: ["TensorCore", "CKernels", "TestSupport"],
      swiftSettings: swift),
    .testTarget(
      name: "ModelFilesTests", dependencies: ["ModelFiles", "TensorCore", "JSON", "TestSupport"],
      swiftSettings: swift),
    .testTarget(
      name: "TokenizationTests", dependencies: ["Tokenization", "JSON", "CPCRE2", "TestSupport"],
      swiftSettings: swift),
    .testTarget(
      name: "QuantizationTests", dependencies: ["Quantization", "TensorCore", "TestSupport"],
      swiftSettings: swift),
    .testTarget(
      name: "InferenceTests",
      dependencies: [
        "Inference", "Conversion", "Pebble", "ModelFiles", "Quantization", "TensorCore",
        "Tokenization", "JSON", "TestSupport",
      ],
      swiftSettings: swift),
    .testTarget(
      name: "ConversionTests",
      dependencies: [
        "Conversion", "Inference", "ModelFiles", "Pebble", "Quantization", "TensorCore", "JSON",
        "TestSupport",
      ],
      swiftSettings: swift),
    .target(
      name: "TestModels",
      dependencies: [
        "Conversion", "Inference", "ModelFiles", "Pebble", "TensorCore", "TestSupport",
        "Tokenization",
      ],
      path: "Tests/TestModels", swiftSettings: swift),
    .testTarget(
      name: "QuarryKitTests",
      dependencies: [
        "QuarryKit", "Conversion", "Inference", "ModelFiles", "Tokenization", "TensorCore",
        "TestModels", "TestSupport",
      ],
      swiftSettings: swift),
    .testTarget(
      name: "ServingTests",
      dependencies: [
        "Serving", "QuarryKit", "Inference", "ModelFiles", "Tokenization", "TensorCore", "JSON",
        "TestModels", "TestSupport", .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: swift),
    .testTarget(
      name: "quarryTests",
      dependencies: ["quarry", "Pebble", "ModelFiles", "TensorCore", "JSON", "TestSupport"],
      swiftSettings: swift),
  ]
)
