// What the served model is: sizes, bits, and what quantizing did to it.

import { bytes, byId, drawing, element, notify } from "./elements.js";
import { json } from "./api.js";

let id, isShown = false;

export function start(served) { id = served.id; }

export async function show() {
  if (isShown) return;
  isShown = true;
  try {
    const listing = await json(`/inspect?model=${encodeURIComponent(id)}`);
    showFacts(listing);
    showRoles(listing.roles);
    showErrors(listing.tensors);
  } catch (error) {
    isShown = false;
    notify(error);
  }
}

function showFacts(listing) {
  for (const [name, value] of Object.entries(listing.facts)) {
    byId("model-facts").append(element("dt", {}, name), element("dd", {}, String(value)));
  }
}

function showRoles(roles) {
  for (const { role, tensors, encodings, weights, bits_per_weight: bits, bytes: size } of roles) {
    const number = (text) => element("td", { class: "number" }, text);
    byId("roles").tBodies[0].append(
      element("tr", {},
        element("td", {}, `${role} (${tensors})`), element("td", {}, encodings.join(", ")),
        number(weights.toLocaleString()), number(bits === null ? "" : bits.toFixed(2)),
        number(bytes(size))));
  }
}

/** A mark for each quantized matrix of a layer: error on a logarithmic axis above the layer. */
function showErrors(tensors) {
  const measured = tensors.filter((tensor) => tensor.layer !== null && tensor.nmse > 0);
  if (!measured.length) return void byId("errors").append("Nothing in it is quantized.");
  const [width, height, left, bottom] = [900, 320, 70, 30];
  const logs = measured.map((tensor) => Math.log10(tensor.nmse));
  const [least, most] = [Math.floor(Math.min(...logs)), Math.ceil(Math.max(...logs) + 1e-9)];
  const layers = Math.max(...measured.map((tensor) => tensor.layer)) + 1;
  const x = (layer) => left + (layer + 0.5) * (width - left - 10) / layers;
  const y = (log) => 10 + (most - log) * (height - bottom - 10) / (most - least);
  const chart = drawing("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Error of quantization by layer",
  });
  for (let log = least; log <= most; log += 1) {
    chart.append(
      drawing("line", { x1: left, x2: width - 10, y1: y(log), y2: y(log), class: "grid" }),
      drawing("text", { x: 8, y: y(log) + 4 }, `1e${log}`));
  }
  for (let layer = 0; layer < layers; layer += Math.max(1, Math.ceil(layers / 16))) {
    chart.append(drawing("text", { x: x(layer) - 6, y: height - 8 }, layer));
  }
  const roles = [...new Set(measured.map((tensor) => tensor.role))];
  for (const tensor of measured) {
    chart.append(
      drawing("circle", {
        cx: x(tensor.layer), cy: y(Math.log10(tensor.nmse)), r: 4,
        class: `c${roles.indexOf(tensor.role) % 8}`,
      }, drawing("title", {}, `${tensor.name}: ${tensor.nmse.toExponential(2)}`)));
  }
  byId("errors").append(chart);
  byId("legend").append(
    ...roles.map((role, index) => element("li", { class: `c${index % 8}` }, `● ${role}`)));
}
