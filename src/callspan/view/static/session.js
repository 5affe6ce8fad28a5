// Session: its course on the left, its conversation on the right. What is selected in one is selected in the other.
import { address, become, copy, h, idsBox, link, mark, right, soft, spaced, strong, button } from "./dom.js";
import { get } from "./api.js";
import { clock, count, day, known, money, oneLine, plural, time, ms } from "./format.js";
import { agentName, agentOf, agentType, agentsIn, callsIn, costOf, courseOf, entriesIn, isAgent, isLong, merged, stepFacts, stepName, totalOf } from "./course.js";
import { namesOf, notable, stepStrip } from "./strip.js";
import { roving } from "./keys.js";
import { isMarked, readMore, redraw, showKeys, title, toMark } from "./app.js";
import { cost, outcome, scores, sessionMarks, titleOf } from "./rows.js";
import { brief, contextOf, instructionsBox, turnOf } from "./conversation.js";
import { ratingBox } from "./rate.js";
import { isEpisode } from "./episode.js";
import { quoted } from "./filters.js";
import { saver } from "./selection.js";

// The title; beside a name an id says nothing more.
const headingOf = row => (row.name && titleOf(row) === row.session_id ? "" : oneLine(titleOf(row)));
const facts = (row, record, minute) => {
  const { models } = row;
  const metadata = Object.entries(row.metadata).map(([key, value]) => [key, typeof value === "object" ? JSON.stringify(value) : value]);
  const labels = [["user", row.user_id], ["task", row.task_id], ["experiment", row.experiment], ...metadata].filter(([, value]) => known(value));
  const began = row.start_ns === null ? "" : `${day(ms(row.start_ns)) === "Today" ? "" : day(ms(row.start_ns)) + " "}${clock(ms(row.start_ns))}`;
  return h("div.facts", null,
    h("span", null, outcome(row), sessionMarks(row)), row.reward === null && !Object.keys(row.scores).length ? "" : h("span", null, scores(row, { hasRoom: true })),
    h("span", null, row.timesteps ? [strong(count(row.timesteps)), row.timesteps === 1 ? " step, " : " steps, "] : "", strong(count(row.calls)), row.calls === 1 ? " call" : " calls"),
    models.length ? h("span", null, soft(models.length === 1 ? "model " : "models "), strong(models.join(", "))) : "",
    known(row.input_tokens ?? row.output_tokens) ? h("span", null, strong(`${count(row.input_tokens)} → ${count(row.output_tokens)}`), " tokens", cacheShare(row)) : "",
    row.cost_usd === null ? soft("cost unknown") : strong(cost(row)),
    minute,
    row.group_id ? h("span", null, soft("group "), h("a.linked", { href: address("", null, { q: `group:${quoted(row.group_id)}` }) }, row.group_id)) : "",
    labels.map(([name, value]) => h("span", null, soft(name), " ", strong(oneLine(value)))),
    h("span", null, strong(began), row.outcome === "in_progress" ? `, in progress for ${time(Date.now() - ms(row.start_ns))}` : known(row.duration_ns) ? `, ${time(ms(row.duration_ns))}` : "",
      row.active_ns !== null && soft(`, busy ${time(ms(row.active_ns))}`)),
    row.content_level !== "full" ? soft(`content is ${row.content_level}`) : "",
    record.error ? h("span", null, mark("error", oneLine(record.error.message || record.error.type))) : "",
    idsBox([["session", row.session_id], ["trace", record.trace_id]]));
};

const cacheShare = ({ cache_read_tokens: read, input_tokens: sent }) => (read && sent ? soft(`, ${Math.round(read / sent * 100)} % from the prompt cache`) : "");

// What a minute of a voice session costs, by wall-clock time.
const minuteOf = ({ session: row, rows, is_voice }) => {
  if (!is_voice) return "";
  const usd = row.cost_usd === null || !row.duration_ns ? null : row.cost_usd / ms(row.duration_ns) * 60000;
  return h("span", null, strong(cost({ ...row, cost_usd: usd })), " a minute", rows.some(entry => entry.call?.cost_estimated) && soft(", estimated"));
};
const allCalls = calls => (calls === 1 ? "" : `all ${count(calls)} calls`);
// The words of what the conversation is narrowed to, beside the agents.
const ALL = "", OUTSIDE = "-";
const callsOf = node => { const calls = callsIn(node); return calls?.length ? plural(calls.length, "call") : ""; };
const agentLine = (node, props, action) => {
  const { record, duration_ns: lasted } = node.entry, cost = costOf(node);
  const sums = [callsOf(node), cost === null ? "" : money(cost), known(lasted) ? time(ms(lasted)) : ""].filter(Boolean).join("  ");
  return h("div.stepline.agentline", { data: { entry: node.id }, ...props },
    h("span", null, soft("agent "), strong(agentName(node)), " ", soft(agentType(node)), " ", record.error ? mark("error", record.error.message || record.error.type) : "", " ", brief(record.data)),
    h("span.right.soft", null, sums), action);
};
// The turns of the tree. Narrowed to an agent, those inside it, or outside of all agents, each agent inside is one line.
const NEST = 14;
const conversationOf = (data, narrowed, narrow) => {
  const { top, late, byId } = data.tree, agent = byId.get(narrowed), from = agent ? [agent] : top, found = [];
  const entries = entriesIn(from), context = contextOf(entries, data.instructions);
  const instructed = entries.filter(entry => entry.turn?.instructions).map(entry => entry.turn.instructions), [first] = instructed;
  const walk = (nodes, depth) => {
    const style = depth ? { "--nest": `${NEST * depth}px` } : {};
    for (const node of nodes) {
      if (isAgent(node)) {
        const isOpen = narrowed === ALL || node === agent;
        found.push(agentLine(node, { style }, button(node === agent ? "everyone" : "only this agent", () => narrow(node === agent ? ALL : node.id), { class: "plain linked" })));
        if (!isOpen) continue;
        const outer = { agent: context.agent, instructions: context.instructions };
        Object.assign(context, { agent: agentName(node), isNew: true });
        walk(node.inside, depth + (node !== agent));
        Object.assign(context, outer);
      } else if (node.entry) {
        const turns = turnOf(node.entry, context);
        if (depth) for (const turn of turns) turn.style.setProperty("--nest", style["--nest"]);
        found.push(...turns);
        walk(node.inside, depth + 1);
      } else {
        const { step } = node, all = totalOf(node);
        const sum = [all.calls ? plural(all.calls, "call") : "", all.cost === null ? "" : money(all.cost), time(ms(step.duration_ns))].filter(Boolean).join("  ");
        found.push(h("div.stepline", { data: { entry: step.timestep_id } }, h("span", null, stepName(step), stepFacts(step)), soft(clock(ms(step.start_ns))), h("span.right.soft", null, sum)));
        walk(node.inside, depth);
      }
    }
  };
  if (first) {
    found.push(instructionsBox(data.instructions[first], new Set(instructed).size === 1 && !data.next && !agent ? allCalls(data.session.calls) : ""));
    context.instructions = first;
  }
  walk(from, 0);
  if (late.length && !agent) found.push(h("div.stepline", null, strong("after the end"), h("span.right.soft", null, plural(late.length, "score"))), ...late.flatMap(node => turnOf(node.entry, context)));
  return found;
};

// Whose conversation is shown.
const narrowing = (data, narrowed, narrow) => {
  const agents = agentsIn(data.tree.top);
  if (!agents.length) return [];
  const depthOf = node => (node.above ? depthOf(node.above) + isAgent(node.above) : 0);
  const labels = agents.map(agentName), again = labels.filter((one, at) => labels.indexOf(one) !== at);
  const option = (value, words) => h("option", { value, selected: value === narrowed }, words);
  const named = (node, at) => [labels[at], again.includes(labels[at]) && clock(ms(node.entry.start_ns)), callsOf(node)].filter(Boolean).join(", ");
  return [h("div.narrow", null, h("label", null, soft("conversation of "), h("select.chip", { "aria-label": "Conversation of", onchange: event => narrow(event.target.value) },
    option(ALL, "everyone"), option(OUTSIDE, "outside of agents"), agents.map((node, at) => option(node.id, "\u2003".repeat(depthOf(node)) + named(node, at))))))];
};

export default ({ place, app, signal }) => {
  const { id } = place, toggled = new Set();
  let narrowed = place.values.agent || ALL;
  let data = null, table = null, reasoningOpen = false, raw = false, least = 1;
  const rating = ratingBox({ session: id }, app, { more: h("span.right", null, saver("save as a file", "report", `id:${id}`, `${id}.html`)) });
  const titlebar = h("div.titlebar"), chat = h("span.chat"), course = h("div", { "aria-label": "Course", tabindex: "-1" }), end = h("div.pad.end");
  const above = h("div"), left = h("div", null, above, course, end), right = h("section", { "aria-label": "Conversation", tabindex: "0" }), panes = h("div.panes.two", null, left, right);
  const turnTo = (name, which) => {
    panes.className = `panes ${which}`;
    for (const one of tabs.children) one.setAttribute("aria-selected", String(one.textContent === name));
  };
  const tab = (name, which) => button(name, () => turnTo(name, which), { role: "tab", "aria-selected": String(which === "two") });
  const tabs = h("div.tabs", { role: "tablist" }, tab("Course", "one"), tab("Conversation", "two"));
  const rowOf = of => course.querySelector(`[data-id="${CSS.escape(of)}"]`), turnIn = of => right.querySelector(`[data-entry="${CSS.escape(of)}"]`);
  const choose = (row, block) => {
    if (table) { drawRight(); return; }
    if (narrowed !== ALL && !turnIn(row.dataset.id) && !turnIn(joined(row.dataset.id) || "")) narrow(agentOf(data.tree.byId.get(row.dataset.id))?.id || OUTSIDE);
    for (const one of right.querySelectorAll(".picked")) one.classList.remove("picked");
    const turn = turnIn(row.dataset.id) || turnIn(joined(row.dataset.id) || "");
    if (!turn) return;
    turn.classList.add("picked");
    // The line of a step sticks to the top and is in view from then on, wherever its step is.
    (turn.matches(".stepline:not(.agentline)") && turn.nextElementSibling || turn).scrollIntoView({ block });
  };
  const stepOf = of => data.rows.find(entry => entry.id === of)?.timestep_id || "";
  // The run of a tool is shown with the call that requested it, the last one before it.
  const joined = of => {
    const at = data.rows.findIndex(entry => entry.id === of), tool = data.rows[at]?.record?.tool_call_id;
    const asks = entry => entry.turn?.answer.some(message => message.parts.some(one => one.type === "tool_call" && one.id === tool));
    return tool && (data.rows.slice(0, at).findLast(asks) || data.rows.find(asks))?.id;
  };
  const cursor = roving(course, { choose });
  right.addEventListener("click", event => {
    const entry = event.target.closest("[data-entry]");
    if (entry && !event.target.closest("a, summary, button") && !table) cursor.select(rowOf(entry.dataset.entry) || rowOf(stepOf(entry.dataset.entry)), { still: true });
  });
  const toggle = step => { if (!toggled.delete(step)) toggled.add(step); redraw(); };
  const isShut = step => toggled.has(step) !== isLong(data);
  const go = step => { const row = rowOf(step); if (row) cursor.select(row, { block: "center" }); };
  // Goes to a notable step; of several the one after the chosen row.
  const goTo = name => {
    const rows = [notable(data)[name]].flat().filter(Boolean).map(row => row.step.timestep_id), at = rows.indexOf(cursor.chosen()?.dataset.id);
    if (rows.length) go(rows[(at + 1) % rows.length]);
  };
  const drawEnd = () => {
    end.hidden = !data.next;
    become(end, data.next && button(`the next ${table ? "steps" : "entries"}`, readMore));
  };
  // Shows only the turns of an agent, those outside of agents, or all; the address names it.
  const narrow = to => {
    narrowed = to;
    history.replaceState(null, "", address("session", id, { agent: narrowed }));
    drawRight();
    right.scrollTop = 0;
  };
  const narrowToChosen = () => narrow(narrowed === ALL ? agentOf(data.tree.byId.get(cursor.chosen()?.dataset.id))?.id || OUTSIDE : ALL);
  const drawRight = () => {
    const row = cursor.chosen();
    become(right, !table ? [narrowing(data, narrowed, narrow), conversationOf(data, narrowed, narrow)] : row ? table.detail(data, row) : table.opening(data));
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
    become(titlebar, h("h1", null, link("#/", "Sessions"), soft(" / "), strong(data.session.name || "session"), " ", soft(headingOf(data.session)), " ", chat), facts(data.session, data.record, minuteOf(data)));
    become(above, !table && isLong(data) ? stepStrip(data, go) : "");
    become(course, table ? table.course(data) : courseOf(data, toggled, toggle, isLong(data) ? namesOf(data) : new Map()));
    cursor.settle();
    drawEnd();
    drawRight();
  };
  const near = ({ currentTarget: pane }) => { if (data.next && pane.scrollTop + pane.clientHeight > pane.scrollHeight - 600) readMore(); };
  for (const pane of [left, right]) pane.addEventListener("scroll", near, { passive: true });
  // The turns of the same chat, read once the page is drawn.
  const drawChat = async () => {
    const found = await get("turns", { id }, signal), to = (other, words) => h("a.linked", { href: address("session", other) }, words);
    become(chat, spaced([found.before && to(found.before, "← turn before"), ...found.after.map(other => to(other, "next turn →"))]));
  };
  drawChat().catch(() => {});
  // Reads the pages that are shown, or one more after the known ones.
  const read = async known => {
    const pages = known ? [...known] : [await get("session", { id }, signal)];
    if (known) least = pages.length + 1;
    const isMissing = () => ![ALL, OUTSIDE].includes(narrowed) && !pages.some(page => page.rows.some(row => row.id === narrowed));
    while ((pages.length < least || isMissing()) && pages.at(-1).next) pages.push(await get("session", { id, after: pages.at(-1).next }, signal));
    return pages;
  };
  const neighbour = by => { const at = app.order.indexOf(id), other = at >= 0 && app.order[at + by]; if (other) location.hash = address("session", other); };
  const enter = () => {
    const row = cursor.chosen();
    if (row?.dataset.step) return toggle(row.dataset.id);
    const isCall = row && data.rows.find(entry => entry.id === row.dataset.id)?.kind === "call";
    const call = row && (table ? table.callOf(data, row) : isCall ? row.dataset.id : joined(row.dataset.id));
    if (call) location.hash = address("call", call);
  };
  const fold = () => {
    const row = cursor.chosen();
    if (row?.dataset.step && !isShut(row.dataset.id)) toggle(row.dataset.id);
    else cursor.jump(-1, one => one.dataset.step);
  };
  const bodies = () => {
    raw = !raw;
    if (!raw) for (const one of right.querySelectorAll(".box + .raw")) one.remove();
    drawRight();
  };
  const isMark = row => row.querySelector(table ? "b.good" : ".mark"), other = () => app.marked.findLast(one => one !== id);
  const compare = () => { if (other()) location.hash = address("compare", null, { a: other(), b: id }); };
  return {
    body: h("div", null, titlebar, globalThis.CALLSPAN_FILE ? "" : rating.box, tabs, panes),
    read,
    show,
    runs: () => data.session.outcome === "in_progress",
    keys: () => [...cursor.keys(table ? "step" : "row"),
      ["h l", table ? "" : "fold, open"], ["h", "", fold], ["l", table ? "open the step's call" : "", enter], ["Enter", "", enter],
      ...(!table && isLong(data) ? [["d s e", "dearest, slowest, failed step"], ["d", "", () => goTo("dearest")], ["s", "", () => goTo("slowest")], ["e", "", () => goTo("failed")]] : []),
      ...(!table && agentsIn(data.tree.top).length ? [["a", narrowed === ALL ? "only this agent" : "everyone", () => { narrowToChosen(); showKeys(); }]] : []),
      ["Tab", "conversation"], ["r", "reasoning", () => { reasoningOpen = !reasoningOpen; openReasoning(); }], ["b", "bodies", bodies],
      ...cursor.marks(isMark, table ? "reward" : "mark"),
      ["[ ]", "other session"], ["[", "", () => neighbour(-1)], ["]", "", () => neighbour(1)],
      ["x", isMarked(id) ? "marked" : "mark", () => { toMark(id); showKeys(); }], ["c", other() ? "compare with the marked one" : "", compare],
      ...(globalThis.CALLSPAN_FILE ? [] : [rating.key]), ["y", "copy id", () => copy(cursor.chosen()?.dataset.id || id)], ["Escape", "back", () => { location.hash = app.list; }]],
  };
};
