// The playground: a prediction from the form to its end.

import { byId, element, notify } from "./elements.js";
import { call, events, json } from "./api.js";
import { InputForm } from "./form.js";
import { LANGUAGES } from "./code.js";

const EXAMPLES = {
  Haiku: { prompt: "Write a haiku about granite.", temperature: 0.8 },
  "List of stones": { prompt: "Name three kinds of stone and say what each is used for.", temperature: 0 },
  "With a document": {
    messages: [{ role: "user", content: "How tall is the tower?" }],
    documents: [{ doc_id: "1", title: "The tower", text: "The old tower by the harbour is 31 metres tall." }],
    temperature: 0,
  },
  "With a tool": {
    messages: [{ role: "user", content: "What is the weather in Galway?" }],
    tools: [{
      type: "function",
      function: {
        name: "weather", description: "The weather in a town.",
        parameters: { type: "object", properties: { town: { type: "string" } }, required: ["town"] },
      },
    }],
    temperature: 0,
  },
};

let model, form, current, language = "curl", cursor;

export function start(served) {
  model = served.id;
  form = new InputForm(served.latest_version.openapi_schema.components.schemas.Input);
  for (const [name, values] of Object.entries(EXAMPLES)) {
    byId("examples").append(
      element("button", { type: "button", click: () => { form.fill(values); showCode(); } }, name));
  }
  for (const name of Object.keys(LANGUAGES)) {
    byId("languages").append(
      element("button", { type: "button", click: () => { language = name; showCode(); } }, name));
  }
  byId("inputs").addEventListener("submit", (event) => { event.preventDefault(); run(); });
  byId("inputs").addEventListener("input", showCode);
  byId("inputs").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
  });
  byId("reset").addEventListener("click", () => { form.fill({}); showCode(); });
  byId("cancel").addEventListener("click", cancel);
  byId("calls").addEventListener("toggle", showCode);
  byId("earlier").addEventListener("toggle", () => { if (byId("earlier").open) list(); });
  byId("more").addEventListener("click", () => list(cursor));
}

async function run() {
  if (current) return;
  notify();
  let input;
  try { input = form.values; } catch (error) { return notify(error); }
  clear();
  const start = performance.now();
  const watch = { start, pieces: 0 };
  current = {};
  setRunning(true);
  try {
    let prediction = await json(`/v1/models/${model}/predictions`, {
      method: "POST", body: { input: { ...input, stream: true } },
    });
    current.id = prediction.id;
    if (current.isCanceled) await cancel();
    show(prediction, { withOutput: false });
    await follow(prediction, watch, Boolean(input.messages?.length));
    prediction = await json(`/v1/predictions/${encodeURIComponent(prediction.id)}`);
    show(prediction, { withOutput: false });
    showSpeed(watch, prediction.metrics);
  } catch (error) {
    notify(error);
    byId("status").textContent = "failed";
  } finally {
    current = undefined;
    setRunning(false);
    if (byId("earlier").open) list();
  }
}

/** Shows what a prediction streams, until it ends. */
async function follow(prediction, watch, isChat) {
  const url = new URL(prediction.urls.stream);
  const response = await call(url.pathname + url.search, { accept: "text/event-stream" });
  for await (const { event, data } of events(response)) {
    if (event === "output") {
      watch.first ??= performance.now();
      watch.pieces += 1;
      byId("progress").textContent = "";
      append(byId("output"), isChat ? chatPiece(data) : data);
      showSpeed(watch);
    } else if (event === "logs") {
      byId("logs").append(data);
      const progress = data.match(/ (\d+)\/(\d+) \[reading the prompt\]/);
      if (progress) byId("progress").textContent = `reading the prompt: ${progress[1]} of ${progress[2]}`;
    } else if (event === "error") {
      throw new Error(data);
    } else if (event === "done") {
      return;
    }
    if (event !== "logs") byId("status").textContent = "processing";
  }
}

/** The text in a piece of a chat, which is a chunk of OpenAI's as JSON. */
function chatPiece(data) {
  try {
    const delta = JSON.parse(data).choices?.[0]?.delta ?? {};
    const calls = (delta.tool_calls ?? []).map((call) =>
      (call.function?.name ? `\n${call.function.name} ` : "") + (call.function?.arguments ?? ""));
    return (delta.reasoning_content ?? "") + (delta.content ?? "") + calls.join("");
  } catch { return data; }
}

function append(target, text) {
  const atEnd = target.scrollHeight - target.scrollTop - target.clientHeight < 40;
  target.append(text);
  if (atEnd) target.scrollTop = target.scrollHeight;
}

/** Cancels the prediction, as soon as there is one. */
async function cancel() {
  if (!current) return;
  current.isCanceled = true;
  if (!current.id) return;
  try {
    await json(`/v1/predictions/${encodeURIComponent(current.id)}/cancel`, { method: "POST" });
  } catch (error) { notify(error); }
}

function setRunning(isRunning) {
  byId("inputs").querySelector(".main").disabled = isRunning;
  byId("cancel").disabled = !isRunning;
}

function clear() {
  for (const id of ["output", "logs", "prediction", "speed", "progress", "prediction-id"]) {
    byId(id).textContent = "";
  }
  byId("status").textContent = "starting";
}

function showSpeed(watch, metrics) {
  const first = ((watch.first ?? performance.now()) - watch.start) / 1000;
  const count = metrics?.token_output_count ?? watch.pieces;
  const rate = metrics?.tokens_per_second
    ?? (count - 1) / ((performance.now() - (watch.first ?? watch.start)) / 1000);
  const toFirst = metrics?.time_to_first_token ?? first;
  byId("speed").textContent = `first token after ${toFirst.toFixed(2)} s`
    + (count > 1 && Number.isFinite(rate) ? `, ${rate.toFixed(1)} tokens/s` : "");
}

function show(prediction, { withOutput }) {
  byId("status").textContent = prediction.status;
  byId("prediction-id").textContent = prediction.id;
  byId("prediction").textContent = JSON.stringify(prediction, null, 2);
  byId("logs").textContent = prediction.logs ?? "";
  if (prediction.error) notify(new Error(prediction.error));
  if (withOutput) {
    const isChat = Boolean(prediction.input?.messages?.length);
    const pieces = prediction.output ?? [];
    byId("output").textContent =
      Array.isArray(pieces) ? pieces.map(isChat ? chatPiece : String).join("") : String(pieces);
    byId("speed").textContent = "";
  }
}

function showCode() {
  if (!byId("calls").open) return;
  try {
    byId("code").textContent = LANGUAGES[language](location.origin, model, form.values);
  } catch (error) { byId("code").textContent = error.message; }
}

/** Earlier predictions, newest first; with a cursor, the next ones. */
async function list(from) {
  try {
    const page = await json(from ?? "/v1/predictions");
    if (!from) byId("predictions").replaceChildren();
    for (const entry of page.results) {
      const time = new Date(entry.created_at).toLocaleString();
      byId("predictions").append(
        element("li", {}, element("button", { type: "button", click: () => open(entry.id) },
          `${time}  ${entry.status}  ${entry.input?.prompt ?? entry.id}`)));
    }
    const next = page.next ? new URL(page.next) : undefined;
    cursor = next && next.pathname + next.search;
    byId("more").hidden = !cursor;
  } catch (error) { notify(error); }
}

/** Shows an earlier prediction. */
export async function open(id) {
  if (current) return;
  notify();
  try {
    const prediction = await json(`/v1/predictions/${encodeURIComponent(id)}`);
    clear();
    show(prediction, { withOutput: true });
    if (prediction.input) form.fill(prediction.input);
    showCode();
  } catch (error) { notify(error); }
}
