// Views, and what they need to know of the server.

import { byId, element, notify } from "./elements.js";
import { json, useKey } from "./api.js";
import * as chat from "./chat.js";
import * as model from "./model.js";
import * as run from "./run.js";

const views = ["run", "chat", "model"];

function select(view) {
  for (const name of views) {
    byId(name).hidden = name !== view;
    byId(`tab-${name}`).setAttribute("aria-selected", name === view);
    byId(`tab-${name}`).tabIndex = name === view ? 0 : -1;
  }
  if (view === "model") model.show();
}

for (const [index, name] of views.entries()) {
  byId(`tab-${name}`).addEventListener("click", () => { location.hash = name; });
  byId(`tab-${name}`).addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = views[(index + step + views.length) % views.length];
    location.hash = next;
    byId(`tab-${next}`).focus();
  });
}

/** The model's name; where there are several, a way to the others. */
function showName(served, all) {
  const choice = element("select", { "aria-label": "Model" },
    ...all.map(({ id }) => element("option", { value: id }, id)));
  choice.value = served.id;
  choice.addEventListener("change", () => {
    location.search = new URLSearchParams({ model: choice.value });
  });
  byId("model-name").replaceChildren(all.length > 1 ? choice : served.id);
}

/** Asks until the model is loaded; then starts the views. */
async function begin() {
  while (true) {
    try {
      const { results } = await json("/v1/models");
      const wanted = new URLSearchParams(location.search).get("model");
      const served = results.find(({ id }) => id === wanted) ?? results[0];
      showName(served, results);
      document.title = `${served.id} – Quarry`;
      run.start(served);
      chat.start(served);
      model.start(served);
      notify();
      // A view, or the id of a prediction.
      const follow = () => {
        const name = location.hash.slice(1);
        const isView = views.includes(name);
        select(isView ? name : "run");
        if (name && !isView) run.open(name);
      };
      addEventListener("hashchange", follow);
      follow();
      return;
    } catch (error) {
      notify(error);
      if (error.status !== 503) return;
      await new Promise((resume) => setTimeout(resume, 1000));
    }
  }
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value);
  byId("key-form").hidden = true;
  begin();
});
begin();
