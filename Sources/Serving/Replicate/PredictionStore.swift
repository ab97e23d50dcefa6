import Foundation
import GRDB
import JSON

/// Predictions in a database: a file that only its owner reads, or memory.
public final class PredictionStore: Sendable {
  private let database: DatabaseQueue

  /// In memory, as long as the server runs.
  ///
  /// - Throws: ``PredictionStoreError``.
  public convenience init() throws {
    try self.init(place: "memory") { try DatabaseQueue(configuration: $0) }
  }

  /// In a directory, which is made where it is missing. What ran there when its server ended has failed.
  ///
  /// - Throws: ``PredictionStoreError``.
  public convenience init(directory: String) throws {
    try self.init(place: directory) { configuration in
      let path = URL(filePath: directory).appending(path: "predictions.sqlite").path
      try FileManager.default.createDirectory(
        atPath: directory, withIntermediateDirectories: true,
        attributes: [.posixPermissions: 0o700])
      let file = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0o600)
      guard file >= 0 else {
        throw PredictionStoreError.unusable(directory, String(cString: strerror(errno)))
      }
      close(file)
      return try DatabaseQueue(path: path, configuration: configuration)
    }
  }

  private init(place: String, _ open: (Configuration) throws -> DatabaseQueue) throws {
    var configuration = Configuration()
    configuration.prepareDatabase { database in
      // One server only; and what is removed is overwritten, in the journal too.
      try database.execute(sql: "PRAGMA locking_mode = EXCLUSIVE")
      try database.execute(sql: "PRAGMA secure_delete = ON")
      try database.execute(sql: "PRAGMA journal_mode = TRUNCATE")
    }
    do {
      database = try open(configuration)
      try Self.migrator.migrate(database)
      try database.write { database in
        try database.execute(
          sql: """
            UPDATE predictions SET status = 'failed', error = ?, completed = ?
            WHERE status IN ('starting', 'processing')
            """,
          arguments: ["the server ended while the prediction ran", Date().milliseconds])
      }
    } catch let error as DatabaseError where error.resultCode == .SQLITE_BUSY {
      throw PredictionStoreError.inUse(place)
    } catch let error as DatabaseError {
      throw PredictionStoreError.unusable(place, error.message ?? "\(error.resultCode)")
    } catch let error as PredictionStoreError {
      throw error
    } catch {
      throw PredictionStoreError.unusable(place, "the folder cannot be made")
    }
  }

  private static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("predictions") { database in
      try database.execute(
        sql: """
          CREATE TABLE predictions (
            number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
            model TEXT NOT NULL, version TEXT NOT NULL, status TEXT NOT NULL,
            input TEXT, output TEXT, logs TEXT NOT NULL, error TEXT, metrics TEXT,
            created INTEGER NOT NULL, started INTEGER, completed INTEGER, deadline INTEGER,
            removed INTEGER NOT NULL
          ) STRICT;
          CREATE INDEX ended ON predictions (completed) WHERE removed = 0;
          """)
    }
    migrator.registerMigration("webhook key") { database in
      try database.execute(sql: "CREATE TABLE webhook_key (text TEXT NOT NULL) STRICT")
      try database.execute(
        sql: "INSERT INTO webhook_key VALUES (?)", arguments: [WebhookSecret().text])
    }
    return migrator
  }

  /// Lets others have the file. Nothing is kept or found afterwards.
  func end() { try? database.close() }

  // MARK: - Writing

  func insert(_ record: PredictionRecord) async throws {
    try await write(
      record,
      sql: """
        INSERT INTO predictions (model, version, status, input, output, logs, error, metrics,
          created, started, completed, deadline, removed, id)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """)
  }

  func update(_ record: PredictionRecord) async throws {
    try await write(
      record,
      sql: """
        UPDATE predictions SET model = ?, version = ?, status = ?, input = ?, output = ?, logs = ?,
          error = ?, metrics = ?, created = ?, started = ?, completed = ?, deadline = ?, removed = ?
        WHERE id = ?
        """)
  }

  private func write(_ record: PredictionRecord, sql: String) async throws {
    let arguments: StatementArguments = [
      record.model, record.version, record.status.rawValue,
      JSONValue.object(record.input).serialized(),
      record.output == nil ? nil : record.outputJSON.serialized(), record.logs, record.error,
      record.metrics.map { JSONValue.object($0).serialized() }, record.created.milliseconds,
      record.started?.milliseconds, record.completed?.milliseconds, record.deadline?.milliseconds,
      record.dataRemoved, record.id,
    ]
    try await database.write { try $0.execute(sql: sql, arguments: arguments) }
  }

  /// Forgets what was said in predictions that ended before `date`.
  func removeData(endedBefore date: Date) async throws {
    let arguments: StatementArguments = [date.milliseconds]
    try await database.write { database in
      try database.execute(
        sql: """
          UPDATE predictions SET input = NULL, output = NULL, logs = '', removed = 1
          WHERE completed < ? AND removed = 0
          """, arguments: arguments)
    }
  }

  // MARK: - Reading

  func find(_ id: String) async throws -> PredictionRecord? {
    try await database.read { database in
      try Row.fetchOne(
        database, sql: "SELECT * FROM predictions WHERE id = ?", arguments: [id]
      ).map(PredictionRecord.init(row:))
    }
  }

  /// - Parameter version: the predictions of this one alone.
  func count(version: String) async throws -> Int {
    try await database.read { database in
      try Int.fetchOne(
        database, sql: "SELECT count(*) FROM predictions WHERE version = ?", arguments: [version]
      ) ?? 0
    }
  }

  /// What calls are signed with, as long as there is this database.
  func webhookSecret() throws -> WebhookSecret {
    try database.read { database in
      try String.fetchOne(database, sql: "SELECT text FROM webhook_key").flatMap {
        WebhookSecret($0)
      }
    } ?? WebhookSecret()
  }

  /// The rows that a query selects, with their numbers.
  func rows(_ query: Query) async throws -> [(number: Int, record: PredictionRecord)] {
    let (sql, arguments) = query.statement
    return try await database.read { database in
      try Row.fetchAll(database, sql: sql, arguments: arguments).map {
        ($0["number"], try PredictionRecord(row: $0))
      }
    }
  }
}

/// Why predictions cannot be kept.
public enum PredictionStoreError: Error, CustomStringConvertible {
  case inUse(String)
  case unusable(String, String)

  public var description: String {
    switch self {
    case .inUse(let place):
      "\(place.shown) holds the predictions of a server that runs; give another folder with --data"
    case .unusable(let place, let reason):
      "predictions cannot be kept in \(place.shown): \(reason.shown); give another folder with --data"
    }
  }
}

extension PredictionRecord {
  fileprivate init(row: Row) throws {
    func json(_ column: String) throws -> JSONValue? {
      try (row[column] as String?).map { try JSONValue(parsing: $0) }
    }
    func date(_ column: String) -> Date? {
      (row[column] as Int?).map { Date(timeIntervalSince1970: Double($0) / 1000) }
    }
    self.init(
      id: row["id"], model: row["model"], version: row["version"],
      input: try json("input")?.object ?? JSONObject(), created: date("created") ?? Date(),
      deadline: date("deadline"))
    output = try json("output")?.array?.compactMap(\.string)
    logs = row["logs"]
    error = row["error"]
    status = Status(rawValue: row["status"]) ?? .failed
    started = date("started")
    completed = date("completed")
    metrics = try json("metrics")?.object
    dataRemoved = row["removed"]
  }
}
