/// What a download from Hugging Face left beside the files that it fetched: of which repository and
/// which revision they are.
///
/// Two places are known: the cache, whose directories are called
/// `models--OWNER--NAME/snapshots/REVISION`, and directories that were downloaded to, where
/// `.cache/huggingface/download/FILE.metadata` begins with a line that is the revision.
public struct DownloadRecord: Sendable, Equatable {
  /// `OWNER/NAME`, where it is known.
  public let repository: String?
  /// Forty hexadecimal digits.
  public let revision: String

  /// Nil where there is no record, or the files of weights are of several revisions.
  init?(_ checkpoint: Checkpoint) {
    let path = SystemCalls.resolved(checkpoint.directory) ?? checkpoint.directory
    let components = path.split(separator: "/").suffix(3).map(String.init)
    if components.count == 3, components[1] == "snapshots", Self.isRevision(components[2]) {
      revision = components[2]
      repository = Self.repository(components[0])
      return
    }
    var revisions: Set<String> = []
    for name in checkpoint.weightFileNames {
      let path = checkpoint.directory + "/.cache/huggingface/download/" + name + ".metadata"
      let contents = Result { () throws(FileError) in
        try MappedFile.contents(of: path, limit: 4096)
      }
      guard case .success(let bytes) = contents else { return nil }
      let line = bytes.prefix { $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "\r") }
      revisions.insert(String(decoding: line, as: UTF8.self))
    }
    guard revisions.count == 1, let revision = revisions.first, Self.isRevision(revision) else {
      return nil
    }
    self.revision = revision
    repository = nil
  }

  private static func isRevision(_ text: String) -> Bool {
    text.utf8.count == 40
      && text.utf8.allSatisfy {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
          || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
      }
  }

  private static func repository(_ directory: String) -> String? {
    guard directory.hasPrefix("models--"), SlabFormat.isName(directory) else { return nil }
    return directory.dropFirst("models--".count).split(separator: "--", maxSplits: 1)
      .joined(separator: "/")
  }
}

extension Checkpoint {
  /// Where the files were downloaded from, if the download left a record.
  public var download: DownloadRecord? { DownloadRecord(self) }
}
