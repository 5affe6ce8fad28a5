// Data of the store, and what changes in it.
import { stored } from "./dom.js";

export class Failure extends Error {
  constructor(text, status) { super(text); this.status = status; }
  // What was asked for is not there.
  get isFinal() { return this.status === 400 || this.status === 404; }
}

export const query = values => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "").map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]));

// The key that every request for data carries: the address that the command printed leads here with it.
const [, arrived] = /^#key=([\w-]+)$/.exec(location.hash) || [], key = arrived || stored("localStorage", "key") || "";
if (arrived) {
  stored("localStorage", "key", key);
  history.replaceState(null, "", "/");
}

// The tags of what was read, by what it was read into.
const tags = new WeakMap();

export const get = async (name, values = {}, signal) => {
  if (globalThis.CALLSPAN_FILE) return inFile(name, values);
  const answer = await asked(name, values, signal), body = await answer.json();
  tags.set(body, answer.headers.get("etag"));
  return body;
};

// What of a page differs from what was read into this object, `first` or later; null: nothing.
export const changes = async (name, values, first) => {
  const since = tags.get(first)?.replaceAll('"', ""), answer = await asked(name, { ...values, since });
  tags.set(first, answer.headers.get("etag"));
  return answer.status === 204 ? null : answer.json();
};

const asked = async (name, values, signal) => {
  let answer;
  try {
    answer = await fetch(`/api/${name}?${query(values)}`, { signal, headers: { "X-Callspan-Key": key } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("callspan view has ended: start it again, then reload.", 0);
  }
  const other = answer.status === 403 ? "callspan view was started again: open the address that it printed." : `the server failed (${answer.status})`;
  if (!answer.ok) throw new Failure((await answer.json().catch(() => ({ error: other }))).error, answer.status);
  return answer;
};

const inFile = (name, values) => {
  try { return globalThis.CALLSPAN_FILE.answer(name, values); } catch (error) { throw error.said ? new Failure(error.message, 404) : error; }
};
