// Calls: the list of all calls, newest first.
import { address, become, copy, h, right, soft, span, button } from "./dom.js";
import { get, listed } from "./api.js";
import { clock, money, oneLine, time, DASH, ms } from "./format.js";
import { roving } from "./keys.js";
import { filterLine, markWords } from "./filters.js";
import { readMore, title } from "./app.js";
import { answerOf, callMarks, gridRow, headRow, questionOf, tokensOf } from "./rows.js";

const MANY = 100;
const KINDS = {
  "in progress": "status:in_progress", error: "failed", cut: "cut", refused: "refused", waiting: "finish:waiting_for_approval",
  cancelled: "status:cancelled", interrupted: "status:interrupted", retried: "retries:1",
};
const CHOICES = ["name", "user", "model"];
const HEADS = ["started", "model", "question", "answer", "session", "lasted", "tokens", "cost"];
const FIRST_RIGHT = HEADS.indexOf("lasted");

const callRow = row => gridRow(".call", { data: { id: row.call_id } },
  soft(clock(ms(row.start_ns))),
  span(row.model || soft(DASH)),
  span(h("a", { href: address("call", row.call_id), tabindex: "-1" }, questionOf(row) || DASH)),
  h("span.name", null, h("span.words", null, answerOf(row) || soft(oneLine(row.error || ""))), h("span.marks", null, callMarks(row))),
  soft(row.session_name || row.session_id || DASH),
  right(time(ms(row.duration_ns))),
  right(soft(tokensOf(row))),
  right(money(row.cost_usd)));

export default ({ place, signal }) => {
  const line = place.values.q || "", go = text => { location.hash = address("calls", null, { q: text }); };
  const list = h("div.list", { role: "rowgroup" }), more = h("p.pad"), cursor = roving(list, { open: row => { location.hash = address("call", row.dataset.id); } });
  const filters = filterLine(line, go, { kinds: KINDS, choices: CHOICES });
  const choicesIn = rows => ({
    name: rows.map(row => row.session_name).filter(Boolean), user: rows.map(row => row.user_id).filter(Boolean), model: rows.map(row => row.model).filter(Boolean)
  });
  let least = 1;
  return {
    body: h("div", null, h("h1.hidden", null, "Calls"), filters.form,
      h("div.table.calls", { role: "grid", "aria-label": "Calls" }, headRow(HEADS.map((name, at) => h(`span${at >= FIRST_RIGHT ? ".right" : ""}`, null, name))), list), more),
    read: async known => {
      if (known) least = known.list.rows.length + 1;
      const found = await listed("calls", { q: line }, least, signal, known?.list);
      return { list: found, counts: await get("counts", { q: line, of: "calls", words: markWords(KINDS) }, signal) };
    },
    show: ({ list: { rows, next }, counts }) => {
      filters.show(counts, choicesIn(rows));
      list.classList.toggle("many", rows.length > MANY);
      become(list, rows.length ? rows.map(callRow) : h("p.pad", null, line ? "No call has all of this." : "No calls were recorded yet."));
      become(more, next ? button("more calls", readMore) : "");
      cursor.settle();
      title("Calls");
    },
    keys: () => [...cursor.keys(), ["f", "filter", filters.focus], ...cursor.marks(row => row.querySelector(".mark")), ["y", "copy id", () => copy(cursor.chosen()?.dataset.id || "")], ["Escape", "", cursor.clear]],
  };
};
