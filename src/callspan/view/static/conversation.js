// Conversation: the new messages of each call, tool calls with their results, and scores in their place.
import { address, h, mark, soft, strong, link, spaced } from "./dom.js";
import { bytes, clock, count, money, oneLine, plain, plural, shown, signed, time, tokens, words, ms } from "./format.js";
import { callMarks, isLost, isRunning, retriesWord } from "./rows.js";
import { get } from "./api.js";
import { part, removed, text, textRuns, toolRun, turnBox, value } from "./parts.js";
import { thumbs } from "./rate.js";

const partsOf = messages => messages.flatMap(message => message.parts);
const callsOf = messages => partsOf(messages).filter(one => one.type === "tool_call" && one.id);

// Returns what finds the result and the run of a tool call. The server gives each tool call an id of its own.
export const joins = entries => {
  const found = new Map(), add = (id, some) => found.set(id, { ...found.get(id), ...some });
  for (const entry of entries) {
    for (const one of entry.turn ? partsOf([...entry.turn.new, ...entry.turn.answer]) : []) if (one.type === "tool_result" && one.id) add(one.id, { result: one });
    if (entry.record?.tool_call_id && entry.kind.startsWith("tool")) add(entry.record.tool_call_id, { run: entry });
  }
  return one => found.get(one.id);
};
// The entry that shows a tool call, by its id: the one with the answer, else the first whose request has it.
const homes = entries => {
  const shown = new Map(), add = (entry, messages) => { for (const one of callsOf(messages)) if (!shown.has(one.id)) shown.set(one.id, entry); };
  for (const key of ["answer", "new"]) for (const entry of entries) if (entry.turn) add(entry, entry.turn[key]);
  return shown;
};

export const footLine = (row, { linked = true } = {}) => {
  const cache = row.cache_read_tokens && row.input_tokens ? `, ${Math.round(row.cache_read_tokens / row.input_tokens * 100)} % from cache` : "";
  return h("p.meta", null, linked ? link(address("call", row.call_id), row.model || "call") : row.model || "call", "  ",
    spaced([
      (row.input_tokens !== null || row.output_tokens !== null) && `${tokensText(row)} tokens${cache}`,
      row.cost_usd !== null && money(row.cost_usd),
      row.duration_ns !== null && time(ms(row.duration_ns)),
      row.retries && mark("retried", retriesWord(row.retries)),
    ].map(one => one && h("span", null, one, " "))), linked && !isRunning(row) ? thumbs(row.call_id) : "");
};
const tokensText = row => (row.input_tokens !== null && row.input_tokens < 100000 ? `${count(row.input_tokens)} → ${count(row.output_tokens)}` : tokens(row.input_tokens, row.output_tokens));

// Where the prompt cache missed, and why; opened, both texts side by side.
const cacheBreak = ({ id, cache }) => {
  if (!cache) return "";
  const sums = [cache.lost_tokens && `${count(cache.lost_tokens)} tokens lost`, cache.lost_usd && `${money(cache.lost_usd)}${cache.lost_usd_estimated ? " estimated" : ""}`].filter(Boolean).join(", ");
  const said = [mark("prompt cache"), ` ${oneLine(cache.cause)}`, soft(sums && `  ${sums}`)];
  if (globalThis.CALLSPAN_FILE) return h("p.cache", null, said);
  const box = h("details.cache", null, h("summary", null, said));
  box.addEventListener("toggle", async () => {
    if (!box.open || box.dataset.read) return;
    box.dataset.read = "1";
    const found = await get("cache", { id }).catch(error => ({ error: error.message }));
    if (found.error || !found.changes.length) { box.append(h("p.meta", null, found.error || "both requests begin alike")); return; }
    box.append(h("p.meta", null, found.place, ", before and now; ", link(address("compare", null, { a: found.previous, b: id }), "compare both calls")),
      h("div.sides", null, textRuns(found.changes, "a"), textRuns(found.changes, "b")));
  });
  return box;
};

// The size of a request, for one whose content was not kept.
const sentText = turn => [turn.sent !== null && plural(turn.sent, "message"), turn.sent_bytes && bytes(turn.sent_bytes)].filter(Boolean).join(", ");
const notKept = turn => h("p.meta", null, `content is ${turn.kept}: ${sentText(turn) ? `the request (${sentText(turn)}) and ` : ""}the answer are not kept`);

// Why an answer stopped where it does.
const ending = (row, voice) => {
  if (voice?.is_barge_in) return h("p.cutline", null, mark("cancelled", `barge-in: the user spoke${voice.heard_s === null ? "" : ` after ${seconds(voice.heard_s)} of it`}`));
  if (row.cut_by_length) return h("p.cutline", null, mark("cut", `cut here by length${row.max_tokens ? `: max_tokens ${count(row.max_tokens)}` : ""}`));
  if (row.cut_off) return h("p.cutline", null, mark("cut", "the stream stopped here without its end"));
  if (row.waits_for_approval) return h("p.cutline", null, mark("waiting", "waiting for approval of an MCP tool"));
  if (row.outcome === "cancelled") return h("p.cutline", null, mark("cancelled", "the application closed the stream here"));
  return null;
};

// The length of a turn of a voice session, and when its audio began.
const seconds = number => time(number * 1000);
const soundLine = ({ speaker, seconds: length }, row) => h("p.meta", null, `${seconds(length)} of audio${speaker === "assistant" ? `, the first after ${time(ms(row.first_token_ns))}` : ""}`);

export const answers = (entry, join) => {
  const { call: row, turn } = entry, { voice } = turn, found = [], sounds = voice && voice.seconds !== null;
  turn.answer.forEach((message, at) => {
    if (turn.answer.length > 1) found.push(h("p.meta", null, `choice ${at + 1} of ${turn.answer.length}`));
    found.push(...message.parts.filter(one => !sounds || one.type !== "media").map(one => part(one, join)));
  });
  if (sounds) found.push(soundLine(voice, row));
  if (isRunning(row)) found.push(
    h("p", null, mark("in progress", `in progress for ${time(Date.now() - ms(row.start_ns))}`)),
    h("p.meta", null, sentText(turn) && `${sentText(turn)} sent. `, "Its text is recorded when it ends.")
  );
  else if (row.unanswered === "not kept") found.push(h("p", null, mark("not kept")), notKept(turn));
  else if (row.unanswered && row.unanswered !== "refused") found.push(h("p", null, callMarks(row).find(one => one.textContent === row.unanswered)));
  else if (isLost(row)) found.push(h("p", null, callMarks(row)[0], soft(" before its answer was recorded")));
  else if (!turn.answer.length && !turn.error) found.push(turn.kept === "full" ? soft(row.operation === "embeddings" ? "vectors, not displayed" : "no answer is recorded") : notKept(turn));
  if (turn.error) found.push(h("p", null, callMarks(row).find(one => one.classList.contains("bad")) || mark("error", "failed"), " ", oneLine(turn.error)));
  return [...found, ending(row, voice), ...removed(turn)];
};

const newMessages = (entry, { join, called, told }) => entry.turn.new.flatMap(message => {
  const parts = message.parts.filter(one => !called.has(one.id) || (one.type === "tool_call" && called.get(one.id) === entry));
  if (!parts.length) return [];
  const said = message.parts.map(one => one.text || "").join("");
  if (said && told.has(said)) return [];
  return [turnBox(message.role, message.name || (message.role === "user" ? entry.call.user_id : ""), parts.map(one => part(one, join)))];
});

const EVENTS = {
  guardrail: entry => turnBox("", "check", [h("p", null, entry.record.metadata?.triggered ? mark("triggered") : soft("passed"), " ", strong(entry.record.name || ""), " ", brief(entry.record.data))]),
  handoff: entry => turnBox("handoff", "", [h("p", null, strong(entry.record.system || "?"), " → ", strong(entry.record.name || "?"), " ", brief(entry.record.data))]),
  action: entry => turnBox("", "action", [h("p", null, strong(briefText(entry.record.data)))]),
  environment: ({ record }) => turnBox("observation", "environment", [
    record.reward !== undefined && h("p", null, soft("reward "), rewardText(record.reward), record.terminated && soft("  terminated"), record.truncated && soft("  truncated")),
    observed(afterOf(record.data)),
  ]),
};
const briefText = data => {
  const [[key, only] = [], ...others] = Object.entries(data || {});
  const text = typeof data === "string" ? data : typeof only === "string" && !others.length ? `${key} ${only}` : JSON.stringify(data);
  return oneLine(text ?? "");
};
export const brief = data => soft(data === undefined || data === null ? "" : briefText(data).slice(0, 300));
const afterOf = data => (data && typeof data === "object" && "after" in data ? data.after : data);
const observed = after => (after === undefined || after === null ? null : typeof after === "string" ? text(after) : value(after));
export const rewardText = number => h(`b.${number > 0 ? "good" : number < 0 ? "bad" : "none"}`, null, signed(number));
export const actionText = entry => briefText(entry.record.data);
export const observationText = entry => briefText(afterOf(entry.record.data) ?? "");

export const scoreLine = record => [
  record.objective === "reward" ? "" : strong(record.objective),
  record.objective === "reward" ? rewardText(record.value) : strong(record.value === undefined ? "" : plain(record.value)),
  record.label ? ` ${record.label}` : "",
  record.annotation ? soft(` “${oneLine(record.annotation)}”`) : ""
].flatMap(one => (one ? [one, " "] : []));

// A call that names or sums up the session, folded: it changes no instructions.
const asideOf = (entry, context) => h("details.aside", { data: { entry: entry.id } },
  h("summary", null, soft(`${entry.call.aside.replaceAll("_", " ")}: ${oneLine(entry.call.output || "").slice(0, 160)}`)),
  newMessages(entry, context), turnBox("assistant", clock(ms(entry.start_ns)), [answers(entry, context.join), footLine(entry.call)]));

// The turns that an entry adds; none if another entry shows it.
export const turnOf = (entry, context) => {
  if (entry.call?.aside) return [asideOf(entry, context)];
  const { join, called } = context;
  if (entry.kind === "call") {
    const start = [context.agent, clock(ms(entry.start_ns))].filter(Boolean).join(" ");
    const before = context.instructions !== undefined && entry.turn.instructions !== context.instructions && entry.turn.instructions ? [
      instructionsBox(context.all[entry.turn.instructions], context.isNew ? "of this agent" : "other instructions from here on")
    ] : [];
    context.isNew = false;
    const { call_id: id, previous_call_id: previous } = entry.call;
    // Two calls of a run may continue the same answer.
    if (previous && context.last && previous !== context.last) before.push(turnBox("", "branch", [
      h("p.meta", null, "continues ", link(address("call", previous), context.starts.has(previous) ? `the answer of ${clock(context.starts.get(previous))}` : "an earlier answer"))
    ]));
    context.last = id;
    if (entry.turn.instructions) context.instructions = entry.turn.instructions;
    return [...before, ...newMessages(entry, context), turnBox(entry.turn.voice?.speaker || "assistant", start, [answers(entry, join), footLine(entry.call), cacheBreak(entry)], { data: { entry: entry.id } })];
  }
  if (entry.kind === "reward") return [turnBox("", entry.record.source || "score", [h("p", null, scoreLine(entry.record))], { data: { entry: entry.id } })];
  if (entry.kind === "message") {
    const { content, sender, receiver } = entry.record, said = typeof content === "string" ? text(content) : value(content);
    return [turnBox(role(entry.record), [sender, receiver].filter(Boolean).join(" → "), [said], { data: { entry: entry.id } })];
  }
  if (entry.kind.startsWith("tool")) return called.has(entry.record.tool_call_id) ? [] : [
    turnBox("tool", clock(ms(entry.start_ns)), [toolRun(entry)], { data: { entry: entry.id } })
  ];
  const drawn = EVENTS[entry.kind]?.(entry) || turnBox("", entry.kind, [h("p", null, strong(entry.record.name || ""), " ",
    entry.record.error ? mark("error", entry.record.error.message || entry.record.error.type) : "", " ", brief(entry.record.data))]);
  drawn.dataset.entry = entry.id;
  return [drawn];
};
const role = record => (record.message_type === "question" ? "user" : record.message_type);

export const instructionsBox = (found, sub) => {
  if (!found) return "";
  const said = found.parts.filter(one => one.text).map(one => one.text).join("\n"), tools = found.tools.length;
  const what = [said && `${count(words(said))} words`, tools && plural(tools, "tool")].filter(Boolean).join(", ");
  const toolBox = one => h("details", null, h("summary", null, strong(one.name || "tool"), " ", oneLine(one.description || "")), h("pre.raw", null, shown(JSON.stringify(one.definition, null, 2))));
  return turnBox("system", sub, [h("details", null, h("summary", null, what, said ? `: ${oneLine(said).slice(0, 160)}` : ""), said ? text(said) : "", found.tools.map(toolBox))]);
};

export const contextOf = (entries, instructions) => {
  const told = new Set(entries.filter(entry => entry.kind === "message" && typeof entry.record.content === "string").map(entry => entry.record.content));
  const starts = new Map(entries.filter(entry => entry.call).map(entry => [entry.call.call_id, ms(entry.start_ns)]));
  return { starts, last: null, join: joins(entries), called: homes(entries), told, all: instructions, instructions: undefined, agent: "", isNew: false };
};
