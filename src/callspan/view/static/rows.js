// Rows: marks, outcomes, scores and sums in lists of sessions and calls.
import { address, h, mark, soft, spaced } from "./dom.js";
import { brief, oneLine, signed, plain, plural, money, sum, tokens, DASH, ms } from "./format.js";

// A row of a list, made of its cells.
const asRow = (role, spec, props, cells) => {
  const row = h(`div.row${spec}`, { role: "row", ...props }, cells);
  for (const cell of row.children) cell.setAttribute("role", role);
  return row;
};
export const gridRow = (spec, props, ...cells) => asRow("gridcell", spec, { tabindex: "-1", ...props }, cells);
export const headRow = (...cells) => asRow("columnheader", ".head", null, cells);

// An answer may have begun with status 200 before the call failed.
const errorWord = (kind, status) => `${(kind || "error").replaceAll("_", " ")}${status >= 400 ? " " + status : ""}`;
export const retriesWord = number => `${number} ${number === 1 ? "retry" : "retries"}`;

export const callsFailed = number => `${plural(number, "call")} failed`;

// Marks state what happened to the calls, the outcome what the application reported.
export const sessionMarks = row => [
  row.errors && h("a.marked", { href: row.first_error ? address("call", row.first_error.call_id) : address("calls", null, { q: `session:${row.session_id} failed` }), tabindex: "-1", title: callsFailed(row.errors) },
    mark("error", row.first_error ? errorWord(row.first_error.kind, row.first_error.status) : callsFailed(row.errors))),
  (row.cut_by_length || row.cut_off) && mark("cut", "cut"),
  row.refused && mark("refused", "refused"),
  row.cancelled && mark("cancelled", "cancelled"),
  row.retries && mark("retried", retriesWord(row.retries)),
].filter(Boolean);

// What stands for the words that the content level of a session keeps out.
export const keptMark = level => (level === null || level === undefined || level === "full" ? "" : h("span", { title: `content is ${level}` }, mark("not kept")));

export const isRunning = row => row.outcome === "in_progress";
// The outcomes of a process that disappeared before its call or session ended.
const LOST = ["interrupted", "unknown"];
export const isLost = row => LOST.includes(row.outcome);
// The duration of something that started at `start`; null if it is unknown. Only what still runs is measured by the clock.
export const elapsedMs = (duration, start, runs, now) => duration ?? (runs && start !== null ? Math.max(0, now - start) : null);
export const lastedMs = (call, start, now) => elapsedMs(ms(call.duration_ns), start, isRunning(call), now) ?? 0;
// Whether a call succeeded, and its answer has words of the model if these are kept.
export const succeeded = row => row.outcome === "success" && [null, undefined, "not kept"].includes(row.unanswered);
// Why an answer has no words of the model.
const unanswered = row => row.unanswered && mark({ refused: "refused", filtered: "refused" }[row.unanswered] || row.unanswered, row.unanswered);
export const callMarks = row => [
  isRunning(row) && mark("in progress"),
  isLost(row) && mark("interrupted", row.outcome),
  ["error", "timeout"].includes(row.outcome) && mark("error", errorWord(row.error_kind || row.outcome, row.http_status)),
  row.outcome === "cancelled" && mark("cancelled", "cancelled"),
  row.cut_by_length && mark("cut", "cut by length"),
  row.cut_off && mark("cut", "cut off"),
  unanswered(row),
  row.waits_for_approval && mark("waiting", "waiting for approval"),
  row.unread && mark("cut", "not read"),
  row.unknown_finish && mark("cut", "unknown finish"),
  row.tools_unlisted && mark("cut", "MCP tools missing"),
  row.cached && mark("cached", `cached (${row.cached})`),
  row.retries && mark("retried", retriesWord(row.retries)),
].filter(Boolean);

export const outcome = row => {
  if (row.outcome === "in_progress") return mark("in progress");
  if (isLost(row)) return mark("interrupted", row.outcome);
  if (row.succeeded === false) return mark("failure", ["success", "failure"].includes(row.outcome) ? undefined : row.outcome);
  if (row.succeeded) return mark("success", row.outcome);
  return row.outcome ? soft(row.outcome) : row.inferred ? soft("inferred") : unknown();
};

export const percent = (part, whole) => `${brief(Number((part / whole * 100).toPrecision(2)))} %`;
export const errorShare = (errors, calls) => (errors ? `${percent(errors, calls)} of the calls failed` : "");

const tone = value => (value > 0 ? "good" : value < 0 ? "bad" : "");
// `hasRoom`: also the labels of several scores; a list shows that of an only one, because the numbers must have room.
export const scores = (row, { hasRoom = false } = {}) => {
  const parts = row.reward !== null ? [h(`b.${tone(row.reward) || "none"}`, null, signed(row.reward))] : [];
  for (const [name, one] of Object.entries(row.scores)) {
    const binary = one.last <= 0 ? "bad" : "";
    parts.push(h("span", null, soft(name), " ", h(`b.${binary || "none"}`, null, plain(one.mean)), one.count > 1 && soft(` mean of ${one.count}`), (hasRoom || Object.keys(row.scores).length === 1) && row.labels?.[name] && ` ${oneLine(row.labels[name])}`));
  }
  return parts.length ? spaced(parts) : [unknown()];
};

// What stands for an unknown value; a phone has no room for it.
export const unknown = () => h("span.soft.unknown", null, DASH);

const SUMS = ["calls", "errors", "retries", "cancelled", "cut_off", "cut_by_length", "refused", "input_tokens", "output_tokens", "cost_usd", "calls_without_cost"];
export const sumOf = rows => Object.fromEntries(SUMS.map(name => [name, sum(rows.map(row => row[name]))]));

// The answer in a list: the model's words, or none. What else happened is a mark.
export const answerOf = row => oneLine(row.output || "");
export const questionOf = row => oneLine(row.question || "");

export const cost = row => (row.cost_usd === null ? DASH : money(row.cost_usd) + (row.calls_without_cost ? "*" : ""));
export const costTitle = row => (row.calls_without_cost ? `${plural(row.calls_without_cost, "call")} without a known cost` : null);
export const tokensOf = row => tokens(row.input_tokens, row.output_tokens);
export const titleOf = row => [row.task_id, row.title].filter(Boolean).join(" · ") || row.experiment || row.session_id;
