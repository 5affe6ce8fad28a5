// Call: its new messages first, then those that were sent before, and its facts at the right.
import { address, become, copy, h, idsBox, link, mark, right, soft, span, strong, button } from "./dom.js";
import { get } from "./api.js";
import { bytes, clock, count, known, money, oneLine, plural, shell, shown, time, ms } from "./format.js";
import { axisOf, callPieces, failedPieces } from "./bars.js";
import { redraw, title } from "./app.js";
import { callMarks, isRunning, succeeded } from "./rows.js";
import { answers, instructionsBox, joins, scoreLine } from "./conversation.js";
import { ratingBox } from "./rate.js";
import { LOSSY, part, turnBox } from "./parts.js";

const EARLIER = 30;
const fact = (name, right, ...rows) => h("section.fact", null, h("h2", null, name, h("span", null, right)), ...rows);
// A name that may break after each of its words.
const breakable = name => name.split("_").flatMap((word, at) => (at ? ["_", h("wbr"), word] : [word]));
const list = pairs => h("dl", null, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(([name, value]) => [h("dt", null, breakable(name)), h("dd", null, value)]));

const timeOf = ({ row, record }) => {
  const axis = axisOf(0, Math.max(1, ms(row.duration_ns) || 0)), tries = row.attempts, timing = record.timing || {};
  const drawn = tries.map((one, at) => {
    const [start, end, status, error, wait, asked] = one, last = at === tries.length - 1, until = last ? ms(row.duration_ns) ?? end : end;
    const pieces = last ? callPieces(0, { ...row, attempts: [one] }, axis, Date.now()) : failedPieces(0, one, axis);
    const failed = error || status >= 400 || !last, said = failed ? mark("error", status || oneLine(error || "failed")) : mark("success", status || "");
    const waited = known(wait) && h("span.note", null, `then waited ${time(wait)}`, known(asked) && ` (it asked for ${time(asked)})`);
    return [span(`${at + 1} `, said), h("span.track", null, pieces), right(known(until) ? soft(time(until - start)) : ""), waited];
  });
  const began = tries.length ? tries.at(-1)[0] : 0, first = ms(row.first_token_ns), { stream } = record;
  const after = began > 1 && tries.length > 1 ? ` (${time(first - began)} after the last attempt began)` : "";
  return fact("Time", known(row.duration_ns) ? time(ms(row.duration_ns)) : "", h("div.tries", null, drawn), list([
    ["first token", first === null ? null : time(first) + after],
    ["largest gap", timing.largest_gap_ns ? time(ms(timing.largest_gap_ns)) : null],
    ["server", timing.server_ns ? time(ms(timing.server_ns)) : null],
    ["stream", stream && stream.end.replaceAll("_", " ") + (stream.chunks ? `, ${plural(stream.chunks, "chunk")}` : "")],
    ["finished", (record.response?.finish_reasons || []).filter(Boolean).join(", ")],
  ]));
};

const tokensOf = ({ row, record }) => {
  const usage = record.usage || {}, sent = row.input_tokens, cached = row.cache_read_tokens || 0, got = row.output_tokens, thought = usage.reasoning_tokens;
  const all = (sent || 0) + (got || 0) || 1, share = (kind, number) => h(`i.${kind}`, { style: { flex: `${number / all}` } });
  const bar = h("div.share", { "aria-hidden": "true" }, cached ? share("wait", cached) : "", share("fresh", Math.max(0, sent - cached)), got ? share("tool", got) : "");
  const reasoning = globalThis.CALLSPAN_FILE ? "" : known(thought) ? ` of which reasoning ${count(thought)}` : " reasoning not stated";
  return fact("Tokens", known(sent ?? got) ? `${count(sent)} → ${count(got)}` : "not stated", sent !== null && bar, list([
    ["from cache", cached ? [count(cached), soft(` ${Math.round(cached / sent * 100)} % of the input`)] : null],
    ["written to it", usage.cache_write_tokens ? count(usage.cache_write_tokens) : null],
    ["new input", sent === null ? null : count(sent - cached)],
    ["output", got === null ? null : [count(got), soft(reasoning)]],
  ]));
};

const costOf = ({ row, record: { cost }, exact_cost: exact }) => {
  const price = cost && `${cost.source || ""}${cost.estimated ? ", estimated" : ""}${cost.reason ? `: ${cost.reason}` : ""}`;
  return fact("Cost", row.cost_usd === null ? "unknown" : money(row.cost_usd), list([["exact", exact && `$${exact}`], ["price", price]]));
};

const requestOf = ({ row, record, params, continues, missing }) => fact("Request", "", list([
  ["model", row.model], ["answered by", record.response?.model !== row.model ? record.response?.model : null],
  ...Object.entries(params).map(([key, value]) => [key, typeof value === "object" ? oneLine(JSON.stringify(value)) : oneLine(value)]),
  ["tools", (record.request?.tool_names || []).join(", ")], ["stream", record.request?.stream ? "yes" : null],
  ["messages", record.request?.message_count],
  ["continues", continues ? missing ? soft("a response of no recorded call") : "an earlier response" : null],
  ["tier", record.response?.service_tier]]));

const traceOf = ({ trace_id: id }, { trace_url: url }) => {
  if (!id) return globalThis.CALLSPAN_FILE ? "" : "none recorded";
  return url ? h("a.linked", { href: url.replace("{trace_id}", id), rel: "noreferrer noopener", target: "_blank" }, "open") : "";
};

const whereOf = ({ row, record, continues }, app) => {
  const metadata = Object.entries(record.metadata || {}).filter(([key, value]) => row[key] !== value).map(([key, value]) => [key, typeof value === "object" ? JSON.stringify(value) : oneLine(value)]);
  return fact("Where", "", list([
    ["session", row.session_id ? h("a.linked", { href: address("session", row.session_id) }, row.session_name || "session") : "outside of sessions"], ["user", row.user_id], ...metadata,
    ["provider", [record.provider, record.api, record.server_address].filter(Boolean).join(", ")],
    ["service", [record.service, record.pid && `pid ${record.pid}`].filter(Boolean).join(", ")], ["sdk", record.sdk], ["batch line", row.custom_id],
    ["trace", traceOf(record, app)]]), idsBox([
    ["call", row.call_id], ["session", row.session_id], ["response", record.response?.id], ["continues", continues],
    ["request", (record.attempts || []).at(-1)?.request_id], ["trace", record.trace_id], ["span", record.span_id],
    ["again", h("pre.raw", null, `${app.command} replay ${shell(row.call_id)}\n${app.command} show ${shell(row.call_id)}`)]]));
};

const body = ({ call_id: id }, name, size, { absent = "not kept", note = "" } = {}) => {
  if (!size) return h("p.meta", null, `${name}: ${absent}`);
  const box = h("details.exact", null, h("summary", null, `${name}${note}, ${bytes(size)}`));
  box.addEventListener("toggle", async () => {
    if (!box.open || box.dataset.read) return;
    box.dataset.read = "1";
    const text = await get("bodies", { id }).then(both => both[name], error => error.message);
    let pretty = text ?? "not kept";
    try { if (!LOSSY.test(text)) pretty = JSON.stringify(JSON.parse(text), null, 2); } catch { /* as it is */ }
    const raw = h("pre.raw", { tabindex: "0" }, shown(pretty));
    box.append(button("as sent", () => raw.replaceChildren(text ?? "")), raw);
  });
  return box;
};

// The new messages, the answer, and at most `most` earlier messages.
const messagesOf = (data, most, showAll) => {
  const { row, turn, record } = data, entry = { kind: "call", call: row, turn, start_ns: row.start_ns }, told = [...data.earlier].reverse();
  const sent = messages => ({ kind: "call", turn: { new: messages, answer: [] } });
  const join = joins([sent(told), entry, ...data.runs, sent(data.results)]), calls = messages => messages.flatMap(message => message.parts.filter(one => one.type === "tool_call"));
  const asked = new Map(calls(told).map(piece => [piece.id, piece])), own = new Set(calls(turn.new).map(piece => piece.id));
  // A new result is shown with its tool call, although that was sent before.
  const added = one => {
    const parts = one.parts.filter(piece => piece.type !== "tool_result" || !own.has(piece.id));
    return parts.length ? turnBox(one.role, one.name || "", parts.map(piece => part((piece.type === "tool_result" && asked.get(piece.id)) || piece, join))) : "";
  };
  const answered = new Set(turn.new.flatMap(one => one.parts.filter(piece => piece.type === "tool_result").map(piece => piece.id)));
  // A tool call whose result is new is above, with that result.
  const message = one => {
    const parts = one.parts.filter(piece => (piece.type === "tool_call" ? !answered.has(piece.id) : piece.type !== "tool_result" || !asked.has(piece.id)));
    return parts.length ? turnBox(one.role, one.name || "", parts.map(piece => part(piece, join))) : "";
  };
  const hidden = data.earlier.length - most, { before, after, earlier_in: had } = data;
  const callLink = ({ id }, text) => h("a.linked", { href: address("call", id) }, text);
  const near = right(before && callLink(before, `← call ${before.number} of ${data.of}`), " ", after && callLink(after, `call ${after.number} →`));
  const folded = row.cut_off || record.stream ? ", folded from the stream" : "";
  return [
    h("div.stepline", null,
      strong(data.number === 1 || data.number === null ? "Messages" : "New since the call before"),
      soft([plural(turn.new.length, "message"), turn.answer.length ? "1 answer" : ""].filter(Boolean).join(", ")),
      near
    ),
    turn.new.map(added),
    turnBox("assistant", clock(ms(row.start_ns)), answers(entry, join)),
    data.rewards.map(one => turnBox("", one.source || "score", [h("p", null, scoreLine(one))])),
    data.earlier.length ? h("div.stepline", null,
      strong(globalThis.CALLSPAN_FILE ? "Before it in the session" : "Sent before"),
      soft(plural(data.earlier.length, "message"), had && [", same as in ", callLink(had, `call ${had.number}`), " and its answer"], ", the last one first")
    ) : "",
    data.earlier.slice(0, most).map(message),
    hidden > 0 ? h("p.pad", null, button(`${hidden} earlier messages`, showAll)) : "",
    data.instructions ? [h("div.stepline", null, strong("Instructions and tools")), instructionsBox(data.instructions, "")] : "",
    h("div.stepline", null, strong("Exact bodies")),
    turnBox("", "JSON", globalThis.CALLSPAN_FILE ? h("p.meta", null, "not in this file")
      : [body(row, "request", data.request_bytes), body(row, "response", data.response_bytes, { absent: record.response ? "not kept" : "none", note: folded })])
  ].flat();
};

export const callPage = ({ place, app, signal }) => {
  const left = h("section", { "aria-label": "Messages", tabindex: "0" }), right = h("section", { "aria-label": "Facts", tabindex: "0" }), titlebar = h("div.titlebar");
  const rating = ratingBox({ call: place.id }, app, { sessionOf: () => data.row.session_id }), ratings = fact("Rate", "", rating.box);
  let data = null, most = EARLIER, reasoningOpen = false;
  const go = one => { if (one) location.hash = address("call", one.id); };
  const back = () => (data.row.session_id ? address("session", data.row.session_id) : "#/calls");
  const showAll = () => { most = Infinity; redraw(); };
  const show = found => {
    data = found;
    const { row } = data, waited = row.attempts.reduce((total, one) => total + (one[4] || 0), 0);
    if (!place.isInList) title(`call ${data.number ?? ""} ${row.model || ""}`);
    const above = row.session_id ? [link("#/", "Sessions"), soft(" / "), link(back(), row.session_name || "session")] : link("#/calls", "Calls");
    become(titlebar,
      h("h1", null, above, soft(" / "), strong(data.number ? `call ${data.number} of ${data.of}` : "call"), " ", soft(row.model || "")),
      h("div.facts", null,
        span(succeeded(row) ? mark("success") : "", callMarks(row)),
        known(row.input_tokens ?? row.output_tokens) ? span(strong(`${count(row.input_tokens)} → ${count(row.output_tokens)}`), " tokens") : "",
        strong(row.cost_usd === null ? "cost unknown" : money(row.cost_usd)),
        known(row.duration_ns) ? span(strong(time(ms(row.duration_ns))), waited ? `, of which ${time(waited)} waiting to retry` : "") : "",
        soft(clock(ms(row.start_ns)))));
    become(left, messagesOf(data, most, showAll));
    become(right, globalThis.CALLSPAN_FILE ? "" : ratings, timeOf(data), tokensOf(data),
      costOf(data), requestOf(data), whereOf(data, app));
    if (reasoningOpen) openReasoning();
  };
  const openReasoning = () => { for (const one of left.querySelectorAll(".reasoning")) one.open = reasoningOpen; };
  const bodies = () => {
    const every = [...left.querySelectorAll(".exact")];
    for (const one of every) one.open = !one.open;
    every[0]?.scrollIntoView({ block: "start" });
  };
  return {
    body: h("div", null, titlebar, h("div.panes.facts-right", null, left, right)),
    read: () => get("call", { id: place.id }, signal),
    show,
    runs: ({ row }) => isRunning(row),
    keys: () => [["[ ]", "previous, next call"], ["[", "", () => go(data.before)], ["]", "", () => go(data.after)], ["r", "reasoning", () => { reasoningOpen = !reasoningOpen; openReasoning(); }],
      ["b", "bodies", bodies], ...(globalThis.CALLSPAN_FILE ? [] : [rating.key]),
      ["c", "compare with the call before", () => { if (data.before) location.hash = address("compare", null, { a: data.before.id, b: data.row.call_id }); }],
      ["y", "copy id", () => copy(data.row.call_id)], ["R", "copy the replay command", () => copy(`${app.command} replay ${shell(data.row.call_id)}`)],
      ["Escape", data.row.session_id ? "session" : "back", () => { location.hash = data.row.session_id ? back() : app.list; }]],
  };
};

export default callPage;
