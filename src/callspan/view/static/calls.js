// Calls: the list of calls, newest first, also those outside of sessions.
import { h, soft, button } from "./dom.js";
import { get } from "./api.js";
import { clock, money, oneLine, time, tokens, DASH } from "./format.js";
import { roving } from "./keys.js";
import { filterLine } from "./filters.js";
import { address, say } from "./app.js";
import { callMarks } from "./rows.js";

const MARKS = [["error", "failed"], ["cut", "finish:length"], ["cancelled", "status:cancelled"], ["retried", "retries:1"]];
const HEADS = ["started", "model", "answer", "session", "lasted", "tokens", "cost"];

export const callRow = row => h("div.row.call", { role: "row", tabindex: "-1", data: { id: row.id } },
  h("span.soft", { role: "gridcell" }, clock(row.start_ms)),
  h("span", { role: "gridcell" }, row.model || soft(DASH)),
  h("span.name", { role: "gridcell" }, h("a.words", { href: address("call", row.id), tabindex: "-1" }, oneLine(row.label || row.error || row.operation)), h("span.marks", null, callMarks(row))),
  h("span.soft", { role: "gridcell" }, row.session_name || row.session_id || DASH),
  h("span.right", { role: "gridcell" }, time(row.lasted_ms)),
  h("span.right.soft", { role: "gridcell" }, tokens(row.input_tokens, row.output_tokens)),
  h("span.right", { role: "gridcell" }, money(row.cost_usd)));

export default async ({ place, signal }) => {
  const line = place.values.q || "", go = text => { location.hash = address("calls", null, { q: text }); };
  const first = await get("calls", { q: line }, signal);
  let next = first.next;
  const list = h("div.list", { role: "rowgroup" }, first.rows.map(callRow)), more = h("p.pad", null);
  const cursor = roving(list), filters = filterLine(line, go, { marks: MARKS });
  const load = async () => {
    const page = await get("calls", { q: line, after: next });
    next = page.next;
    list.classList.add("many");
    list.append(...page.rows.map(callRow));
    button_();
  };
  const button_ = () => more.replaceChildren(...(next ? [button("more calls", load)] : []));
  button_();
  if (!first.rows.length) list.append(h("p.pad", null, line ? "No call has all of this." : "No calls were recorded yet."));
  const open = () => { if (cursor.chosen()) location.hash = address("call", cursor.chosen().dataset.id); };
  list.addEventListener("click", event => { const row = event.target.closest("[role=row]"); if (row && !event.target.closest("a")) location.hash = address("call", row.dataset.id); });
  return {
    title: "Calls",
    body: h("div", null, h("h1.hidden", null, "Calls"), filters.form, h("div.table.calls", { role: "grid", "aria-label": "Calls" }, h("div.row.head", { role: "row" }, HEADS.map((name, at) => h(`span${at > 3 ? ".right" : ""}`, { role: "columnheader" }, name))), list), more),
    ready: () => { cursor.settle(); say("still"); },
    keys: [["j k", "move"], ["j", "", () => cursor.move(1)], ["k", "", () => cursor.move(-1)], ["Enter", "open", open], ["l", "", open], ["f", "filter", filters.focus],
      ["n p", "next, previous mark"], ["n", "", () => cursor.jump(1, row => row.querySelector(".mark"))], ["p", "", () => cursor.jump(-1, row => row.querySelector(".mark"))],
      ["y", "copy id", () => navigator.clipboard?.writeText(cursor.chosen()?.dataset.id || "")], ["Escape", "back", () => { location.hash = line ? address("calls") : "#/"; }]],
  };
};
