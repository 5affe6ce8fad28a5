// What the lists of sessions and calls have in common: marks, outcomes, scores, sums.
import { address, h, mark, soft, spaced } from "./dom.js";
import { brief, signed, plain, plural, money, sum, tokens, DASH, ms } from "./format.js";

// The rows of a list: what they are made of are their cells.
const asRow = (role, spec, props, cells) => {
  const row = h(`div.row${spec}`, { role: "row", ...props }, cells);
  for (const cell of row.children) cell.setAttribute("role", role);
  return row;
};
export const gridRow = (spec, props, ...cells) => asRow("gridcell", spec, { tabindex: "-1", ...props }, cells);
export const headRow = (...cells) => asRow("columnheader", ".head", null, cells);

const errorWord = (kind, status) => `${(kind || "error").replaceAll("_", " ")}${status ? " " + status : ""}`;
export const retriesWord = number => `${number} ${number === 1 ? "retry" : "retries"}`;

// Marks say what the calls did; the outcome says what the application said.
export const sessionMarks = row => [
  row.errors && h("a.marked", { href: row.first_error ? address("call", row.first_error.call_id) : address("calls", null, { q: `session:${row.session_id} failed` }), tabindex: "-1", title: `${plural(row.errors, "call")} failed` },
    mark("error", row.first_error ? errorWord(row.first_error.kind, row.first_error.status) : `${row.errors} failed`)),
  (row.cut_by_length || row.cut_off) && mark("cut", "cut"),
  row.cancelled && mark("cancelled", "cancelled"),
  row.retries && mark("retried", retriesWord(row.retries)),
].filter(Boolean);

export const isRunning = row => row.outcome === "in_progress";
// How long a call took; one that runs, until now; of one that was interrupted or is unknown that is not known, so 0.
export const lastedMs = (call, start, now) => ms(call.duration_ns) ?? (isRunning(call) ? Math.max(0, now - start) : 0);
export const callMarks = row => [
  isRunning(row) && mark("in progress"),
  ["interrupted", "unknown"].includes(row.outcome) && mark("cut", row.outcome),
  ["error", "timeout"].includes(row.outcome) && mark("error", errorWord(row.error_kind || row.outcome, row.http_status)),
  row.outcome === "cancelled" && mark("cancelled", "cancelled"),
  row.cut_by_length && mark("cut", "cut by length"),
  row.cut_off && mark("cut", "cut off"),
  row.waits_for_approval && mark("waiting", "waiting for approval"),
  row.unknown_finish && mark("cut", "unknown finish"),
  row.tools_unlisted && mark("cut", "MCP tools missing"),
  row.cached && mark("cached", `cached (${row.cached})`),
  row.retries && mark("retried", retriesWord(row.retries)),
].filter(Boolean);

export const outcome = row => {
  if (row.outcome === "in_progress") return mark("in progress");
  if (row.succeeded === false) return mark("failure", row.outcome === "success" ? "failure" : row.outcome);
  if (row.succeeded) return mark("success", row.outcome);
  return soft(row.outcome || DASH);
};

// How many rows have each mark, of those that are read; "+": there are more.
export const countsOf = (fits, { rows, next }) => Object.fromEntries(Object.entries(fits).map(([kind, has]) => [kind, `${rows.filter(has).length}${next ? "+" : ""}`]));
export const percent = (part, whole) => `${brief(Number((part / whole * 100).toPrecision(2)))} %`;
export const errorShare = (errors, calls) => (errors ? `${percent(errors, calls)} failed` : "");

const tone = value => (value > 0 ? "good" : value < 0 ? "bad" : "");
export const scores = row => {
  const parts = row.reward !== null ? [h(`b.${tone(row.reward) || "none"}`, null, signed(row.reward))] : [];
  for (const [name, one] of Object.entries(row.scores)) {
    const binary = one.last <= 0 ? "bad" : "";
    parts.push(h("span", null, soft(name), " ", h(`b.${binary || "none"}`, null, plain(one.mean)), one.count > 1 && soft(` mean of ${one.count}`)));
  }
  return parts.length ? spaced(parts) : [soft(DASH)];
};

const SUMS = ["calls", "errors", "retries", "cancelled", "cut_off", "cut_by_length", "input_tokens", "output_tokens", "cost_usd", "calls_without_cost"];
export const sumOf = rows => Object.fromEntries(SUMS.map(name => [name, sum(rows.map(row => row[name]))]));

export const cost = row => (row.cost_usd === null ? DASH : money(row.cost_usd) + (row.calls_without_cost ? "*" : ""));
export const costTitle = row => (row.calls_without_cost ? `${plural(row.calls_without_cost, "call")} without a known price` : null);
export const tokensOf = row => tokens(row.input_tokens, row.output_tokens);
export const titleOf = row => [row.task_id, row.title].filter(Boolean).join(" · ") || row.experiment || row.session_id;
