// The call that the playground makes, in the words of a shell and three languages.

const quoted = (value) => JSON.stringify(value);

export const LANGUAGES = {
  curl: (origin, model, input) => `curl -s ${origin}/v1/models/${model}/predictions \\
  -H 'Prefer: wait' -H 'Content-Type: application/json' \\
  -d '${JSON.stringify({ input }).replaceAll("'", "'\\''")}'`,

  Python: (origin, model, input) => `import os
os.environ.setdefault("REPLICATE_API_TOKEN", "local")
os.environ["REPLICATE_BASE_URL"] = ${quoted(origin)}
import json, replicate

for piece in replicate.stream(${quoted(model)}, input=json.loads(${python(JSON.stringify(input))})):
    print(piece, end="")`,

  JavaScript: (origin, model, input) => `import Replicate from "replicate";

const replicate = new Replicate({ auth: "local", baseUrl: ${quoted(`${origin}/v1`)} });
const input = ${JSON.stringify(input, null, 2)};
for await (const event of replicate.stream(${quoted(model)}, { input })) {
  if (event.event === "output") process.stdout.write(event.data);
}`,

  Swift: (origin, model, input) => `import Foundation

var request = URLRequest(url: URL(string: ${quoted(`${origin}/v1/models/${model}/predictions`)})!)
request.httpMethod = "POST"
request.setValue("application/json", forHTTPHeaderField: "Content-Type")
request.setValue("wait", forHTTPHeaderField: "Prefer")
request.httpBody = Data(${swift(JSON.stringify({ input }))}.utf8)
let (answer, _) = try await URLSession.shared.data(for: request)
print(String(decoding: answer, as: UTF8.self))`,
};

// JSON escapes its own quotes and control characters, so these need no more than one character hidden.
const python = (json) => `r'''${json.replaceAll("'", "\\u0027")}'''`;
const swift = (json) => `#"${json.replaceAll("#", "\\u0023")}"#`;
