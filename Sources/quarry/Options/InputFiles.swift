import ArgumentParser
import Foundation
import JSON
import ModelFiles

/// Reading what the command line names.
enum InputFiles {
  /// Bytes that are read of one input; whatever a prompt is, it is shorter.
  private static let largestByteCount = 1 << 30

  /// The bytes of a file or pipe, or of standard input for `-`.
  ///
  /// - Parameter limit: bytes after which reading stops, for a reader who refuses so many.
  static func read(_ path: String, atMost limit: Int = .max) throws -> [UInt8] {
    var bytes: [UInt8] = []
    do {
      let file =
        path == "-" ? .standardInput : try FileHandle(forReadingFrom: URL(filePath: path))
      while bytes.count < limit,
        let chunk = try file.read(upToCount: min(1 << 20, limit - bytes.count)), !chunk.isEmpty
      {
        bytes += chunk
        guard bytes.count <= largestByteCount else {
          throw InputError("\(name(path)) is longer than \(Format.bytes(largestByteCount))")
        }
      }
    } catch let error as InputError {
      throw error
    } catch {
      throw InputError("cannot read \(name(path)): \(reason(error))")
    }
    return bytes
  }

  static func readText(_ path: String) throws -> String {
    guard let text = String(validating: try read(path), as: UTF8.self) else {
      throw InputError("\(name(path)) is not UTF-8 text")
    }
    return text
  }

  static func readJSON(_ path: String) throws -> JSONValue {
    do {
      return try JSONValue(parsing: try read(path))
    } catch let error as JSONError {
      throw InputError("\(name(path)) is not valid JSON: \(error)")
    }
  }

  /// Names the file in errors of what reads its configuration.
  static func naming<Model>(_ path: String, _ read: ([UInt8]) throws -> Model) throws -> Model {
    let bytes = try self.read(path)
    do {
      return try read(bytes)
    } catch let error as ConfigurationError {
      throw InputError("\(name(path)): \(error)")
    }
  }

  static func isDirectory(_ path: String) -> Bool {
    var isDirectory: ObjCBool = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory)
      && isDirectory.boolValue
  }

  private static func name(_ path: String) -> String { path == "-" ? "standard input" : path }

  /// The system's words for an error of Foundation's.
  static func reason(_ error: any Error) -> String {
    systemCode(error).map { String(cString: strerror($0)) } ?? "\(error)"
  }

  /// The system's error number behind an error of Foundation's.
  static func systemCode(_ error: any Error) -> Int32? {
    let underlying = (error as NSError).userInfo[NSUnderlyingErrorKey] as? any Error
    return underlying.map { Int32(($0 as NSError).code) }
  }
}

/// The command line names something that cannot be used.
struct InputError: Error, CustomStringConvertible {
  let description: String

  static let noChatTemplate = InputError(
    "the model has no chat template; give one with --chat-template")

  init(_ description: String) { self.description = description }
}
