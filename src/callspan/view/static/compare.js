// Compare: two calls or two sessions side by side: facts, then messages with their differences marked.
import { address, become, copy, h, link, soft, strong, button } from "./dom.js";
import { get } from "./api.js";
import { shown, oneLine, shell, signed } from "./format.js";
import { title } from "./app.js";
import { roving } from "./keys.js";
import { textRuns } from "./parts.js";

const SECTIONS = [["Facts", "facts"], ["Parameters", "parameters"], ["Tools", "tools"], ["Messages", "messages"]];
const AGAINST = { same: "soft", differs: "none", only_a: "none", only_b: "none" };

const message = (row, side) => {
  if (row.status === "differs") return textRuns(row.changes, side);
  if (row.status === "same") return soft(oneLine(row.text));
  return row.status === `only_${side}` ? h("div.text", null, shown(row.text)) : soft("–");
};

const row = (label, a, b, status, against, long) => h(`div.row.pair${long ? ".long" : ""}`, { role: "row", tabindex: "-1", data: { status } },
  h("span.soft", { role: "rowheader" }, label), h("span", { role: "cell" }, a), h("span", { role: "cell" }, b),
  h(`span.${against === "differs" ? "warn" : AGAINST[status]}`, { role: "cell" }, against));

// What the lists of sessions call these facts.
const NAMES = { errors: "failed calls" };
const valueOf = (name, text) => (name === "outcome" && text === "failure" ? "no success" : minus(text));
const minus = text => oneLine(text).replace(/^-(?=[\d.$])/, "−");
const rowsOf = (found, name) => found[name].map(one => (name === "messages"
  ? row(one.role, message(one, "a"), message(one, "b"), one.status, one.against, one.status !== "same")
  : row(NAMES[one.name] || one.name, valueOf(one.name, one.a), valueOf(one.name, one.b), one.status, minus(one.against))));

// The form for two groups of sessions: a key and two of its values, which the store suggests.
const BY = ["experiment", "model", "name", "user"];
const keysToCompare = async signal => {
  const [keys, ...values] = await Promise.all([get("keys", {}, signal), ...BY.map(by => valuesOf(by, signal))]);
  return [...keys.filter(key => key.values.length > 1).map(key => `meta:${key.name}`), ...BY.filter((_, number) => values[number].length > 1)];
};
const valuesOf = async (by, signal) => (await get("table", { by }, signal)).rows.map(row => row.keys[0]).filter(value => value !== null).sort();
const groupForm = signal => {
  const by = h("select", { "aria-label": "Compare by" }), a = h("select", { "aria-label": "Group A" }), b = h("select", { "aria-label": "Group B" });
  const fillValues = values => [a, b].forEach((one, at) => one.replaceChildren(...values.map((value, number) => h("option", { value, selected: number === at }, oneLine(value)))));
  const send = event => { event.preventDefault(); if (a.value && b.value) location.hash = address("groups", null, { a: `${by.value}=${a.value}`, b: `=${b.value}` }); };
  const form = h("form.filters", { "aria-label": "Groups", onsubmit: send }, "by ", by, " A ", a, " B ", b, h("button", { type: "submit" }, "compare the groups"));
  const fill = ({ keys, values }) => {
    if (!keys.length) return form.replaceChildren(h("span.soft", null, "Nothing has two values yet: experiments, models, names, users or keys of metadata."));
    by.replaceChildren(...keys.map(value => h("option", { value }, value.replace(/^meta:/, ""))));
    fillValues(values);
  };
  by.addEventListener("change", () => valuesOf(by.value, signal).then(fillValues).catch(() => {}));
  return { fill, form };
};

// Without two ids: the marked ones, or forms.
const form = (values, app, signal) => {
  const groups = groupForm(signal);
  let isFilled = false;
  const [first, second] = app.marked.slice(-2);
  const a = h("input", { "aria-label": "A", value: values.a || first || "", placeholder: "id of a session or call", size: 38 });
  const b = h("input", { "aria-label": "B", value: values.b || second || "", placeholder: "id of another one", size: 38 });
  const send = event => { event.preventDefault(); location.hash = address("compare", null, { a: a.value.trim(), b: b.value.trim() }); };
  return {
    body: h("div.pad", null, h("h1", null, strong("Compare")), h("p.soft", null, "Mark two rows of a list with ", h("kbd", null, "x"), ", or enter two ids:"),
      h("form.filters", { onsubmit: send }, a, b, h("button", { type: "submit" }, "compare")),
      h("p.soft", null, "Or two groups of sessions, such as two versions of a prompt or two checkpoints:"), groups.form),
    read: async () => {
      const keys = await keysToCompare(signal);
      return { keys, values: keys.length ? await valuesOf(keys[0], signal) : [] };
    },
    show: choices => {
      if (!isFilled) groups.fill(choices);
      isFilled = true;
      title("Compare");
    },
    ready: () => a.focus(),
    keys: () => [["Escape", "back", () => history.back()]],
  };
};

export default ({ place, app, signal }) => {
  const [first, second] = app.marked.slice(-2), { a, b } = { a: first, b: second, ...place.values };
  if (!a || !b) return form(place.values, app, signal);
  const shows = place.values.show || "differences";
  const go = values => { location.hash = address("compare", null, { a, b, show: shows, ...values }); };
  const list = h("div.list", { role: "rowgroup" }), about = h("section.titlebar", { "aria-label": "Compared" }), head = h("div.row.head.pair", { role: "row" });
  const cursor = roving(list, { rows: ".row.pair:not(.head)" }), differs = one => one.dataset.status !== "same";
  const segments = h("div.segments", { role: "group", "aria-label": "What is shown" },
    ["all", "differences"].map(value => button(value, () => go({ show: value }), { "aria-pressed": String(value === shows) }))
  );
  let found = null;
  const sectionOf = ([heading, name]) => {
    const every = rowsOf(found, name), kept = every.filter(one => shows === "all" || differs(one)), left = every.length - kept.length;
    kept.forEach((one, number) => { one.dataset.id = `${name} ${number}`; });
    return [h("div.row.head.pair", { role: "row" }, h("span", { role: "columnheader" }, heading), h("span"), h("span"), h("span.soft", null, left ? `${left} the same` : "")), kept];
  };
  const fact = (name, at) => found.facts.find(one => one.name === name)?.["ab"[at]].replace(/^–$/, "") || "";
  const side = (name, at) => {
    const reward = fact("reward", at), named = [fact("task id", at) || fact("name", at), reward && signed(Number(reward))].filter(Boolean).join(" ");
    return h("span", { role: "columnheader" }, h("b", null, name), " ", oneLine(named), " ", h("a.linked", { href: address(found.kind, found.ids[at]), title: found.ids[at] }, "open"));
  };
  const open = at => { location.hash = address(found.kind, found.ids[at]); };
  const line = h("code.soft"), command = () => `${app.command} show ${shell(a)} ${shell(b)}`;
  const show = compared => {
    found = compared;
    become(about, h("h1", null, strong("Compare"), " ", soft(`two ${found.kind}s`)), h("p.soft", null, found.first, found.cut ? h("b", null, ` Only the first ${found.cut} calls of each are compared.`) : ""));
    become(head, h("span", { role: "columnheader" }, ""), side("A", 0), side("B", 1), h("span.soft", { role: "columnheader" }, "B against A"));
    become(list, SECTIONS.filter(([, name]) => found[name].length).flatMap(sectionOf));
    line.replaceChildren(command());
    cursor.settle();
    title("Compare");
  };
  return {
    body: h("div.compare", null, about,
      h("div.filters", null, segments, button("swap", () => go({ a: b, b: a })), line),
      h("div.table", { role: "table", "aria-label": "Comparison" }, head, list)),
    read: () => get("compare", { a, b }, signal),
    show,
    keys: () => [...cursor.marks(differs, "difference"), ...cursor.keys(),
      ["d", "differences only", () => go({ show: shows === "all" ? "differences" : "all" })], ["s", "swap", () => go({ a: b, b: a })],
      ["a b", "open A, B"], ["a", "", () => open(0)], ["b", "", () => open(1)],
      ["y", "copy the command", () => copy(command())],
      ["Escape", "back", () => history.back()]],
  };
};
