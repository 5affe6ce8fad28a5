// The filter line: words as `user:mara failed since:7d`, typed or clicked; each is a chip that can be taken away.
import { become, h, mark, button } from "./dom.js";

const MARKS = [["running", "session-status:running"], ["error", "failed"], ["cut", "finish:length"], ["cancelled", "status:cancelled"], ["retried", "retries:1"], ["failure", "failure"]];
const TIMES = [["1 h", "since:1h"], ["24 h", "since:24h"], ["7 d", "since:7d"], ["all", ""]];

// A value with spaces or quotes stands in double quotes, with \ before a quote; `cli/view.py` reads the same.
export const wordsOf = line => line.match(/(?:[^\s"]|"(?:[^"\\]|\\.)*")+/g) || [];
export const quoted = value => (/[\s"]/.test(value) || value === "" ? `"${String(value).replace(/["\\]/g, "\\$&")}"` : String(value));
export const unquoted = word => word.replace(/"((?:[^"\\]|\\.)*)"/g, (_, text) => text.replace(/\\(.)/g, "$1"));
const without = (line, word) => wordsOf(line).filter(one => one !== word).join(" ");
const withWord = (line, word) => [...wordsOf(line), word].filter(Boolean).join(" ");

export const filterLine = (line, go, { marks = MARKS } = {}) => {
  const every = wordsOf(line), since = every.find(word => word.startsWith("since:")) || "";
  const quick = new Set([...marks.map(([, word]) => word), ...TIMES.map(([, word]) => word)]);
  const times = h("div.segments", { role: "group", "aria-label": "Time" }, TIMES.map(([name, word]) => button(name, () => go(withWord(without(line, since), word)), { "aria-pressed": String(word === since) })));
  const chip = (counts, [kind, word]) => {
    const on = every.includes(word);
    return h("button.chip", { type: "button", "aria-pressed": String(on), title: `${on ? "without" : "only"} ${word}`, onclick: () => go(on ? without(line, word) : withWord(line, word)) }, mark(kind), counts[kind] ? h("span.soft", null, counts[kind]) : "", on && " ×");
  };
  const chips = h("span.chips"), known = h("datalist", { id: "known" });
  const given = every.filter(word => !quick.has(word)).map(word => h("button.chip", { type: "button", "aria-pressed": "true", "aria-label": `without ${word}`, onclick: () => go(without(line, word)) }, word.replace(/^([\w-]+):/, "$1 "), " ×"));
  const field = h("input.line", { type: "text", "aria-label": "Filter: user:NAME model:NAME meta:KEY=VALUE min-cost:0.01, or words of a message", placeholder: "filter: user:NAME model:NAME meta:KEY=VALUE …", list: "known", value: "", spellcheck: "false" });
  const form = h("form.filters", { role: "search", "aria-label": "Filters", onsubmit: event => { event.preventDefault(); if (field.value.trim()) go(withWord(line, field.value.trim())); } },
    times, chips, given, field, known);
  // Draws the counts of marks, and the words that the field offers.
  const show = (counts = {}, words = []) => {
    become(chips, marks.map(one => chip(counts, one)));
    become(known, [...new Set(words)].map(word => h("option", { value: word })));
  };
  show();
  return { form, show, focus: () => field.focus() };
};
