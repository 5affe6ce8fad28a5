// Calls: the list of all calls, newest first.
import { address, become, copy, h, right, soft, span, button } from "./dom.js";
import { get, listed } from "./api.js";
import { clock, money, oneLine, time, DASH, ms } from "./format.js";
import { roving } from "./keys.js";
import { filterLine, keysIn, markWords } from "./filters.js";
import { isMarked, readMore, title } from "./app.js";
import { markBox, markings, sumsOf } from "./selection.js";
import { answerOf, callMarks, gridRow, headRow, questionOf, tokensOf } from "./rows.js";

const MANY = 100, MOST_NAMED = 100;
const KINDS = {
  "in progress": "status:in_progress", error: "failed", cut: "cut", refused: "refused", waiting: "finish:waiting_for_approval",
  cancelled: "status:cancelled", interrupted: "status:interrupted", retried: "retries:1",
};
const KIND_NAMES = { error: "failed" }, CHOICES = ["name", "user", "model"];
const HEADS = ["started", "model", "question", "answer", "session", "lasted", "tokens", "cost"];
const FIRST_RIGHT = HEADS.indexOf("lasted");

const callRow = row => gridRow(`.call${isMarked(row.call_id) ? ".picked" : ""}`, { data: { id: row.call_id } },
  h("span.when.soft", null, markBox(row.call_id), clock(ms(row.start_ns))),
  span(row.model || soft(DASH)),
  span(h("a", { href: address("call", row.call_id), tabindex: "-1" }, questionOf(row) || DASH)),
  h("span.name", null, h("span.words", null, answerOf(row) || soft(oneLine(row.error || ""))), h("span.marks", null, callMarks(row))),
  soft(row.session_name || row.session_id || DASH),
  right(time(ms(row.duration_ns))),
  right(soft(tokensOf(row))),
  right(money(row.cost_usd)));

export default ({ place, app, signal }) => {
  const line = place.values.q || "", go = text => { location.hash = address("calls", null, { q: text }); };
  const list = h("div.list", { role: "rowgroup" }), more = h("p.pad"), cursor = roving(list, { open: row => { location.hash = address("call", row.dataset.id); } });
  const filters = filterLine(line, go, { kinds: KINDS, names: KIND_NAMES, choices: CHOICES, hasKeys: true });
  const sums = sumsOf(line, app, signal), marked = markings(list, "calls", app);
  const choicesIn = rows => ({
    name: rows.map(row => row.session_name).filter(Boolean), user: rows.map(row => row.user_id).filter(Boolean), model: rows.map(row => row.model).filter(Boolean)
  });
  let least = 1;
  return {
    body: h("div", null, h("h1.hidden", null, "Calls"), filters.form, sums.box, marked.box,
      h("div.table.calls", { role: "grid", "aria-label": "Calls" }, headRow(HEADS.map((name, at) => h(`span${at >= FIRST_RIGHT ? ".right" : ""}`, null, name))), list), more),
    read: async known => {
      if (known) least = known.list.rows.length + 1;
      const found = await listed("calls", { q: line }, least, signal, known?.list);
      const counts = await get("counts", { q: line, of: "calls", words: `${markWords(KINDS)},` }, signal);
      sums.read(counts[""], found.next || found.rows.length > MOST_NAMED ? null : found.rows.map(row => row.call_id));
      return { list: found, counts };
    },
    show: ({ list: { rows, next }, counts }) => {
      filters.show(counts, choicesIn(rows), [], keysIn(rows));
      list.classList.toggle("many", rows.length > MANY);
      become(list, rows.length ? rows.map(callRow) : h("p.pad", null, line ? "No call has all of this." : "No calls were recorded yet."));
      become(more, next ? button("more calls", readMore) : "");
      marked.show();
      cursor.settle();
      title("Calls");
    },
    keys: () => [...cursor.keys(), ["f", "filter", filters.focus], ...cursor.marks(row => row.querySelector(".mark")),
      ["x", "mark", () => { if (cursor.chosen()) marked.toggle(cursor.chosen().dataset.id); }],
      ["c", "compare", () => { const [a, b] = app.marked.slice(-2); if (b) location.hash = address("compare", null, { a, b }); }],
      ["y", "copy id", () => copy(cursor.chosen()?.dataset.id || "")], ["Escape", "", cursor.clear]],
  };
};
