// The page's elements. Whatever comes from the server or the model is set as text, never as markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes (functions are listeners) and children (elements or texts). */
export function element(name, attributes = {}, ...children) {
  const result = document.createElement(name);
  setAttributes(result, attributes);
  result.append(...children);
  return result;
}

export function drawing(name, attributes = {}, ...children) {
  const result = document.createElementNS("http://www.w3.org/2000/svg", name);
  setAttributes(result, attributes);
  result.append(...children);
  return result;
}

function setAttributes(target, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") target.addEventListener(name, value);
    else if (value === true) target.setAttribute(name, "");
    else if (value !== false && value !== undefined) target.setAttribute(name, value);
  }
}

/** Says what went wrong, or with nothing takes that back. */
export function notify(error) {
  const notice = byId("notice");
  notice.textContent = error ? error.message ?? String(error) : "";
  notice.hidden = !error;
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${unit ? count.toFixed(2) : count} ${units[unit]}`;
}
