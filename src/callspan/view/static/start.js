// Start: what goes on now, the filter line, and the list of sessions.
import { address, become, copy, h, link, mark, right, soft, span, strong, button } from "./dom.js";
import { get, listed } from "./api.js";
import { clock, count, day, grouped, money, plural, sum, time, DASH, oneLine, ms, known } from "./format.js";
import { course, curve } from "./bars.js";
import { roving } from "./keys.js";
import { filterLine, quoted, wordsOf } from "./filters.js";
import { isMarked, nothingYet, readMore, redraw, title, toMark } from "./app.js";
import { callMarks, cost, costTitle, countsOf, errorShare, gridRow, headRow, outcome, scores, sessionMarks, sumOf, titleOf, tokensOf } from "./rows.js";

const MANY = 100;
// Columns, and the words of the filter line that sort by them.
const HEADS = [
  ["started", "start"], ["session"], ["user"], ["outcome"], ["scores", "score"],
  ["course"], ["lasted", "duration"], ["calls"], ["tokens", "tokens"], ["cost", "cost"],
];

const userLink = user => h("a.user", { href: address("", null, { q: `user:${quoted(user)}` }), tabindex: "-1", title: `what ${oneLine(user)} has here` }, oneLine(user));

// The cells of a session, or of several that are one row.
const cellsOf = (row, { name, user, outcome, scores, course }) => [
  span(clock(ms(row.start_ns), false)),
  h("span.name", null, name),
  span(user),
  span(outcome),
  h("span.scores", null, scores),
  h("span.of-course", null, course),
  right(time(ms(row.duration_ns))),
  right(soft(count(row.calls))),
  right(soft(tokensOf(row))),
  h("span.right", { title: costTitle(row) }, cost(row)),
];

const sessionRow = row => gridRow(`.session${isMarked(row.session_id) ? ".picked" : ""}`, { data: { id: row.session_id } }, cellsOf(row, {
  name: [
    soft(row.name || "session"),
    h("a.words", { href: address("session", row.session_id), tabindex: "-1", title: row.title && oneLine(row.title) }, oneLine(titleOf(row))),
    h("span.marks", null, sessionMarks(row)),
  ],
  user: row.user_id ? userLink(row.user_id) : soft(DASH),
  outcome: outcome(row),
  scores: scores(row),
  course: course(row),
}));

// The best rollout and the worst of the same task, else of all.
const extremes = rows => {
  const known = rows.filter(row => row.reward !== null).sort((a, b) => b.reward - a.reward);
  const best = known.find(row => known.some(one => one.task_id === row.task_id && one.reward < row.reward)) || known[0];
  const worst = best && (known.findLast(row => row.task_id === best.task_id && row !== best) || known.at(-1));
  return best && worst !== best ? { a: best.session_id, b: worst.session_id } : null;
};

// The worst mark that is in some rows; of errors the first one.
const worstOf = rows => {
  const failed = rows.find(row => row.errors);
  return sessionMarks({ ...sumOf(rows), session_id: failed?.session_id, first_error: failed?.first_error }).slice(0, 1);
};
const MOST_VERSIONS = 3;
const versionsOf = rows => {
  const found = [...new Set(rows.map(row => row.metadata.prompt_version))].filter(one => one !== undefined);
  return found.length && found.length <= MOST_VERSIONS ? `, prompt ${found.map(oneLine).sort().join(", ")}` : "";
};
const outcomeOf = rows => {
  const judged = rows.filter(row => row.succeeded !== null), good = judged.filter(row => row.succeeded).length;
  if (rows.some(row => row.outcome === "in_progress")) return mark("in progress");
  return judged.length ? mark(good < judged.length ? "failure" : "success", `${good} of ${judged.length}`) : soft(DASH);
};
const groupScores = rows => {
  const values = rows.map(row => row.reward).filter(value => value !== null), score = reward => scores({ reward, scores: {} });
  return values.length ? [soft("best "), score(Math.max(...values)), soft(" mean "), score(sum(values) / values.length)] : soft(DASH);
};

// More than two rollouts of a group on one day are one row, which unfolds.
const groupRow = (rows, { open, toggle }) => {
  const [first] = rows, curves = rows.map(row => row.curve).filter(one => one.length), ends = extremes(rows);
  const task = rows.every(row => row.task_id === first.task_id) && first.task_id ? `, ${first.task_id}` : "";
  const best = ends && !globalThis.CALLSPAN_FILE ? h("a.quiet", { href: address("compare", null, ends), tabindex: "-1", "aria-label": "compare the best and the worst", title: "compare the best and the worst" }, "best | worst") : "";
  const users = [...new Set(rows.map(row => row.user_id))];
  const lasted = rows.map(row => row.duration_ns).filter(known);
  const all = { ...sumOf(rows), start_ns: first.start_ns, duration_ns: lasted.length ? Math.max(...lasted) : null };
  const box = gridRow(".session.group", { data: { id: `group ${first.group_id}` }, "aria-expanded": String(open) }, cellsOf(all, {
    name: [
      soft(first.name || "session"),
      h("span.words", null, open ? "▾ " : "▸ ", strong(`${rows.length} rollouts`), ` of ${oneLine(first.group_id)}`, soft(versionsOf(rows)), oneLine(task)),
      h("span.marks", null, best, worstOf(rows)),
    ],
    user: soft(users.length > 1 ? plural(users.length, "user") : first.user_id || DASH),
    outcome: outcomeOf(rows),
    scores: groupScores(rows),
    course: curves.length ? curve(curves, 128, 20) : "",
  }));
  box.unfold = toggle;
  return box;
};

const worth = (now, when) => h("div", null,
  h("h2", null, "Worth a look ", soft(now.worth.length ? when : `nothing failed, was cut or cancelled ${when}`)),
  now.worth.slice(0, 3).map(row => h("p.line", null,
    link(address("call", row.call_id), callMarks(row)[0] || "", " ", row.model || "", row.cut_by_length && row.max_tokens && `, max_tokens ${count(row.max_tokens)}`, " ", soft(row.error || row.session_name || "")),
    h("span.right.soft", null, clock(ms(row.start_ns), false)))));

// What a report is about, and what of it is in the file.
const contents = now => {
  const found = now.contents;
  return h("section.band", { "aria-label": "Report" },
    h("div", null, h("h2", null, "Recorded"), h("p.soft", null, strong(count(found.calls)), found.calls === 1 ? " call, " : " calls, ", strong(count(found.sessions)), found.sessions === 1 ? " session, " : " sessions, ", strong(count(found.errors)), " failed, ", strong(count(found.retries)), found.retries === 1 ? " retry" : " retries"),
      h("p.soft", null, strong(tokensOf(found)), " tokens, ", strong(cost(found)), found.calls_without_cost ? ` ${plural(found.calls_without_cost, "call")} without a known price` : "")),
    worth(now, "in this file"),
    h("div", null, h("h2", null, "In this file"), h("p.soft", null, found.missing || "All of it."),
      h("p.soft", null, "Live changes, filters, Find, comparisons and exact bodies: ", h("code", null, `${found.command} view`))));
};
const dayOf = row => (row.start_ns === null ? "unknown" : day(ms(row.start_ns)));
const dayLine = (name, rows, more) => {
  const all = sumOf(rows);
  return h("div.day", { role: "row" }, h("span", { role: "gridcell" }, strong(name),
    soft(`  ${plural(rows.length, "session")} · ${plural(all.calls || 0, "call")} · ${cost(all)}${more ? ", and more" : ""}`)));
};

// What the calls behind a filter come to; its numbers lead to their rows.
const sumsLine = (line, rows, more, sums) => {
  const all = sumOf(sums);
  return h("section.sums-line", { "aria-label": "Sums" },
    h("span", null, strong(more ? `more than ${count(rows.length)}` : count(rows.length)), rows.length === 1 ? " session" : " sessions"),
    h("a.linked", { href: address("calls", null, { q: line }) }, plural(all.calls || 0, "call")),
    h("span", null, strong(tokensOf(all)), " tokens"),
    h("span", null, strong(cost(all)), " cost"),
    sums.length === 1 ? h("span", null, "p50 ", strong(time(ms(sums[0].duration_p50_ns))), "  p95 ", strong(time(ms(sums[0].duration_p95_ns)))) : "",
    h("a.bad", { href: address("calls", null, { q: `${line} failed` }) }, errorShare(all.errors, all.calls)),
    h("a.linked", { href: address("charts", null, { q: line }) }, "charts"));
};

// Of a few sessions it is one line.
const band = (now, { small }) => {
  if (now.contents) return contents(now);
  const { hour } = now, top = Math.max(1, ...hour.minutes);
  return h(`section.band${small ? ".small" : ""}`, { "aria-label": "Now" },
    h("div", null, h("h2", null, "Last hour ", soft(strong(count(hour.calls)), hour.calls === 1 ? " call  " : " calls  ", strong(money(hour.cost_usd)), hour.cost_usd !== null && hour.calls_without_cost ? "*" : "", "  p50 ", strong(time(ms(hour.duration_p50_ns))), "  p95 ", strong(time(ms(hour.duration_p95_ns))), "  ", errorShare(hour.errors, hour.calls) && [h("a.bad", { href: address("calls", null, { q: "failed since:1h" }) }, errorShare(hour.errors, hour.calls)), "  "], strong(count(hour.retries)), hour.retries === 1 ? " retry" : " retries")),
      h("div.minutes", { role: "img", "aria-label": `${hour.calls} calls in the last hour` }, hour.minutes.map(number => h("i", { style: { height: `${number / top * 100}%` } }))),
      h("p.axis", null, h("span", null, "60 min ago"), h("span", null, "30"), h("span", null, "now"))),
    h("div", null,
      h("h2", null, "In progress ", soft(now.running.length || "nothing")),
      now.running.map(row => h("p.line", null,
        link(address("session", row.session_id), mark("in progress", ""), strong(row.name || "session"), " ", row.user_id || "", " ", soft(oneLine(titleOf(row)))),
        right(time(ms(now.at_ns) - ms(row.start_ns)))))),
    worth(now, "in the last day"));
};

// What a session with each mark has.
const FITS = { "in progress": row => row.outcome === "in_progress", error: row => row.errors, cut: row => row.cut_by_length, cancelled: row => row.cancelled, retried: row => row.retries, failure: row => row.succeeded === false };
const CHOICES = ["name", "user", "model"], FEW = 5;
const wordsIn = rows => [["group", "group_id"], ["task", "task_id"], ["experiment", "experiment"]].flatMap(([word, name]) => rows.filter(row => row[name]).map(row => `${word}:${quoted(row[name])}`));

export default ({ place, app, signal }) => {
  const line = place.values.q || "", go = text => { location.hash = address("", null, { q: text }); };
  const words = wordsOf(line), by = words.findLast(word => word.startsWith("sort:"))?.slice(5) || "start", sorted = by !== "start";
  const chosen = words.filter(word => !word.startsWith("sort:")).join(" "), unfolded = new Set();
  let least = 1, summing = false;

  const list = h("div.list", { role: "rowgroup" }), more = h("p.pad"), top = h("div"), under = h("div"), filters = filterLine(line, go, { kinds: Object.keys(FITS), choices: CHOICES });
  const sorter = (name, key) => button(key === by ? `${name} ↓` : name, () => go(`${chosen} ${key === "start" ? "" : `sort:${key}`}`.trim()), { class: "plain", title: `by ${name}, largest first` });
  const head = headRow(HEADS.map(([name, key], at) => h(`span${at > 5 ? ".right" : ""}`, { "aria-sort": key !== by ? null : key === "score" ? "ascending" : "descending" },
    key && !globalThis.CALLSPAN_FILE ? sorter(name, key) : name)));
  const open = row => { if (row.unfold) row.unfold(); else location.hash = address("session", row.dataset.id); };
  const table = h("div.table.sessions", { role: "treegrid", "aria-label": "Sessions" }, head, list), cursor = roving(list, { rows: "[role=row][data-id]", open });

  // A row is drawn again where it changed, or runs: there may be thousands.
  const drawn = new Map();
  const rowOf = row => {
    const text = JSON.stringify(row);
    if (row.outcome === "in_progress" || drawn.get(row.session_id)?.text !== text) drawn.set(row.session_id, { text, node: sessionRow(row) });
    return drawn.get(row.session_id).node;
  };
  const rowsOf = rows => {
    const groups = grouped(sorted ? [] : rows, row => row.group_id);
    return rows.flatMap(row => {
      const group = (row.group_id && groups.get(row.group_id)) || [], open = unfolded.has(row.group_id);
      const toggle = () => { if (!unfolded.delete(row.group_id)) unfolded.add(row.group_id); redraw(); };
      if (group.length < 3) return [rowOf(row)];
      return group[0] === row ? [groupRow(group, { open, toggle }), ...(open ? group.map(rowOf) : [])] : [];
    });
  };
  const show = ({ now, list: { rows, next } }) => {
    become(top, now.contents || app.last_ns !== null ? band(now, { small: app.sessions < FEW }) : "", app.notices.map(text => h("p.pad.warn", { role: "status" }, text)));
    filters.form.hidden = !rows.length && !line;
    filters.show(countsOf(FITS, { rows, next }), Object.fromEntries(CHOICES.map(name => [name, rows.flatMap(row => ({ name: row.name, user: row.user_id, model: row.models })[name] || [])])), wordsIn(rows));
    const parts = sorted ? [rowsOf(rows)] : [...grouped(rows, dayOf)].map(([name, some]) => [dayLine(name, some, next && some.at(-1) === rows.at(-1)), rowsOf(some)]);
    list.classList.toggle("many", rows.length > MANY);
    become(list, rows.length ? parts : nothing(line, go, app.calls));
    cursor.settle();
    become(more, next ? button("more sessions", readMore) : "");
    app.order = rows.map(row => row.session_id);
    const running = rows.filter(row => row.outcome === "in_progress").length;
    title(running ? `${running} in progress` : "Sessions");
  };
  // The sums of the calls behind a filter come in after the list.
  const sumUp = async ({ rows, next }) => {
    if (summing || !chosen) return;
    summing = true;
    try {
      const { rows: sums } = await get("table", { q: chosen, by: "provider" }, signal);
      become(under, sumsLine(chosen, rows, next, sums));
    } finally { summing = false; }
  };
  const main = document.getElementById("main");
  const scrolled = () => { if (main.scrollTop + main.clientHeight > main.scrollHeight - 400 && more.firstChild) readMore(); };
  main.addEventListener("scroll", scrolled, { passive: true });
  const pick = () => {
    const id = cursor.chosen()?.dataset.id;
    if (!app.order.includes(id)) return;
    toMark(id);
    for (const row of list.children) row.classList.toggle("picked", isMarked(row.dataset.id));
  };
  const hasMark = row => row.querySelector(".marks .mark, .mark.bad, .mark.accent") !== null;
  return {
    body: h("div", null, h("h1.hidden", null, "Sessions"), top, filters.form, under, table, more),
    read: async known => {
      if (known) least = known.list.rows.length + 1;
      const [now, found] = await Promise.all([get("now", {}, signal), listed("sessions", { q: line }, least, signal, known?.list)]);
      sumUp(found).catch(() => {});
      return { now, list: found };
    },
    show,
    runs: ({ list: { rows } }) => rows.some(row => row.outcome === "in_progress"),
    close: () => main.removeEventListener("scroll", scrolled),
    keys: () => [...cursor.keys(), ...cursor.marks(hasMark),
      ["f", "filter", filters.focus], ["x", "mark to compare", pick],
      ["c", "compare", () => { if (app.marked.length === 2) location.hash = address("compare", null, { a: app.marked[0], b: app.marked[1] }); }],
      ["y", "copy id", () => copy(cursor.chosen()?.dataset.id || "")], ["Escape", "", cursor.clear]],
  };
};

const nothing = (line, go, calls) => h("div.pad", null, line
  ? [h("p", null, "No session has ", strong(line), "."), h("p", null, button("without the filters", () => go("")))]
  : calls ? h("p", null, "No sessions. ", link(address("calls"), plural(calls, "call")), " outside of sessions.") : nothingYet());
