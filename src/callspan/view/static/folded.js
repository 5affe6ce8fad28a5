// Folded rows: the rollouts of a group are one row, the calls of a run outside of sessions are another; both unfold.
import { address, h, mark, soft, strong } from "./dom.js";
import { grouped, known, ms, oneLine, plural, sum } from "./format.js";
import { curve } from "./bars.js";
import { answerOf, callMarks, gridRow, keptMark, questionOf, scores, sessionMarks, sumOf, unknown } from "./rows.js";
import { cellsOf } from "./listrows.js";

const LEAST = { group: 3, run: 2 };
// A run of a few calls is open at first.
const FEW_CALLS = 5;
const keyOf = row => (row.call_id ? row.run && `run ${row.run}` : row.group_id && `group ${row.group_id}`);
const kindOf = key => key.split(" ", 1)[0];

// The best and the worst rollout of one task, else of all.
const extremes = rows => {
  const judged = rows.filter(row => row.reward !== null).sort((a, b) => b.reward - a.reward);
  const best = judged.find(row => judged.some(one => one.task_id === row.task_id && one.reward < row.reward)) || judged[0];
  const worst = best && (judged.findLast(row => row.task_id === best.task_id && row !== best) || judged.at(-1));
  return best && worst !== best ? { a: best.session_id, b: worst.session_id } : null;
};

// The worst mark of these rows; of errors the first one.
const worstOf = rows => {
  const failed = rows.find(row => row.errors);
  return sessionMarks({ ...sumOf(rows), session_id: failed?.session_id, first_error: failed?.first_error }).slice(0, 1);
};
const MOST_VERSIONS = 3;
const versionsOf = rows => {
  const versions = [...new Set(rows.map(row => row.metadata.prompt_version))].filter(one => one !== undefined);
  return versions.length && versions.length <= MOST_VERSIONS ? `, prompt ${versions.map(oneLine).sort().join(", ")}` : "";
};
const outcomeOf = rows => {
  const judged = rows.filter(row => row.succeeded !== null), lost = judged.filter(row => !row.succeeded).length, won = judged.length - lost;
  if (rows.some(row => row.outcome === "in_progress")) return mark("in progress");
  if (!judged.length) return unknown();
  return [won ? [mark("success", String(won)), h("span.hidden", null, " success")] : "", " ", lost ? [mark("failure", String(lost)), h("span.hidden", null, " no success")] : ""];
};
const scoresOf = rows => {
  const values = rows.map(row => row.reward).filter(value => value !== null), score = reward => scores({ reward, scores: {} });
  return values.length ? [soft("best "), score(Math.max(...values)), soft(" mean "), score(sum(values) / values.length)] : unknown();
};
const totalOf = rows => {
  const [first] = rows, lasted = rows.map(row => row.duration_ns).filter(known);
  return { ...sumOf(rows), start_ns: first.start_ns, duration_ns: lasted.length ? Math.max(...lasted) : null };
};

// The row of a group. `number` is the store's number of its rollouts, null if it is unknown; sums are shown only if all
// of them are listed.
const groupRow = (rows, key, number, open) => {
  const [first] = rows, curves = rows.map(row => row.curve).filter(one => one.length), ends = extremes(rows), isWhole = rows.length === number;
  const task = rows.every(row => row.task_id === first.task_id) && first.task_id ? `, ${first.task_id}` : "";
  const best = ends && isWhole && !globalThis.CALLSPAN_FILE ? h("a.quiet", { href: address("compare", null, ends), tabindex: "-1", "aria-label": "compare the best and the worst", title: "compare the best and the worst" }, "best | worst") : "";
  const users = [...new Set(rows.map(row => row.user_id))];
  const total = isWhole ? totalOf(rows) : { ...sumOf([]), start_ns: first.start_ns, duration_ns: null };
  return gridRow(".session.group", { data: { id: key }, "aria-expanded": String(open) }, cellsOf(total, {
    name: [
      soft(first.name || "session"),
      h("span.words", null, open ? "▾ " : "▸ ", strong(number === null ? "rollouts" : plural(number, "rollout")), ` of ${oneLine(first.group_id)}`, soft(versionsOf(rows)), oneLine(task)),
      h("span.marks", null, best, worstOf(rows), rows.every(row => row.content_level === first.content_level) ? keptMark(first.content_level) : ""),
    ],
    user: users.length > 1 ? soft(plural(users.length, "user")) : first.user_id ? soft(first.user_id) : unknown(),
    outcome: isWhole ? outcomeOf(rows) : unknown(),
    scores: isWhole ? scoresOf(rows) : unknown(),
    course: curves.length ? curve(curves, 128, 20) : "",
  }));
};

// The row of a run of calls outside of sessions, the first call last.
const runRow = (rows, key, open) => {
  const first = rows.at(-1), [last] = rows, starts = rows.map(row => ms(row.start_ns)), ends = rows.map(row => ms(row.start_ns) + (ms(row.duration_ns) ?? 0));
  const isOver = rows.every(row => known(row.duration_ns));
  const total = { ...sumOf(rows), calls: rows.length, start_ns: first.start_ns, duration_ns: isOver ? (Math.max(...ends) - Math.min(...starts)) * 1e6 : null };
  return gridRow(".session.group.run", { data: { id: key }, "aria-expanded": String(open) }, cellsOf(total, {
    name: [
      soft(first.model || "calls"),
      h("span.tag", { title: "outside of sessions" }, "calls"),
      h("span.words", null, open ? "▾ " : "▸ ", questionOf(first), soft(answerOf(last) ? ` → ${answerOf(last)}` : "")),
      h("span.marks", null, rows.flatMap(callMarks).slice(0, 1)),
    ],
    user: first.user_id ? soft(first.user_id) : unknown(), outcome: soft("no session"), scores: unknown(), course: "",
  }));
};

// The rows of a list, folded where they belong together; those of a group from the first one on, by their number in the
// store. `toggled` has the keys of what was folded or unfolded by hand.
export const foldedRows = (rows, { numbers, toggled, rowOf, redraw }) => {
  const parts = grouped(rows, keyOf);
  return rows.flatMap(row => {
    const key = keyOf(row), some = (key && parts.get(key)) || [];
    if (!key || Math.max(some.length, kindOf(key) === "run" ? 0 : numbers[row.group_id] ?? 0) < LEAST[kindOf(key)]) return [rowOf(row, false)];
    if (some[0] !== row) return [];
    const isRun = kindOf(key) === "run", open = toggled.has(key) !== (isRun && some.length <= FEW_CALLS);
    const head = isRun ? runRow(some, key, open) : groupRow(some, key, numbers[row.group_id] ?? (globalThis.CALLSPAN_FILE ? some.length : null), open);
    head.unfold = () => { if (!toggled.delete(key)) toggled.add(key); redraw(); };
    return [head, ...(open ? (isRun ? [...some].reverse() : some).map(one => rowOf(one, true)) : [])];
  });
};
