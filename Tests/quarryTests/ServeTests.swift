import Foundation
import JSON
import TestSupport
import Testing

/// The server as a real process. What it answers is tested in the room Serving.
@Suite struct ServeTests {
  /// The address that the process writes, once it listens.
  private func address(_ process: Process, _ output: URL) throws -> URL {
    while process.isRunning {
      let text = String(decoding: try Data(contentsOf: output), as: UTF8.self)
      if text.hasSuffix("\n") { return URL(string: text.trimmingCharacters(in: .newlines))! }
      usleep(1000)
    }
    throw CocoaError(.fileReadUnknown)
  }

  private func get(_ port: Int, _ path: String, key: String = "") throws -> HTTPClient.Response {
    let client = try HTTPClient(port: port)
    client.send(
      "GET \(path) HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \(key)\r\n\r\n")
    return try client.response()
  }

  private func awaitModel(_ port: Int) throws {
    while try get(port, "/health").status == 503 { usleep(20_000) }
  }

  @Test(arguments: [SIGTERM, SIGINT])
  func servesTheBundledModelUntilItIsTold(number: Int32) throws {
    let outcome = try quarry.run([
      "serve", "--port", "0", "--slots", "2", "--context", "512", "--alias", "a/b",
    ]) { process, output in
      let url = try address(process, output)
      #expect(url.host() == "127.0.0.1")
      let port = url.port!
      try awaitModel(port)
      let list = try JSONValue(parsing: try get(port, "/v1/models").body)
      let model = list["data"]?.array?.first
      #expect(model?["id"]?.string == "local/pebble")
      #expect(model?["max_model_len"]?.integer == 512)
      #expect(try get(port, "/v1/models/a/b").body.contains("local/pebble"))
      kill(process.processIdentifier, number)
    }
    #expect(outcome.status == 0, "\(outcome.errors)")
    #expect(outcome.errors.contains("local/pebble is ready: 2 slots of 512 tokens"))
    #expect(outcome.errors.contains("GET /v1/models"))
  }

  @Test func theLogForProgramsIsJSONLineByLine() throws {
    let outcome = try quarry.run(["serve", "--port", "0", "--log", "json", "--verbose"]) {
      process, output in
      let port = try address(process, output).port!
      try awaitModel(port)
      _ = try get(port, "/v1/models")
      kill(process.processIdentifier, SIGTERM)
    }
    #expect(outcome.status == 0)
    let lines = try outcome.errors.split(separator: "\n").map { try JSONValue(parsing: String($0)) }
    let request = lines.first { $0["message"]?.string == "GET /v1/models" }
    #expect(request?["status"]?.integer == 200 && request?["level"]?.string == "info")
    #expect(lines.contains { $0["message"]?.string?.hasPrefix("local/pebble is ready") == true })
  }

  @Test func whatCannotBeServedEndsWithASentence() throws {
    let missing = try quarry.run(["serve", "/nowhere.slab", "--port", "0"])
    #expect(missing.status == 1)
    #expect(missing.errors.contains("/nowhere.slab"), "\(missing.errors)")
    let context = try quarry.run(["serve", "--port", "0", "--context", "100000"])
    #expect(context.status == 1)
    #expect(context.errors.contains("the model takes 1 to 8192"), "\(context.errors)")
    let memory = try quarry.run(["serve", "--port", "0", "--kv-memory", "1MB"])
    #expect(memory.status == 1)
    #expect(memory.errors.contains("give a smaller --context"), "\(memory.errors)")
    let busy = try quarry.run(["serve", "--port", "0"]) { process, output in
      let port = try address(process, output).port!
      try Place.withTemporaryDirectory { folder in
        let other = try quarry.run(["serve", "--port", "\(port)", "--data", folder.path])
        #expect(other.status == 1)
        #expect(other.errors.contains("Address already in use"), "\(other.errors)")
      }
      kill(process.processIdentifier, SIGTERM)
    }
    #expect(busy.status == 0)
  }

  @Test(arguments: [
    (["--host", "0.0.0.0"], "--api-key-file"), (["--host", "::"], "--insecure"),
    (["--model", "a=x", "--model", "local/a=y"], "local/a"), (["--model", "x"], "--model"),
    (["--log", "xml"], "--log"), (["--port", "65536"], "--port"), (["--slots", "0"], "--slots"),
    (["--max-queue", "-1"], "--max-queue"), (["--context", "0"], "--context"),
    (["--grace", "-1"], "--grace"), (["--retention", "soon"], "--retention"),
  ])
  func optionsAreChecked(options: [String], name: String) throws {
    let outcome = try quarry.run(["serve"] + options)
    #expect(outcome.status == 64)
    #expect(outcome.errors.contains(name), "\(outcome.errors)")
  }

  @Test func keysComeFromAFile() throws {
    try Place.withTemporaryDirectory { directory in
      let keys = directory.appending(path: "keys.txt")
      try Data("\n  \n".utf8).write(to: keys)
      let empty = try quarry.run(["serve", "--port", "0", "--api-key-file", keys.path])
      #expect(empty.status == 1)
      #expect(empty.errors.contains("holds no key"))
      try Data(" one \ntwo\n".utf8).write(to: keys)
      let outcome = try quarry.run([
        "serve", "--host", "0.0.0.0", "--port", "0", "--api-key-file", keys.path,
      ]) { process, output in
        let port = try address(process, output).port!
        try awaitModel(port)
        for (key, status) in [("one", 200), ("two", 200), ("three", 401)] {
          #expect(try get(port, "/v1/models", key: key).status == status)
        }
        kill(process.processIdentifier, SIGTERM)
      }
      #expect(outcome.status == 0, "\(outcome.errors)")
    }
  }
}
