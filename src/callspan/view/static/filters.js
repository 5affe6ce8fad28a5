// Filters: a line of words such as `user:mara failed since:7d`, typed or clicked. Each word is a chip that removes it.
import { become, h, mark, button } from "./dom.js";
import { count } from "./format.js";
import { viewChoice } from "./views.js";

const MOST_KEYS = 2;
const TIMES = [["1 h", "since:1h"], ["24 h", "since:24h"], ["7 d", "since:7d"]], ALL_TIMES = "since:all";
// Number of sessions above which lists begin with the last week.
const LARGE_SESSIONS = 100_000;
export const isLarge = app => app.sessions > LARGE_SESSIONS;

// The words of the marks in `kinds`, as the server counts them.
export const markWords = kinds => Object.values(kinds).join(",");

// Values with spaces or quotes are in double quotes, quotes within them after a backslash; `cli/view.py` parses the same.
export const wordsOf = line => line.match(/(?:[^\s"]|"(?:[^"\\]|\\.)*")+/g) || [];
export const quoted = value => (/[\s"]/.test(value) || value === "" ? `"${String(value).replace(/["\\]/g, "\\$&")}"` : String(value));
export const unquoted = word => word.replace(/"((?:[^"\\]|\\.)*)"/g, (_, text) => text.replace(/\\(.)/g, "$1"));
export const metaWord = (key, value) => `meta:${quoted(`${key}=${value}`)}`;
const without = (line, word) => wordsOf(line).filter(one => one !== word).join(" ");
const withWord = (line, word) => [...wordsOf(line), word].filter(Boolean).join(" ");

// The order of a list, a word of its line: `by` is its key, `others` the line without it; `head` is a column that sorts.
export const sorting = (line, go) => {
  const words = wordsOf(line), by = words.findLast(word => word.startsWith("sort:"))?.slice(5) || "start";
  const others = words.filter(word => !word.startsWith("sort:")).join(" ");
  const sorter = (name, key) => button(key === by ? `${name} ↓` : name, () => go(withWord(others, key === "start" ? "" : `sort:${key}`)), { class: "plain", title: `by ${name}, largest first` });
  const head = ([name, key], isRight) => h(`span${isRight ? ".right" : ""}`, { "aria-sort": key !== by ? null : key === "score" ? "ascending" : "descending" },
    key && !globalThis.CALLSPAN_FILE ? sorter(name, key) : name);
  return { by, others, isByTime: by === "start", head };
};

// The metadata keys of these rows with their values, those with the fewest values first. The user has a column.
const MOST_VALUES = 12, USER = "user_id";
export const keysIn = rows => {
  const values = new Map();
  for (const row of rows) for (const [key, value] of Object.entries(row.metadata || {})) {
    if (key === USER) continue;
    if (!values.has(key)) values.set(key, new Set());
    for (const one of [value].flat()) if (["string", "number", "boolean"].includes(typeof one)) values.get(key).add(String(one));
  }
  const keys = [...values].filter(([, some]) => some.size).map(([name, some]) => ({ name, values: [...some], is_choice: some.size <= MOST_VALUES }));
  return keys.sort((a, b) => a.values.length - b.values.length || (a.name < b.name ? -1 : 1));
};

// `kinds` has the filter word of each mark: a row with the mark matches the word, and no other row does. `names` has the
// words of chips for marks that say it in words of their own.
export const filterLine = (line, go, { app = {}, kinds = {}, names = {}, choices = [], hasKeys = false } = {}) => {
  const marks = Object.entries(kinds);
  const every = wordsOf(line), since = every.find(word => word.startsWith("since:")) || "";
  const ranges = [...TIMES, ["all", isLarge(app) ? ALL_TIMES : ""]], quick = new Set([...marks.map(([, word]) => word), ...ranges.map(([, word]) => word)]);
  const note = isLarge(app) && since && since !== ALL_TIMES && h("span.soft", null, `of ${count(app.sessions)} sessions`);
  const times = h("div.segments", { role: "group", "aria-label": "Time" }, ranges.map(([name, word]) => button(name, () => go(withWord(without(line, since), word)), { "aria-pressed": String(word === since) })));
  const chip = (counts, [kind, word]) => {
    const on = every.includes(word);
    return h("button.chip", { type: "button", "aria-pressed": String(on), title: `${on ? "without" : "only"} ${word}`, onclick: () => go(on ? without(line, word) : withWord(line, word)) }, mark(kind, names[kind]), word in counts ? h("span.soft", null, count(counts[word])) : "", on && " ×");
  };
  const isOffered = (counts, [, word]) => counts[word] !== 0 || every.includes(word);
  // A choice among the values of a filter or of a metadata key.
  const choice = (name, values, { isKey = false } = {}) => {
    const prefix = isKey ? `meta:${name}=` : `${name}:`, wordOf = value => (isKey ? metaWord(name, value) : `${name}:${quoted(value)}`);
    const word = every.find(one => unquoted(one).startsWith(prefix)) || "", words = [...new Set([...values.map(wordOf), word])].filter(Boolean).sort();
    const select = h("select.chip", { "aria-label": name, onchange: ({ target }) => go(withWord(word ? without(line, word) : line, target.value)) },
      h("option", { value: "" }, `${name} any`), words.map(one => h("option", { value: one, selected: one === word }, unquoted(one).slice(prefix.length))));
    return words.length > 1 || word ? select : "";
  };
  const chips = h("span.chips"), known = h("datalist", { id: "known" });
  const isChosen = word => choices.some(name => word.startsWith(`${name}:`)) || (hasKeys && word.startsWith("meta:"));
  const given = every.filter(word => !quick.has(word) && !isChosen(word)).map(word => h("button.chip", { type: "button", "aria-pressed": "true", "aria-label": `without ${word}`, onclick: () => go(without(line, word)) }, word.replace(/^([\w-]+):/, "$1 "), " ×"));
  const field = h("input.line", { type: "text", "aria-label": "Filter: user:NAME model:NAME meta:KEY=VALUE min-cost:0.01, or words of a message", placeholder: "filter: user:NAME model:NAME meta:KEY=VALUE …", list: "known", value: "", spellcheck: "false" });
  const form = h("form.filters", { role: "search", "aria-label": "Filters", onsubmit: event => { event.preventDefault(); if (field.value.trim()) go(withWord(line, field.value.trim())); } },
    times, note, chips, given, field, viewChoice(line, go), known);
  // `counts` has the store's number of rows by filter word, `values` the values of each choice, `words` completions of the field.
  const show = (counts = {}, values = {}, words = [], keys = []) => {
    const offered = keys.filter((key, at) => (key.is_choice && at < MOST_KEYS) || every.some(word => unquoted(word).startsWith(`meta:${key.name}=`)));
    become(chips, marks.filter(one => isOffered(counts, one)).map(one => chip(counts, one)), choices.map(name => choice(name, values[name] || [])), offered.map(key => choice(key.name, key.values, { isKey: true })));
    become(known, [...new Set(words)].map(word => h("option", { value: word })));
  };
  show();
  return { form, show, focus: () => field.focus() };
};
