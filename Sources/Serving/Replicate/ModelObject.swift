import Foundation
import JSON

/// A model as both APIs show it, in one object.
struct ModelObject {
  let model: ServedModel
  let allowsTemplates: Bool
  let allowsShutdown: Bool

  /// - Parameters:
  ///   - base: the server's address as the client has it.
  ///   - runCount: predictions that there have been of this version.
  func json(base: String, runCount: Int) -> JSONObject {
    var object = model.json
    let more: JSONObject = [
      "url": .string("\(base)/v1/models/\(model.id)"), "owner": .string(model.owner),
      "name": .string(model.name), "description": .string("\(model.id), served by Quarry"),
      "visibility": "public", "is_official": false, "github_url": .null, "paper_url": .null,
      "license_url": .null, "cover_image_url": .null, "run_count": .integer(runCount),
      "default_example": .null, "latest_version": .object(version),
    ]
    for (name, value) in more.members { object[name] = value }
    return object
  }

  /// The only version that there is.
  var version: JSONObject {
    let created = Date(timeIntervalSince1970: Double(model.created))
    return [
      "id": .string(model.version), "created_at": .string(created.timestamp),
      "cog_version": .string(CogSchema.version),
      "openapi_schema": .object(
        CogSchema(allowsTemplates: allowsTemplates, allowsShutdown: allowsShutdown).json),
    ]
  }
}
