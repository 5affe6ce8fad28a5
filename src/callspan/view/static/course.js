// Course: the tree of a session: its steps, calls, tools and events, each below what was around it, and when each ran.
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
export const isAgent = node => CONTAINERS.includes(node.entry?.kind);

// The calls inside an entry; null if not all of them are loaded.
export const callsIn = node => (node.isWhole ? entriesIn(node.inside).filter(entry => entry.call).map(entry => entry.call) : null);
// The sum of the costs of the calls inside; a call has its own cost.
export const costOf = node => (node.entry.call ? node.entry.call.cost_usd : sum((callsIn(node) || []).map(call => call.cost_usd)));
const toolLabel = ({ kind, record }, runs) => {
  const text = record.error ? record.error.message || record.error.type : textParts(record.data?.result ?? record.data?.arguments);
  const state = record.error ? mark("error", "failed") : kind === "tool_start" && runs && mark("in progress");
  return [state, oneLine(record.name || "tool"), " ", soft(oneLine(typeof text === "string" ? text : known(text) ? JSON.stringify(text) : ""))];
};
// What the user said newly in a call of a run, which has no messages of its own.
const askedIn = ({ call, turn }) => (call.inferred ? oneLine(turn.new.filter(message => message.role === "user").flatMap(message => message.parts).map(one => one.text || "").join(" ").trim()) : "");
const LABELS = {
  call: entry => {
    const { call, turn } = entry, said = askedIn(entry), answer = oneLine(call.output || "");
    const marks = turn.voice?.is_barge_in ? mark("cancelled", "barge-in") : callMarks(call);
    if (call.error && !call.output) return [marks, said && `${said} `, soft(oneLine(call.error))];
    return [marks, said ? [said, " ", soft(answer && `→ ${answer}`)] : answer];
  },
  reward: ({ record }) => scoreLine(record),
  message: ({ record }) => [oneLine(typeof record.content === "string" ? record.content : JSON.stringify(record.content ?? ""))],
  tool: toolLabel,
  tool_start: toolLabel,
  guardrail: ({ record }) => [record.metadata?.triggered ? mark("triggered") : soft("passed "), " ", oneLine(record.name || "")],
  environment: entry => [entry.record.reward !== undefined && [rewardText(entry.record.reward), " "], soft(observationText(entry))],
};
const otherLabel = entry => [oneLine(entry.record.name || ""), " ", entry.record.error && mark("error", entry.record.error.type), soft(entry.record.data === undefined ? "" : actionText(entry))];
const agentLabel = (node, runs) => {
  const { kind, record } = node.entry, calls = callsIn(node) || [];
  return [strong(agentName(node)), " ", soft(agentType(node)), " ", record.error && mark("error", record.error.type), kind === "agent_start" && runs && mark("in progress"), soft(calls.length ? ` ${plural(calls.length, "call")}` : "")];
};
// An agent is named by the task for which a tool started it, else by its own name.
const taskOf = ({ above }) => (above?.entry?.kind.startsWith("tool") && typeof above.entry.record.data?.arguments?.description === "string" ? above.entry.record.data.arguments.description : "");
export const agentName = node => oneLine(taskOf(node) || node.entry.record.name || "agent");
export const agentType = node => oneLine((taskOf(node) && node.entry.record.name) || "");
const label = (node, runs) => (isAgent(node) ? agentLabel(node, runs) : (LABELS[node.entry.kind] || otherLabel)(node.entry, runs));
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
// `depth` is the number of rows above one in the tree. Where there are no steps, entries stand as if they were in one.
const entryRow = (node, axis, { now, runs }, depth, indent) => {
  const { entry } = node, cost = costOf(node);
  return h("div.entry", { role: "treeitem", tabindex: "-1", "aria-level": depth + 1, data: { id: entry.id }, style: { "--in": `${INDENT * indent}px` } },
    h("span", null, nameOf(entry)),
    h("span", null, label(node, runs)),
    h("span.track", null, bar(entry, axis, now)),
    h("span.right.quiet", null, known(entryMs(entry, now)) ? `${entry.record?.inferred ? "≤ " : ""}${time(entryMs(entry, now))}` : ""),
    h("span.right.quiet", null, cost === null ? "" : money(cost)));
};

// The nodes of the tree: steps and entries, each below what the server says, by time. Scores after the end are apart.
const treeOf = data => {
  const { rows, steps, next, record } = data, ended = ms(record.end_ns) ?? Infinity, last = ms(rows.at(-1)?.start_ns);
  const nodes = [
    ...steps.map(step => ({ step, inside: [], id: step.timestep_id, parent: step.parent, at: ms(step.start_ns) ?? 0 })),
    ...rows.map(entry => ({
      entry, inside: [], id: entry.id, parent: entry.parent, at: entry.turn?.voice ? ms(entry.turn.voice.at_ns) : ms(entry.start_ns),
      isWhole: !next || (known(entry.duration_ns) && ms(entry.start_ns) + ms(entry.duration_ns) < last),
    })),
  ];
  const byId = new Map(nodes.map(node => [node.id, node])), isLate = ({ entry }) => entry?.kind === "reward" && (ms(entry.start_ns) >= ended || entry.record.scope === "session");
  const top = [], late = [];
  for (const node of nodes) {
    node.above = byId.get(node.parent) || null;
    (isLate(node) ? late : node.above?.inside || top).push(node);
  }
  const byTime = (a, b) => a.at - b.at;
  for (const siblings of [top, ...nodes.map(node => node.inside)]) siblings.sort(byTime);
  return { top, late, byId };
};
// Joins the pages of a session. Of an entry or step that several pages have, the last page counts.
export const merged = pages => {
  const { session, record, curve, is_voice } = pages[0], all = name => pages.flatMap(page => page[name]);
  pages.forEach((page, number) => { for (const row of page.rows) row.page = number; });
  const rows = new Map(all("rows").map(row => [row.id, row])), steps = new Map(all("steps").map(step => [step.timestep_id, step])), entries = [...rows.values()];
  const { next } = pages.at(-1), last = ms(entries.at(-1)?.start_ns), used = new Set(entries.flatMap(entry => [entry.timestep_id, entry.parent]));
  // Steps without entries are shown between the loaded ones.
  const shown = [...steps.values()].filter(step => used.has(step.timestep_id) || !next || ms(step.start_ns) <= last).sort((a, b) => a.timestep_position - b.timestep_position);
  const data = { session, record, curve, is_voice, next, rows: entries, steps: shown, instructions: Object.assign({}, ...all("instructions")) };
  return { ...data, tree: treeOf(data) };
};

// The entries below these nodes, in the order of the tree.
export const entriesIn = (nodes, found = []) => {
  for (const node of nodes) {
    if (node.entry) found.push(node.entry);
    entriesIn(node.inside, found);
  }
  return found;
};
const stepsIn = (node, found = []) => {
  if (node.step) found.push(node.step);
  for (const one of node.inside) stepsIn(one, found);
  return found;
};
// The agents, outer ones first, and the nearest one around a node, which may be that agent.
export const agentsIn = nodes => nodes.flatMap(node => [...(isAgent(node) ? [node] : []), ...agentsIn(node.inside)]);
export const agentOf = node => (!node || isAgent(node) ? node : agentOf(node.above));

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
  const entries = entriesIn(node.inside), main = entries.find(entry => entry.kind === "call"), [first] = node.inside, broken = entries.filter(entry => entry.kind === "tool" && entry.record.error).length;
  return [
    total.errors ? mark("error", callsFailed(total.errors)) : "", broken ? mark("error", `${plural(broken, "tool")} failed`) : "", total.retries ? mark("retried", retriesWord(total.retries)) : "",
    soft(" ", [total.calls === 1 ? "" : plural(total.calls, "call"), total.context !== null && `${count(total.context)} tokens in`, ""].filter((one, at) => one || (at === 2 && entries.length)).join(" · ")),
    main ? soft(oneLine(main.call.output || "")) : first?.entry ? soft(label(first, runs)) : ""
  ];
};
export const stepMs = (step, runs, now) => elapsedMs(ms(step.duration_ns), ms(step.start_ns), runs, now);
const stepRow = (node, { shut, runs, now, toggle, names }, axis, depth, indent) => {
  const { step } = node, lasted = stepMs(step, runs, now), total = totalOf(node);
  const drawn = shut ? entriesIn(node.inside).filter(entry => !CONTAINERS.includes(entry.kind)).flatMap(entry => bar(entry, axis, now)) : [];
  return h("div.entry.step", { role: "treeitem", tabindex: "-1", "aria-level": depth + 1, "aria-expanded": String(!shut), data: { id: step.timestep_id, step: "1" }, style: { "--in": `${STEP_INDENT * indent}px` } },
    h("span", null, button(shut ? "▸" : "▾", () => toggle(step.timestep_id), { class: "plain", tabindex: "-1", "aria-label": shut ? "open the step" : "fold the step" }), " ", stepName(step), stepFacts(step), " ", names.map(name => [h("span.tag", null, name), " "]), shut ? inOneLine(node, total, runs) : ""),
    h("span.track", null, step.start_ns === null ? "" : span(ms(step.start_ns), ms(step.start_ns) + (lasted ?? 0), axis), drawn),
    right(time(lasted)), right(total.cost === null ? "" : money(total.cost)));
};

export const isLong = data => data.session.timesteps > MOST_OPEN;

// The rows of the tree. `toggled` has the steps that were folded or opened by hand, `names` words for notable steps.
export const courseOf = (data, toggled, toggle, names) => {
  const now = Date.now(), { top, late } = data.tree, axes = axesOf(data, late, now), rows = [], runs = data.session.outcome === "in_progress";
  let page = -1;
  const add = (row, axis) => {
    row.querySelector(".track")?.prepend(
      ...axis.cut.map(([from, to]) => h("i.gap", { style: { left: `${axis.at(from)}%`, width: `${axis.at(to) - axis.at(from)}%` } }))
    );
    rows.push(row);
  };
  // The rows of each page follow its axis. What runs at once on several pages alternates.
  const turn = number => {
    if (number === page || !axes[number]) return;
    page = number;
    add(axisRow(axes[page], page), axes[page]);
  };
  const addEntry = (node, depth, indent) => add(entryRow(node, axes[node.entry.page], { now, runs }, depth, indent), axes[node.entry.page]);
  const walk = (nodes, depth, indent) => {
    for (const node of nodes) {
      if (node.entry) {
        const own = Math.max(1, indent);
        turn(node.entry.page);
        addEntry(node, depth, own);
        walk(node.inside, depth + 1, own + 1);
        continue;
      }
      const shut = toggled.has(node.step.timestep_id) !== isLong(data);
      turn(entriesIn(node.inside)[0]?.page ?? page);
      add(stepRow(node, { shut, runs, now, toggle, names: names.get(node.step.timestep_id) || [] }, axes[page], depth, indent), axes[page]);
      if (!shut) walk(node.inside, depth + 1, indent + 1);
    }
  };
  if (!axes.length) axes.push(axisOf(0, 1));
  turn(0);
  walk(top, 0, 0);
  if (late.length) {
    rows.push(h("div.entry.step", { role: "presentation" }, strong("after the end")));
    for (const node of late) addEntry(node, 0, 1);
  }
  return rows;
};
