// Parts of messages: text, reasoning, tool calls with their results, media, and marks for what was not kept.
import { h, mark, soft, strong, spaced } from "./dom.js";
import { bytes, count, oneLine, shown, time, words, ms } from "./format.js";

// Of Markdown, bold words, code and tables are drawn. There are no links and no markup.
const INLINE = /(\*\*[^*\n]{1,200}\*\*|`[^`\n]{1,200}`)/;
const inline = line => line.split(INLINE).map((piece, at) => (at % 2 === 0 ? piece : piece.startsWith("`") ? h("code", null, piece.slice(1, -1)) : strong(piece.slice(2, -2))));
const FENCE = /^(```|~~~)[^\n]*\n([\s\S]*?)\n?^\1[ \t]*$\n?/m;
const TABLE = /^\|.*\|[ \t]*\n\|(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*\n(?:\|.*\|[ \t]*(?:\n|$))+/m;
const cellsIn = line => line.trim().slice(1, -1).split(/(?<!\\)\|/).map(cell => cell.trim());
const ALIGNED = [[/^:-+:$/, ".centre"], [/^-+:$/, ".right"]];
const alignOf = rule => ALIGNED.find(([form]) => form.test(rule))?.[1] ?? "";
const tableOf = source => {
  const [head, rule, ...lines] = source.trim().split("\n").map(cellsIn), aligned = rule.map(alignOf);
  const row = (tag, props, cells) => h("tr", null, cells.map((cell, at) => h(`${tag}${aligned[at] ?? ""}`, props, inline(cell))));
  return h("table.numbers", null, h("thead", null, row("th", { scope: "col" }, head)),
    h("tbody", null, lines.map(cells => row("td", null, cells))));
};
const blocks = source => {
  const [fence, table] = [FENCE.exec(source), TABLE.exec(source)], first = !table || (fence && fence.index <= table.index) ? fence : table;
  if (!first) return source ? [inline(source)] : [];
  const block = first === fence ? h("pre.code", { tabindex: "0" }, first[2]) : tableOf(first[0]);
  // A block is on lines of its own anyway.
  return [inline(source.slice(0, first.index).replace(/\n+$/, "")), block, ...blocks(source.slice(first.index + first[0].length).replace(/^\n+/, ""))];
};
export const text = value => h("div.text", { dir: "auto" }, blocks(shown(value)));
// One side of two texts, with what only this side has.
export const textRuns = (runs, side) => h("div.text", null, runs.filter(([where]) => where === "both" || where === side)
  .map(([where, part]) => (where === "both" ? shown(part) : h(where === "a" ? "del" : "ins", null, shown(part)))));

// The tokens of a text with their probabilities, if they were recorded.
const MOST_TOKENS = 2000;
const tokensOf = logprobs => (Array.isArray(logprobs) ? logprobs : logprobs?.content ?? []).filter(one => one && typeof one.token === "string" && typeof one.logprob === "number");
const probabilities = part => {
  const tokens = tokensOf(part.logprobs);
  if (!tokens.length) return null;
  const token = ({ token: word, logprob, top_logprobs: others }) => {
    const chance = Math.exp(logprob), rest = (others || []).map(one => `${one.token} ${(Math.exp(one.logprob) * 100).toFixed(1)} %`).join(", ");
    return h("span.token", { title: `${(chance * 100).toFixed(1)} %, log-probability ${logprob.toFixed(3)}${rest ? `; ${rest}` : ""}`, style: { "--doubt": String(Math.round((1 - chance) * 100)) } }, word);
  };
  return h("details.tokens", null, h("summary", null, `${count(tokens.length)} tokens with log-probabilities: the darker, the less likely`), h("div.text", null, tokens.slice(0, MOST_TOKENS).map(token)));
};

const FOLDED = 12, MOST_CHARACTERS = 600;
// Parsing would change numbers with this many digits.
export const LOSSY = /\d{16}|\d\.\d{15}/;
const parsed = value => {
  if (typeof value !== "string" || LOSSY.test(value)) return value;
  try { return JSON.parse(value); } catch { return value; }
};
export const textParts = value => (Array.isArray(value) && value.length && value.every(one => one && typeof one === "object" && typeof one.text === "string") ? value.map(one => one.text).join("\n") : value);
// A long text: its beginning, and the rest on demand.
const beginning = (said, draw) => {
  const first = said.split("\n", FOLDED).join("\n"), end = Math.min(first.length, MOST_CHARACTERS);
  if (end === said.length) return draw(said);
  const rest = said.slice(end).replace(/^\n/, ""), lines = rest.split("\n").length;
  return [draw(said.slice(0, end)), h("details", null, h("summary", null, lines > 1 ? `${count(lines)} more lines` : `${count(rest.length)} more characters`), draw(rest))];
};
const inLine = said => beginning(shown(said), some => some);
const inLines = said => beginning(shown(said), some => some.split("\n").map(line => h("div", null, line || " ")));
const isObject = value => value && typeof value === "object" && !Array.isArray(value);
const asText = value => (typeof value === "object" ? JSON.stringify(value) : value);
const flat = value => (
  isObject(value) ? spaced(
    Object.entries(value).flatMap(([key, one]) => [soft(key), inLine(asText(one))])
  ) : [inLine(asText(value))]
);

const folded = (lines, list = some => some) => (lines.length > FOLDED
  ? [list(lines.slice(0, FOLDED)), h("details", null, h("summary", null, `${count(lines.length - FOLDED)} more lines`), list(lines.slice(FOLDED)))]
  : list(lines));

// The value of a key; a list of objects has one per line.
const within = one => {
  if (isObject(one)) return flat(one);
  if (!Array.isArray(one)) return inLine(one);
  return one.some(isObject) ? folded(one.map(item => h("div", null, flat(item)))) : inLine(one.map(asText).join(", "));
};

// A value: keys with their values, a list of objects with one per line. More than 12 lines are folded, as is a long one.
export const value = given => {
  const read = parsed(textParts(parsed(given)));
  if (read === null || read === undefined || read === "") return soft("nothing");
  if (isObject(read)) return folded(Object.entries(read).map(([key, one]) => [h("dt", null, oneLine(key)), h("dd", null, within(one))]), rows => h("dl.pairs", null, rows));
  if (Array.isArray(read)) return folded(read.map(item => h("div", null, flat(item))));
  return inLines(read);
};

const gone = (...children) => h("div.gone", null, children);

const reasoning = part => (part.text
  ? h("details.reasoning", null, h("summary", null, `reasoning, ${count(words(part.text))} words: `, h("span", null, oneLine(part.text).slice(0, 200))), text(part.text))
  : h("p.meta", null, "reasoning, sealed by the provider"));

// What Claude Code adds to the user's messages.
const REMINDER = "<system-reminder>";
const reminder = said => h("details", null, h("summary", null, `added by the program, ${count(words(said))} words: ${oneLine(said.slice(REMINDER.length)).slice(0, 200)}`), text(said));

// The server sends the bytes of media that are kept and may be shown.
const PLAYERS = {
  image: (src, facts) => h("img.image", { src, alt: facts }),
  audio: (src, facts) => h("audio", { src, controls: true, preload: "metadata", "aria-label": facts }),
  video: (src, facts) => h("video.image", { src, controls: true, preload: "metadata", "aria-label": facts }),
};
const KEEPS = () => [", not kept: ", h("code", null, "media=\"inline\""), " or ", h("code", null, "CALLSPAN_MEDIA=inline"), " keeps it"];
const media = part => {
  const facts = [part.modality, part.mime, part.seconds && time(part.seconds * 1000), part.size && bytes(part.size)].filter(Boolean).join(", ");
  const player = part.data && PLAYERS[(part.mime || "").split("/")[0]];
  if (player) return player(`data:${part.mime};base64,${part.data}`, facts);
  const where = part.file_id ? `file ${part.file_id}` : part.url && !part.url.startsWith("data:") ? shown(part.url) : "";
  return h("div.gone", { title: part.sha256 && `sha256 ${part.sha256}` }, facts, where ? [", ", where] : part.is_kept ? ", kept; the page cannot show it" : KEEPS());
};

// A tool call with its result: `run` is the event of its run, `result` the part that a later request sends.
const tool = (part, result, run, open) => {
  const error = run?.record.error, failed = Boolean(error || result?.is_error), lasted = run ? `${run.record.inferred ? "≤ " : ""}${time(ms(run.duration_ns))}` : "";
  const content = result ? result.content : error ? error.message || error.type : run?.record.data?.result;
  const state = failed ? mark("error", "failed") : result || run?.record.data?.result !== undefined ? strong("result") : soft(
    part.tool_type && part.tool_type !== "function" ? part.tool_type : open ? "no end is recorded" : "no result is recorded"
  );
  const box = h(`div.box${failed ? ".failed" : ""}`, null,
    h("div", null, strong(oneLine(part.name || "tool")), " ", soft(part.incomplete ? "call, cut" : "call"), part.arguments === null || part.arguments === undefined ? "" : value(part.arguments)),
    h("div", null, state, " ", soft(lasted), content === undefined || content === null ? "" : value(content)));
  box.dataset.raw = JSON.stringify({ arguments: parsed(part.arguments), result: content }, null, 2);
  return box;
};

export const toolRun = entry => tool({ name: entry.record.name, arguments: entry.record.data?.arguments ?? null }, null, entry, entry.kind === "tool_start");

// One part; `join` returns the result and the run of a tool call.
export const part = (one, join) => {
  switch (one.type) {
    case "text": return one.text?.startsWith(REMINDER) ? reminder(one.text) : one.text ? [text(one.text), probabilities(one)] : null;
    case "reasoning": return reasoning(one);
    case "refusal": return [h("p.meta", null, mark("refused", "refused")), text(one.text)];
    case "tool_call": { const found = join?.(one) || {}; return tool(one, found.result, found.run); }
    case "tool_result": return h("div.box", null, h("div", { title: one.id }, soft("result of a tool")), h("div", null, one.is_error ? mark("error", "failed") : "", value(one.content)));
    case "media": return media(one);
    default: return h("details", null, h("summary", null, "a part of another kind"), h("pre.raw", null, shown(JSON.stringify(one.data ?? one, null, 2))));
  }
};

// The reasons for what was removed.
const WHY = {
  secret: "a secret was masked",
  media: "media, not kept",
  redactor: "changed by the redactor",
  content: "content is not kept",
  retention: "content was removed by age",
  size: "cut by size",
  not_received: "the program did not send it",
  redactor_failed: "withheld: the redactor failed",
  processor_failed: "withheld: a processor failed",
  interrupted: "withheld: interrupted"
};
export const removed = turn => {
  const said = turn.kept === "full" ? ["media"] : ["media", "content"], found = (turn.redactions || []).filter(one => !said.includes(one.why)).map(one => gone(`${one.what}: ${WHY[one.why] || one.why}`, one.original_bytes ? `, ${bytes(one.original_bytes)}` : ""));
  return found;
};

export const turnBox = (who, sub, children, props) => h("div.turn", props, h("div.who", null, who ? strong(who) : "", sub ? soft(sub) : ""), h("div.what", null, children));
