// swift-tools-version: 6.2
import PackageDescription

// An app on QuarryKit. A package of your own names Quarry's repository in place of the path.
let package = Package(
  name: "example",
  dependencies: [.package(name: "quarry", path: "../..")],
  targets: [
    .executableTarget(
      name: "example", dependencies: [.product(name: "QuarryKit", package: "quarry")])
  ]
)
