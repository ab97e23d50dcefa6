// The form of the playground, made from the model's input schema.

import { byId, element } from "./elements.js";

/** What inputs without bounds of their own usually are. */
const RANGES = {
  temperature: [0, 2, 0.05], top_p: [0, 1, 0.01], top_k: [0, 200, 1], min_tokens: [0, 512, 1],
  max_tokens: [1, 4096, 1], presence_penalty: [-2, 2, 0.1], frequency_penalty: [-2, 2, 0.1],
  repetition_penalty: [0.5, 2, 0.01],
};
const LONG_TEXTS = new Set(["prompt", "system_prompt", "chat_template"]);
/** Set by the page itself: output always streams. */
const HIDDEN = new Set(["stream"]);

export class InputForm {
  #fields = new Map();

  /** @param schema the schema `Input`. */
  constructor(schema) {
    const properties = Object.entries(schema.properties)
      .filter(([name]) => !HIDDEN.has(name))
      .sort((a, b) => (a[1]["x-order"] ?? 0) - (b[1]["x-order"] ?? 0));
    for (const [name, property] of properties) {
      const field = makeField(name, property);
      this.#fields.set(name, field);
      const id = `input-${name}`;
      byId("fields").append(
        element("label", { for: id }, name), field.element, field.fault,
        element("p", { class: "hint" }, property.description ?? ""));
    }
    this.fill({});
  }

  /** Shows `values`, and defaults for the rest. */
  fill(values) {
    for (const [name, field] of this.#fields) {
      field.fault.textContent = "";
      field.set(values[name] ?? field.property.default);
    }
  }

  /** The inputs that differ from their defaults. Throws where a field holds something else. */
  get values() {
    const result = {};
    let failure;
    for (const [name, field] of this.#fields) {
      field.fault.textContent = "";
      try {
        const value = field.get();
        const isDefault = JSON.stringify(value) === JSON.stringify(field.property.default);
        if (value !== undefined && !isDefault) result[name] = value;
      } catch (error) {
        field.fault.textContent = error.message;
        failure ??= { error: new Error(`${name}: ${error.message}`), field };
      }
    }
    if (failure) {
      failure.field.focus();
      throw failure.error;
    }
    return result;
  }
}

function makeField(name, property) {
  const id = `input-${name}`;
  const fault = element("p", { class: "fault", "aria-live": "polite" });
  const field = { property, fault };
  switch (property.type) {
    case "boolean": return { ...field, ...checkbox(id) };
    case "integer": case "number": return { ...field, ...number(id, name, property) };
    case "array": case "object": return { ...field, ...structured(id, property.type) };
    default: return { ...field, ...text(id, name) };
  }
}

function text(id, name) {
  const area = LONG_TEXTS.has(name)
    ? element("textarea", { id, rows: name === "prompt" ? 5 : 2 }) : element("input", { id });
  return {
    element: area, focus: () => area.focus(),
    set(value) { area.value = value ?? ""; },
    get: () => area.value === "" ? undefined : area.value,
  };
}

function checkbox(id) {
  const box = element("input", { id, type: "checkbox" });
  return {
    element: box, focus: () => box.focus(),
    set(value) { box.checked = value ?? false; },
    get: () => box.checked,
  };
}

function number(id, name, property) {
  const [least, most, step] = RANGES[name] ?? [];
  const range = [property.minimum ?? least, property.maximum ?? most];
  const whole = property.type === "integer";
  const box = element("input", { id, type: "number", step: whole ? 1 : "any" });
  let slider;
  if (range.every((end) => end !== undefined)) {
    slider = element("input", {
      type: "range", min: range[0], max: range[1], step: step ?? (whole ? 1 : 0.01),
      "aria-label": name, input: () => { box.value = slider.value; },
    });
    box.addEventListener("input", () => { slider.value = box.value; });
  }
  return {
    element: slider ? element("div", { class: "pair" }, slider, box) : box,
    focus: () => box.focus(),
    set(value) {
      box.value = value ?? "";
      if (slider) slider.value = value ?? range[0];
    },
    get() {
      if (box.value === "" && !box.validity.badInput) return undefined;
      const value = Number(box.value);
      if (box.validity.badInput || (whole && !Number.isInteger(value))) {
        throw new Error(whole ? "a whole number, please" : "a number, please");
      }
      return value;
    },
  };
}

function structured(id, type) {
  const area = element("textarea", { id, rows: 2, class: "code", spellcheck: "false" });
  const isEmpty = (value) => !value || Object.keys(value).length === 0;
  return {
    element: area, focus: () => area.focus(),
    set(value) { area.value = isEmpty(value) ? "" : JSON.stringify(value, null, 2); },
    get() {
      if (area.value.trim() === "") return undefined;
      let value;
      try { value = JSON.parse(area.value); } catch (error) {
        throw new Error(`this is no JSON: ${error.message}`);
      }
      if (Array.isArray(value) !== (type === "array") || typeof value !== "object" || !value) {
        throw new Error(`a JSON ${type}, please`);
      }
      return value;
    },
  };
}
