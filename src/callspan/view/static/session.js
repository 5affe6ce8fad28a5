// A session: its course on the left, its conversation on the right; selecting in one selects in the other.
import { address, become, copy, h, link, mark, right, soft, strong, button } from "./dom.js";
import { get } from "./api.js";
import { clock, count, day, known, least, money, most, oneLine, plural, sum, time, ms } from "./format.js";
import { axisOf, callPieces, dot, gapsOf, span, toolPiece } from "./bars.js";
import { roving } from "./keys.js";
import { isMarked, readMore, redraw, showKeys, title, toMark } from "./app.js";
import { callMarks, cost, elapsedMs, isRunning, lastedMs, outcome, scores, sessionMarks, titleOf } from "./rows.js";
import { actionText, contextOf, instructionsBox, observationText, rewardText, scoreLine, turnOf } from "./conversation.js";
import { ratingBox } from "./rate.js";
import { isEpisode } from "./episode.js";
import { quoted } from "./filters.js";

const facts = (row, record, models, minute) => {
  const metadata = Object.entries(row.metadata).map(([key, value]) => [key, typeof value === "object" ? JSON.stringify(value) : value]);
  const labels = [["user", row.user_id], ["task", row.task_id], ["experiment", row.experiment], ...metadata].filter(([, value]) => known(value));
  const began = row.start_ns === null ? "" : `${day(ms(row.start_ns)) === "Today" ? "" : day(ms(row.start_ns)) + " "}${clock(ms(row.start_ns))}`;
  return h("div.facts", null,
    h("span", null, outcome(row), sessionMarks(row)), h("span", null, scores(row)),
    h("span", null, row.timesteps ? [strong(count(row.timesteps)), row.timesteps === 1 ? " step, " : " steps, "] : "", strong(count(row.calls)), row.calls === 1 ? " call" : " calls"),
    models.length ? h("span", null, soft(models.length === 1 ? "model " : "models "), strong(models.join(", "))) : "",
    h("span", null, strong(`${count(row.input_tokens)} → ${count(row.output_tokens)}`), " tokens"),
    row.cost_usd === null ? soft("cost unknown") : strong(cost(row)),
    minute,
    row.group_id ? h("span", null, soft("group "), h("a.linked", { href: address("", null, { q: `group:${quoted(row.group_id)}` }) }, row.group_id)) : "",
    labels.map(([name, value]) => h("span", null, soft(name), " ", strong(oneLine(value)))),
    h("span", null, strong(began), row.outcome === "in_progress" ? `, in progress for ${time(Date.now() - ms(row.start_ns))}` : `, ${time(ms(row.duration_ns))}`,
      row.active_ns !== null && soft(`, busy ${time(ms(row.active_ns))}`)),
    row.content_level !== "full" ? soft(`content is ${row.content_level}`) : "",
    record.error ? h("span", null, mark("error", oneLine(record.error.message || record.error.type))) : "",
    h("span.id", null, row.session_id));
};

// What a minute of a voice session costs, by wall-clock time.
const minuteOf = ({ session: row, rows, is_voice }) => {
  if (!is_voice) return "";
  const usd = row.cost_usd === null || !row.duration_ns ? null : row.cost_usd / ms(row.duration_ns) * 60000;
  return h("span", null, strong(cost({ ...row, cost_usd: usd })), " a minute", rows.some(entry => entry.call?.cost_estimated) && soft(", estimated"));
};
const modelsOf = rows => [...new Set(rows.map(entry => entry.call?.model).filter(Boolean))].sort();
const SPEAKERS = { user: "user", assistant: "model" };
const NAMES = { guardrail: "check", environment: "env", tool_start: "tool", agent_start: "agent", reward: "score" };
const costOf = entry => (entry.kind === "call" ? entry.call.cost_usd : entry.inside ? sum(entry.inside.map(call => call.cost_usd)) : null);
const label = (entry, runs) => {
  const { record } = entry;
  if (entry.kind === "call") return [
    entry.turn.voice?.is_barge_in ? mark("cancelled", "barge-in") : callMarks(entry.call),
    entry.call.error && !entry.call.output ? soft(oneLine(entry.call.error)) : oneLine(entry.call.output || "")
  ];
  if (entry.kind === "reward") return scoreLine(record);
  if (entry.kind === "message") return [oneLine(typeof record.content === "string" ? record.content : JSON.stringify(record.content ?? ""))];
  if (entry.kind.startsWith("tool")) {
    const said = record.error ? record.error.message || record.error.type : record.data?.result ?? record.data?.arguments;
    const state = record.error ? mark("error", "failed") : entry.kind === "tool_start" && runs && mark("in progress");
    return [state, oneLine(record.name || "tool"), " ", soft(oneLine(typeof said === "string" ? said : JSON.stringify(said ?? "")))];
  }
  if (entry.kind === "guardrail") return [record.metadata?.triggered ? mark("triggered") : soft("passed "), " ", oneLine(record.name || "")];
  if (entry.kind === "environment") return [record.reward !== undefined && [rewardText(record.reward), " "], soft(observationText(entry))];
  const failed = record.error && mark("error", record.error.type);
  if (entry.kind === "agent") return [strong(oneLine(record.name || "")), " ", failed, soft(entry.inside?.length ? ` ${plural(entry.inside.length, "call")}` : "")];
  return [oneLine(record.name || ""), " ", failed, soft(record.data === undefined ? "" : actionText(entry))];
};

const bar = (entry, axis, now) => {
  if (entry.kind === "call") return callPieces(ms(entry.start_ns), entry.call, axis, now);
  if (known(entry.duration_ns)) return [toolPiece(ms(entry.start_ns), ms(entry.duration_ns), axis, entry.record.error)];
  return entry.kind === "reward" ? [] : [dot(ms(entry.start_ns), axis)];
};

// How long an entry took; null if that is unknown. Only a call that runs is measured by the clock.
const entryMs = (entry, now) => (entry.kind === "call" ? elapsedMs(ms(entry.duration_ns), ms(entry.start_ns), isRunning(entry.call), now) : ms(entry.duration_ns));
const entryRow = (entry, axis, { now, runs }, depth) => h(`div.entry${depth ? ".depth" + Math.min(3, depth) : ""}`, { role: "treeitem", tabindex: "-1", "aria-level": depth + 2, data: { id: entry.id } },
  h("span", null, entry.turn?.voice ? SPEAKERS[entry.turn.voice.speaker] : entry.kind === "message" && entry.record.message_type === "question" ? "user" : entry.kind === "message" ? entry.record.message_type : NAMES[entry.kind] || entry.kind),
  h("span", null, label(entry, runs)),
  h("span.track", null, bar(entry, axis, now)),
  h("span.right.quiet", null, known(entryMs(entry, now)) ? time(entryMs(entry, now)) : ""),
  h("span.right.quiet", null, costOf(entry) === null ? "" : money(costOf(entry))));

// In how many agents each entry ran, of all pages, and the calls inside each agent that has ended by `last`: by their spans.
const nested = (entries, last) => {
  const spans = new Map(entries.filter(entry => entry.span_id).map(entry => [entry.span_id, entry]));
  for (const entry of entries) entry.inside = entry.kind === "agent" && ms(entry.start_ns) + (ms(entry.duration_ns) || 0) < last ? [] : null;
  for (const entry of entries) {
    const passed = new Set();
    entry.depth = 0;
    for (let above = entry.parent_span_id; above && !passed.has(above); above = spans.get(above)?.parent_span_id) {
      const around = spans.get(above);
      passed.add(above);
      if (around?.kind === "agent") entry.depth += 1;
      if (entry.call) around?.inside?.push(entry.call);
    }
  }
  return entries;
};

// What is read: the entries of all pages as of one, and a step as the last page has it that has it.
const merged = pages => {
  const { session, record, curve, is_voice } = pages[0], all = name => pages.flatMap(page => page[name]);
  pages.forEach((page, number) => { for (const row of page.rows) row.page = number; });
  const rows = new Map(all("rows").map(row => [row.id, row])), steps = new Map(all("steps").map(step => [step.timestep_id, step])), entries = [...rows.values()];
  const { next } = pages.at(-1), last = ms(entries.at(-1)?.start_ns), used = new Set(entries.map(entry => entry.timestep_id));
  // Steps without entries are shown where they are between those that are loaded.
  const shown = [...steps.values()].filter(step => used.has(step.timestep_id) || !next || ms(step.start_ns) <= last).sort((a, b) => a.timestep_position - b.timestep_position);
  return { session, record, curve, is_voice, next, rows: nested(entries, next ? last : Infinity), steps: shown, instructions: Object.assign({}, ...all("instructions")) };
};

// The tree: steps with their entries in order of time, then what belongs to no step; what came after the end is apart.
const order = data => {
  const steps = new Map(data.steps.map(step => [step.timestep_id, { step, inside: [] }])), top = [];
  const ended = ms(data.record.end_ns) ?? Infinity;
  for (const { step, inside } of steps.values()) {
    const parent = steps.get(step.parent_timestep_id);
    (parent && parent.inside !== inside ? parent.inside : top).push({ step, inside, at: ms(step.start_ns) ?? 0 });
  }
  const late = [];
  for (const entry of data.rows) {
    const node = { entry, at: entry.turn?.voice ? ms(entry.turn.voice.at_ns) : ms(entry.start_ns) };
    if (entry.kind === "reward" && (ms(entry.start_ns) >= ended || entry.record.scope === "session")) late.push(node);
    else (steps.get(entry.timestep_id)?.inside || top).push(node);
  }
  const sort = nodes => { nodes.sort((a, b) => a.at - b.at); for (const node of nodes) if (node.inside) sort(node.inside); return nodes; };
  return { top: sort(top), late };
};
const entriesIn = nodes => nodes.flatMap(node => (node.entry ? [node.entry] : entriesIn(node.inside)));
const sums = nodes => {
  const calls = entriesIn(nodes).filter(entry => entry.kind === "call").map(entry => entry.call);
  return { calls: calls.length, cost: sum(calls.map(call => call.cost_usd)) };
};
const stepName = step => [strong(`${step.timestep_position} ${step.name || step.user_step_id || ""}`), step.turn !== null ? ` turn ${step.turn}` : ""];
const stepFacts = step => [
  step.reward !== null ? [" ", rewardText(step.reward)] : "",
  !["success", null].includes(step.outcome) ? [" ", mark(step.outcome === "cancelled" ? "cancelled" : "error", step.outcome)] : "",
  step.terminated ? soft(" terminated") : step.truncated ? soft(" truncated") : ""
];

// Each page of entries has an axis of its own, so that what was drawn looks the same when the next one comes in.
const axesOf = (data, late, now) => {
  const after = new Set(late.map(node => node.entry)), pages = [];
  for (const entry of data.rows) (pages[entry.page] ||= []).push(entry);
  return pages.map((rows, number) => {
    const timed = rows.filter(entry => !after.has(entry)), first = number ? Infinity : ms(data.session.start_ns) ?? Infinity;
    const start = Math.min(first, least(rows.map(entry => ms(entry.start_ns))));
    const end = Math.max(start + 1, most(timed.map(entry => ms(entry.start_ns) + (entry.kind === "call" ? lastedMs(entry.call, ms(entry.start_ns), now) : ms(entry.duration_ns) ?? 0))));
    return { ...axisOf(start, end, gapsOf(rows.map(entry => [ms(entry.start_ns), ms(entry.duration_ns)]))), start };
  });
};
const FEW_GAPS = 3;
const axisRow = (axis, number) => {
  const { length } = axis.cut, said = `${time(axis.busy)}${length ? ` and ${plural(length, "idle time")}` : ""}`;
  const gapMarks = axis.cut.map(([from, to]) => h("span", { style: { left: `${axis.at(from)}%`, transform: "translateX(-40%)" } }, `⋯ ${time(to - from)} idle`));
  const ends = [h("span", { style: { left: 0 } }, "0"), length && length <= FEW_GAPS ? gapMarks : h("span", { style: { right: 0 } }, said)];
  return h("div.entry.axisline", { role: "presentation" }, h("span", null, number ? `from ${clock(axis.start)} on` : "steps, calls, tools"),
    h("span.track", null, ends), right("time"), right("cost"));
};
const stepMs = (step, runs, now) => elapsedMs(ms(step.duration_ns), ms(step.start_ns), runs, now);
const stepRow = ({ step, all, shut, runs }, axis, now, depth, toggle) => h(`div.entry.step${depth ? ".depth" + Math.min(3, depth) : ""}`, { role: "treeitem", tabindex: "-1", "aria-level": depth + 1, "aria-expanded": String(!shut), data: { id: step.timestep_id, step: "1" } },
  h("span", null, button(shut ? "▸" : "▾", () => toggle(step.timestep_id), { class: "plain", tabindex: "-1", "aria-label": shut ? "open the step" : "fold the step" }), " ", stepName(step), stepFacts(step)),
  h("span.track", null, step.start_ns === null ? "" : span(ms(step.start_ns), ms(step.start_ns) + (stepMs(step, runs, now) ?? 0), axis)),
  h("span.right", null, time(stepMs(step, runs, now))), h("span.right", null, all.cost === null ? "" : money(all.cost)));

// The rows of the tree.
const courseOf = (data, folded, toggle) => {
  const now = Date.now(), { top, late } = order(data), axes = axesOf(data, late, now), rows = [], runs = data.session.outcome === "in_progress";
  let page = -1;
  const add = row => {
    row.querySelector(".track")?.prepend(
      ...axes[page].cut.map(([from, to]) => h("i.gap", { style: { left: `${axes[page].at(from)}%`, width: `${axes[page].at(to) - axes[page].at(from)}%` } }))
    );
    rows.push(row);
  };
  // Where a page begins, its axis stands.
  const turn = number => {
    if (number <= page || !axes[number]) return;
    page = number;
    add(axisRow(axes[page], page));
  };
  const entryOf = (entry, depth) => add(entryRow(entry, axes[page], { now, runs }, depth + entry.depth));
  const walk = (nodes, depth) => {
    for (const node of nodes) {
      if (node.entry) { turn(node.entry.page); entryOf(node.entry, depth); continue; }
      const { step } = node, shut = folded.has(step.timestep_id);
      turn(entriesIn(node.inside)[0]?.page ?? 0);
      add(stepRow({ step, all: sums(node.inside), shut, runs }, axes[page], now, depth, toggle));
      if (!shut) walk(node.inside, depth + 1);
    }
  };
  if (!axes.length) axes.push(axisOf(0, 1));
  turn(0);
  walk(top, 0);
  if (late.length) {
    rows.push(h("div.entry.step", { role: "presentation" }, strong("after the end")));
    for (const { entry } of late) entryOf(entry, 0);
  }
  return rows;
};

const allCalls = calls => (calls === 1 ? "" : `all ${count(calls)} calls`);
const conversationOf = data => {
  const { top, late } = order(data), context = contextOf(data.rows, data.instructions), found = [];
  const instructed = data.rows.filter(entry => entry.turn?.instructions).map(entry => entry.turn.instructions), [first] = instructed;
  if (first) {
    found.push(instructionsBox(data.instructions[first], new Set(instructed).size === 1 && !data.next ? allCalls(data.session.calls) : ""));
    context.instructions = first;
  }
  const walk = nodes => {
    for (const node of nodes) {
      if (node.entry) { found.push(...turnOf(node.entry, context)); continue; }
      const { step } = node, all = sums(node.inside);
      const sum = [all.calls ? plural(all.calls, "call") : "", all.cost === null ? "" : money(all.cost), time(ms(step.duration_ns))].filter(Boolean).join("  ");
      found.push(h("div.stepline", { data: { entry: step.timestep_id } }, h("span", null, stepName(step), stepFacts(step)), soft(clock(ms(step.start_ns))), h("span.right.soft", null, sum)));
      walk(node.inside);
    }
  };
  walk(top);
  if (late.length) found.push(h("div.stepline", null, strong("after the end"), h("span.right.soft", null, plural(late.length, "score"))), ...late.flatMap(node => turnOf(node.entry, context)));
  return found;
};

export default ({ place, app, signal }) => {
  const { id } = place, folded = new Set();
  let data = null, table = null, reasoningOpen = false, raw = false, least = 1;
  const titlebar = h("div.titlebar"), course = h("div", { "aria-label": "Course", tabindex: "-1" }), end = h("div.pad.end");
  const left = h("div", null, course, end), right = h("section", { "aria-label": "Conversation", tabindex: "0" }), panes = h("div.panes.two", null, left, right);
  const turnTo = (name, which) => {
    panes.className = `panes ${which}`;
    for (const one of tabs.children) one.setAttribute("aria-selected", String(one.textContent === name));
  };
  const tab = (name, which) => button(name, () => turnTo(name, which), { role: "tab", "aria-selected": String(which === "two") });
  const tabs = h("div.tabs", { role: "tablist" }, tab("Course", "one"), tab("Conversation", "two"));
  const rowOf = of => course.querySelector(`[data-id="${CSS.escape(of)}"]`), turnIn = of => right.querySelector(`[data-entry="${CSS.escape(of)}"]`);
  const choose = row => {
    if (table) { drawRight(); return; }
    for (const one of right.querySelectorAll(".picked")) one.classList.remove("picked");
    const turn = turnIn(row.dataset.id) || turnIn(joined(row.dataset.id) || "");
    if (turn) { turn.classList.add("picked"); turn.scrollIntoView({ block: "nearest" }); }
  };
  // A tool's run is drawn with the call that asked for it, the last one before it.
  const joined = of => {
    const at = data.rows.findIndex(entry => entry.id === of), tool = data.rows[at]?.record?.tool_call_id;
    const asks = entry => entry.turn?.answer.some(message => message.parts.some(one => one.type === "tool_call" && one.id === tool));
    return tool && (data.rows.slice(0, at).findLast(asks) || data.rows.find(asks))?.id;
  };
  const cursor = roving(course, { choose });
  right.addEventListener("click", event => {
    const entry = event.target.closest("[data-entry]");
    if (entry && !event.target.closest("a, summary, button") && !table) cursor.select(rowOf(entry.dataset.entry), { still: true });
  });
  const toggle = step => { if (!folded.delete(step)) folded.add(step); redraw(); };
  const drawEnd = () => {
    end.hidden = !data.next;
    become(end, data.next && button(`the next ${table ? "steps" : "entries"}`, readMore));
  };
  const drawRight = () => {
    const row = cursor.chosen();
    become(right, !table ? conversationOf(data) : row ? table.detail(data, row) : table.opening(data));
    if (table && row) table.showBand(course, data, row);
    if (reasoningOpen) openReasoning();
    if (raw) for (const box of right.querySelectorAll(".box")) if (!box.nextElementSibling?.matches(".raw")) box.after(h("pre.raw", null, box.dataset.raw || ""));
  };
  const openReasoning = () => { for (const one of right.querySelectorAll(".reasoning")) one.open = reasoningOpen; };
  const show = pages => {
    data = merged(pages);
    table = isEpisode(data);
    title(oneLine(`${data.session.name || "session"} ${titleOf(data.session)}`).slice(0, 80));
    course.setAttribute("role", table ? "region" : "tree");
    for (const pane of [left, right]) pane.classList.toggle("many", pages.length > 1);
    become(titlebar, h("h1", null, link("#/", "Sessions"), soft(" / "), strong(data.session.name || "session"), " ", soft(oneLine(titleOf(data.session)))), facts(data.session, data.record, modelsOf(data.rows), minuteOf(data)));
    become(course, table ? table.course(data) : courseOf(data, folded, toggle));
    cursor.settle();
    drawEnd();
    drawRight();
  };
  const near = ({ currentTarget: pane }) => { if (data.next && pane.scrollTop + pane.clientHeight > pane.scrollHeight - 600) readMore(); };
  for (const pane of [left, right]) pane.addEventListener("scroll", near, { passive: true });
  // The pages that are shown, or one more behind those that are known.
  const read = async known => {
    const pages = known ? [...known] : [await get("session", { id }, signal)];
    if (known) least = pages.length + 1;
    while (pages.length < least && pages.at(-1).next) pages.push(await get("session", { id, after: pages.at(-1).next }, signal));
    return pages;
  };
  const neighbour = by => { const at = app.order.indexOf(id), other = at >= 0 && app.order[at + by]; if (other) location.hash = address("session", other); };
  const enter = () => {
    const row = cursor.chosen();
    if (row?.dataset.step) return toggle(row.dataset.step);
    const isCall = row && data.rows.find(entry => entry.id === row.dataset.id)?.kind === "call";
    const call = row && (table ? table.callOf(data, row) : isCall ? row.dataset.id : joined(row.dataset.id));
    if (call) location.hash = address("call", call);
  };
  const fold = () => {
    const row = cursor.chosen();
    if (row?.dataset.step && !folded.has(row.dataset.step)) toggle(row.dataset.step);
    else cursor.jump(-1, one => one.dataset.step);
  };
  const bodies = () => {
    raw = !raw;
    if (!raw) for (const one of right.querySelectorAll(".box + .raw")) one.remove();
    drawRight();
  };
  const isMark = row => row.querySelector(table ? "b.good" : ".mark"), other = () => app.marked.find(one => one !== id);
  const compare = () => { if (other()) location.hash = address("compare", null, { a: other(), b: id }); };
  return {
    body: h("div", null, titlebar, globalThis.CALLSPAN_FILE ? "" : h("details.rating", null, h("summary", null, "rate this session"), ratingBox({ session: id })), tabs, panes),
    read,
    show,
    runs: () => data.session.outcome === "in_progress",
    keys: () => [...cursor.keys(table ? "step" : "row"),
      ["h l", table ? "" : "fold, open"], ["h", "", fold], ["l", table ? "open the step's call" : "", enter], ["Enter", "", enter],
      ["Tab", "conversation"], ["r", "reasoning", () => { reasoningOpen = !reasoningOpen; openReasoning(); }], ["b", "bodies", bodies],
      ...cursor.marks(isMark, table ? "reward" : "mark"),
      ["[ ]", "other session"], ["[", "", () => neighbour(-1)], ["]", "", () => neighbour(1)],
      ["x", isMarked(id) ? "marked to compare" : "mark to compare", () => { toMark(id); showKeys(); }], ["c", other() ? "compare with the marked one" : "", compare],
      ["y", "copy id", () => copy(cursor.chosen()?.dataset.id || id)], ["Escape", "back", () => { location.hash = app.list; }]],
  };
};
