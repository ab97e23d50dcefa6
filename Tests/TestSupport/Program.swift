public import Foundation

/// The command-line program as a real process.
public struct Program: Sendable {
  public let executable: URL

  /// A product that the build laid beside the running tests.
  public init(product name: String) {
    executable = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
      .appending(path: name)
  }

  public struct Outcome: Sendable {
    public let status: Int32
    public let output: String
    public let errors: String
  }

  public init(executable: URL) { self.executable = executable }

  /// Runs to the end.
  ///
  /// - Parameters:
  ///   - input: what standard input holds.
  ///   - output: where standard output goes; without it, into the outcome.
  ///   - whileRunning: called once the process runs, with it and the file that receives its output.
  public func run(
    _ arguments: [String], input: String = "", environment: [String: String] = [:],
    output: URL? = nil,
    whileRunning: (_ process: Process, _ output: URL) throws -> Void = { _, _ in }
  ) throws -> Outcome {
    let process = Process()
    process.executableURL = executable
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    // Files and not pipes: a full pipe would stop a process whose output nobody reads yet.
    return try Place.withTemporaryDirectory { directory in
      let files = ["input", "output", "errors"].map { directory.appending(path: $0) }
      try Data(input.utf8).write(to: files[0])
      for file in files[1...] { try Data().write(to: file) }
      process.standardInput = try FileHandle(forReadingFrom: files[0])
      process.standardOutput = try FileHandle(forWritingTo: output ?? files[1])
      process.standardError = try FileHandle(forWritingTo: files[2])
      try process.run()
      try whileRunning(process, files[1])
      process.waitUntilExit()
      return Outcome(
        status: process.terminationStatus,
        output: String(decoding: try Data(contentsOf: files[1]), as: UTF8.self),
        errors: String(decoding: try Data(contentsOf: files[2]), as: UTF8.self))
    }
  }
}
