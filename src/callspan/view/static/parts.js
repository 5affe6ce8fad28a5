// Parts of messages: texts, reasoning, tool calls beside their results, media, and what was not kept.
import { h, mark, soft, strong, spaced } from "./dom.js";
import { bytes, count, oneLine, shown, time, words, ms } from "./format.js";

// Text as it is; only **bold** is drawn, nothing else of Markdown, no links, no markup.
export const text = value => {
  const box = h("div.text", { dir: "auto" });
  shown(value).split(/(\*\*[^*\n]{1,200}\*\*)/).forEach((piece, at) => box.append(at % 2 ? strong(piece.slice(2, -2)) : piece));
  return box;
};

const FOLDED = 12;
// Numbers of many digits would be altered by reading them.
export const LOSSY = /\d{16}|\d\.\d{15}/;
const parsed = value => {
  if (typeof value !== "string" || LOSSY.test(value)) return value;
  try { return JSON.parse(value); } catch { return value; }
};
const textParts = value => (Array.isArray(value) && value.length && value.every(one => one && typeof one === "object" && typeof one.text === "string") ? value.map(one => one.text).join("\n") : value);
const isObject = value => value && typeof value === "object" && !Array.isArray(value);
const flat = value => (
  isObject(value) ? spaced(
    Object.entries(value).flatMap(([key, one]) => [soft(key), typeof one === "object" ? JSON.stringify(one) : shown(one)])
  ) : [typeof value === "object" ? JSON.stringify(value) : shown(value)]
);

// What belongs to a key: lists of objects one a line.
const within = one => {
  if (isObject(one)) return flat(one);
  if (!Array.isArray(one)) return shown(one);
  return one.some(isObject) ? one.map(item => h("div", null, flat(item))) : shown(one.map(item => (typeof item === "object" ? JSON.stringify(item) : item)).join(", "));
};

const folded = (lines, list = some => some) => (lines.length > FOLDED
  ? [list(lines.slice(0, FOLDED)), h("details", null, h("summary", null, `${lines.length - FOLDED} more lines`), list(lines.slice(FOLDED)))]
  : list(lines));

// A value as people read it: key and value, lists of objects one a line; more than 12 lines are folded.
export const value = given => {
  const read = parsed(textParts(parsed(given)));
  if (read === null || read === undefined || read === "") return soft("nothing");
  if (isObject(read)) return folded(Object.entries(read).map(([key, one]) => [h("dt", null, oneLine(key)), h("dd", null, within(one))]), rows => h("dl.pairs", null, rows));
  if (Array.isArray(read)) return folded(read.map(item => h("div", null, flat(item))));
  return folded(shown(read).split("\n").map(line => h("div", null, line || " ")));
};

const gone = (...children) => h("div.gone", null, children);

const reasoning = part => (part.text
  ? h("details.reasoning", null, h("summary", null, `reasoning, ${count(words(part.text))} words: `, h("span", null, oneLine(part.text).slice(0, 200))), text(part.text))
  : h("p.meta", null, "reasoning, sealed by the provider"));

const IMAGES = /^image\/(png|jpeg|gif|webp)$/;
const media = part => {
  const facts = [part.modality, part.mime, part.seconds && time(part.seconds * 1000), part.size && bytes(part.size)].filter(Boolean).join(", ");
  if (part.data && IMAGES.test(part.mime || "")) return h("img.image", { src: `data:${part.mime};base64,${part.data}`, alt: facts });
  const where = part.file_id ? `file ${part.file_id}` : part.url && !part.url.startsWith("data:") ? shown(part.url) : "";
  return gone(facts, where ? [", ", where] : ", not kept", part.sha256 ? [" · sha256 ", h("span.id", null, part.sha256.slice(0, 12))] : "");
};

// A tool call beside its result; `run` is the event of its run, `result` the part that was sent back.
const tool = (part, result, run, open) => {
  const error = run?.record.error, failed = Boolean(error || result?.is_error), lasted = run ? time(ms(run.duration_ns)) : "";
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

// One part; `join` finds what belongs to a tool call.
export const part = (one, join) => {
  switch (one.type) {
    case "text": return one.text ? text(one.text) : null;
    case "reasoning": return reasoning(one);
    case "refusal": return [h("p.meta", null, mark("refused", "refused")), text(one.text)];
    case "tool_call": { const found = join?.(one) || {}; return tool(one, found.result, found.run); }
    case "tool_result": return h("div.box", null, h("div", null, soft("result of "), oneLine(one.id || "a tool")), h("div", null, one.is_error ? mark("error", "failed") : "", value(one.content)));
    case "media": return media(one);
    default: return h("details", null, h("summary", null, "a part of another kind"), h("pre.raw", null, shown(JSON.stringify(one.data ?? one, null, 2))));
  }
};

// What was removed, in the words of why.
const WHY = {
  secret: "a secret was masked",
  media: "media, not kept",
  redactor: "changed by the redactor",
  content: "content is not kept",
  retention: "content was removed by age",
  size: "cut by size",
  redactor_failed: "withheld: the redactor failed",
  processor_failed: "withheld: a processor failed",
  interrupted: "withheld: interrupted"
};
export const removed = turn => {
  const said = turn.kept === "full" ? ["media"] : ["media", "content"], found = (turn.redactions || []).filter(one => !said.includes(one.why)).map(one => gone(`${one.what}: ${WHY[one.why] || one.why}`, one.original_bytes ? `, ${bytes(one.original_bytes)}` : ""));
  return found;
};

export const turnBox = (who, sub, children, props) => h("div.turn", props, h("div.who", null, who ? strong(who) : "", sub ? soft(sub) : ""), h("div.what", null, children));
