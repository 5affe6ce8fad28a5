// Course: the tree of a session: its steps with their calls, tools and events, and when each ran.
import { h, mark, right, soft, strong, button } from "./dom.js";
import { clock, count, known, least, money, most, ms, oneLine, plural, sum, time } from "./format.js";
import { axisOf, callPieces, dot, gapsOf, span, toolPiece } from "./bars.js";
import { callMarks, callsFailed, elapsedMs, isRunning, lastedMs, retriesWord } from "./rows.js";
import { actionText, observationText, rewardText, scoreLine } from "./conversation.js";
import { textParts } from "./parts.js";

const SPEAKERS = { user: "user", assistant: "model" };
const NAMES = { guardrail: "check", environment: "env", tool_start: "tool", agent_start: "agent", reward: "score" };
// Sessions with more steps have them folded at first.
const MOST_OPEN = 20;
const CONTAINERS = ["agent", "agent_start"];

const costOf = entry => (entry.kind === "call" ? entry.call.cost_usd : entry.inside ? sum(entry.inside.map(call => call.cost_usd)) : null);
const toolLabel = ({ kind, record }, runs) => {
  const text = record.error ? record.error.message || record.error.type : textParts(record.data?.result ?? record.data?.arguments);
  const state = record.error ? mark("error", "failed") : kind === "tool_start" && runs && mark("in progress");
  return [state, oneLine(record.name || "tool"), " ", soft(oneLine(typeof text === "string" ? text : JSON.stringify(text ?? "")))];
};
const LABELS = {
  call: ({ call, turn }) => [turn.voice?.is_barge_in ? mark("cancelled", "barge-in") : callMarks(call), call.error && !call.output ? soft(oneLine(call.error)) : oneLine(call.output || "")],
  reward: ({ record }) => scoreLine(record),
  message: ({ record }) => [oneLine(typeof record.content === "string" ? record.content : JSON.stringify(record.content ?? ""))],
  tool: toolLabel,
  tool_start: toolLabel,
  guardrail: ({ record }) => [record.metadata?.triggered ? mark("triggered") : soft("passed "), " ", oneLine(record.name || "")],
  environment: entry => [entry.record.reward !== undefined && [rewardText(entry.record.reward), " "], soft(observationText(entry))],
  agent: ({ record, inside }) => [strong(oneLine(record.name || "")), " ", record.error && mark("error", record.error.type), soft(inside?.length ? ` ${plural(inside.length, "call")}` : "")],
};
const otherLabel = entry => [oneLine(entry.record.name || ""), " ", entry.record.error && mark("error", entry.record.error.type), soft(entry.record.data === undefined ? "" : actionText(entry))];
const label = (entry, runs) => (LABELS[entry.kind] || otherLabel)(entry, runs);
const nameOf = entry => {
  if (entry.turn?.voice) return SPEAKERS[entry.turn.voice.speaker];
  if (entry.kind === "message") return entry.record.message_type === "question" ? "user" : entry.record.message_type;
  return NAMES[entry.kind] || entry.kind;
};

const bar = (entry, axis, now) => {
  if (entry.kind === "call") return callPieces(ms(entry.start_ns), entry.call, axis, now);
  if (known(entry.duration_ns)) return [toolPiece(ms(entry.start_ns), ms(entry.duration_ns), axis, entry.record.error)];
  return entry.kind === "reward" ? [] : [dot(ms(entry.start_ns), axis)];
};

const INDENT = 14, STEP_INDENT = 16;
// The duration of an entry; null if it is unknown. Only a call that runs is measured by the clock.
const entryMs = (entry, now) => (entry.kind === "call" ? elapsedMs(ms(entry.duration_ns), ms(entry.start_ns), isRunning(entry.call), now) : ms(entry.duration_ns));
const entryRow = (entry, axis, { now, runs }, depth) => h("div.entry", { role: "treeitem", tabindex: "-1", "aria-level": depth + entry.depth + 2, data: { id: entry.id }, style: { "--in": `${INDENT * (Math.max(1, depth) + entry.depth)}px` } },
  h("span", null, nameOf(entry)),
  h("span", null, label(entry, runs)),
  h("span.track", null, bar(entry, axis, now)),
  h("span.right.quiet", null, known(entryMs(entry, now)) ? time(entryMs(entry, now)) : ""),
  h("span.right.quiet", null, costOf(entry) === null ? "" : money(costOf(entry))));

// Sets the number of agents around each entry, by their ids on all pages, and the calls inside each agent that ended before `last`.
const nested = (entries, last) => {
  const nodes = new Map(entries.filter(entry => entry.tree_id).map(entry => [entry.tree_id, entry])), calls = new Map(entries.filter(entry => entry.call).map(entry => [entry.id, entry]));
  // Without a span, a tool is where the call is that requested it.
  const parentOf = entry => (!entry.tree_id && entry.record?.event_type && calls.get(entry.record.call_id)?.tree_parent) || entry.tree_parent;
  for (const entry of entries) entry.inside = entry.kind === "agent" && ms(entry.start_ns) + (ms(entry.duration_ns) || 0) < last ? [] : null;
  for (const entry of entries) {
    const passed = new Set();
    entry.depth = 0;
    for (let above = parentOf(entry); above && !passed.has(above); above = nodes.get(above)?.tree_parent) {
      const around = nodes.get(above);
      passed.add(above);
      if (around?.kind === "agent") entry.depth += 1;
      if (entry.call) around?.inside?.push(entry.call);
    }
  }
  return entries;
};

// Joins the pages of a session. Of an entry or step that several pages have, the last page counts.
export const merged = pages => {
  const { session, record, curve, is_voice } = pages[0], all = name => pages.flatMap(page => page[name]);
  pages.forEach((page, number) => { for (const row of page.rows) row.page = number; });
  const rows = new Map(all("rows").map(row => [row.id, row])), steps = new Map(all("steps").map(step => [step.timestep_id, step])), entries = [...rows.values()];
  const { next } = pages.at(-1), last = ms(entries.at(-1)?.start_ns), used = new Set(entries.map(entry => entry.timestep_id));
  // Steps without entries are shown between the loaded ones.
  const shown = [...steps.values()].filter(step => used.has(step.timestep_id) || !next || ms(step.start_ns) <= last).sort((a, b) => a.timestep_position - b.timestep_position);
  return { session, record, curve, is_voice, next, rows: nested(entries, next ? last : Infinity), steps: shown, instructions: Object.assign({}, ...all("instructions")) };
};

// The nodes of the tree by time: steps with what is inside them, and entries of no step. Scores after the end are apart.
export const order = data => {
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
const stepsIn = node => [node.step, ...node.inside.filter(one => one.step).flatMap(stepsIn)];

// The store's sums of the calls of a step and of the steps inside it.
export const totalOf = node => {
  const steps = stepsIn(node), all = name => sum(steps.map(step => step[name]));
  return { calls: all("calls") ?? 0, errors: all("errors"), retries: all("retries"), cost: all("cost_usd"), context: Math.max(...steps.map(step => step.context_tokens ?? 0)) || null };
};
export const stepName = step => [strong(`${step.timestep_position} ${step.name || step.user_step_id || ""}`), step.turn !== null ? ` turn ${step.turn}` : ""];
export const stepFacts = step => [
  step.reward !== null ? [" ", rewardText(step.reward)] : "",
  !["success", null].includes(step.outcome) ? [" ", step.outcome === "failure" ? mark("failure") : mark(step.outcome === "cancelled" ? "cancelled" : "error", step.outcome)] : "",
  step.terminated ? soft(" terminated") : step.truncated ? soft(" truncated") : ""
];

// The longest idle time that is drawn: a part of the axis within these limits.
const IDLE_SHARE = 1 / 12, LEAST_IDLE_MS = 1000, MOST_IDLE_MS = 20000;
// Each page of entries has its own axis, so that earlier pages look the same when the next one is added.
const axesOf = (data, late, now) => {
  const after = new Set(late.map(node => node.entry)), pages = [];
  for (const entry of data.rows) (pages[entry.page] ||= []).push(entry);
  const lasted = entry => (entry.kind === "call" ? lastedMs(entry.call, ms(entry.start_ns), now) : ms(entry.duration_ns) ?? 0);
  return pages.map((rows, number) => {
    const timed = rows.filter(entry => !after.has(entry)), first = number ? Infinity : ms(data.session.start_ns) ?? Infinity;
    const start = Math.min(first, least(rows.map(entry => ms(entry.start_ns))));
    const end = Math.max(start + 1, most(timed.map(entry => ms(entry.start_ns) + lasted(entry))));
    // An agent runs around its calls, also while none of them does.
    const busy = rows.filter(entry => !CONTAINERS.includes(entry.kind)).map(entry => [ms(entry.start_ns), lasted(entry)]);
    const idle = Math.min(MOST_IDLE_MS, Math.max(LEAST_IDLE_MS, (end - start) * IDLE_SHARE));
    return { ...axisOf(start, end, gapsOf(busy, idle)), start };
  });
};
const FEW_GAPS = 3;
const axisRow = (axis, number) => {
  const { length } = axis.cut, words = `${time(axis.busy)}${length ? ` and ${plural(length, "idle time")}` : ""}`;
  const gapMarks = axis.cut.map(([from, to]) => h("span", { style: { left: `${axis.at(from)}%`, transform: "translateX(-40%)" } }, `⋯ ${time(to - from)} idle`));
  const ends = [h("span", { style: { left: 0 } }, "0"), length && length <= FEW_GAPS ? gapMarks : h("span", { style: { right: 0 } }, words)];
  return h("div.entry.axisline", { role: "presentation" }, h("span", null, number ? `from ${clock(axis.start)} on` : "steps, calls, tools"),
    h("span.track", null, ends), right("time"), right("cost"));
};

// What a folded step contains, in one line.
const inOneLine = (node, total, runs) => {
  const entries = entriesIn(node.inside), main = entries.find(entry => entry.kind === "call") || entries[0], broken = entries.filter(entry => entry.kind === "tool" && entry.record.error).length;
  return [
    total.errors ? mark("error", callsFailed(total.errors)) : "", broken ? mark("error", `${plural(broken, "tool")} failed`) : "", total.retries ? mark("retried", retriesWord(total.retries)) : "",
    soft(" ", [total.calls === 1 ? "" : plural(total.calls, "call"), total.context !== null && `${count(total.context)} tokens in`, ""].filter((one, at) => one || (at === 2 && main)).join(" · ")),
    main ? soft(main.kind === "call" ? oneLine(main.call.output || "") : label(main, runs)) : ""
  ];
};
export const stepMs = (step, runs, now) => elapsedMs(ms(step.duration_ns), ms(step.start_ns), runs, now);
const stepRow = (node, { shut, runs, now, toggle, names }, axis, depth) => {
  const { step } = node, lasted = stepMs(step, runs, now), total = totalOf(node);
  const drawn = shut ? entriesIn(node.inside).filter(entry => !CONTAINERS.includes(entry.kind)).flatMap(entry => bar(entry, axis, now)) : [];
  return h("div.entry.step", { role: "treeitem", tabindex: "-1", "aria-level": depth + 1, "aria-expanded": String(!shut), data: { id: step.timestep_id, step: "1" }, style: { "--in": `${STEP_INDENT * depth}px` } },
    h("span", null, button(shut ? "▸" : "▾", () => toggle(step.timestep_id), { class: "plain", tabindex: "-1", "aria-label": shut ? "open the step" : "fold the step" }), " ", stepName(step), stepFacts(step), " ", names.map(name => [h("span.tag", null, name), " "]), shut ? inOneLine(node, total, runs) : ""),
    h("span.track", null, step.start_ns === null ? "" : span(ms(step.start_ns), ms(step.start_ns) + (lasted ?? 0), axis), drawn),
    right(time(lasted)), right(total.cost === null ? "" : money(total.cost)));
};

export const isLong = data => data.session.timesteps > MOST_OPEN;

// The rows of the tree. `toggled` has the steps that were folded or opened by hand, `names` words for notable steps.
export const courseOf = (data, toggled, toggle, names) => {
  const now = Date.now(), { top, late } = order(data), axes = axesOf(data, late, now), rows = [], runs = data.session.outcome === "in_progress";
  let page = -1;
  const add = row => {
    row.querySelector(".track")?.prepend(
      ...axes[page].cut.map(([from, to]) => h("i.gap", { style: { left: `${axes[page].at(from)}%`, width: `${axes[page].at(to) - axes[page].at(from)}%` } }))
    );
    rows.push(row);
  };
  // A page begins with its axis.
  const turn = number => {
    if (number <= page || !axes[number]) return;
    page = number;
    add(axisRow(axes[page], page));
  };
  const addEntry = (entry, depth) => add(entryRow(entry, axes[page], { now, runs }, depth));
  const walk = (nodes, depth) => {
    for (const node of nodes) {
      if (node.entry) { turn(node.entry.page); addEntry(node.entry, depth); continue; }
      const shut = toggled.has(node.step.timestep_id) !== isLong(data);
      turn(entriesIn(node.inside)[0]?.page ?? 0);
      add(stepRow(node, { shut, runs, now, toggle, names: names.get(node.step.timestep_id) || [] }, axes[page], depth));
      if (!shut) walk(node.inside, depth + 1);
    }
  };
  if (!axes.length) axes.push(axisOf(0, 1));
  turn(0);
  walk(top, 0);
  if (late.length) {
    rows.push(h("div.entry.step", { role: "presentation" }, strong("after the end")));
    for (const { entry } of late) addEntry(entry, 0);
  }
  return rows;
};
