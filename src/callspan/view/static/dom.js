// DOM: creates elements. Recorded text becomes text nodes, never markup.
import { grouped, shown } from "./format.js";

export const h = (spec, props, ...children) => {
  const [tag, ...classes] = spec.split(".");
  const node = document.createElement(tag || "div");
  if (classes.length) node.className = classes.join(" ");
  return fill(node, props, children);
};

const fill = (node, props, children) => {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else if (name === "data") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : shown(value));
  }
  // Appended one at a time, because a function accepts only about 100,000 arguments.
  for (const one of children.flat(Infinity)) if (one !== null && one !== undefined && one !== false && one !== "") node.append(one instanceof Node ? one : shown(one));
  return node;
};

const SVG = "http://www.w3.org/2000/svg";
export const svg = (tag, props, ...children) => {
  const node = document.createElementNS(SVG, tag);
  return fill(node, props, children);
};

const SHAPES = {
  "in progress": ["M6 1a5 5 0 1 0 5 5", "M6 6V1a5 5 0 0 1 5 5z"],
  error: [null, "M6 .5 11.5 6 6 11.5 .5 6z"],
  cut: ["M1 2.5h7M1 6h10M1 9.5h5", null],
  waiting: ["M4 2v8M8 2v8", null],
  cancelled: ["M1.8 1.8h8.4v8.4H1.8z", null],
  cached: ["M2 3c0-1.600 8-1.600 8 0v6c0 1.600-8 1.600-8 0zM2 3c0 1.600 8 1.600 8 0", null],
  "prompt cache": ["M2 3c0-1.600 8-1.600 8 0v6c0 1.600-8 1.600-8 0zM4 5l4 4M8 5 4 9", null],
  retried: ["M9.8 3.6A4.6 4.6 0 1 0 10.6 6.6M10.2 .8v3.2H7", null],
  triggered: ["M6 .9 10.6 2.6V6c0 2.6-2 4.4-4.6 5.2C3.400 10.400 1.400 8.600 1.400 6V2.600z", null],
  success: ["M1.800 6.400 4.600 9.200 10.200 2.800", null],
  failure: ["M2 2l8 8M10 2l-8 8", null],
  interrupted: ["M1 6h3M8 6h3M4 3v6M8 3v6", null],
  refused: ["M6 1a5 5 0 1 0 .010 0M3 6h6", null],
  empty: ["M6 1.500a4.500 4.500 0 1 0 .010 0", null],
  "not kept": ["M2.500 5.500h7v5h-7zM4 5.500V3.500a2 2 0 0 1 4 0v2", null],
};
const LOOKS = { "in progress": "accent", error: "bad", cut: "warn", waiting: "warn", cancelled: "warn", cached: "soft", "prompt cache": "warn", retried: "warn", triggered: "warn", success: "soft", failure: "bad", interrupted: "warn", refused: "warn", empty: "warn", "not kept": "soft" };

// The word of a mark, if its kind is not: `failure` is what the application said of its work, and beside failed calls it reads as one of them.
const WORDS = { failure: "no success" };

// A mark: a shape, a word and a colour.
export const mark = (kind, word) => {
  const [line, full] = SHAPES[kind];
  const shape = svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true", class: "shape" },
    line && svg("path", { d: line, fill: "none", stroke: "currentColor", "stroke-width": "1.6" }),
    full && svg("path", { d: full, fill: "currentColor" }));
  return h(`span.mark.${LOOKS[kind]}`, null, shape, word ?? WORDS[kind] ?? kind);
};

// Reads or writes the browser's storage, which may be denied, for example in a frame without its own origin.
export const stored = (where, key, value) => {
  try { return value === undefined ? globalThis[where].getItem(key) : globalThis[where].setItem(key, value); } catch { return null; }
};

// The address of a page.
export const address = (page, id, values) => {
  const text = new URLSearchParams(Object.entries(values || {}).filter(([, value]) => value)).toString();
  return `#/${page}${id ? "/" + encodeURIComponent(id) : ""}${text ? "?" + text : ""}`;
};

// Raw ids, on demand: pairs of a name and an id or nothing.
export const idsBox = pairs => h("details.ids", null, h("summary", null, "ids"), h("dl", null, pairs.filter(([, value]) => value).flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value instanceof Node ? value : h("span.id", null, value))])));

export const link = (href, ...children) => h("a", { href }, ...children);
export const span = (...children) => h("span", null, ...children);
export const right = (...children) => h("span.right", null, ...children);
export const soft = (...children) => h("span.soft", null, ...children);
export const strong = (...children) => h("b", null, ...children);
export const button = (label, action, props) => h("button", { type: "button", onclick: action, ...props }, label);
export const copy = text => navigator.clipboard?.writeText(text);
export const spaced = parts => parts.filter(Boolean).flatMap((one, at) => (at ? [" ", one] : [one]));

// The key of a row or turn, by which its earlier element is found.
export const keyOf = node => `${node.dataset.id ?? ""} ${node.dataset.entry ?? ""}`;

// Carries selection and open details over from the replaced element; returns the descendant that gets the focus.
const carried = (from, to) => {
  if (!from) return null;
  const within = (node, tag) => [node, ...node.querySelectorAll(tag)], focus = document.activeElement, details = within(to, "details");
  if (from.hasAttribute("aria-selected")) { to.setAttribute("aria-selected", "true"); to.tabIndex = 0; }
  if (from.matches(".picked[data-entry]")) to.classList.add("picked");
  within(from, "details").forEach((one, at) => { if (one.open && details[at]) details[at].open = true; });
  return from.contains(focus) ? within(to, focus.tagName)[within(from, focus.tagName).indexOf(focus)] : null;
};

// Replaces the children of a box. A child that would look the same stays, with its state.
const looks = new WeakMap();
export const become = (box, ...given) => {
  const nodes = given.flat(Infinity).filter(one => one instanceof Element), asked = new Set(nodes);
  const old = [...box.children].filter(one => !asked.has(one)), same = grouped(old, one => looks.get(one));
  const next = nodes.map(node => {
    if (node.parentNode === box) return node;
    looks.set(node, node.outerHTML);
    return same.get(looks.get(node))?.shift() || node;
  });
  const stays = new Set(next), gone = grouped(old.filter(one => !stays.has(one)), keyOf);
  const focus = next.filter(one => one.parentNode !== box).map(one => carried(gone.get(keyOf(one))?.shift(), one)).find(Boolean);
  for (const one of [...box.childNodes]) if (!stays.has(one)) one.remove();
  let at = box.firstElementChild;
  for (const node of next) {
    if (node === at) at = at.nextElementSibling;
    else box.insertBefore(node, at);
  }
  focus?.focus({ preventScroll: true });
};
