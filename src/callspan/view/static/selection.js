// Selection: the sums of what a filter selects, the marked rows, and the commands that export exactly these.
import { address, become, button, copy, h, soft, strong } from "./dom.js";
import { count, ms, plural, shell, time } from "./format.js";
import { get, save } from "./api.js";
import { cost, errorShare, sumOf, tokensOf } from "./rows.js";
import { isMarked, setMarked } from "./app.js";

// A button that saves what a filter line selects, and says why if it cannot.
export const saver = (label, name, line, file) => {
  const said = h("span.warn", { role: "status" });
  const act = event => {
    const { currentTarget: pressed } = event;
    pressed.disabled = true;
    become(said, "");
    save(name, line, file).catch(error => said.replaceChildren(` ${error.message}`)).finally(() => { pressed.disabled = false; });
  };
  return h("span", null, button(label, act), said);
};

// The command that exports what these options select, which the filter line does too, and the same as files.
const exportBox = (command, options, line, name = "export these") => {
  const text = [command, "export", "openai-session", "-o", "calls.jsonl", ...options.map(shell)].join(" ");
  return h("details.export", null, h("summary", null, name), h("pre.raw", { tabindex: "0" }, text), button("copy the command", () => copy(text)), " ",
    saver("download as JSONL", "lines", line, "calls.jsonl"), " ", saver("save as a file", "report", line, "callspan.html"));
};

// The sums of the calls that a filter selects; numbers lead to their rows.
const sumsLine = (line, rows, sums, more) => {
  const all = sumOf(sums);
  return h("section.sums-line", { "aria-label": "Sums" },
    rows === undefined ? "" : h("span", null, strong(count(rows)), rows === 1 ? " row" : " rows"),
    h("a.linked", { href: address("calls", null, { q: line }) }, plural(all.calls || 0, "call")),
    h("span", null, strong(tokensOf(all)), " tokens"),
    h("span", null, strong(cost(all)), " cost"),
    sums.length === 1 ? h("span", null, "p50 ", strong(time(ms(sums[0].duration_p50_ns))), "  p95 ", strong(time(ms(sums[0].duration_p95_ns)))) : "",
    h("a.bad", { href: address("calls", null, { q: `${line} failed` }) }, errorShare(all.errors, all.calls)),
    h("a.linked", { href: address("charts", null, { q: line }) }, "charts"), more);
};

const optionsOf = ids => ids.map(id => `--id=${id}`), lineOf = ids => ids.map(id => `id:${id}`).join(" ");
// Reads the sums of a filter line into a box, one request at a time. They follow the list, because they may take longer.
// Of a list of calls alone, `calls` has the ids if all are listed, else null: options would export whole sessions.
export const sumsOf = (line, app, signal) => {
  const box = h("div");
  let summing = false;
  const read = async (rows, calls) => {
    if (summing || !line) return;
    summing = true;
    try {
      const [{ rows: sums }, options] = await Promise.all([get("table", { q: line, by: "provider" }, signal), get("command", { q: line }, signal)]);
      const exports = calls === undefined ? exportBox(app.command, options, line) : calls ? exportBox(app.command, optionsOf(calls), lineOf(calls)) : exportBox(app.command, options, line, "export their sessions");
      become(box, sumsLine(line, rows, sums, exports));
    } finally { summing = false; }
  };
  return { box, read: (...rows) => read(...rows).catch(() => {}) };
};

// The box at the begin of a row that marks it.
export const markBox = id => (globalThis.CALLSPAN_FILE ? "" : h("input.markbox", { type: "checkbox", checked: isMarked(id), tabindex: "-1", "aria-label": "mark this row", onclick: event => event.stopPropagation() }));

// The marked rows of a list: what can be done with them. `page` is that of the list.
export const markings = (list, page, app) => {
  const box = h("div");
  const show = () => {
    const ids = app.marked, [a, b] = ids.slice(-2);
    for (const row of list.querySelectorAll("[data-id]")) {
      row.classList.toggle("picked", isMarked(row.dataset.id));
      const mark = row.querySelector(".markbox");
      if (mark) mark.checked = isMarked(row.dataset.id);
    }
    become(box, ids.length && !globalThis.CALLSPAN_FILE ? h("section.marked-line", { "aria-label": "Marked" },
      h("span", null, strong(count(ids.length)), " marked"),
      h("a.linked", { href: address(page, null, { q: lineOf(ids) }) }, "only these"),
      b ? h("a.linked", { href: address("compare", null, { a, b }) }, ids.length > 2 ? "compare the last two" : "compare") : soft("mark another one to compare"),
      exportBox(app.command, optionsOf(ids), lineOf(ids)), button("clear", () => { setMarked([]); show(); }, { class: "plain linked" })) : "");
  };
  const toggle = id => { setMarked(isMarked(id) ? app.marked.filter(one => one !== id) : [...app.marked, id]); show(); };
  list.addEventListener("change", event => { if (event.target.matches(".markbox")) toggle(event.target.closest("[data-id]").dataset.id); });
  return { box, show, toggle };
};
