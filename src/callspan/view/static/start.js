// Start: what goes on now, the filter line, and the list of sessions.
import { become, h, link, mark, soft, strong, button, spaced } from "./dom.js";
import { get } from "./api.js";
import { follow } from "./live.js";
import { clock, count, day, money, plural, sum, time, DASH, oneLine } from "./format.js";
import { course, curve } from "./bars.js";
import { roving } from "./keys.js";
import { filterLine, quoted, wordsOf } from "./filters.js";
import { address, draw, isMarked, say, title, toMark } from "./app.js";
import { callMarks, cost, costTitle, outcome, scores, sessionMarks, titleOf, tokensOf } from "./rows.js";

// Columns, and the words of the filter line that sort by them.
const HEADS = [
  ["started", "start"], ["session"], ["user"], ["outcome"], ["scores", "score"],
  ["course"], ["lasted", "duration"], ["calls"], ["tokens", "tokens"], ["cost", "cost"],
];

const userLink = user => h("a.user", { href: address("", null, { q: `user:${quoted(user)}` }), tabindex: "-1", title: `what ${oneLine(user)} has here` }, oneLine(user));

export const sessionRow = row => h(`div.row.session${isMarked(row.id) ? ".picked" : ""}`, { role: "row", tabindex: "-1", data: { id: row.id, at: row.start_ms ?? "" } },
  h("span", { role: "gridcell" }, row.start_ms === null ? DASH : clock(row.start_ms, false)),
  h("span.name", { role: "gridcell" }, soft(row.name || "session"),
    h("a.words", { href: address("session", row.id), tabindex: "-1", title: row.title && oneLine(row.title) }, oneLine(titleOf(row))), h("span.marks", null, sessionMarks(row))),
  h("span", { role: "gridcell" }, row.user ? userLink(row.user) : soft(DASH)),
  h("span", { role: "gridcell" }, outcome(row)),
  h("span.scores", { role: "gridcell" }, scores(row)),
  h("span.of-course", { role: "gridcell" }, course(row)),
  h("span.right", { role: "gridcell" }, time(row.lasted_ms)),
  h("span.right.soft", { role: "gridcell" }, count(row.calls)),
  h("span.right.soft", { role: "gridcell" }, tokensOf(row)),
  h("span.right", { role: "gridcell", title: costTitle(row) }, cost(row)));

// The best rollout and the worst of the same task, else of all.
const extremes = rows => {
  const known = rows.filter(row => row.reward !== null).sort((a, b) => b.reward - a.reward);
  const best = known.find(row => known.some(one => one.task === row.task && one.reward < row.reward)) || known[0];
  const worst = best && (known.findLast(row => row.task === best.task && row !== best) || known.at(-1));
  return best && worst !== best ? { a: best.id, b: worst.id } : null;
};

// More than two rollouts of a group on one day are one row, which unfolds.
const groupRow = (rows, { open, toggle }) => {
  const values = rows.map(row => row.reward).filter(value => value !== null);
  const judged = rows.filter(row => row.succeeded !== null), good = judged.filter(row => row.succeeded).length;
  const curves = rows.map(row => row.curve).filter(one => one.length), ends = extremes(rows);
  const group = rows.every(row => row.task === rows[0].task) && rows[0].task || rows[0].group;
  const mean = values.length ? sum(values) / values.length : null;
  const box = h("div.row.session.group", { role: "row", tabindex: "-1", data: { id: `group ${rows[0].group}`, at: rows[0].start_ms ?? "" }, "aria-expanded": String(open) },
    h("span", { role: "gridcell" }, clock(rows[0].start_ms, false)),
    h("span.name", { role: "gridcell" }, soft(rows[0].name || "session"), h("span.words", null, open ? "▾ " : "▸ ", strong(`${rows.length} rollouts`), ` of ${oneLine(group)}`),
      ends && !globalThis.CALLSPAN_FILE ? h("span.marks", null, h("a.linked", { href: address("compare", null, ends), tabindex: "-1" }, "compare the best and the worst")) : ""),
    h("span", { role: "gridcell" }, soft(rows[0].user || DASH)),
    h("span", { role: "gridcell" }, judged.length ? mark(good ? "success" : "failure", `${good} of ${judged.length}`) : rows.some(row => row.outcome === "running") ? mark("running") : soft(DASH)),
    h("span.scores", { role: "gridcell" },
      values.length ? scores({ reward: Math.max(...values), scores: {} }).flatMap(one => [soft("best "), one]) : soft(DASH),
      mean === null ? "" : [" ", soft("mean "), ...scores({ reward: mean, scores: {} })]
    ),
    h("span.of-course", { role: "gridcell" }, curves.length ? curve(curves, 128, 20) : ""),
    h("span.right", { role: "gridcell" }, time(rows.some(row => row.lasted_ms !== null) ? Math.max(...rows.map(row => row.lasted_ms ?? 0)) : null)),
    h("span.right.soft", { role: "gridcell" }, count(sum(rows.map(row => row.calls)))),
    h("span.right.soft", { role: "gridcell" }, tokensOf({ input_tokens: sum(rows.map(row => row.input_tokens)), output_tokens: sum(rows.map(row => row.output_tokens)) })),
    h("span.right", { role: "gridcell" }, costOf(rows)));
  box.unfold = toggle;
  return box;
};

// A star: some of the calls have no known price.
const costOf = rows => money(sum(rows.map(row => row.cost_usd))) + (rows.some(row => row.calls_without_cost && row.cost_usd !== null) ? "*" : "");

const worth = (now, when) => h("div", null,
  h("h2", null, "Worth a look ", soft(now.worth.length ? when : `nothing failed, was cut or cancelled ${when}`)),
  now.worth.slice(0, 3).map(
    row => h("p.line", null,
      link(address("call", row.id), callMarks(row)[0] || "", " ", row.model || "",
        row.cut_by_length && row.max_tokens ? `, max_tokens ${count(row.max_tokens)}` : "",
        " ",
        soft(row.error || row.session_name || "")
      ),
      h("span.right.soft", null, clock(row.start_ms, false))
    )
  )
);

// What a report is about, and what of it is in the file.
const contents = now => {
  const found = now.contents, every = `${found.sessions > 1 ? "all " : ""}${plural(found.sessions, "session")}`;
  const texts = found.most === null ? "Whole conversations." : found.most ? `Answers and events up to ${found.most} characters, nothing of requests: --full has them.` : "No text of so many calls: --full has it.";
  const some = found.whole < found.sessions ? `The file is cut at ${found.most_bytes / 1e6} MB: ${count(found.whole)} of ${plural(found.sessions, "session")} are whole, ${count(found.listed)} are listed` : `It has ${every}`;
  const outside = found.outside ? `; ${found.outside_listed < found.outside ? `${count(found.outside_listed)} of ` : ""}${plural(found.outside, "call")} outside of sessions` : "";
  return h("section.band", { "aria-label": "Report" },
    h("div", null, h("h2", null, "Recorded"), h("p.soft", null, strong(count(found.calls)), found.calls === 1 ? " call, " : " calls, ", strong(count(found.sessions)), found.sessions === 1 ? " session, " : " sessions, ", strong(count(found.errors)), " failed, ", strong(count(found.retries)), found.retries === 1 ? " retry" : " retries"),
      h("p.soft", null, strong(tokensOf(found)), " tokens, ", strong(cost(found)), found.calls_without_cost ? ` ${plural(found.calls_without_cost, "call")} without a known price` : "")),
    worth(now, "in this file"),
    h("div", null, h("h2", null, "In this file"), h("p.soft", null, `${texts} ${some}${outside}.`),
      h("p.soft", null, "Live changes, text of the whole store, comparisons and exact bodies: ", h("code", null, `${found.command} view`))));
};
const days = rows => {
  const found = new Map();
  for (const row of rows) {
    const name = row.start_ms === null ? "unknown" : day(row.start_ms);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(row);
  }
  return found;
};
const dayLine = (name, rows, more) => h("div.day", { role: "row" }, h("span", { role: "gridcell" }, strong(name),
  soft(`  ${plural(rows.length, "session")} · ${plural(sum(rows.map(row => row.calls)) || 0, "call")} · ${costOf(rows)}${more ? ", and more" : ""}`)));

// What the calls behind a filter come to; its numbers lead to their rows.
const sumsLine = (line, rows, more, sums) => h("section.sums-line", { "aria-label": "Sums" },
  h("span", null, strong(more ? `more than ${count(rows.length)}` : count(rows.length)), rows.length === 1 ? " session" : " sessions"),
  h("a.linked", { href: address("calls", null, { q: line }) }, plural(sum(sums.map(one => one.calls)) || 0, "call")),
  h("span", null, strong(tokensOf({ input_tokens: sum(sums.map(one => one.input_tokens)), output_tokens: sum(sums.map(one => one.output_tokens)) })), " tokens"),
  h("span", null, strong(costOf(sums)), " cost"),
  h("a.linked", { href: address("charts", null, { q: line }) }, "charts"));

const band = now => {
  if (now.contents) return contents(now);
  const { hour } = now, top = Math.max(1, ...hour.minutes);
  return h("section.band", { "aria-label": "Now" },
    h("div", null, h("h2", null, "Last hour ", soft(strong(count(hour.calls)), hour.calls === 1 ? " call  " : " calls  ", strong(money(hour.cost_usd)), hour.cost_usd !== null && hour.calls_without_cost ? "*" : "", "  p50 ", strong(time(hour.p50_ms)), "  ", strong(count(hour.retries)), hour.retries === 1 ? " retry" : " retries")),
      h("div.minutes", { role: "img", "aria-label": `${hour.calls} calls in the last hour` }, hour.minutes.map(number => h("i", { style: { height: `${number / top * 100}%` } }))),
      h("p.axis", null, h("span", null, "60 min ago"), h("span", null, "30"), h("span", null, "now"))),
    h("div", null,
      h("h2", null, "Running ", soft(now.running.length || "nothing")),
      now.running.map(
        row => h("p.line", null,
          link(address("session", row.id), mark("running", ""), strong(row.name || "session"), " ", row.user || "", " ", soft(oneLine(titleOf(row)))),
          h("span.right", null, time(now.at_ms - row.start_ms))
        )
      )
    ),
    worth(now, "in the last day"));
};

export default async ({ place, app, signal }) => {
  const line = place.values.q || "";
  const go = text => { location.hash = address("", null, { q: text }); };
  const [now, first] = await Promise.all([get("now", {}, signal), get("sessions", { q: line }, signal)]);
  app.store = now.store.replace(/^.*\//, "");
  const words = wordsOf(line), by = words.findLast(word => word.startsWith("sort:"))?.slice(5) || "start", sorted = by !== "start";
  const chosen = words.filter(word => !word.startsWith("sort:")).join(" ");
  const rows = new Map(first.rows.map(row => [row.id, row])), unfolded = new Set(), later = new Set();
  let next = first.next, waitingRows = [], stop = () => {};

  const list = h("div.list", { role: "rowgroup" }), more = h("p.pad", null);
  const head = h("div.row.head", { role: "row" }, HEADS.map(([name, key], at) => h(`span${at > 5 ? ".right" : ""}`, { role: "columnheader", "aria-sort": key !== by ? null : key === "score" ? "ascending" : "descending" },
    key && !globalThis.CALLSPAN_FILE ? button(key === by ? `${name} ↓` : name,
      () => go(`${chosen} ${key === "start" ? "" : `sort:${key}`}`.trim()),
      { class: "plain", title: `by ${name}, largest first` }
    ) : name)));
  const table = h("div.table", { role: "treegrid", "aria-label": "Sessions" }, head, list);
  const fresh = button("", () => showNew(), { class: "new", hidden: true });
  const known = [
    ...new Set(
      first.rows.flatMap(
        row => [
          row.user && `user:${quoted(row.user)}`,
          row.name && `name:${quoted(row.name)}`,
          row.group && `group:${quoted(row.group)}`,
          row.task && `task:${quoted(row.task)}`,
          row.experiment && `experiment:${quoted(row.experiment)}`
        ]
      ).filter(Boolean)
    )
  ];
  const counts = first.next
    ? {}
    : Object.fromEntries(
      [
        ["running", row => row.outcome === "running"],
        ["error", row => row.errors],
        ["cut", row => row.cut_by_length],
        ["cancelled", row => row.cancelled],
        ["retried", row => row.retries],
        ["failure", row => row.succeeded === false]
      ].map(([kind, fits]) => [kind, first.rows.filter(fits).length])
    );
  const filters = filterLine(line, go, { known, counts });
  const cursor = roving(list, { rows: "[role=row][data-id]" });

  // Rows are drawn once, but for what runs: there may be thousands.
  const drawn = new WeakMap();
  const rowOf = row => {
    if (row.outcome === "running" || !drawn.has(row)) drawn.set(row, sessionRow(row));
    return drawn.get(row);
  };
  const rowsOf = some => {
    const groups = new Map(), found = [];
    for (const row of some) {
      if (!row.group || sorted) continue;
      if (!groups.has(row.group)) groups.set(row.group, []);
      groups.get(row.group).push(row);
    }
    for (const row of some) {
      const group = groups.get(row.group) || [], open = unfolded.has(row.group);
      const toggle = () => { if (!unfolded.delete(row.group)) unfolded.add(row.group); fill(); };
      if (group.length > 2 && group[0] === row) found.push(groupRow(group, { open, toggle }), ...(open ? group.map(rowOf) : []));
      else if (group.length < 3) found.push(rowOf(row));
    }
    return found;
  };
  const fill = () => {
    const kept = cursor.chosen()?.dataset.id, inside = list.contains(document.activeElement), every = [...rows.values()], found = [];
    for (const [name, some] of sorted ? [["", every]] : days(every)) {
      if (!sorted) found.push(dayLine(name, some, next && some.at(-1) === every.at(-1)));
      found.push(...rowsOf(some));
    }
    become(list, found.length ? found : [nothing(line, go, rows.size)]);
    if (kept) cursor.select(list.querySelector(`[data-id="${CSS.escape(kept)}"]`), { quiet: true, still: !inside });
    cursor.settle();
    more.replaceChildren(...(next ? [button("more sessions", load)] : []));
    app.order = [...rows.keys()];
    const running = every.filter(row => row.outcome === "running").length;
    title(running ? `${running} running` : "Sessions");
  };
  let loading = false;
  const load = async () => {
    if (loading || !next) return;
    loading = true;
    const page = await get("sessions", { q: line, after: next });
    for (const row of page.rows) { rows.set(row.id, row); later.add(row.id); }
    next = page.next;
    loading = false;
    list.classList.add("many");
    fill();
  };
  const main = document.getElementById("main");
  const scrolled = () => { if (main.scrollTop + main.clientHeight > main.scrollHeight - 400) load(); };
  main.addEventListener("scroll", scrolled, { passive: true });

  // What is new slides in at the top; further down it waits behind a button.
  const take = (found, order) => {
    // What is no longer on the first page has gone, or moved behind it.
    const shown = new Set(order);
    for (const id of first.rows.map(row => row.id)) if (!later.has(id) && !shown.has(id)) rows.delete(id);
    for (const row of found) if (rows.has(row.id)) rows.set(row.id, row);
    const added = found.filter(row => !rows.has(row.id) && !waitingRows.some(one => one.id === row.id));
    waitingRows = [...added, ...waitingRows.map(one => found.find(row => row.id === one.id) || one)];
    if (main.scrollTop < 40 && !cursor.chosen() && !sorted) return showNew();
    fresh.hidden = !waitingRows.length;
    fresh.replaceChildren(plural(waitingRows.length, "new session"), " ", h("kbd", null, "."));
    fill();
  };
  const showNew = () => {
    if (sorted) return draw();
    const every = [...waitingRows, ...rows.values()].sort((a, b) => (b.start_ms ?? 0) - (a.start_ms ?? 0));
    waitingRows = [];
    rows.clear();
    for (const row of every) rows.set(row.id, row);
    fresh.hidden = true;
    fill();
  };
  const top = h("div", null), under = h("div", null);
  const drawSums = async () => {
    const { rows: sums } = await get("table", { q: chosen, by: "provider" }, signal);
    under.replaceChildren(sumsLine(chosen, [...rows.values()], next, sums));
  };
  const drawBand = found => top.replaceChildren(...(found.last_ms === null && !rows.size ? [] : [band(found)]), ...found.notices.map(text => h("p.pad.warn", { role: "status" }, text)));
  drawBand(now);
  fill();
  let again = null;
  const live = () => follow("sessions", { q: line }, first,
    {
      rows: ({ rows: found, order }) => {
        take(found, order);
        clearTimeout(again);
        again = setTimeout(() => { get("now").then(drawBand).catch(() => {}); if (chosen) drawSums().catch(() => {}); }, 1000);
      },
      state: say
    }
  );
  const open = () => { const row = cursor.chosen(); if (row?.unfold) row.unfold(); else if (row) location.hash = address("session", row.dataset.id); };
  list.addEventListener("click",
    event => {
      const row = event.target.closest("[role=row]");
      if (event.target.closest("a")) return;
      if (row?.unfold) row.unfold();
      else if (row?.dataset.id) location.hash = address("session", row.dataset.id);
    }
  );
  const pick = () => {
    const id = cursor.chosen()?.dataset.id;
    if (!rows.has(id)) return;
    toMark(id);
    for (const row of list.children) row.classList.toggle("picked", app.marked.includes(row.dataset.id));
  };
  const hasMark = row => row.querySelector(".marks .mark, .mark.bad, .mark.accent") !== null;
  return {
    title: "Sessions",
    body: h("div", null, h("h1.hidden", null, "Sessions"), top, first.rows.length || line ? filters.form : "", under, h("div.newline", null, fresh), table, more),
    ready: () => { if (globalThis.CALLSPAN_FILE) return say("file"); stop = live(); if (chosen) drawSums().catch(() => {}); },
    close: () => { stop(); clearTimeout(again); main.removeEventListener("scroll", scrolled); },
    keys: [["j k", "move"], ["j", "", () => cursor.move(1)], ["k", "", () => cursor.move(-1)], ["Enter", "open", open], ["l", "", open], ["n p", "next, previous mark"], ["n", "", () => cursor.jump(1, hasMark)], ["p", "", () => cursor.jump(-1, hasMark)],
      ["f", "filter", filters.focus], [".", "show what is new", showNew], ["x", "mark to compare", pick],
      ["c", "compare", () => { if (app.marked.length === 2) location.hash = address("compare", null, { a: app.marked[0], b: app.marked[1] }); }],
      ["y", "copy id", () => navigator.clipboard?.writeText(cursor.chosen()?.dataset.id || "")], ["r", "", () => draw()], ["Escape", "", () => { if (line) go(""); }]],
  };
};

const nothing = (line, go, known) => h("div.pad", null, line
  ? [h("p", null, "No session has ", strong(line), "."), h("p", null, button("without the filters", () => go("")))]
  : [h("p", null, "Nothing recorded yet. This page fills by itself. Run one of these in the directory of the store:"), h("pre", null, "callspan demo\ncallspan run app.py")]);
