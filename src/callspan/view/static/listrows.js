// List rows: a session, or a call outside of sessions, in the list of the start page.
import { address, h, mark, right, soft, span } from "./dom.js";
import { clock, count, dated, ms, oneLine, time, DASH } from "./format.js";
import { course } from "./bars.js";
import { quoted } from "./filters.js";
import { isMarked } from "./app.js";
import { markBox } from "./selection.js";
import { columns } from "./views.js";
import { answerOf, callMarks, cost, costTitle, gridRow, keptMark, outcome, questionOf, scores, sessionMarks, succeeded, titleOf, tokensOf, unknown } from "./rows.js";

const valueOf = value => (value === undefined || value === null ? DASH : oneLine(typeof value === "object" ? JSON.stringify(value) : value));
const userLink = user => h("a.user", { href: address("", null, { q: `user:${quoted(user)}` }), tabindex: "-1", title: `all of ${oneLine(user)}` }, oneLine(user));
const userOf = row => (row.user_id ? userLink(row.user_id) : unknown());

// The cells of one row: a session, a call, or several that are folded.
export const cellsOf = (row, { name, user, outcome, scores, course, box = "", isByTime = true }) => [
  h("span.when", null, box, (isByTime ? clock : dated)(ms(row.start_ns), false)),
  h("span.name", null, name),
  span(user),
  span(outcome),
  h("span.scores", null, scores),
  h("span.of-course", null, course),
  right(time(ms(row.duration_ns))),
  right(soft(count(row.calls))),
  right(soft(tokensOf(row))),
  h("span.right", { title: costTitle(row) }, row.cost_usd === null ? unknown() : cost(row)),
  ...columns().map(key => soft(valueOf(row.metadata?.[key]))),
];

const picked = id => (isMarked(id) ? ".picked" : "");

const sessionRow = (row, isByTime) => gridRow(`.session${picked(row.session_id)}`, { data: { id: row.session_id, href: address("session", row.session_id) } }, cellsOf(row, {
  name: [
    soft(row.name || "session"),
    row.continues ? h("a.quiet", { href: address("session", row.continues), tabindex: "-1", "aria-label": "the turn before", title: "continues the turn before" }, "↳") : "",
    h("a.words", { href: address("session", row.session_id), tabindex: "-1", title: row.title && oneLine(row.title) }, oneLine(titleOf(row))),
    h("span.marks", null, sessionMarks(row), keptMark(row.content_level)),
  ],
  user: userOf(row),
  outcome: outcome(row),
  scores: scores(row),
  course: course(row),
  box: markBox(row.session_id),
  isByTime,
}));

const callRow = (row, isInside, isByTime) => gridRow(`.session.loose${isInside ? ".inside" : ""}${picked(row.call_id)}`, { data: { id: row.call_id, href: address("call", row.call_id) } }, cellsOf({ ...row, calls: 1 }, {
  name: [
    soft(row.model || "call"),
    isInside ? "" : h("span.tag", { title: "outside of sessions" }, "call"),
    h("a.words", { href: address("call", row.call_id), tabindex: "-1", title: questionOf(row) || null }, isInside && answerOf(row) ? "" : questionOf(row) || soft(DASH), soft(answerOf(row) ? ` → ${answerOf(row)}` : "")),
    h("span.marks", null, callMarks(row)),
  ],
  user: userOf(row),
  outcome: succeeded(row) ? mark("success") : row.outcome === "success" ? unknown() : soft(row.outcome.replaceAll("_", " ")),
  scores: unknown(),
  course: course({ curve: [], active_ns: row.duration_ns, start_ns: row.start_ns, outcome: row.outcome, course: [["call", 0, ms(row.duration_ns), ms(row.first_token_ns), row.outcome, row.retries]] }),
  box: markBox(row.call_id),
  isByTime,
}));

// Where the list is not in the order of time, the day stands before the time.
export const listRow = (row, isInside, isByTime = true) => (row.call_id ? callRow(row, isInside, isByTime) : sessionRow(row, isByTime));
export const idOf = row => row.call_id ?? row.session_id;
