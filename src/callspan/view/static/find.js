// Find: the occurrences of a text below their sessions, with facets at the right.
import { address, become, copy, h, right, soft, span, strong, button, link } from "./dom.js";
import { get } from "./api.js";
import { clock, count, day, grouped, oneLine, plural, shell, ms } from "./format.js";
import { roving } from "./keys.js";
import { filterLine, metaWord, quoted } from "./filters.js";
import { title } from "./app.js";
import { cost, gridRow, keptMark, outcome, scores, sessionMarks, titleOf } from "./rows.js";

const SCOPES = ["messages", "answers", "questions", "tools", "reasoning", "instructions", "errors"];

// Positions count characters, which are one or two units of a JavaScript string.
const excerpt = hit => {
  const text = [...hit.text], part = (from, to) => text.slice(from, to).join("");
  return [part(0, hit.at), h("mark.hit", null, part(hit.at, hit.at + hit.length)), part(hit.at + hit.length)];
};
const when = ms => (ms === null ? "" : `${day(ms) === "Today" ? "" : day(ms) + " "}${clock(ms, false)}`);

const rowsOf = found => {
  const { session: row } = found;
  const head = row
    ? gridRow(".found", { data: { id: row.session_id, href: address("session", row.session_id) } }, soft(when(ms(row.start_ns))), soft(row.name || "session"),
      h("span.name", null, h("a.words", { href: address("session", row.session_id), tabindex: "-1" }, oneLine(titleOf(row))), h("span.marks", null, sessionMarks(row), keptMark(row.content_level))),
      span(row.user_id || ""), span(outcome(row)), span(scores(row)), right(cost(row)))
    : gridRow(".found", null, span(), soft("calls"), span("outside of sessions"));
  const hits = found.hits.map((hit, at) => gridRow(".found.sub", { data: { id: `${hit.call_id} ${at}`, href: address("call", hit.call_id) } },
    span(), soft(hit.where), span(excerpt(hit)), right(soft(clock(ms(hit.start_ns))))));
  return [head, hits, found.more ? gridRow(".found.sub", null, span(), span(), soft(`${plural(found.more, "more place")} in it`)) : ""];
};

// The metadata keys of which these sessions have several values, at most three.
const MOST_KEYS = 3, MOST_VALUES = 8;
const keysOf = sessions => {
  const values = new Map();
  for (const { session } of sessions) for (const [key, value] of Object.entries(session.metadata)) values.set(key, (values.get(key) || new Set()).add(JSON.stringify(value)));
  return [...values].filter(([, some]) => some.size <= MOST_VALUES).map(([key]) => key).sort().slice(0, MOST_KEYS);
};
const facet = (name, values, go) => {
  const counts = [...grouped(values, value => value)].map(([value, some]) => [value, some.length]);
  const every = counts.sort((a, b) => b[1] - a[1]).slice(0, 8), top = every[0]?.[1] || 1;
  return every.length ? h("section.fact", null, h("h2", null, name),
    every.map(
      ([value, number]) => h("div.facet", null,
        go && value !== null ? button(oneLine(value), () => go(value), { class: "plain linked" }) : h("span", null, value === null ? "none" : oneLine(value)),
        h("span.share", { "aria-hidden": "true" }, h("i", { style: { width: `${number / top * 40}px` } })),
        count(number)
      )
    )
  ) : "";
};

export default ({ place, app, signal }) => {
  const line = place.values.q || "", scope = place.values.scope || "messages";
  const go = (text, where = scope) => { location.hash = address("find", null, { q: text, scope: where }); };
  const filters = filterLine(line, go);
  const scopes = h("div.segments", { role: "group", "aria-label": "Where to look" }, SCOPES.map(name => button(name, () => go(line, name), { "aria-pressed": String(name === scope) })));
  filters.form.insertBefore(scopes, filters.form.children[1]);
  const list = h("div.list", { role: "rowgroup" }), cursor = roving(list, { rows: "[data-href]", open: row => { location.hash = row.dataset.href; } });
  const above = h("div"), counts = h("aside", { "aria-label": "Counts" });
  let command = "";
  const exactly = one => h("p.pad", null, soft(one.kind), " ", h("a.linked", { href: one.kind === "user" ? address("", null, { q: `user:${quoted(one.id)}` }) : address(one.kind, one.id) }, one.id));
  const nothing = text => h("div.pad", null,
    h("p", null, text === null ? "Write words to look for." : ["Nothing in ", strong(scope), " has ", strong(text), "."]),
    h("p", null, SCOPES.filter(name => name !== scope).map(name => [link(address("find", null, { q: line, scope: name }), name), " "]))
  );
  const show = data => {
    const sessions = data.rows.filter(one => one.session), hits = data.rows.reduce((total, one) => total + one.hits.length + one.more, 0);
    command = [app.command, "calls", ...data.arguments.map(shell)].join(" ");
    title(`find ${data.text || ""}`);
    become(above, h("h1.hidden", null, `Find ${data.text || ""}`),
      h("p.pad.summary", null, strong(count(sessions.length)), ` ${sessions.length === 1 ? "session" : "sessions"}, ${plural(hits, "hit")}${data.more ? "; older calls have it too: choose a time" : ""}  `, h("code", null, command)),
      data.exact.map(exactly));
    become(list, data.rows.length ? data.rows.map(rowsOf) : nothing(data.text));
    become(counts,
      facet("Where", data.rows.flatMap(one => one.hits.map(hit => hit.where))),
      facet("User", sessions.map(one => one.session.user_id), user => go(`${line} user:${quoted(user)}`)),
      facet("Name", sessions.map(one => one.session.name)),
      keysOf(sessions).map(key => facet(key, sessions.map(one => one.session.metadata[key] ?? null), value => go(`${line} ${metaWord(key, value)}`))));
    cursor.settle();
  };
  return {
    body: h("div", null, filters.form, above, h("div.panes.with-facets", null, h("div.table", { role: "grid", "aria-label": "Found" }, list), counts)),
    read: () => get("find", { q: line, scope }, signal),
    show,
    keys: () => [
      ...cursor.keys("hit"),
      ["/", "change the text"],
      ["f", "filter", filters.focus],
      ["y", "copy the command", () => copy(command)],
      ["Escape", "back", () => { location.hash = "#/"; }]
    ],
  };
};
