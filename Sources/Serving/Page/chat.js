// A conversation, over the API of OpenAI's clients.

import { byId, element, notify } from "./elements.js";
import { call, events } from "./api.js";

let model, running;
const messages = [];

export function start(served) {
  model = served.id;
  byId("chat-form").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  byId("message").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
  });
  byId("chat-stop").addEventListener("click", () => running?.abort());
  byId("chat-new").addEventListener("click", () => {
    running?.abort();
    messages.length = 0;
    byId("messages").replaceChildren();
    byId("chat-facts").textContent = "";
    byId("message").focus();
  });
}

async function send() {
  const content = byId("message").value;
  if (running || !content.trim()) return;
  notify();
  let body;
  try { body = request(content); } catch (error) { return notify(error); }
  byId("message").value = "";
  messages.push({ role: "user", content });
  show("user", "you").text.textContent = content;
  const turn = show("assistant", "model");
  running = new AbortController();
  setRunning(true);
  try {
    messages.push(await answer(body, turn));
  } catch (error) {
    // An answer that was stopped stays on the screen, and both turns leave the conversation.
    messages.pop();
    if (error.name !== "AbortError") notify(error);
  } finally {
    running = undefined;
    setRunning(false);
  }
}

function request(content) {
  const system = byId("chat-system").value;
  const body = {
    model, stream: true, stream_options: { include_usage: true },
    messages: [
      ...(system ? [{ role: "system", content: system }] : []), ...messages,
      { role: "user", content },
    ],
  };
  if (byId("chat-thinking").checked) body.chat_template_kwargs = { thinking: true };
  const tools = byId("chat-tools").value.trim();
  if (tools) body.tools = JSON.parse(tools);
  return body;
}

/** Shows an answer as it comes; returns its message. */
async function answer(body, turn) {
  const message = { role: "assistant", content: "" };
  const start = performance.now();
  let first, usage;
  const response = await call("/v1/chat/completions", {
    method: "POST", body, signal: running.signal, accept: "text/event-stream",
  });
  for await (const { data } of events(response)) {
    if (data === "[DONE]") break;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    usage = chunk.usage ?? usage;
    const delta = chunk.choices[0]?.delta ?? {};
    if (delta.content || delta.reasoning_content || delta.tool_calls) first ??= performance.now();
    if (delta.reasoning_content) turn.think(delta.reasoning_content);
    if (delta.content) {
      message.content += delta.content;
      turn.text.append(delta.content);
    }
    for (const part of delta.tool_calls ?? []) turn.callTool(addTo(message, part));
    turn.item.scrollIntoView({ block: "nearest" });
  }
  if (usage && first) {
    const seconds = (performance.now() - first) / 1000;
    const rate = (usage.completion_tokens - 1) / seconds;
    byId("chat-facts").textContent =
      `first token after ${((first - start) / 1000).toFixed(2)} s`
      + (usage.completion_tokens > 1 ? `, ${rate.toFixed(1)} tokens/s` : "")
      + `, ${usage.total_tokens} tokens of context`;
  }
  return message;
}

/** Adds a part of a tool call to the message; returns the call. */
function addTo(message, part) {
  message.tool_calls ??= [];
  const call = message.tool_calls[part.index] ??=
    { id: part.id, type: "function", function: { name: "", arguments: "" } };
  call.function.name += part.function?.name ?? "";
  call.function.arguments += part.function?.arguments ?? "";
  return call;
}

/** A turn on the screen, and how to add to it. */
function show(kind, who) {
  const text = element("div", { class: "text" });
  const item = element("li", { class: kind }, element("div", { class: "who" }, who), text);
  byId("messages").append(item);
  let thoughts;
  const calls = new Map();
  return {
    item, text,
    think(piece) {
      if (!thoughts) {
        thoughts = element("div", { class: "text" });
        text.before(element("details", {}, element("summary", {}, "Thinking"), thoughts));
      }
      thoughts.append(piece);
    },
    callTool(call) {
      if (!calls.has(call)) {
        const shown = element("pre", { "aria-label": "Tool call" });
        calls.set(call, shown);
        text.after(shown);
      }
      calls.get(call).textContent = `${call.function.name} ${call.function.arguments}`;
    },
  };
}

function setRunning(isRunning) {
  byId("chat-form").querySelector(".main").disabled = isRunning;
  byId("chat-stop").disabled = !isRunning;
}
