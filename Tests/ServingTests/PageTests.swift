import Foundation
import JSON
import ModelFiles
import TestModels
import TestSupport
import Testing

@testable import Serving

/// The page's files as a browser gets them; tools/check-page uses them in one.
@Suite struct PageTests {
  @Test func filesNameOnlyEachOther() async throws {
    try await TestServer.with {
      $0.keys = ["secret"]
    } _: { server in
      let document = try await server.get("/", headers: ["Accept": "text/html,*/*"])
      #expect(document.status == 200)
      #expect(document.headers["content-type"] == "text/html; charset=utf-8")
      let policy = try #require(document.headers["content-security-policy"])
      #expect(policy.contains("default-src 'none'; script-src 'self'; style-src 'self'"))
      #expect(!policy.contains("unsafe") && !policy.contains("http"))
      // What a policy like this forbids.
      #expect(!document.body.contains("style=") && !document.body.contains("<style"))
      #expect(
        !document.body.contains(/<script(?![^>]*src=)/) && !document.body.contains(/\son\w+=/))

      var names = Set(document.body.matches(of: /"\/page\/([a-z.]+)"/).map { String($0.1) })
      #expect(names == ["main.js", "page.css"])
      var seen: Set<String> = []
      while let name = names.subtracting(seen).first {
        seen.insert(name)
        let file = try await server.get("/page/\(name)")
        #expect(file.status == 200, "\(name)")
        let type = name.hasSuffix(".css") ? "text/css" : "text/javascript"
        #expect(file.headers["content-type"] == "\(type); charset=utf-8")
        #expect(!file.body.contains("innerHTML") && !file.body.contains("https://"), "\(name)")
        names.formUnion(file.body.matches(of: /from "\.\/([a-z.]+)"/).map { String($0.1) })
      }
      #expect(seen.count == 9)
      #expect(try await server.get("/page/index.html").status == 404)
      #expect(try await server.get("/page/%2e%2e%2fPackage.swift").status == 404)
    }
  }

  @Test func programsGetCogsObjectAndPeopleThePage() async throws {
    try await TestServer.with { server in
      let object = try await server.get("/", headers: ["Accept": "application/json"])
      #expect(try JSONValue(parsing: object.body)["predictions_url"] == "/predictions")
    }
  }

  @Test func whatTheModelIsNeedsAKey() async throws {
    try await TestServer.with {
      $0.keys = ["secret"]
    } _: { server in
      #expect(try await server.get("/inspect").status == 401)
      let answer = try await server.get("/inspect", headers: ["Authorization": "Bearer secret"])
      let listing = try JSONValue(parsing: answer.body)
      let tensors = try #require(listing["tensors"]?.array)
      #expect(tensors.count == Models.slab.tensors.count)
      let query = try #require(tensors.first { $0["role"] == "query" })
      #expect(query["encoding"] == "q4b16" && query["layer"]?.integer != nil)
      #expect(try #require(query["nmse"]?.double) > 0)
      let roles = try #require(listing["roles"]?.array)
      #expect(roles.compactMap { $0["tensors"]?.integer }.reduce(0, +) == tensors.count)
      #expect(listing["facts"]?["root digest"]?.string == "\(Models.slab.rootDigest)")
    }
  }
}
