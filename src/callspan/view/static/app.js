// App: the top bar, the addresses, and the module of each page.
import { address, become, h, link, stored, mark, button } from "./dom.js";
import { get, Failure } from "./api.js";
import { follow } from "./live.js";
import { keepPlace } from "./place.js";
import { clock, day, plural, time, ms } from "./format.js";
import { setKeys } from "./keys.js";
import { isLarge, unquoted } from "./filters.js";

const PAGES = { "": "start", calls: "calls", session: "session", call: "call", find: "find", compare: "compare", groups: "groups", charts: "charts" };
const TABS = { start: "sessions", session: "sessions", find: "sessions", calls: "calls", call: "calls", compare: "compare", groups: "compare", charts: "charts" };
const LISTS = ["start", "calls", "find"], TIMED = { start: "", calls: "calls", charts: "charts" };
const main = document.getElementById("main"), state = document.querySelector(".state");

const app = { store: "", command: "callspan", trace_url: null, last_ns: null, notices: [], list: "#/", order: [], marked: JSON.parse(stored("sessionStorage", "marked") || "[]"), scroll: {} };
const TICK_MS = 1000, MINUTE_MS = 60000, DAY_MS = 86400000;
// The current page, the data that it shows, and the current request.
let shown = null, data = null, seen = "", reading = null, turn = 0, at = null, stop = new AbortController();

const parsed = () => {
  try { return read(); } catch { return { page: "start", values: {}, hash: location.hash }; }
};
const read = () => {
  const [path, values = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, id] = path.split("/");
  return { page: PAGES[page] ?? "start", id: id && decodeURIComponent(id), values: Object.fromEntries(new URLSearchParams(values)), hash: location.hash };
};

// Sessions and calls are marked to be exported or, the last two, compared: the first of these is A.
export const isMarked = id => app.marked.includes(id);
export const setMarked = ids => {
  app.marked = ids;
  stored("sessionStorage", "marked", JSON.stringify(ids));
};
export const toMark = id => setMarked(isMarked(id) ? app.marked.filter(one => one !== id) : [...app.marked, id]);

const say = reason => {
  const file = globalThis.CALLSPAN_FILE;
  if (file) state.replaceChildren(`written ${day(ms(file.at_ns))} ${clock(ms(file.at_ns), false)} · ${app.store}`);
  else if (reason === null) sayLive();
  else state.replaceChildren(h("span.mark.warn", { role: "alert", title: reason }, mark("cut", `not live since ${clock(Date.now())}: ${reason}`)), button("try again", () => draw()));
};

const sayLive = () => {
  const seconds = Math.max(0, Math.floor((Date.now() - ms(app.last_ns)) / 1000));
  const last = app.last_ns === null ? "" : `, last record ${seconds < 60 ? `${seconds} s` : time(seconds * 1000)} ago`;
  const totals = app.last_ns === null ? "" : `, ${plural(app.sessions, "session")}, ${plural(app.calls, "call")}`;
  become(state, h("i.live"), h("span", null, app.store ? `live${last} · ${app.store}${totals}` : "live, waiting for the first record"));
};

export const title = text => { document.title = `${text ? text + " – " : ""}callspan`; };

// A page has `read`, which returns its data, and `show`, which draws them into `body`, first and after each change.
const drawPage = async mine => {
  const place = parsed();
  if (at) app.scroll[at] = main.scrollTop;
  at = place.hash;
  if (LISTS.includes(place.page)) app.list = place.hash || "#/";
  shown?.close?.();
  shown = null;
  // Requests of the previous page are cancelled.
  stop.abort();
  stop = new AbortController();
  const stopping = stop;
  for (const one of document.querySelectorAll("nav a")) {
    if (one.dataset.page === TABS[place.page]) one.setAttribute("aria-current", "page"); else one.removeAttribute("aria-current");
  }
  setKeys([]);
  announce(0);
  document.getElementById("find").value = place.page === "find" ? unquoted(place.values.q || "") : "";
  // A page that takes longer than a moment shows placeholder rows of the final height.
  const waiting = setTimeout(() => { if (mine === turn) main.replaceChildren(h("div.waiting", { "aria-busy": "true" }, Array.from({ length: 9 }, () => h("div", null, h("i"), h("i"))))); }, 300);
  const slow = setTimeout(() => { if (mine === turn) main.append(h("p.soft.pad", null, `reading ${app.store}; `, button("stop", () => stopping.abort()))); }, 2000);
  try {
    await limitTime(place, mine);
    const module = await import(`./${place.page}.js`), page = module.default({ place, app, signal: stopping.signal });
    const found = await reads(page);
    if (mine !== turn) return;
    [shown, data, seen] = [page, found, JSON.stringify(found)];
    page.show(found);
    main.replaceChildren(page.body);
    main.className = place.page;
    showKeys();
    main.scrollTop = app.scroll[place.hash] || 0;
    page.ready?.();
    if (globalThis.CALLSPAN_FILE) say();
  } catch (error) {
    if (mine !== turn) return;
    main.replaceChildren(failed(error));
    if (!(error instanceof Failure) && error.name !== "AbortError") console.error(error);
  } finally {
    clearTimeout(waiting);
    clearTimeout(slow);
  }
};
const draw = () => { reading = drawPage(++turn); return reading; };
export const showKeys = () => setKeys([[".", "show what is new", showNew], ...shown.keys()].filter(([key]) => !globalThis.CALLSPAN_FILE || !["x", "c", ".", "f"].includes(key)));

const knows = store => Object.assign(app, store, { store: store.name.replace(/^.*\//, "") });
const reads = async (page, known) => {
  const [store, found] = await Promise.all([get("store"), page.read(known)]);
  knows(store);
  return found;
};

// A list without a time in its line shows the last week of a store with very many sessions. `since:all` is a time.
const limitTime = async (place, mine) => {
  if (globalThis.CALLSPAN_FILE || !(place.page in TIMED)) return;
  if (!app.store) knows(await get("store"));
  const line = place.values.q || "";
  // Meanwhile the reader may have gone on; without a call there is no last week.
  if (mine !== turn || app.last_ns === null || !isLarge(app) || /(^|\s)(since|until):/.test(line)) return;
  const last = ms(app.last_ns), week = last > Date.now() - DAY_MS ? "7d" : new Date(last - 7 * DAY_MS).toISOString().slice(0, 10);
  place.values.q = `${line} since:${week}`.trim();
  history.replaceState(null, "", address(TIMED[place.page], null, place.values));
  at = place.hash = location.hash;
};

// Reads the page again, or the rows after the known ones, one request at a time. A page that failed is drawn again.
const readAgain = async behind => {
  const mine = turn, page = shown;
  if (!page) return behind || draw();
  const found = await reads(page, behind ? data : undefined).catch(error => { if (mine === turn) throw error; }), text = JSON.stringify(found);
  if (mine !== turn || text === seen) return;
  [data, seen] = [found, text];
  redraw();
};
const next = behind => { reading = reading.catch(() => {}).then(() => readAgain(behind)); return reading; };
export const readMore = () => next(true);
export const redraw = () => announce(keepPlace(main, () => shown.show(data)));

// New rows above the visible ones wait behind a button and a key.
const fresh = document.querySelector(".news button");
let above = 0;
const announce = number => {
  above = main.scrollTop ? above + number : 0;
  fresh.hidden = !above;
  fresh.replaceChildren(`${above} new above `, h("kbd", null, "."));
};
const showNew = () => {
  main.scrollTop = 0;
  announce(0);
};
fresh.addEventListener("click", showNew);
main.addEventListener("scroll", () => { if (!main.scrollTop) announce(0); }, { passive: true });

// What runs is drawn again each second and read again each minute, like the last hour, because a killed process writes nothing.
setInterval(() => { if (state.querySelector(".live") && !document.hidden) sayLive(); }, TICK_MS);
setInterval(() => { if (shown?.runs?.(data) && !document.hidden) redraw(); }, TICK_MS);
setInterval(() => { if ((data?.now?.hour || seen.includes('"in_progress"')) && !document.hidden) next(false).catch(() => {}); }, MINUTE_MS);

export const nothingYet = (why = "Nothing recorded yet", command = app.command) => [h("p", null, `${why}. This page fills by itself. Run one of these in the directory of the store:`), h("pre", null, `${command} demo\n${command} run app.py`)];
const failed = error => error.waits ? h("div.pad", null, h("h1.hidden", null, "Sessions"), nothingYet(error.message, error.command)) : h("div.pad", null, h("h1.hidden", null, "Error"), mark("error", error.name === "AbortError" ? "stopped" : error.message), h("p", null, button("try again", () => draw()), " ", link("#/", "Sessions")));

document.querySelector("form.find").addEventListener("submit", event => {
  event.preventDefault();
  const text = document.getElementById("find").value.trim();
  document.getElementById("find").blur();
  // This is text to search for, even if it looks like a filter.
  if (text) location.hash = address("find", null, { q: `"${text.replace(/["\\]/g, "\\$&")}"` });
});
addEventListener("hashchange", draw);
// In a report this module precedes those of the pages.
reading = Promise.resolve().then(draw);
if (!globalThis.CALLSPAN_FILE) follow(() => next(false), say);
