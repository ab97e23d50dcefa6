import ArgumentParser
import Foundation
import Inference
import JSON
import TensorCore
import Tokenization

struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what this machine can do and which kernels run on it.",
    discussion: """
      Measures for about two seconds: how fast memory is read and how many int8 operations there are \
      in a second, and float32 multiply-adds. Decoding is bound by the first, reading a prompt by the \
      second and, the longer it is, by the third.

      EXAMPLES
        quarry doctor
        quarry doctor --json
      """)

  @OptionGroup var runtime: RuntimeOptions
  @Flag(help: "Print JSON.")
  var json = false
}

extension Doctor {
  func run() throws {
    let chosen = try InstructionSet.selected()
    let limits = ProcessorLimits.current
    let pool = runtime.makePool()
    let forced = ProcessInfo.processInfo.environment[InstructionSet.environmentVariable] != nil
    let sets = InstructionSet.allCases.map { set in
      JSONValue.object([
        "name": .string(set.rawValue),
        "supported": .bool(set.isSupported),
      ])
    }
    let report: JSONValue = .object([
      "processor": .string(Self.processorName),
      "processors": .integer(limits.processorCount),
      "allowed_processors": .integer(limits.allowedCount),
      "physical_cores": .integer(limits.coreCount),
      "processor_limit": limits.groupLimit.map { .double($0) } ?? .null,
      "threads": .integer(pool.threadCount),
      "threads_reason": .string(runtime.threads == nil ? limits.reason : "--threads asks for it"),
      "memory_bytes": .integer(Int(clamping: ProcessInfo.processInfo.physicalMemory)),
      "available_memory_bytes": SystemMemory.availableByteCount.map { .integer($0) },
      "features": .object(
        JSONObject(ProcessorFeature.all.map { (key: $0.name, value: .bool($0.isPresent)) })),
      "kernels": .object([
        "chosen": .string(chosen.rawValue),
        "reason": .string(
          forced
            ? "\(InstructionSet.environmentVariable) asks for it"
            : "the best that this processor supports"),
        "known": .array(sets),
      ]),
      "numerics": .integer(Reference.numericsVersion),
      "unicode": .string(Tokenizer.unicodeVersion),
      "read_bandwidth_bytes_per_second": .double(
        Ceilings.readBandwidth(pool: pool, byteCount: 512 << 20)),
      "float32_operations_per_second": Ceilings.fmaRate(pool: pool).map { .double($0) } ?? .null,
      "int8_operations_per_second": Ceilings.int8Peak(pool: pool).map { .double($0) } ?? .null,
    ])
    try Console.write((json ? report.serialized(indented: true) : Self.text(report)) + "\n")
  }

  private static func text(_ report: JSONValue) -> String {
    func bytes(_ key: String) -> String { report[key]?.integer.map(Format.bytes) ?? "unknown" }
    func plain(_ key: String) -> String { report[key]?.plain ?? "" }
    let features = report["features"]?.object?.members ?? []
    let known = report["kernels"]?["known"]?.array ?? []
    let rows: [(String, String)] = [
      ("processor", report["processor"]?.string ?? ""),
      (
        "processors",
        "\(plain("processors")), \(plain("allowed_processors")) allowed, \(plain("physical_cores")) "
          + "physical cores among them"
      ),
      (
        "limit",
        report["processor_limit"]?.double.map { "\(Format.decimal($0, 2)) processors" }
          ?? "no control group limits the processors"
      ),
      ("threads", "\(plain("threads")): \(plain("threads_reason"))"),
      ("memory", "\(bytes("memory_bytes")), \(bytes("available_memory_bytes")) available"),
      (
        "features",
        features.map { "\($0.key) \($0.value == true ? "yes" : "no")" }.joined(separator: ", ")
      ),
      (
        "kernels",
        known.map { "\($0["name"]?.string ?? "") \($0["supported"] == true ? "yes" : "no")" }
          .joined(separator: ", ")
      ),
      (
        "in use",
        "\(report["kernels"]?["chosen"]?.string ?? ""): \(report["kernels"]?["reason"]?.string ?? "")"
      ),
      ("numerics", "version \(report["numerics"]?.plain ?? "")"),
      ("tokenizers", "Unicode \(report["unicode"]?.string ?? "")"),
      (
        "reading memory",
        Format.decimal((report["read_bandwidth_bytes_per_second"]?.double ?? 0) / 1e9, 1) + " GB/s"
      ),
      (
        "float32 peak",
        report["float32_operations_per_second"]?.double.map {
          Format.decimal($0 / 1e12, 2) + " Tflop/s"
        } ?? "not measured without vector kernels"
      ),
      (
        "int8 peak",
        report["int8_operations_per_second"]?.double.map {
          Format.decimal($0 / 1e12, 2) + " Top/s"
        } ?? "not measured without vector kernels"
      ),
    ]
    let width = rows.map(\.0.count).max() ?? 0
    return rows.map { name, value in
      name + String(repeating: " ", count: width - name.count) + "  " + value
    }.joined(separator: "\n")
  }

  /// As the operating system calls it.
  static var processorName: String {
    let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix("model name") }
    return line?.split(separator: ":").last?.trimmingCharacters(in: .whitespaces) ?? "unknown"
  }
}
