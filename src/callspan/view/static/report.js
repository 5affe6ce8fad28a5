// The report: answers from what is in the file, as the server gives them from the store.
import { unquoted, wordsOf } from "./filters.js";

const block = document.getElementById("data"), data = block && JSON.parse(block.textContent);
const AT_ONCE = 100, UNITS = { m: 60e3, h: 3600e3, d: 86400e3, w: 604800e3 };
const refuse = text => { throw Object.assign(new Error(text), { said: true }); };

const timeOf = text => {
  const ago = /^(\d+(?:\.\d+)?)([mhdw])$/.exec(text), at = ago ? data.contents.at_ms - ago[1] * UNITS[ago[2]] : Date.parse(text);
  return Number.isNaN(at) ? refuse(`${text} is no time`) : at;
};
const fold = text => String(text).toLowerCase();
const says = (value, text) => (typeof value === "string" ? fold(value).includes(text) : Boolean(value) && typeof value === "object" && Object.values(value).some(one => says(one, text)));
const labels = value => (Array.isArray(value) ? value : [value]).map(one => (typeof one === "object" ? JSON.stringify(one) : String(one)));
const meta = (row, pair) => { const at = pair.indexOf("="), key = pair.slice(0, at); return Object.hasOwn(row.metadata || {}, key) && labels(row.metadata[key]).includes(pair.slice(at + 1)); };
const failed = row => (row.errors === undefined ? ["error", "timeout"].includes(row.outcome) : row.errors > 0);

// What a word of the filter line asks of a row; `of` tells sessions from calls.
const FLAGS = { failed, success: row => row.succeeded === true, failure: row => row.succeeded === false, "cut-off": row => Boolean(row.cut_off) };
const SESSION = {
  user: "user", name: "name", group: "group", task: "task", experiment: "experiment", session: "id", "session-status": "outcome",
  model: (row, value) => callsOf(row.id).some(call => call.model === value),
  status: (row, value) => (value === "cancelled" ? row.cancelled > 0 : callsOf(row.id).some(call => call.outcome === value)),
};
const CALL = { user: "user", model: "model", session: "session_id", status: "outcome", name: "session_name" };
const BOTH = {
  since: (row, value) => row.start_ms !== null && row.start_ms >= timeOf(value), until: (row, value) => row.start_ms !== null && row.start_ms < timeOf(value), retries: (row, value) => (row.retries || 0) >= Number(value),
  finish: (row, value) => (value === "length" ? Boolean(row.cut_by_length) : refuse(`finish:${value} is not in the file`)), "min-cost": (row, value) => Number(row.cost_usd || 0) >= Number(value), meta,
};

const chosen = (every, line, known, inside) => {
  const tests = [], text = [];
  for (const word of wordsOf(line || "")) {
    const at = word.indexOf(":"), name = at > 0 ? word.slice(0, at) : "", value = unquoted(word.slice(at + 1)), test = known[name] || BOTH[name];
    if (FLAGS[word]) tests.push(FLAGS[word]);
    else if (test) tests.push(typeof test === "string" ? row => row[test] === value : row => test(row, value));
    else if (/^[a-z-]+$/.test(name)) refuse(`${word} needs the store: ${data.contents.command} view`);
    else text.push(fold(unquoted(word)));
  }
  const words = text.join(" ");
  return every.filter(row => tests.every(test => test(row)) && (!words || says(row, words) || inside(row).some(one => says(one, words)))).sort((a, b) => b.start_ms - a.start_ms);
};
const paged = (rows, after) => { const from = after ? after[0] : 0; return { rows: rows.slice(from, from + AT_ONCE), next: rows.length > from + AT_ONCE ? [from + AT_ONCE] : null }; };

const pages = new Map(data?.pages), rows = new Map(data?.rows.map(row => [row.id, row]));
const entriesOf = id => (pages.get(id) || []).flatMap(page => page.rows);
const callsOf = id => entriesOf(id).filter(entry => entry.call).map(entry => entry.call);
const every = () => [...pages.keys()].flatMap(entriesOf).concat(data.outside.rows).filter(entry => entry.call);
const missing = (what, id) => refuse(`${what} is not in this file: ${data.contents.command} show ${id}`);

const sessionOf = ({ id, after }) => {
  const some = pages.get(id) || missing("The course of this session", id), at = after ? some.findIndex(page => page.next === after) + 1 : 0;
  return some[at] && (!after || at) ? { ...some[at], session: at ? null : rows.get(id) } : missing("The rest of this session", id);
};

// A call as its session has it; the store has more of it.
const callOf = ({ id }) => {
  const entry = every().find(one => one.id === id) || missing("This call", id), row = entry.call, session = row.session_id;
  const inside = session ? entriesOf(session) : [entry], calls = inside.filter(one => one.call), at = calls.indexOf(entry);
  const asked = new Set(entry.turn.answer.flatMap(message => message.parts).filter(part => part.type === "tool_call").map(part => part.id));
  const near = number => (calls[number] ? { id: calls[number].id, number: number + 1 } : null);
  const known = session ? Object.assign({}, ...pages.get(session).map(page => page.instructions)) : data.outside.instructions;
  return {
    row, turn: entry.turn, earlier: calls.slice(0, Math.max(0, at)).flatMap(one => [...one.turn.new, ...one.turn.answer]).reverse(), earlier_in: null, instructions: known[entry.turn.instructions] || null, record: {}, params: {}, continues: null, missing: null, exact_cost: row.cost_usd, request_bytes: null, response_bytes: null,
    results: (calls[at + 1]?.turn.new || []).filter(message => message.parts.some(part => part.type === "tool_result" && asked.has(part.id))), runs: inside.filter(one => asked.has(one.record?.tool_call_id)),
    rewards: inside.filter(one => one.kind === "reward" && one.record.call_id === id).map(one => one.record),
    number: session ? at + 1 : null, of: session ? rows.get(session).calls : null, before: session ? near(at - 1) : null, after: session ? near(at + 1) : null,
  };
};

const ANSWERS = {
  store: () => ({ name: data.contents.store, trace_url: null, calls: data.contents.calls, last_ms: null, notices: [] }),
  now: () => ({ at_ms: data.contents.at_ms, contents: data.contents, worth: every().map(entry => entry.call).filter(row => failed(row) || row.cut_by_length || row.cut_off || row.outcome === "cancelled").sort((a, b) => b.start_ms - a.start_ms).slice(0, 3) }),
  sessions: ({ q, after }) => paged(chosen([...rows.values()], q, SESSION, row => entriesOf(row.id)), after),
  calls: ({ q, after }) => paged(chosen(every().map(entry => entry.call), q, CALL, () => []), after),
  session: sessionOf,
  call: callOf,
  charts: () => data.charts,
  table: ({ by }) => data.tables[by],
  scores: () => data.scores,
};
if (data) globalThis.CALLSPAN_FILE = { ...data.contents, answer: (name, values) => (ANSWERS[name] || (() => refuse(`This works with the store: ${data.contents.command} view`)))(values) };
