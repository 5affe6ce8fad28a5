// Views: filter lines that this browser keeps, and the metadata keys that it shows as columns.
import { button, h, stored } from "./dom.js";
import { oneLine } from "./format.js";

const read = name => {
  try { return [JSON.parse(stored("localStorage", name) || "[]")].flat().filter(one => typeof one === "string"); } catch { return []; }
};
const write = (name, values) => stored("localStorage", name, JSON.stringify([...new Set(values)]));

const MOST_COLUMNS = 3;
export const columns = () => read("columns").slice(0, MOST_COLUMNS);

// A choice of the saved views, and a button that saves or forgets the current one. A view is a filter line, so its link is the page's address.
export const viewChoice = (line, go) => {
  const views = read("views"), isSaved = views.includes(line), redrawn = () => { box.replaceWith(viewChoice(line, go)); };
  const save = () => { write("views", isSaved ? views.filter(one => one !== line) : [...views, line]); redrawn(); };
  const box = h("span.views", null,
    views.length ? h("select.chip", { "aria-label": "saved views", onchange: event => { if (event.target.value) go(event.target.value); } },
      h("option", { value: "" }, "views"), views.map(view => h("option", { value: view, selected: view === line }, oneLine(view)))) : "",
    line ? button(isSaved ? "forget this view" : "save this view", save, { class: "chip" }) : "");
  return box;
};

// The metadata keys to show as columns; `changed` is called after a choice.
export const columnChoice = (keys, changed) => {
  const names = [...new Set([...keys, ...columns()])];
  if (!names.length) return "";
  const toggle = name => { const chosen = columns(); write("columns", chosen.includes(name) ? chosen.filter(one => one !== name) : [...chosen, name]); changed(); };
  return h("details.columns", null, h("summary", null, "columns"),
    names.map(name => h("label", null, h("input", { type: "checkbox", checked: columns().includes(name), onchange: () => toggle(name) }), " ", oneLine(name))));
};
