// Calls: the list of all calls, newest first.
import { address, become, copy, h, right, soft, span, button } from "./dom.js";
import { get, listed } from "./api.js";
import { clock, dated, money, oneLine, time, DASH, ms } from "./format.js";
import { roving } from "./keys.js";
import { filterLine, keysIn, markWords, sorting } from "./filters.js";
import { isMarked, readMore, title } from "./app.js";
import { markBox, markings, sumsOf } from "./selection.js";
import { answerOf, callMarks, gridRow, headRow, questionOf, tokensOf } from "./rows.js";

const MANY = 100, MOST_NAMED = 100;
const KINDS = {
  "in progress": "status:in_progress", error: "failed", cut: "cut", refused: "refused", waiting: "finish:waiting_for_approval",
  cancelled: "status:cancelled", interrupted: "status:interrupted", retried: "retries:1",
};
const KIND_NAMES = { error: "failed" }, CHOICES = ["name", "user", "model"];
// Columns, and the words of the filter line that sort by them.
const HEADS = [["started", "start"], ["model"], ["question"], ["answer"], ["session"], ["lasted", "duration"], ["tokens", "tokens"], ["cost", "cost"]];
const FIRST_RIGHT = 5;

const callRow = (row, isByTime) => gridRow(`.call${isMarked(row.call_id) ? ".picked" : ""}`, { data: { id: row.call_id } },
  h("span.when.soft", null, markBox(row.call_id), (isByTime ? clock : dated)(ms(row.start_ns))),
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
  const filters = filterLine(line, go, { app, kinds: KINDS, names: KIND_NAMES, choices: CHOICES, hasKeys: true });
  const order = sorting(line, go), sums = sumsOf(order.others, app, signal), marked = markings(list, "calls", app);
  const choicesIn = rows => ({
    name: rows.map(row => row.session_name).filter(Boolean), user: rows.map(row => row.user_id).filter(Boolean), model: rows.map(row => row.model).filter(Boolean)
  });
  let least = 1;
  return {
    body: h("div", null, h("h1.hidden", null, "Calls"), filters.form, sums.box, marked.box,
      h(`div.table.calls${order.isByTime ? "" : ".dated"}`, { role: "grid", "aria-label": "Calls" }, headRow(HEADS.map((column, at) => order.head(column, at >= FIRST_RIGHT))), list), more),
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
      become(list, rows.length ? rows.map(row => callRow(row, order.isByTime)) : h("p.pad", null, line ? "No call has all of this." : "No calls were recorded yet."));
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
