// API: requests to the server, or to the data in a report.
import { stored } from "./dom.js";

export class Failure extends Error {}

const query = values => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "").map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]));

// The key of every request for data. The printed address leads to this page with the key after the `#`.
const [, arrived] = /^#key=([\w-]+)$/.exec(location.hash) || [], key = arrived || stored("localStorage", "key") || "";
if (arrived) {
  stored("localStorage", "key", key);
  history.replaceState(null, "", "/");
}

export const get = async (name, values = {}, signal) => {
  if (globalThis.CALLSPAN_FILE) return inFile(name, values);
  const found = await (await asked(name, values, signal)).json();
  // The store has no records yet.
  if (found.waits) throw Object.assign(new Failure(found.error), found);
  return found;
};

export const send = async (name, body) => (await asked(name, {}, undefined, { method: "POST", body: JSON.stringify(body) })).json();

// Saves what a filter line selects as a file of the browser's.
export const save = async (name, line, file) => {
  const url = URL.createObjectURL(await (await asked(`save/${name}`, { q: line })).blob());
  Object.assign(document.createElement("a"), { href: url, download: file }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
};

// Reads a list page by page until it has `least` rows or ends, after the rows that are `known`.
export const listed = async (name, values, least, signal, known) => {
  let found = known || await get(name, values, signal);
  while (found.next && found.rows.length < least) {
    const page = await get(name, { ...values, after: found.next }, signal), rows = [...found.rows, ...page.rows];
    found = { ...found, next: page.next, groups: { ...found.groups, ...page.groups }, rows: [...new Map(rows.map(row => [row.call_id ?? row.session_id, row])).values()] };
  }
  return found;
};

const asked = async (name, values, signal, given) => {
  let answer;
  try {
    answer = await fetch(`/api/${name}?${query(values)}`, { signal, headers: { "X-Callspan-Key": key }, ...given });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("callspan view has ended: start it again, then reload.");
  }
  const other = answer.status === 403 ? "callspan view was started again: open the address that it printed." : `the server failed (${answer.status})`;
  if (!answer.ok) throw new Failure((await answer.json().catch(() => ({ error: other }))).error);
  return answer;
};

const inFile = (name, values) => {
  try { return globalThis.CALLSPAN_FILE.answer(name, values); } catch (error) { throw error.said ? new Failure(error.message) : error; }
};
