// A session: its course on the left, its conversation on the right; selecting in one selects in the other.
import { become, h, link, mark, soft, strong, button } from "./dom.js";
import { Failure, get } from "./api.js";
import { follow } from "./live.js";
import { clock, count, least, money, most, oneLine, plural, signed, sum, time, DASH, day } from "./format.js";
import { axisOf, callPieces, dot, span, toolPiece } from "./bars.js";
import { roving, setKeys } from "./keys.js";
import { address, isMarked, say, toMark } from "./app.js";
import { callMarks, cost, outcome, scores, sessionMarks, titleOf } from "./rows.js";
import { actionText, contextOf, instructionsBox, outcomeOf, scoreLine, turnOf } from "./conversation.js";
import { isEpisode } from "./episode.js";
import { quoted } from "./filters.js";

export const facts = (row, record) => {
  const labels = [
    ["user", row.user],
    ["task", row.task],
    ["experiment", row.experiment],
    ...Object.entries(row.metadata).map(([key, value]) => [key, typeof value === "object" ? JSON.stringify(value) : value])
  ].filter(([, value]) => value !== null && value !== undefined);
  return h("div.facts", null,
    h("span", null, outcome(row), sessionMarks(row)), h("span", null, scores(row)),
    h("span", null, row.steps ? [strong(count(row.steps)), row.steps === 1 ? " step, " : " steps, "] : "", strong(count(row.calls)), row.calls === 1 ? " call" : " calls"),
    h("span", null, strong(`${count(row.input_tokens)} → ${count(row.output_tokens)}`), " tokens"),
    row.cost_usd === null ? soft("cost unknown") : strong(cost(row)),
    row.group ? h("span", null, soft("group "), h("a.linked", { href: address("", null, { q: `group:${quoted(row.group)}` }) }, row.group)) : "",
    labels.map(([name, value]) => h("span", null, soft(name), " ", strong(oneLine(value)))),
    h("span", null,
      row.start_ms === null ? "" : strong(`${day(row.start_ms) === "Today" ? "" : day(row.start_ms) + " "}${clock(row.start_ms)}`),
      row.outcome === "running" ? `, running for ${time(Date.now() - row.start_ms)}` : `, ${time(row.lasted_ms)}`,
      row.active_ms !== null ? soft(`, busy ${time(row.active_ms)}`) : ""
    ),
    row.content_level !== "full" ? soft(`content is ${row.content_level}`) : "",
    record.error ? h("span", null, mark("error", oneLine(record.error.message || record.error.type))) : "",
    h("span.id", null, row.id));
};

const NAMES = { guardrail: "check", environment: "env", tool_start: "tool", agent_start: "agent", reward: "score" };
const costOf = entry => (entry.kind === "call" ? entry.call.cost_usd : entry.sums?.cost_usd ?? null);
const label = entry => {
  const { record } = entry;
  if (entry.kind === "call") return [
    callMarks(entry.call).map(one => one),
    entry.call.error && !entry.call.label ? soft(oneLine(entry.call.error)) : oneLine(entry.call.label || entry.call.model || "")
  ];
  if (entry.kind === "reward") return scoreLine(record);
  if (entry.kind === "message") return [oneLine(typeof record.content === "string" ? record.content : JSON.stringify(record.content ?? ""))];
  if (entry.kind.startsWith("tool")) {
    const said = record.error ? record.error.message || record.error.type : record.data?.result ?? record.data?.arguments;
    return [
      record.error ? mark("error", "failed") : entry.kind === "tool_start" ? mark("running") : "",
      oneLine(record.name || "tool"),
      " ",
      soft(oneLine(typeof said === "string" ? said : JSON.stringify(said ?? "")))
    ];
  }
  if (entry.kind === "guardrail") return [record.metadata?.triggered ? mark("triggered") : soft("passed "), " ", oneLine(record.name || "")];
  if (entry.kind === "environment") return [
    record.reward !== undefined ? [h(`b.${record.reward > 0 ? "good" : record.reward < 0 ? "bad" : "none"}`, null, signed(record.reward)), " "] : "",
    soft(actionText({ record: { data: record.data?.after ?? record.data } }))
  ];
  if (entry.sums) return [
    strong(oneLine(record.name || "")),
    " ",
    record.error ? mark("error", record.error.type) : outcomeOf(record),
    soft(entry.sums.calls ? ` ${plural(entry.sums.calls, "call")}` : "")
  ];
  return [oneLine(record.name || ""), " ", record.error ? mark("error", record.error.type) : "", soft(record.data === undefined ? "" : actionText(entry))];
};

const bar = (entry, axis, now) => {
  if (entry.kind === "call") return callPieces(entry.start_ms, entry.call, axis, now);
  if (entry.lasted_ms !== null && entry.lasted_ms !== undefined) return [toolPiece(entry.start_ms, entry.lasted_ms, axis, entry.record.error)];
  return entry.kind === "reward" ? [] : [dot(entry.start_ms, axis)];
};

const entryRow = (entry, axis, now, depth) => h(`div.entry${depth ? ".depth" + Math.min(3, depth) : ""}`, { role: "treeitem", tabindex: "-1", "aria-level": depth + 2, data: { id: entry.id } },
  h("span", null, entry.kind === "message" && entry.record.message_type === "question" ? "user" : entry.kind === "message" ? entry.record.message_type : NAMES[entry.kind] || entry.kind),
  h("span", null, label(entry)),
  h("span.track", null, bar(entry, axis, now)),
  h("span.right.quiet", null, entry.kind === "call" && entry.lasted_ms === null ? time(now - entry.start_ms) : entry.lasted_ms === null || entry.lasted_ms === undefined ? "" : time(entry.lasted_ms)),
  h("span.right.quiet", null, costOf(entry) === null ? "" : money(costOf(entry))));

const IDLE_MS = 20000;
const gapsOf = rows => {
  const found = [];
  let latest = Infinity;
  for (const { start_ms, lasted_ms } of rows) {
    if (start_ms - latest > IDLE_MS) found.push([latest, start_ms]);
    latest = Math.max(latest === Infinity ? start_ms : latest, start_ms + (lasted_ms || 0));
  }
  return found;
};

// In how many agents each entry ran, of all pages: by their spans.
const nested = entries => {
  const spans = new Map(entries.filter(entry => entry.span).map(entry => [entry.span, entry]));
  for (const entry of entries) {
    const passed = new Set();
    entry.depth = 0;
    for (let above = entry.above; above && !passed.has(above); above = spans.get(above)?.above) {
      passed.add(above);
      if (spans.get(above)?.kind === "agent") entry.depth += 1;
    }
  }
  return entries;
};

// What is loaded: the entries of all pages as of one, and a step as the last page has it that has it.
const merged = (pages, from) => {
  const { session, record, curve, highlights, large, before } = pages.findLast(page => page.session), all = name => pages.flatMap(page => page[name]);
  pages.forEach((page, number) => { for (const row of page.rows) row.page = number; });
  const rows = new Map(all("rows").map(row => [row.id, row])), steps = new Map(all("steps").map(step => [step.id, step])), entries = [...rows.values()];
  const { next } = pages.at(-1), first = entries[0]?.start_ms, last = entries.at(-1)?.start_ms, used = new Set(entries.map(entry => entry.step_id));
  // Steps without entries are shown where they are between those that are loaded.
  const shown = [...steps.values()].filter(step => used.has(step.id) || ((!from || step.start_ms >= first) && (!next || step.start_ms <= last)));
  return {
    session,
    record,
    curve,
    highlights,
    large,
    before,
    from,
    next,
    rows: nested(entries),
    steps: shown.sort((a, b) => a.position - b.position),
    instructions: Object.assign({}, ...all("instructions"))
  };
};

// The tree: steps with their entries in order of time, then what belongs to no step; what came after the end is apart.
const order = data => {
  const steps = new Map(data.steps.map(step => [step.id, { step, inside: [] }])), top = [];
  const ended = data.record.end_ns ? data.record.end_ns / 1e6 : Infinity;
  for (const { step, inside } of steps.values()) {
    const parent = steps.get(step.parent_id);
    (parent && parent.inside !== inside ? parent.inside : top).push({ step, inside, at: step.start_ms ?? 0 });
  }
  const late = [];
  for (const entry of data.rows) {
    const node = { entry, at: entry.start_ms };
    if (entry.kind === "reward" && (entry.start_ms >= ended || entry.record.scope === "session")) late.push(node);
    else (steps.get(entry.step_id)?.inside || top).push(node);
  }
  const sort = nodes => { nodes.sort((a, b) => a.at - b.at); for (const node of nodes) if (node.inside) sort(node.inside); return nodes; };
  return { top: sort(top), late };
};
const entriesIn = nodes => nodes.flatMap(node => (node.entry ? [node.entry] : entriesIn(node.inside)));
const sums = nodes => {
  const calls = entriesIn(nodes).filter(entry => entry.kind === "call").map(entry => entry.call);
  return { calls: calls.length, cost: sum(calls.map(call => call.cost_usd)) };
};
const stepName = step => [strong(`${step.position} ${step.name || step.user_step_id || ""}`), step.turn !== null ? ` turn ${step.turn}` : ""];
const stepFacts = step => [
  step.reward !== null ? [" ", h(`b.${step.reward > 0 ? "good" : step.reward < 0 ? "bad" : "none"}`, null, signed(step.reward))] : "",
  !["success", null].includes(step.outcome) ? [" ", mark(step.outcome === "cancelled" ? "cancelled" : "error", step.outcome)] : "",
  step.terminated ? soft(" terminated") : step.truncated ? soft(" truncated") : ""
];

// Each page of entries has an axis of its own, so that what is drawn stays as it is when the next one comes in.
const axesOf = (data, late, now) => {
  const after = new Set(late.map(node => node.entry)), pages = [];
  for (const entry of data.rows) (pages[entry.page] ||= []).push(entry);
  return pages.map((rows, number) => {
    const timed = rows.filter(entry => !after.has(entry)), first = number || data.from ? Infinity : data.session.start_ms ?? Infinity;
    const start = Math.min(first, least(rows.map(entry => entry.start_ms)));
    const end = Math.max(start + 1, most(timed.map(entry => entry.start_ms + (entry.lasted_ms ?? (entry.kind === "call" ? now - entry.start_ms : 0)))));
    const axis = axisOf(start, end, gapsOf(rows));
    return { ...axis, start, key: [start, end, axis.cut].join() };
  });
};
const axisRow = (axis, number) => {
  const gapMarks = axis.cut.map(([from, to]) => h("span", { style: { left: `${axis.at(from)}%`, transform: "translateX(-40%)" } }, `⋯ ${time(to - from)} idle`));
  return h("div.entry.axisline", { role: "presentation" }, h("span", null, number ? `from ${clock(axis.start)} on` : "steps, calls, tools"),
    h("span.track", null, h("span", { style: { left: 0 } }, "0"), gapMarks,
      gapMarks.length ? "" : h("span", { style: { right: 0 } }, `${time(axis.busy)}`)
    ),
    h("span.right", null, "time"),
    h("span.right", null, "cost")
  );
};
const stepRow = ({ step, all, shut }, axis, now, depth, toggle) => h(`div.entry.step${depth ? ".depth" + Math.min(3, depth) : ""}`, { role: "treeitem", tabindex: "-1", "aria-level": depth + 1, "aria-expanded": String(!shut), data: { id: step.id, step: "1" } },
  h("span", null,
    button(shut ? "▸" : "▾", () => toggle(step.id), { class: "plain", tabindex: "-1", "aria-label": shut ? "open the step" : "fold the step" }),
    " ",
    stepName(step),
    stepFacts(step)
  ),
  h("span.track", null, step.start_ms === null ? "" : span(step.start_ms, step.start_ms + (step.lasted_ms ?? now - step.start_ms), axis)),
  h("span.right", null, time(step.lasted_ms ?? (step.start_ms === null ? null : now - step.start_ms))), h("span.right", null, all.cost === null ? "" : money(all.cost)));

// The rows of the tree; `drawn` has those that were drawn before, which stay the same where nothing in them has changed.
const courseOf = (data, folded, toggle, drawn) => {
  const now = Date.now(), { top, late } = order(data), axes = axesOf(data, late, now), rows = [];
  let page = -1;
  const draw = (id, key, runs, make) => {
    const axis = axes[page], known = drawn.get(id);
    if (!runs && known && known.axis === axis.key && known.key.every((one, at) => one === key[at])) { rows.push(known.row); return; }
    const row = make(axis);
    row.querySelector(".track")?.prepend(
      ...axis.cut.map(([from, to]) => h("i.gap", { style: { left: `${axis.at(from)}%`, width: `${axis.at(to) - axis.at(from)}%` } }))
    );
    drawn.set(id, { axis: axis.key, key, row });
    rows.push(row);
  };
  // Where a page begins, its axis stands.
  const turn = number => {
    if (number <= page || !axes[number]) return;
    page = number;
    draw(`axis ${page}`, [], false, axis => axisRow(axis, page));
  };
  const entryOf = (entry, depth) => draw(entry.id, [entry, entry.depth + depth], entry.lasted_ms === null, axis => entryRow(entry, axis, now, depth + entry.depth));
  const walk = (nodes, depth) => {
    for (const node of nodes) {
      if (node.entry) { turn(node.entry.page); entryOf(node.entry, depth); continue; }
      const { step } = node, all = sums(node.inside), shut = folded.has(step.id);
      turn(entriesIn(node.inside)[0]?.page ?? 0);
      draw(step.id, [JSON.stringify([step, all]), shut, depth], step.lasted_ms === null, axis => stepRow({ step, all, shut }, axis, now, depth, toggle));
      if (!shut) walk(node.inside, depth + 1);
    }
  };
  if (!axes.length) axes.push(axisOf(0, 1));
  turn(0);
  walk(top, 0);
  if (late.length) {
    draw("after the end", [], false, () => h("div.entry.step", { role: "presentation" }, strong("after the end")));
    for (const { entry } of late) entryOf(entry, 0);
  }
  return rows;
};

// With `rows`, which are the last ones, only what is said in these.
const conversationOf = (data, rows) => {
  const used = rows && new Set(rows.map(entry => entry.step_id)), part = rows ? { ...data, rows, steps: data.steps.filter(step => used.has(step.id)) } : data;
  const { top, late } = order(part), context = contextOf(data.rows, data.instructions), found = [];
  const first = data.rows.find(entry => entry.turn?.instructions)?.turn.instructions;
  const same = new Set(data.rows.filter(entry => entry.turn?.instructions).map(entry => entry.turn.instructions)).size === 1;
  if (rows) context.instructions = data.rows.slice(0, -rows.length).findLast(entry => entry.turn?.instructions)?.turn.instructions;
  else if (first && !data.from) { found.push(instructionsBox(data.instructions[first], same && !data.next ? `all ${plural(data.session.calls, "call")}` : "")); context.instructions = first; }
  const walk = nodes => {
    for (const node of nodes) {
      if (node.entry) { found.push(...turnOf(node.entry, context)); continue; }
      const { step } = node, all = sums(node.inside);
      found.push(
        h("div.stepline", { data: { entry: step.id } }, h("span", null, stepName(step), stepFacts(step)),
          soft(clock(step.start_ms)),
          h("span.right.soft", null,
            [all.calls ? plural(all.calls, "call") : "", all.cost === null ? "" : money(all.cost), time(step.lasted_ms)].filter(Boolean).join("  ")
          )
        )
      );
      walk(node.inside);
    }
  };
  walk(top);
  if (late.length) found.push(h("div.stepline", null, strong("after the end"), h("span.right.soft", null, plural(late.length, "score"))), ...late.flatMap(node => turnOf(node.entry, context)));
  return found;
};

export default async ({ place, app, signal }) => {
  const from = globalThis.CALLSPAN_FILE ? "" : place.values.step || "", pages = [await get("session", { id: place.id, step: from }, signal)];
  let data = merged(pages, from), stop = () => {}, held = null, reasoningOpen = false, raw = false, loading = false, closed = false;
  const id = data.session.id, folded = new Set(), drawn = new Map();
  const titlebar = h("div.titlebar");
  const course = h("div", { "aria-label": "Course", tabindex: "-1" });
  const end = h("div.pad.end");
  const left = h("div", null, course, end);
  const right = h("section", { "aria-label": "Conversation", tabindex: "0" });
  const panes = h("div.panes.two", null, left, right), fresh = button("", () => take(held), { class: "new", hidden: true });
  const table = isEpisode(data);
  course.setAttribute("role", table ? "region" : "tree");
  const tab = (name, which) => button(name,
    () => {
      panes.className = `panes ${which}`;
      for (const one of tabs.children) one.setAttribute("aria-selected", String(one.textContent === name));
    },
    { role: "tab", "aria-selected": String(which === "two") }
  );
  const tabs = h("div.tabs", { role: "tablist" }, tab("Course", "one"), tab("Conversation", "two"));
  const show = row => {
    if (table) { right.replaceChildren(...table.detail(data, row)); table.showBand(course, data, row); return; }
    for (const one of right.querySelectorAll(".picked")) one.classList.remove("picked");
    const found = right.querySelector(`[data-entry="${CSS.escape(row.dataset.id)}"]`) || (joined(row.dataset.id) && right.querySelector(`[data-entry="${CSS.escape(joined(row.dataset.id))}"]`));
    if (found) { found.classList.add("picked"); found.scrollIntoView({ block: "nearest" }); }
  };
  // A tool's run is drawn with the call that asked for it.
  const joined = of => {
    const tool = data.rows.find(entry => entry.id === of)?.record?.tool_call_id;
    return tool && data.rows.find(entry => entry.turn?.answer.some(message => message.parts.some(one => one.type === "tool_call" && one.id === tool)))?.id;
  };
  const cursor = roving(course, { choose: show });
  right.addEventListener("click", event => {
    const entry = event.target.closest("[data-entry]");
    if (entry && !event.target.closest("a, summary, button") && !table) cursor.select(course.querySelector(`[data-id="${CSS.escape(entry.dataset.entry)}"]`), { still: true });
  });
  const toggle = step => { if (folded.has(step)) folded.delete(step); else folded.add(step); drawLeft(); };
  const drawLeft = () => {
    const kept = cursor.chosen()?.dataset.id, inside = course.contains(document.activeElement);
    if (table) course.replaceChildren(...table.course(data)); else become(course, courseOf(data, folded, toggle, drawn));
    if (kept) cursor.select(course.querySelector(`[data-id="${CSS.escape(kept)}"]`), { quiet: true, still: !inside });
    cursor.settle();
  };
  // Chooses the row of a step, if it is loaded.
  const pick = ({ position }) => {
    const row = [...course.querySelectorAll("[data-first]")].find(one => one.dataset.first <= position && position <= one.dataset.last);
    cursor.select(row);
    return row !== undefined;
  };
  const drawEnd = () => {
    end.hidden = !data.next && !from;
    end.replaceChildren(
      ...[
        data.next && button(`the next ${table ? "steps" : "entries"}`, load),
        from && link(address("session", id), "from the beginning"),
        !globalThis.CALLSPAN_FILE && data.session.steps > 1 && jump()
      ].filter(Boolean)
    );
  };
  const jump = () => {
    const field = h("input", { type: "number", min: "0", max: String(data.session.steps - 1), "aria-label": "Number of a step", value: from });
    const go = event => { event.preventDefault(); if (field.value) location.hash = address("session", id, { step: field.value }); };
    return h("form", { onsubmit: go }, "from step ", field, " ", h("button", { type: "submit" }, "go"));
  };
  // The next page comes in behind what is loaded: runs of equal steps go on across pages.
  const load = async () => {
    if (loading || !data.next) return;
    loading = true;
    try {
      const page = await get("session", { id, after: data.next }, signal);
      if (closed) return;
      take(held);
      pages.push(page);
      for (const pane of [left, right]) pane.classList.add("many");
      listen();
      data = merged(pages, from);
      drawLeft();
      drawEnd();
      if (!table) right.append(...conversationOf(data, page.rows));
      open();
    } catch (error) {
      if (closed) return;
      if (!(error instanceof Failure)) throw error;
      drawEnd();
      end.append(mark("error", error.message));
    } finally { loading = false; }
  };
  const near = ({ currentTarget: pane }) => { if (pane.scrollTop + pane.clientHeight > pane.scrollHeight - 600) load(); };
  for (const pane of [left, right]) pane.addEventListener("scroll", near, { passive: true });
  // What changes is followed on the last page that is loaded.
  const listen = () => {
    stop();
    if (globalThis.CALLSPAN_FILE) return;
    const query = pages.length > 1 ? { id, after: pages.at(-2).next, head: "1" } : { id: place.id, step: from };
    stop = follow("session", query, pages.at(-1), { rows: changed, state: say });
  };
  const said = () => JSON.stringify([data.session, data.record, data.curve]);
  const redraw = () => {
    const places = [left.scrollTop, right.scrollTop];
    drawAll();
    [left.scrollTop, right.scrollTop] = places;
  };
  const drawAll = () => {
    titlebar.replaceChildren(h("h1", null, link("#/", "Sessions"), soft(" / "), strong(data.session.name || "session"), " ", soft(oneLine(titleOf(data.session)))), facts(data.session, data.record));
    drawLeft();
    drawEnd();
    if (!table) right.replaceChildren(...conversationOf(data));
    else if (!cursor.chosen()) right.replaceChildren(...table.opening(data, pick));
    else table.showBand(course, data, cursor.chosen());
    open();
  };
  const open = () => { for (const one of right.querySelectorAll(".reasoning")) one.open = reasoningOpen; };
  const take = changes => {
    if (!changes) return;
    held = null;
    fresh.hidden = true;
    const last = pages.at(-1), rows = new Map([...last.rows, ...changes.rows].map(row => [row.id, row]));
    const seen = said(), number = last.rows.length;
    Object.assign(last, changes.head, { rows: changes.order.map(one => rows.get(one)).filter(Boolean) });
    data = merged(pages, from);
    // What is followed behind a page that came in says of the whole session what is shown already.
    if (changes.rows.length || last.rows.length !== number || said() !== seen) redraw();
  };
  // What is new comes in by itself while nobody has chosen a row; else on a key.
  const changed = changes => {
    if (held) changes = { ...changes, head: { ...held.head, ...changes.head }, rows: [...held.rows, ...changes.rows] };
    if (!cursor.chosen() || !changes.rows.length) return take(changes);
    held = changes;
    fresh.hidden = false;
    fresh.replaceChildren(plural(changes.rows.length, "new entry", "new entries"), " ", h("kbd", null, "."));
  };
  const neighbour = by => { const at = app.order.indexOf(id); const next = at >= 0 && app.order[at + by]; if (next) location.hash = address("session", next); };
  const enter = () => {
    const row = cursor.chosen();
    if (row?.dataset.step) return toggle(row.dataset.step);
    const call = row && (
      table
        ? table.callOf(data, row)
        : data.rows.find(entry => entry.id === row.dataset.id)?.kind === "call"
        ? row.dataset.id
        : joined(row.dataset.id)
    );
    if (call) location.hash = address("call", call);
  };
  const isMark = row => row.querySelector(table ? "b.good" : ".mark");
  drawAll();
  const other = () => app.marked.find(one => one !== id);
  const compare = () => { if (other()) location.hash = address("compare", null, { a: other(), b: id }); };
  const keys = () => [["j k", table ? "step" : "row"], ["j", "", () => cursor.move(1)], ["k", "", () => cursor.move(-1)],
    ["h l", table ? "" : "fold, open"],
    [
      "h",
      "",
      () => {
        const row = cursor.chosen();
        if (row?.dataset.step && !folded.has(row.dataset.step)) toggle(row.dataset.step);
        else cursor.jump(-1, one => one.dataset.step);
      }
    ],
    ["l", table ? "open the step's call" : "", enter], ["Enter", "", enter],
    ["Tab", "conversation"], ["r", "reasoning", () => { reasoningOpen = !reasoningOpen; open(); }],
    [
      "b",
      "bodies",
      () => {
        raw = !raw;
        for (const box of right.querySelectorAll(".box")) {
          box.nextElementSibling?.matches(".raw") && box.nextElementSibling.remove();
          if (raw) box.after(h("pre.raw", null, box.dataset.raw || ""));
        }
      }
    ],
    ["n p", table ? "next, previous reward" : "next, previous mark"], ["n", "", () => cursor.jump(1, isMark)], ["p", "", () => cursor.jump(-1, isMark)],
    ["[ ]", "other session"], ["[", "", () => neighbour(-1)], ["]", "", () => neighbour(1)], [".", "", () => take(held)],
    ["x", isMarked(id) ? "marked to compare" : "mark to compare", () => { toMark(id); setKeys(keys()); }], ["c", other() ? "compare with the marked one" : "", compare],
    ["y", "copy id", () => navigator.clipboard?.writeText(cursor.chosen()?.dataset.id || id)], ["Escape", "back", () => { location.hash = "#/"; }]];
  let ticking = null;
  return {
    title: oneLine(`${data.session.name || "session"} ${titleOf(data.session)}`).slice(0, 80),
    body: h("div", null, titlebar, tabs, h("div.newline", null, fresh), panes),
    ready: () => {
      if (table && from) cursor.select(course.querySelector("[data-first]"), { still: true });
      if (globalThis.CALLSPAN_FILE) return say("file");
      listen();
      if (data.session.outcome === "running") ticking = setInterval(() => { if (data.session.outcome === "running" && !document.hidden) drawLeft(); }, 1000);
    },
    close: () => { closed = true; stop(); clearInterval(ticking); },
    keys: keys(),
  };
};
