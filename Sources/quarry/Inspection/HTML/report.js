"use strict";
(() => {
  const details = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("tensors");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headers = [...table.tHead.rows[0].cells];

  // Elements are made one by one and texts set as texts: nothing of a file is ever read as markup.
  const make = (name, attributes = {}, ...children) => {
    const isDrawing = ["svg", "rect", "title", "text"].includes(name);
    const element = isDrawing
      ? document.createElementNS("http://www.w3.org/2000/svg", name)
      : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };

  // Sorting: numbers by their value, others by their text; what has none comes last.
  const key = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    return cell.textContent === "" ? null : cell.textContent;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number"
      ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true });
  headers.forEach((header, column) => {
    header.firstElementChild.addEventListener("click", () => {
      const descending = header.getAttribute("aria-sort") === "ascending";
      for (const other of headers) other.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const sorted = rows
        .map((row) => ({ row, value: key(row, column) }))
        .sort((a, b) => {
          if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
          return descending ? compare(b.value, a.value) : compare(a.value, b.value);
        });
      for (const { row } of sorted) body.append(row, ...(row.opened ? [row.opened] : []));
    });
  });

  // Filtering.
  const name = document.getElementById("name");
  const role = document.getElementById("role");
  const count = document.getElementById("count");
  const filter = () => {
    const part = name.value.toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits =
        row.cells[0].textContent.toLowerCase().includes(part) &&
        (role.value === "" || row.dataset.role === role.value);
      row.hidden = !fits;
      if (row.opened) row.opened.hidden = !fits;
      if (fits) shown += 1;
    }
    count.textContent = shown === rows.length ? `${shown} tensors` : `${shown} of ${rows.length} tensors`;
  };
  name.addEventListener("input", filter);
  role.addEventListener("change", filter);
  document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());

  // Distributions, made when they are asked for.
  const histogram = (figure) => {
    const result = make("figure", {}, make("figcaption", {}, figure.title), make("p", {}, figure.text));
    if (figure.counts.length === 0) return result;
    const [width, height] = [320, 110];
    const most = Math.max(...figure.counts);
    const step = width / figure.counts.length;
    const label = (index) =>
      figure.labels
        ? figure.labels[index]
        : String(Number((figure.from + index * figure.step).toPrecision(4)));
    const svg = make("svg", {
      viewBox: `0 0 ${width} ${height + 18}`, role: "img", class: "histogram",
      "aria-label": `Histogram of ${figure.title}: ${figure.text}`,
    });
    figure.counts.forEach((value, index) => {
      const length = most > 0 ? (height * value) / most : 0;
      svg.append(make("rect", {
        class: "bar", x: index * step, y: height - length, height: length,
        width: Math.max(step - (step > 4 ? 1 : 0), 0.5),
      }, make("title", {}, `${label(index)}: ${value}`)));
    });
    const last = figure.counts.length - 1;
    svg.append(make("text", { x: 0, y: height + 14 }, label(0)));
    if (last > 0) svg.append(make("text", { x: width, y: height + 14, class: "end" }, label(last)));
    result.append(svg);
    return result;
  };
  const toggle = (row) => {
    const button = row.querySelector("button");
    button.setAttribute("aria-expanded", String(!row.opened));
    if (row.opened) {
      row.opened.remove();
      row.opened = null;
      return;
    }
    const { figures, lines } = details[Number(row.dataset.i)];
    const box = make("div", { class: "box" },
      make("div", { class: "figures" }, ...figures.map(histogram)),
      ...lines.map((line) => make("p", {}, line)));
    row.opened = make("tr", { class: "detail" }, make("td", { colspan: headers.length }, box));
    row.after(row.opened);
  };
  for (const row of rows) row.addEventListener("click", () => toggle(row));

  // Charts: one stop of the Tab key for each, arrow keys go from mark to mark.
  for (const chart of document.querySelectorAll(".chart")) {
    const marks = [...chart.querySelectorAll(".mark")];
    const readout = chart.querySelector(".readout");
    const show = (event) => {
      const label = event.target.getAttribute("aria-label");
      if (event.target.classList.contains("mark")) readout.textContent = label;
    };
    chart.addEventListener("focusin", show);
    chart.addEventListener("pointerover", show);
    chart.addEventListener("keydown", (event) => {
      const from = marks.indexOf(event.target);
      const to = {
        ArrowRight: from + 1, ArrowDown: from + 1, ArrowLeft: from - 1, ArrowUp: from - 1,
        Home: 0, End: marks.length - 1,
      }[event.key];
      if (from < 0 || to === undefined || !marks[to]) return;
      event.preventDefault();
      marks[from].setAttribute("tabindex", "-1");
      marks[to].setAttribute("tabindex", "0");
      marks[to].focus();
    });
  }
})();
