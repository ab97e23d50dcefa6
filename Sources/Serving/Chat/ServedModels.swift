import QuarryKit

/// The models of a server, and the names that reach them.
public struct ServedModels: Sendable {
  /// The first one answers whoever names none.
  public let all: [ServedModel]
  private let aliases: [String]
  /// What clients of the published service ask for.
  private static let serviceName = "ibm-granite/granite-3.3-8b-instruct"

  /// - Parameters:
  ///   - models: at least one, each with a name of its own.
  ///   - aliases: other names of the first one.
  public init(_ models: [ServedModel], aliases: [String] = []) {
    precondition(!models.isEmpty)
    all = models
    self.aliases = aliases + [Self.serviceName]
  }

  var standard: ServedModel { all[0] }

  /// The model of a name; without one, the first.
  ///
  /// - Throws: ``APIError`` where there is none.
  func named(_ name: String?) throws(APIError) -> ServedModel {
    guard let name else { return standard }
    // Bytes tell names apart, not what Unicode holds equal.
    if let model = all.first(where: { $0.id.utf8.elementsEqual(name.utf8) }) { return model }
    guard aliases.contains(where: { $0.utf8.elementsEqual(name.utf8) }) else {
      throw .unknownModel(name)
    }
    return standard
  }

  /// Ends all that runs.
  func stop() { for model in all { model.engine.stop() } }
}
