/// The page of the server: files that come with the program.
enum Page {
  private static let files: [(name: String, type: String, bytes: [UInt8])] = [
    ("page.css", "text/css", PackageResources.page_css),
    ("main.js", "text/javascript", PackageResources.main_js),
    ("api.js", "text/javascript", PackageResources.api_js),
    ("chat.js", "text/javascript", PackageResources.chat_js),
    ("code.js", "text/javascript", PackageResources.code_js),
    ("elements.js", "text/javascript", PackageResources.elements_js),
    ("form.js", "text/javascript", PackageResources.form_js),
    ("model.js", "text/javascript", PackageResources.model_js),
    ("run.js", "text/javascript", PackageResources.run_js),
  ]

  /// Nothing but these files and this server: no inline script or style, no other host, no frame.
  private static let policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

  /// The page itself.
  static var document: APIResponse { response("text/html", PackageResources.index_html) }

  /// One of its files, as `/page/NAME`.
  ///
  /// - Throws: ``APIError`` for other names.
  static func file(named name: String) throws(APIError) -> APIResponse {
    guard let file = files.first(where: { $0.name == name }) else {
      throw .notFound("the page has no file of this name", code: "not_found")
    }
    return response(file.type, file.bytes)
  }

  /// Whether a path is one of the page's, which everyone may see: what they show needs a key.
  static func owns(_ path: [String]) -> Bool { path.isEmpty || path.first == "page" }

  private static func response(_ type: String, _ bytes: [UInt8]) -> APIResponse {
    var response = APIResponse(
      body: .text(String(decoding: bytes, as: UTF8.self), type: "\(type); charset=utf-8"))
    response.headers = [
      ("Content-Security-Policy", policy), ("Referrer-Policy", "no-referrer"),
      ("X-Frame-Options", "DENY"),
    ]
    return response
  }
}

extension API {
  static let pageRoutes: [Route] = [
    Route(method: "GET", path: ["page", "*"]) { _, request in
      try Page.file(named: request.captures[0])
    },
    Route(method: "GET", path: ["inspect"]) { api, request in
      .json(try api.models().named(request.query["model"]).listing)
    },
  ]
}
