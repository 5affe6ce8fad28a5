// The page: its top bar, its addresses, and which module draws what.
import { h, link, stored, mark, button } from "./dom.js";
import { get, Failure } from "./api.js";
import { clock, day, time } from "./format.js";
import { setKeys } from "./keys.js";
import { unquoted } from "./filters.js";

const PAGES = { "": "start", calls: "calls", session: "session", call: "call", find: "find", compare: "compare", charts: "charts" };
const TABS = { start: "sessions", session: "sessions", find: "sessions", calls: "calls", call: "calls", compare: "compare", charts: "charts" };
const main = document.getElementById("main"), state = document.querySelector(".state");

export const app = { store: "", live: false, trace: null, order: [], marked: JSON.parse(stored("sessionStorage", "marked") || "[]"), scroll: {} };
const AGAIN_MS = 2000;
let drawn = null, turn = 0, at = null, stop = new AbortController();

export const address = (page, id, values) => {
  const text = new URLSearchParams(Object.entries(values || {}).filter(([, value]) => value)).toString();
  return `#/${page}${id ? "/" + encodeURIComponent(id) : ""}${text ? "?" + text : ""}`;
};
const parsed = () => {
  try { return read(); } catch { return { page: "start", values: {}, hash: location.hash }; }
};
const read = () => {
  const [path, values = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, id] = path.split("/");
  return { page: PAGES[page] ?? "start", id: id && decodeURIComponent(id), values: Object.fromEntries(new URLSearchParams(values)), hash: location.hash };
};

// At most two sessions or calls are marked to be compared; the one that was marked first is A.
export const isMarked = id => app.marked.includes(id);
export const toMark = id => {
  app.marked = isMarked(id) ? app.marked.filter(one => one !== id) : [...app.marked, id].slice(-2);
  stored("sessionStorage", "marked", JSON.stringify(app.marked));
};

export const say = (kind, reason) => {
  const where = app.store ? [" · ", app.store] : [], file = globalThis.CALLSPAN_FILE;
  if (file) state.replaceChildren(`written ${day(file.at_ms)} ${clock(file.at_ms, false)}`, ...where);
  else if (kind === "live") { if (!state.querySelector(".live")) state.replaceChildren(h("i.live"), "live", ...where); }
  else if (kind === "still") state.replaceChildren(`as of ${clock(Date.now())}`, button("read again", () => draw()), ...where);
  else state.replaceChildren(h("span.mark.warn", { title: reason }, mark("cut", `not live since ${clock(Date.now())}: ${reason}`)), button("try again", () => draw()));
};

export const title = text => { document.title = `${text ? text + " – " : ""}callspan`; };

export const draw = async () => {
  const mine = ++turn, place = parsed();
  if (at) app.scroll[at] = main.scrollTop;
  at = place.hash;
  drawn?.close?.();
  drawn = null;
  // What the page that is left still awaits is not read to its end.
  stop.abort();
  stop = new AbortController();
  const stopping = stop;
  for (const one of document.querySelectorAll("nav a")) {
    if (one.dataset.page === TABS[place.page]) one.setAttribute("aria-current", "page"); else one.removeAttribute("aria-current");
  }
  setKeys([]);
  document.getElementById("find").value = place.page === "find" ? unquoted(place.values.q || "") : "";
  // What takes longer than a moment shows rows of the final height.
  const waiting = setTimeout(() => { if (mine === turn) main.replaceChildren(h("div.waiting", { "aria-busy": "true" }, Array.from({ length: 9 }, () => h("div", null, h("i"), h("i"))))); }, 300);
  const slow = setTimeout(() => { if (mine === turn) main.append(h("p.soft.pad", null, `reading ${app.store}; `, button("stop", () => stopping.abort()))); }, 2000);
  try {
    const module = await import(`./${place.page}.js`);
    const made = await module.default({ place, app, signal: stopping.signal, fresh: () => mine === turn });
    if (mine !== turn) { made.close?.(); return; }
    main.replaceChildren(made.body);
    main.className = place.page;
    drawn = made;
    title(made.title);
    setKeys((made.keys || []).filter(([keys]) => !globalThis.CALLSPAN_FILE || !["x", "c", "."].includes(keys)));
    main.scrollTop = app.scroll[place.hash] || 0;
    made.ready?.();
  } catch (error) {
    if (mine !== turn) return;
    main.replaceChildren(failed(error));
    // A store that cannot be read may not exist yet.
    if (error.status === 503) drawn = later(AGAIN_MS, app.store ? draw : start);
    if (!(error instanceof Failure) && error.name !== "AbortError") console.error(error);
  } finally {
    clearTimeout(waiting);
    clearTimeout(slow);
  }
};

const later = (ms, then) => { const timer = setTimeout(then, ms); return { close: () => clearTimeout(timer) }; };

const failed = error => h("div.pad", null, h("h1.hidden", null, "Error"), mark("error", error.name === "AbortError" ? "stopped" : error.message), h("p", null, button("try again", () => draw()), " ", link("#/", "Sessions")));

document.querySelector("form.find").addEventListener("submit", event => {
  event.preventDefault();
  const text = document.getElementById("find").value.trim();
  document.getElementById("find").blur();
  // What is written here is text, also where it looks like a filter.
  if (text) location.hash = address(globalThis.CALLSPAN_FILE ? "" : "find", null, { q: `"${text.replace(/["\\]/g, "\\$&")}"` });
});
addEventListener("hashchange", draw);
const start = () => get("now").then(now => { app.store = now.store.replace(/^.*\//, ""); app.trace = now.trace_url; app.live = now.live; }).catch(() => {}).finally(() => draw());
start();
