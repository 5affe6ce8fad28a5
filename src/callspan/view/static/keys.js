// Keys: each page has its own map, shown in the bottom line. Single letters can be switched off (WCAG 2.1.4).
import { h, button, mark, stored } from "./dom.js";

const go = hash => () => { location.hash = hash; };
const ALWAYS = [
  ["/", "find", () => document.getElementById("find").focus()], ["g s", "sessions", go("#/")], ["g a", "calls", go("#/calls")], ["g c", "charts", go("#/charts")],
  ["?", "all keys", () => sheet()],
].slice(globalThis.CALLSPAN_FILE ? 1 : 0);
let page = [], first = "", letters = stored("localStorage", "letters") !== "off";

// Entries are [keys, words, action]. Keys such as "j k" only describe two others.
export const setKeys = entries => {
  page = entries;
  const line = document.querySelector("footer.keys");
  const shown = ([keys, words]) => [h("kbd", null, keys === "Escape" ? "Esc" : keys), " ", words];
  const keyOf = entry => (entry[2] ? button(shown(entry), event => entry[2](event), { class: "plain", tabindex: "-1" }) : h("span", null, shown(entry)));
  line.replaceChildren(
    h("div.page-keys", null, entries.filter(([, words]) => words).map(keyOf)),
    button("all keys", sheet, { class: "plain all", "aria-haspopup": "dialog" }));
  line.querySelector(".all").prepend(h("kbd", null, "?"), " ");
};

const actionOf = key => [...ALWAYS, ...page].find(([keys, , action]) => action && keys === key)?.[2];

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const inField = event.target.closest("input, textarea, select");
  if (inField) {
    if (event.key === "Escape") { inField.blur(); event.preventDefault(); }
    return;
  }
  const single = event.key.length === 1;
  if (single && !letters) return;
  const key = first ? `${first} ${event.key}` : event.key;
  first = "";
  if (event.key === "g" && key === "g") { first = "g"; return; }
  const action = actionOf(key);
  if (!action) return;
  if (key === "Enter" && event.target.closest("a, button, summary")) return;
  event.preventDefault();
  action(event);
});

const MARKS = [["in progress", "not ended, its process runs"], ["error", "a call failed: the kind of the error and its status"], ["cut", "stopped at a length limit, or a stream without its end"], ["refused", "the model refused, or a filter removed the answer"],
  ["empty", "the answer has no content"], ["not kept", "the content level keeps no words"], ["waiting", "the application must allow a tool"], ["cancelled", "the application closed it"], ["interrupted", "its process disappeared before it ended"],
  ["retried", "the SDK's retries"], ["triggered", "a check was triggered"], ["success", "as the application reported of the session"], ["failure", "the application reported `failure`, whether or not calls failed"]];
const BARS = [["wait", "waits for the first token"], ["model", "answers"], ["failed", "failed attempt"], ["pause", "wait before the next attempt"], ["stopped", "cancelled"], ["tool", "tool"], ["dot", "an instant: message, action, check"], ["gap", "idle time cut out; how much stands on the axis"]];

const sheet = () => {
  const every = [...page.filter(([, words]) => words), ...ALWAYS];
  const box = h("dialog.sheet", { "aria-label": "Keys, marks and bars" },
    h("h2", null, "Keys"),
    h("dl", null, every.flatMap(([keys, words]) => [h("dt", null, h("kbd", null, keys === "Escape" ? "Esc" : keys)), h("dd", null, words)])),
    h("label", null, h("input", { type: "checkbox", checked: letters, onchange: event => { letters = event.target.checked; stored("localStorage", "letters", letters ? "on" : "off"); } }), " keys of one letter work"),
    h("h2", null, "Marks"),
    h("dl.wide", null, MARKS.flatMap(([kind, words]) => [h("dt", null, mark(kind)), h("dd", null, words)])),
    h("h2", null, "Bars"),
    h("dl.wide", null, BARS.flatMap(([kind, words]) => [h("dt", null, h("span.track", null, h(`i.${kind}`, { style: { left: "0", width: kind === "dot" ? "6px" : kind === "failed" ? "2px" : "70%" } }))), h("dd", null, words)])),
    button("close", () => box.close()));
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
};

// A list with one tab stop, whose selected row has the focus. `choose` is called with each selected row, `open` with a row
// that is clicked or opened by a key.
export const roving = (box, { rows = "[role=row]:not(.head),[role=treeitem]", choose, open } = {}) => {
  const all = () => [...box.querySelectorAll(rows)].filter(one => !one.hidden && one.offsetParent !== null);
  const chosen = () => box.querySelector("[aria-selected=true]");
  const select = (row, { quiet = false, still = false, block = "nearest" } = {}) => {
    if (!row) return;
    for (const one of box.querySelectorAll("[tabindex='0'],[aria-selected]")) { one.tabIndex = -1; if (one !== row) one.removeAttribute("aria-selected"); }
    row.tabIndex = 0;
    row.setAttribute("aria-selected", "true");
    if (!still) { row.focus({ preventScroll: true }); row.scrollIntoView({ block }); }
    if (!quiet) choose?.(row, block);
  };
  const move = by => {
    const list = all(), at = list.indexOf(chosen());
    select(list[Math.max(0, Math.min(list.length - 1, at < 0 ? 0 : at + by))]);
  };
  const jump = (by, fits) => {
    const list = all(), at = list.indexOf(chosen());
    for (let number = at + by; number >= 0 && number < list.length; number += by) if (fits(list[number])) return select(list[number]);
  };
  box.addEventListener("click", event => {
    const row = event.target.closest(rows);
    if (!row || !box.contains(row)) return;
    select(row, { still: true });
    if (!event.target.closest("a")) open?.(row);
  });
  box.addEventListener("keydown", event => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20, Home: -1e6, End: 1e6 }[event.key];
    if (by && !event.target.closest("input, select")) { event.preventDefault(); move(by); }
  });
  // The list may not be in the document yet.
  const settle = () => { const first = box.querySelector(rows); if (first && !box.querySelector("[tabindex='0']")) first.tabIndex = 0; };
  const clear = () => { chosen()?.removeAttribute("aria-selected"); document.activeElement.blur(); };
  const enter = () => { if (chosen()) open(chosen()); };
  // The key entries of a list, and those that jump to the rows for which `fits` is true.
  const keys = (word = "move") => [["j k", word], ["j", "", () => move(1)], ["k", "", () => move(-1)], ...(open ? [["Enter", "open", enter], ["l", "", enter]] : [])];
  const marks = (fits, word = "mark") => [["n p", `next, previous ${word}`], ["n", "", () => jump(1, fits)], ["p", "", () => jump(-1, fits)]];
  return { chosen, select, move, jump, settle, clear, keys, marks };
};
