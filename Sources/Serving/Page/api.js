// Calls to the server that this page came from.

import { byId } from "./elements.js";

let key = sessionStorage.getItem("key") ?? "";

export function useKey(text) {
  key = text;
  sessionStorage.setItem("key", text);
}

/** An answer; one that is an error is thrown, with what the server says of it. */
export async function call(path, { method = "GET", body, signal, accept } = {}) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (accept) headers.Accept = accept;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, {
    method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.ok) return response;
  if (response.status === 401) byId("key-form").hidden = false;
  const text = await response.text();
  let message = text;
  try {
    const answer = JSON.parse(text);
    message = answer.detail ?? answer.error?.message ?? answer.error ?? text;
    if (typeof message !== "string") message = JSON.stringify(message);
  } catch { /* it is no JSON: the text will do */ }
  const error = new Error(message || `the server answered ${response.status}`);
  error.status = response.status;
  throw error;
}

export async function json(path, options) { return (await call(path, options)).json(); }

/** The server-sent events of an answer: `{event, data}`, one after the other. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      const { value, done } = await reader.read();
      rest += done ? "\n\n" : value;
      const blocks = rest.split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(block) {
  let event = "message";
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    if (colon === 0 || !line) continue;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") event = value;
    else if (name === "data") data.push(value);
  }
  return data.length || event !== "message" ? { event, data: data.join("\n") } : undefined;
}
