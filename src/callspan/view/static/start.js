// Start: the band, the filters, and the list of sessions and of calls outside of them.
import { address, become, copy, h, link, soft, strong, button } from "./dom.js";
import { get, listed } from "./api.js";
import { day, grouped, oneLine, plural, ms } from "./format.js";
import { band } from "./band.js";
import { foldedRows } from "./folded.js";
import { idOf, listRow } from "./listrows.js";
import { roving } from "./keys.js";
import { filterLine, keysIn, markWords, quoted, sorting } from "./filters.js";
import { columnChoice, columns } from "./views.js";
import { nothingYet, readMore, redraw, title } from "./app.js";
import { callPage } from "./call.js";
import { cost, headRow, sumOf } from "./rows.js";
import { markings, sumsOf } from "./selection.js";

const MANY = 100, FEW = 10;
// Columns, and the words of the filter line that sort by them.
const HEADS = [
  ["started", "start"], ["session"], ["user"], ["outcome"], ["scores", "score"],
  ["course"], ["lasted", "duration"], ["calls"], ["tokens", "tokens"], ["cost", "cost"],
];
const FIRST_RIGHT = 6, COLUMN_WIDTH = "104px";
const KINDS = {
  "in progress": "session-status:in_progress", error: "failed", cut: "cut", refused: "refused", cancelled: "status:cancelled",
  interrupted: "session-status:interrupted", retried: "retries:1", failure: "failure",
};
const KIND_NAMES = { error: "with failed calls" }, CHOICES = ["name", "user", "model"];

const dayOf = row => (row.start_ns === null ? "unknown" : day(ms(row.start_ns)));
// The line above a day. The sums of a day that is not listed to its end are unknown.
const dayLine = (name, rows, isWhole) => {
  const sessions = rows.filter(row => !row.call_id).length, calls = rows.length - sessions, all = sumOf(rows.map(row => (row.call_id ? { ...row, calls: 1 } : row)));
  const listed = [sessions && plural(sessions, "session"), calls && `${plural(calls, "call")} outside of sessions`].filter(Boolean).join(" and ");
  const said = [listed, sessions && `${plural(all.calls || 0, "call")}${calls ? " in all" : ""}`, cost(all)].filter(Boolean).join(" · ");
  return h("div.day", { role: "row" }, h("span", { role: "gridcell" }, strong(name), soft(isWhole ? `  ${said}` : "")));
};

const valuesIn = rows => Object.fromEntries(CHOICES.map(name => [name, rows.flatMap(row => ({ name: row.name, user: row.user_id, model: row.models ?? row.model })[name] || [])]));
const completions = rows => [["group", "group_id"], ["task", "task_id"], ["experiment", "experiment"]].flatMap(([word, name]) => rows.filter(row => row[name]).map(row => `${word}:${quoted(row[name])}`));
const nothing = (line, go) => h("div.pad", null, line
  ? [h("p", null, "No session or call has ", strong(line), "."), h("p", null, button("without the filters", () => go("")))]
  : nothingYet());

export default ({ place, app, signal }) => {
  const line = place.values.q || "", go = text => { location.hash = address("", null, { q: text }); };
  const order = sorting(line, go), toggled = new Set();
  let least = 1, only = null;

  const list = h("div.list", { role: "rowgroup" }), more = h("p.pad"), top = h("div"), open = h("div.opened");
  const sums = sumsOf(order.others, app, signal), marked = markings(list, "", app);
  const filters = filterLine(line, go, { app, kinds: KINDS, names: KIND_NAMES, choices: CHOICES, hasKeys: true });
  const headOf = () => headRow(HEADS.map((column, at) => order.head(column, at >= FIRST_RIGHT)), columns().map(name => h("span", null, oneLine(name))));
  const table = h(`div.table.sessions${order.isByTime ? "" : ".dated"}`, { role: "treegrid", "aria-label": "Sessions" }, headOf(), list), chosenColumns = h("div.columns-line");
  // Chosen metadata keys are additional columns.
  const showHead = () => {
    table.firstElementChild.replaceWith(headOf());
    table.style.setProperty("--more", `${COLUMN_WIDTH} `.repeat(columns().length).trim());
  };
  showHead();
  filters.form.append(chosenColumns);
  const cursor = roving(list, { rows: "[role=row][data-id]", open: row => { if (row.unfold) row.unfold(); else location.hash = row.dataset.href; } });

  // A row is drawn again only if it changed or runs, because there may be thousands.
  const drawn = new Map();
  const rowOf = (row, isInside) => {
    const key = `${idOf(row)} ${isInside}`, text = JSON.stringify(row);
    if (row.outcome === "in_progress" || drawn.get(key)?.text !== text) drawn.set(key, { text, node: listRow(row, isInside, order.isByTime) });
    return drawn.get(key).node;
  };
  const nodesOf = (rows, numbers) => (!order.isByTime ? rows.map(row => rowOf(row, false)) : foldedRows(rows, { numbers, toggled, rowOf, redraw }));
  const show = ({ now, list: { rows, next, groups = {} }, counts, call }) => {
    const keys = keysIn(rows);
    become(chosenColumns, globalThis.CALLSPAN_FILE ? "" : columnChoice(keys.map(key => key.name), () => { drawn.clear(); showHead(); redraw(); }));
    become(top, band(now, { small: app.calls < FEW }), app.notices.map(text => h("p.pad.warn", { role: "status" }, text)));
    filters.form.hidden = !line && rows.length < 2;
    filters.show(counts, valuesIn(rows), completions(rows), keys);
    const lines = !order.isByTime ? [nodesOf(rows, groups)] : [...grouped(rows, dayOf)].map(([name, some]) => [dayLine(name, some, !next || some.at(-1) !== rows.at(-1)), nodesOf(some, groups)]);
    list.classList.toggle("many", rows.length > MANY);
    become(list, rows.length ? lines : nothing(line, go));
    table.classList.toggle("empty", !rows.length);
    marked.show();
    cursor.settle();
    become(more, next ? button("more", readMore) : "");
    app.order = rows.filter(row => !row.call_id).map(row => row.session_id);
    if (call) only.show(call);
    become(open, call ? only.body : "");
    title(rows.some(row => row.outcome === "in_progress") ? "in progress" : "Sessions");
  };
  // The only call of a store is open below its row.
  const opened = async ({ rows, next }) => {
    if (rows.length !== 1 || next || !rows[0].call_id || line) return null;
    only ||= callPage({ place: { id: rows[0].call_id, isInList: true }, app, signal });
    return only.read();
  };
  const main = document.getElementById("main");
  const scrolled = () => { if (main.scrollTop + main.clientHeight > main.scrollHeight - 400 && more.firstChild) readMore(); };
  main.addEventListener("scroll", scrolled, { passive: true });
  const pick = () => {
    if (cursor.chosen()?.dataset.href) marked.toggle(cursor.chosen().dataset.id);
  };
  const hasMark = row => row.querySelector(".marks .mark, .mark.bad, .mark.accent") !== null;
  return {
    body: h("div", null, h("h1.hidden", null, "Sessions"), top, filters.form, sums.box, marked.box, table, more, open),
    read: async known => {
      if (known) least = known.list.rows.length + 1;
      const counting = get("counts", { q: line, words: `${markWords(KINDS)},` }, signal);
      const [now, found, counts] = await Promise.all([get("now", {}, signal), listed("sessions", { q: line }, least, signal, known?.list), counting]);
      sums.read(counts[""]);
      return { now, list: found, counts, call: await opened(found) };
    },
    show,
    runs: ({ list: { rows } }) => rows.some(row => row.outcome === "in_progress"),
    close: () => main.removeEventListener("scroll", scrolled),
    keys: () => [...cursor.keys(), ...cursor.marks(hasMark),
      ["f", "filter", filters.focus], ["x", "mark", pick],
      ["c", "compare", () => { const [a, b] = app.marked.slice(-2); if (b) location.hash = address("compare", null, { a, b }); }],
      ["y", "copy id", () => copy(cursor.chosen()?.dataset.id || "")], ["Escape", "", cursor.clear]],
  };
};
