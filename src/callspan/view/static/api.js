// Data of the store, and what changes in it.
export class Failure extends Error {
  constructor(text, status) { super(text); this.status = status; }
}

export const query = values => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "").map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]));

export const get = async (name, values = {}, signal) => {
  if (globalThis.CALLSPAN_FILE) return inFile(name, values);
  let answer;
  try {
    answer = await fetch(`/api/${name}?${query(values)}`, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("callspan view has ended: start it again, then reload.", 0);
  }
  const other = answer.status === 403 ? "callspan view was started again: open the address that it printed." : `the server failed (${answer.status})`;
  const body = await answer.json().catch(() => ({ error: other }));
  if (!answer.ok) throw new Failure(body.error, answer.status);
  return body;
};

const inFile = (name, values) => {
  try { return globalThis.CALLSPAN_FILE.answer(name, values); } catch (error) { throw error.said ? new Failure(error.message, 404) : error; }
};

// Follows a page: `on.rows` gets what differs from `first` and from then on, `on.state` "live", "still" (the store cannot
// tell), or "lost" with a reason. A browser that connects again, as after a sleep, gets what changed meanwhile.
export const follow = (page, values, first, on) => {
  const events = new EventSource(`/api/live?${query({ page, ...values })}`);
  const known = new Map(first.rows.map(row => [row.id, JSON.stringify(row)])), data = event => JSON.parse(event.data);
  let quiet = false, order = first.rows.map(row => row.id).join(), heading = null;
  const take = found => {
    on.state("live");
    const rows = found.rows.filter(row => known.get(row.id) !== JSON.stringify(row)), ids = found.order.join(), head = JSON.stringify(found.head);
    const changed = rows.length || ids !== order || (heading !== null && head !== heading);
    for (const row of rows) known.set(row.id, JSON.stringify(row));
    order = ids;
    heading = head;
    if (changed) on.rows({ ...found, rows });
  };
  events.addEventListener("ready", event => take(data(event)));
  events.addEventListener("still", () => { quiet = true; events.close(); on.state("still"); });
  events.addEventListener("rows", event => take(data(event)));
  events.addEventListener("failed", event => { const { error, final } = data(event); on.state("failed", error); if (final) { quiet = true; events.close(); } });
  events.onerror = () => { if (!quiet) on.state("lost", "callspan view has ended"); };
  return () => { quiet = true; events.close(); };
};
