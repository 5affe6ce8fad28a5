// Report: answers requests from the data in the file, in the form of the server's answers.
const block = document.getElementById("data"), data = block && JSON.parse(block.textContent);
const AT_ONCE = 100;
const refuse = text => { throw Object.assign(new Error(text), { said: true }); };
const needsStore = () => refuse(`This works with the store: ${data.contents.command} view`);
const newest = rows => rows.sort((a, b) => b.start_ns - a.start_ns);
const failed = row => ["error", "timeout"].includes(row.outcome);
const paged = (rows, after) => { const from = Number(after || 0), to = from + AT_ONCE; return { rows: rows.slice(from, to), next: rows.length > to ? String(to) : null }; };

const pages = new Map(data?.sessions.map(some => [some[0].session.session_id, some]));
const entriesOf = id => pages.get(id).flatMap(page => page.rows);
const every = () => [...pages.keys()].flatMap(entriesOf).concat(data.outside.rows).filter(entry => entry.call);
const everyCall = () => newest(every().map(entry => entry.call));
const missing = (what, id) => refuse(`${what} is not in this file: ${data.contents.command} show ${id}`);

const sessionOf = ({ id, after }) => {
  const some = pages.get(id) || missing("This session", id);
  return some[after ? some.findIndex(page => page.next === after) + 1 : 0];
};

// A call, with less data than in the store.
const callOf = ({ id }) => {
  const entry = every().find(one => one.id === id) || missing("This call", id), row = entry.call, session = row.session_id;
  const inside = session ? entriesOf(session) : [entry], calls = inside.filter(one => one.call), at = calls.indexOf(entry);
  const asked = new Set(entry.turn.answer.flatMap(message => message.parts).filter(part => part.type === "tool_call").map(part => part.id));
  const near = number => (calls[number] ? { id: calls[number].id, number: number + 1 } : null);
  const known = session ? Object.assign({}, ...pages.get(session).map(page => page.instructions)) : data.outside.instructions;
  return {
    row, turn: entry.turn, earlier: calls.slice(0, Math.max(0, at)).flatMap(one => [...one.turn.new, ...one.turn.answer]).reverse(), earlier_in: null, instructions: known[entry.turn.instructions] || null, record: {}, params: {}, continues: null, missing: null, exact_cost: row.cost_usd, request_bytes: null, response_bytes: null,
    results: calls.slice(at + 1).flatMap(one => one.turn.new).filter(message => message.parts.some(part => part.type === "tool_result" && asked.has(part.id))), runs: inside.filter(one => asked.has(one.record?.tool_call_id)),
    rewards: inside.filter(one => one.kind === "reward" && one.record.call_id === id).map(one => one.record),
    number: session ? at + 1 : null, of: session ? pages.get(session)[0].session.calls : null, before: session ? near(at - 1) : null, after: session ? near(at + 1) : null,
  };
};

const ANSWERS = {
  store: () => ({ name: data.contents.store, command: data.contents.command, trace_url: null, calls: data.contents.calls, last_ns: null, notices: [] }),
  now: () => ({ at_ns: data.contents.at_ns, contents: data.contents, worth: everyCall().filter(row => failed(row) || row.cut_by_length || row.cut_off || row.waits_for_approval || (row.unanswered && row.unanswered !== "not kept") || ["cancelled", "interrupted"].includes(row.outcome)).slice(0, 3) }),
  sessions: ({ after }) => paged(newest([...[...pages.values()].map(([first]) => first.session), ...data.outside.rows.map(entry => entry.call)]), after),
  counts: () => ({}),
  keys: () => [],
  calls: ({ after }) => paged(everyCall(), after),
  session: sessionOf,
  turns: () => ({ before: null, after: [] }),
  call: callOf,
  charts: () => data.charts,
  table: ({ by }) => data.tables[by],
  scores: () => data.scores,
};
const answer = (name, values) => (ANSWERS[name] && !values.q ? ANSWERS[name](values) : needsStore());
if (data) {
  globalThis.CALLSPAN_FILE = { ...data.contents, answer };
  document.documentElement.classList.add("file");
}
