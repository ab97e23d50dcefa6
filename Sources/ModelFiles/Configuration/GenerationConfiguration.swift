/// What generation_config.json says. Only ids are taken from it: sampling defaults are the
/// published service's, not the file's.
public struct GenerationConfiguration: Sendable, Equatable {
  /// Ids that end a text; sorted. They add to those of config.json.
  public var eosTokenIDs: [Int]
  /// Id of the token that begins a text; nil where none is named.
  public var bosTokenID: Int?
  /// Id of the token that fills batches; nil where none is named.
  public var padTokenID: Int?

  /// - Parameter vocabularySize: ids that are not below it are an error.
  public init(json: [UInt8], vocabularySize: Int) throws(ConfigurationError) {
    let fields = try ConfigurationFields(json: json)
    eosTokenIDs = try fields.tokenIDs("eos_token_id", vocabularySize: vocabularySize)
    bosTokenID = try fields.tokenID("bos_token_id", vocabularySize: vocabularySize)
    padTokenID = try fields.tokenID("pad_token_id", vocabularySize: vocabularySize)
  }
}
