import Foundation
import GRDB

extension PredictionStore {
  /// Which predictions a page shows, the newest first.
  struct Query: Sendable {
    /// Predictions of a page.
    static let limit = 100
    var cursor: Cursor?
    var createdAfter: Date?
    var createdBefore: Date?

    /// One row more than a page shows, so that it is known whether there are more.
    var statement: (sql: String, arguments: StatementArguments) {
      var conditions: [String] = []
      var arguments: [any DatabaseValueConvertible] = []
      func add(_ condition: String, _ value: any DatabaseValueConvertible) {
        conditions.append(condition)
        arguments.append(value)
      }
      if let createdAfter { add("created >= ?", createdAfter.milliseconds) }
      if let createdBefore { add("created < ?", createdBefore.milliseconds) }
      var order = "DESC"
      switch cursor {
      case nil: break
      case .older(let number): add("number < ?", number)
      case .newer(let number):
        add("number > ?", number)
        order = "ASC"
      }
      let condition = conditions.isEmpty ? "" : " WHERE " + conditions.joined(separator: " AND ")
      return (
        "SELECT * FROM predictions\(condition) ORDER BY number \(order) LIMIT \(Self.limit + 1)",
        StatementArguments(arguments)
      )
    }
  }

  /// Where a page begins, or ends.
  enum Cursor: Sendable {
    case older(than: Int)
    case newer(than: Int)

    init?(_ text: String) {
      guard let number = Int(text.dropFirst()) else { return nil }
      switch text.first {
      case "o": self = .older(than: number)
      case "n": self = .newer(than: number)
      default: return nil
      }
    }

    var text: String {
      switch self {
      case .older(let number): "o\(number)"
      case .newer(let number): "n\(number)"
      }
    }
  }

  struct Page: Sendable {
    var records: [PredictionRecord] = []
    var older: Cursor?
    var newer: Cursor?
  }

  func page(_ query: Query) async throws -> Page {
    let all = try await rows(query)
    let hasMore = all.count > Query.limit
    var rows = Array(all.prefix(Query.limit))
    if case .newer = query.cursor { rows.reverse() }
    var page = Page(records: rows.map(\.record))
    guard let first = rows.first?.number, let last = rows.last?.number else { return page }
    switch query.cursor {
    case nil: if hasMore { page.older = .older(than: last) }
    case .older:
      page.newer = .newer(than: first)
      if hasMore { page.older = .older(than: last) }
    case .newer:
      if hasMore { page.newer = .newer(than: first) }
      page.older = .older(than: last)
    }
    return page
  }
}
