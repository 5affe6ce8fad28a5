// Calls: the list of calls, newest first, also those outside of sessions.
import { address, become, copy, h, right, soft, span, button } from "./dom.js";
import { listed } from "./api.js";
import { clock, money, oneLine, time, DASH, ms } from "./format.js";
import { roving } from "./keys.js";
import { filterLine } from "./filters.js";
import { readMore, title } from "./app.js";
import { callMarks, countsOf, gridRow, headRow, tokensOf } from "./rows.js";

const MANY = 100;
const FITS = { error: row => ["error", "timeout"].includes(row.outcome), cut: row => row.cut_by_length, waiting: row => row.waits_for_approval, cancelled: row => row.outcome === "cancelled", retried: row => row.retries };
const CHOICES = ["name", "user", "model"];
const HEADS = ["started", "model", "answer", "session", "lasted", "tokens", "cost"];

const callRow = row => gridRow(".call", { data: { id: row.call_id } },
  soft(clock(ms(row.start_ns))),
  span(row.model || soft(DASH)),
  h("span.name", null, h("a.words", { href: address("call", row.call_id), tabindex: "-1" }, oneLine(row.output || row.error || row.operation)), h("span.marks", null, callMarks(row))),
  soft(row.session_name || row.session_id || DASH),
  right(time(ms(row.duration_ns))),
  right(soft(tokensOf(row))),
  right(money(row.cost_usd)));

export default ({ place, signal }) => {
  const line = place.values.q || "", go = text => { location.hash = address("calls", null, { q: text }); };
  const list = h("div.list", { role: "rowgroup" }), more = h("p.pad"), cursor = roving(list, { open: row => { location.hash = address("call", row.dataset.id); } }), filters = filterLine(line, go, { kinds: Object.keys(FITS), choices: CHOICES });
  let least = 1;
  return {
    body: h("div", null, h("h1.hidden", null, "Calls"), filters.form, h("div.table.calls", { role: "grid", "aria-label": "Calls" }, headRow(HEADS.map((name, at) => h(`span${at > 3 ? ".right" : ""}`, null, name))), list), more),
    read: known => {
      if (known) least = known.rows.length + 1;
      return listed("calls", { q: line }, least, signal, known);
    },
    show: ({ rows, next }) => {
      filters.show(countsOf(FITS, { rows, next }), { name: rows.map(row => row.session_name).filter(Boolean), user: rows.map(row => row.user_id).filter(Boolean), model: rows.map(row => row.model).filter(Boolean) });
      list.classList.toggle("many", rows.length > MANY);
      become(list, rows.length ? rows.map(callRow) : h("p.pad", null, line ? "No call has all of this." : "No calls were recorded yet."));
      become(more, next ? button("more calls", readMore) : "");
      cursor.settle();
      title("Calls");
    },
    keys: () => [...cursor.keys(), ["f", "filter", filters.focus], ...cursor.marks(row => row.querySelector(".mark")), ["y", "copy id", () => copy(cursor.chosen()?.dataset.id || "")], ["Escape", "", cursor.clear]],
  };
};
