// Compare: two calls or two sessions, facts first, then messages side by side; differences are marked in the text.
import { h, link, soft, button } from "./dom.js";
import { get } from "./api.js";
import { shown, oneLine, shell, signed } from "./format.js";
import { address, say } from "./app.js";
import { roving } from "./keys.js";

const SECTIONS = [["Facts", "facts"], ["Parameters", "parameters"], ["Tools", "tools"], ["Messages", "messages"]];
const AGAINST = { same: "soft", differs: "none", only_a: "none", only_b: "none" };

const text = (runs, side) => h("div.text", null, runs.filter(([where]) => where === "both" || where === side)
  .map(([where, part]) => (where === "both" ? shown(part) : h(where === "a" ? "del" : "ins", null, shown(part)))));

const message = (row, side) => {
  if (row.status === "differs") return text(row.changes, side);
  if (row.status === "same") return soft(oneLine(row.text));
  return row.status === `only_${side}` ? h("div.text", null, shown(row.text)) : soft("–");
};

const row = (label, a, b, status, against, long) => h(`div.row.pair${long ? ".long" : ""}`, { role: "row", tabindex: "-1", data: { status } },
  h("span.soft", { role: "rowheader" }, label), h("span", { role: "cell" }, a), h("span", { role: "cell" }, b),
  h(`span.${against === "differs" ? "warn" : AGAINST[status]}`, { role: "cell" }, against));

const rowsOf = (found, name) => found[name].map(one => (name === "messages"
  ? row(one.role, message(one, "a"), message(one, "b"), one.status, one.against, one.status !== "same")
  : row(one.name, oneLine(one.a), oneLine(one.b), one.status, one.against)));

// Without two ids, the ones that were marked in a list, or a form.
const asked = (values, app) => {
  const a = h("input", { "aria-label": "A", value: values.a || app.marked[0] || "", placeholder: "id of a session or call", size: 38 });
  const b = h("input", { "aria-label": "B", value: values.b || app.marked[1] || "", placeholder: "id of another one", size: 38 });
  const send = event => { event.preventDefault(); location.hash = address("compare", null, { a: a.value.trim(), b: b.value.trim() }); };
  return {
    title: "Compare",
    body: h("div.pad", null, h("h1", null, "Compare"), h("p.soft", null, "Mark two rows of a list by ", h("kbd", null, "x"), ", or give two ids."),
      h("form.filters", { onsubmit: send }, a, b, button("compare", send))),
    ready: () => a.focus(),
    keys: [["Escape", "back", () => history.back()]],
  };
};

export default async ({ place, app, signal }) => {
  const { a, b } = { a: app.marked[0], b: app.marked[1], ...place.values };
  if (!a || !b) return asked(place.values, app);
  const unit = place.values.unit || "words", show = place.values.show || "differences";
  const found = await get("compare", { a, b, unit }, signal);
  const go = values => { location.hash = address("compare", null, { a, b, unit, show, ...values }); };
  const list = h("div.list", { role: "rowgroup" }, SECTIONS.filter(([, name]) => found[name].length).flatMap(([heading, name]) => {
    const every = rowsOf(found, name), kept = every.filter(one => show === "all" || one.dataset.status !== "same");
    const left = every.length - kept.length;
    return [h("div.row.head.pair", { role: "row" }, h("span", { role: "columnheader" }, heading), h("span", null), h("span", null), h("span.soft", null, left ? `${left} the same` : "")), ...kept];
  }));
  const cursor = roving(list, { rows: ".row.pair:not(.head)" });
  const differs = one => one.dataset.status !== "same";
  const segments = (label, values, chosen, key) => h("div.segments", { role: "group", "aria-label": label },
    values.map(value => button(value, () => go({ [key]: value }), { "aria-pressed": String(value === chosen) }))
  );
  const fact = (name, at) => found.facts.find(one => one.name === name)?.["ab"[at]].replace(/^–$/, "") || "";
  const side = (name, at) => {
    const reward = fact("reward", at), named = [fact("task", at) || fact("name", at), reward && signed(Number(reward))].filter(Boolean).join(" ");
    return h("span", { role: "columnheader" }, h("b", null, name), " ", oneLine(named), " ", link(address(found.kind, found.ids[at]), h("span.linked.id", null, found.ids[at])));
  };
  const open = at => { location.hash = address(found.kind, found.ids[at]); };
  const other = { all: "differences", differences: "all", words: "lines", lines: "words" };
  return {
    title: "Compare",
    body: h("div.compare", null,
      h("section.titlebar", { "aria-label": "Compared" },
        h("h1", null, "Compare ", soft(`two ${found.kind}s`)),
        h("p.soft", null, found.first, found.cut ? h("b", null, ` Only the first ${found.cut} calls of each are compared.`) : "")
      ),
      h("div.filters", null, segments("What is shown", ["all", "differences"], show, "show"), segments("Compared by", ["lines", "words"], unit, "unit"), button("swap", () => go({ a: b, b: a })),
        h("code.soft", null, `callspan show ${shell(a)} ${shell(b)}`)),
      h("div.table", { role: "table", "aria-label": "Comparison" },
        h("div.row.head.pair", { role: "row" }, h("span", { role: "columnheader" }, ""), side("A", 0),
          side("B", 1),
          h("span.soft", { role: "columnheader" }, "B against A")
        ),
        list
      )),
    ready: () => { cursor.settle(); say("still"); },
    keys: [["n p", "next, previous difference"], ["n", "", () => cursor.jump(1, differs)], ["p", "", () => cursor.jump(-1, differs)], ["j k", "move"], ["j", "", () => cursor.move(1)], ["k", "", () => cursor.move(-1)],
      ["d", "differences only", () => go({ show: other[show] })], ["w", "words or lines", () => go({ unit: other[unit] })], ["s", "swap", () => go({ a: b, b: a })],
      ["a b", "open A, B"], ["a", "", () => open(0)], ["b", "", () => open(1)],
      ["y", "copy the command", () => navigator.clipboard?.writeText(`callspan show ${shell(a)} ${shell(b)}`)],
      ["Escape", "back", () => history.back()]],
  };
};
