import Foundation
import JSON
import TestSupport
import Testing

@testable import Serving

/// What is kept of predictions, and how long.
@Suite struct PredictionStoreTests {
  private func record(
    _ id: String, at time: Double = 0, _ status: PredictionRecord.Status = .succeeded
  ) -> PredictionRecord {
    var record = PredictionRecord(
      id: id, model: "a/b", version: "0", input: ["prompt": "secret words"],
      created: Date(timeIntervalSince1970: time), deadline: nil)
    record.status = status
    record.output = ["x", "\u{e4}"]
    record.logs = "secret logs"
    record.completed = status.isFinal ? Date(timeIntervalSince1970: time + 1) : nil
    return record
  }

  @Test func whatRanWhenTheServerEndedHasFailed() async throws {
    try await Place.withTemporaryDirectory { folder in
      let path = folder.appending(path: "deep/state").path
      do {
        let store = try PredictionStore(directory: path)
        for status in ["starting", "processing", "succeeded", "canceled"] {
          try await store.insert(record(status, .init(rawValue: status)!))
        }
        #expect(throws: PredictionStoreError.self) { _ = try PredictionStore(directory: path) }
        do {
          _ = try PredictionStore(directory: path)
        } catch {
          #expect("\(error)".contains("a server that runs") && "\(error)".contains("--data"))
        }
      }
      let store = try PredictionStore(directory: path)
      for id in ["starting", "processing"] {
        let record = try #require(try await store.find(id))
        #expect(record.status == .failed)
        #expect(record.error == "the server ended while the prediction ran")
        #expect(record.completed != nil)
      }
      let kept = try #require(try await store.find("succeeded"))
      #expect(kept.output == ["x", "\u{e4}"] && kept.input["prompt"] == "secret words")
      #expect(try await store.find("canceled")?.status == .canceled)
      #expect(try await store.count(version: kept.version) == 4)
      let mode = try FileManager.default.attributesOfItem(atPath: path + "/predictions.sqlite")
      #expect(mode[.posixPermissions] as? Int == 0o600)
    }
  }

  @Test func whatCannotBeKeptIsSaid() throws {
    try Place.withTemporaryDirectory { folder in
      let file = folder.appending(path: "file")
      try Data("x".utf8).write(to: file)
      let damaged = folder.appending(path: "damaged")
      try FileManager.default.createDirectory(at: damaged, withIntermediateDirectories: true)
      try Data(repeating: 0x41, count: 8192).write(
        to: damaged.appending(path: "predictions.sqlite"))
      for path in [file.path, damaged.path] {
        do {
          _ = try PredictionStore(directory: path)
          Issue.record("\(path) was taken")
        } catch {
          #expect("\(error)".contains(path) && "\(error)".contains("--data"), "\(error)")
        }
      }
    }
  }

  @Test func dataIsRemovedFromTheFileToo() async throws {
    try await Place.withTemporaryDirectory { folder in
      func mentions(_ text: String) throws -> Bool {
        try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
          .contains {
            String(decoding: try Data(contentsOf: $0), as: UTF8.self).contains(text)
          }
      }
      let store = try PredictionStore(directory: folder.path)
      for index in 0..<50 { try await store.insert(record("\(index)", at: Double(index))) }
      #expect(try mentions("secret"))
      try await store.removeData(endedBefore: Date(timeIntervalSince1970: 40.5))
      let removed = try #require(try await store.find("39"))
      #expect(removed.dataRemoved && removed.output == nil && removed.logs == "")
      #expect(removed.input.count == 0 && removed.status == .succeeded)
      #expect(try await store.find("40")?.dataRemoved == false)
      try await store.removeData(endedBefore: Date())
      #expect(try !mentions("secret"))
    }
  }

  @Test func dataGoAfterTheirTime() async throws {
    try await TestServer.with {
      $0.retention = 1
    } _: { server in
      let answer = try await server.prediction(["prompt": "secret words", "max_tokens": 2])
      #expect(answer["output"] != .null)
      let id = try #require(answer["id"]?.string)
      try await Task.sleep(for: .seconds(1.2))
      let later = try await server.current(id)
      #expect(later["data_removed"] == true)
      #expect(later["output"] == .null && later["logs"] == "" && later["input"] == .object([:]))
      #expect(later["status"]?.string == "succeeded" && later["metrics"] == answer["metrics"])
      #expect(later["completed_at"] == answer["completed_at"])
    }
  }

  @Test func pagesAreOfAHundred() async throws {
    try await Place.withTemporaryDirectory { folder in
      do {
        let store = try PredictionStore(directory: folder.path)
        for index in 0..<250 { try await store.insert(record("\(index)", at: Double(index) * 60)) }
      }
      try await TestServer.with(directory: folder.path) {
        $0.retention = 1 << 40
      } _: { server in
        func page(_ url: String) async throws -> (ids: [Int], json: JSONValue) {
          let path = url.replacing("http://localhost:\(server.port)", with: "")
          let json = try JSONValue(parsing: try await server.get(path).body)
          return ((json["results"]?.array ?? []).map { Int($0["id"]!.string!)! }, json)
        }
        let first = try await page("/v1/predictions")
        #expect(first.ids == Array((150..<250).reversed()))
        #expect(first.json["previous"] == .null)
        let second = try await page(first.json["next"]?.string ?? "")
        #expect(second.ids == Array((50..<150).reversed()))
        let third = try await page(second.json["next"]?.string ?? "")
        #expect(third.ids == Array((0..<50).reversed()))
        #expect(third.json["next"] == .null)
        let back = try await page(third.json["previous"]?.string ?? "")
        #expect(back.ids == second.ids)
        #expect(try await page(back.json["previous"]?.string ?? "").ids == first.ids)
        #expect(try await page(back.json["next"]?.string ?? "").ids == third.ids)

        let some = try await page(
          "/v1/predictions?created_after=1970-01-01T01:00:00Z"
            + "&created_before=1970-01-01T03:00:00.000Z")
        #expect(some.ids == Array((80..<180).reversed()))
        let rest = try await page(some.json["next"]?.string ?? "")
        #expect(rest.ids == Array((60..<80).reversed()))
        for query in ["cursor=x", "cursor=o", "created_after=yesterday"] {
          _ = try await server.problem(422, "GET", "/v1/predictions?\(query)")
        }
        // One that is new comes first.
        let answer = try await server.prediction(["prompt": "x", "max_tokens": 1])
        let list = try JSONValue(parsing: try await server.get("/v1/predictions").body)
        #expect(list["results"]?.array?.first == answer)
      }
    }
  }

  @Test func theEndWaitsForPredictionsAndThenSaysWhy() async throws {
    try await Place.withTemporaryDirectory { folder in
      var ids: [String] = []
      try await TestServer.with(context: 8192, directory: folder.path) {
        $0.grace = 2
      } _: { server in
        ids.append(try await server.startEndless())
        let short = try await server.predict([
          "prompt": "x", "min_tokens": 20, "max_tokens": 20,
        ])
        ids.append(try #require(try JSONValue(parsing: short.body)["id"]?.string))
      }
      let store = try PredictionStore(directory: folder.path)
      let endless = try #require(try await store.find(ids[0]))
      #expect(endless.status == .failed && endless.error == "the server is shutting down")
      #expect(endless.output?.isEmpty == false)
      #expect(try await store.find(ids[1])?.status == .succeeded)
    }
  }

  @Test(
    arguments: [
      ("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("1h30m5s", 5405), ("7d", 604_800),
      ("0", 0), ("", nil), ("h", nil), ("1.5h", nil), ("5m1h", nil), ("1w", nil), (" 1", nil),
      ("99999999999", nil), ("999999999d", nil),
    ] as [(String, Int?)])
  func times(text: String, seconds: Int?) { #expect(TimeSpan(text)?.seconds == seconds) }
}
