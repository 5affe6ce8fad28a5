// Groups: two groups of sessions compared, as the command does: means, differences and their 95 % intervals.
import { address, become, h, link, soft, strong } from "./dom.js";
import { get } from "./api.js";
import { brief, count, known, money, plural, signed, time, DASH, ms } from "./format.js";
import { title } from "./app.js";
import { quoted } from "./filters.js";
import { gridRow, headRow } from "./rows.js";

const NAMES = {
  timesteps: "steps", input_tokens: "tokens in", output_tokens: "tokens out", reasoning_tokens: "reasoning tokens", cost_usd: "cost", duration_ns: "time", active_ns: "active time"
};
const nameOf = row => (row.kind === "score" && row.name !== "reward" ? `score ${row.name}` : NAMES[row.name] || row.name);
const valueText = (row, value) => {
  if (!known(value)) return DASH;
  if (row.kind === "success") return `${Math.round(value * 100)} %`;
  if (row.kind === "score") return signed(value);
  if (row.name === "cost_usd") return money(value);
  return row.name.endsWith("_ns") ? time(ms(value)) : brief(value);
};
// A short time with its fraction of a millisecond, because differences of calls may be that small.
const sizeText = (row, value) => (row.name.endsWith("_ns") && value > 0 && value < 1e6 ? `${Number(ms(value).toPrecision(2))} ms` : valueText(row, value));
const boundText = (row, value) => {
  if (row.kind === "success") return signed(Math.round(value * 100));
  return row.kind === "score" ? signed(value) : `${value < 0 ? "−" : "+"}${sizeText(row, Math.abs(value))}`;
};
export const differenceText = (row, value) => boundText(row, value) + (row.kind === "success" ? " points" : "");
// Whether the interval of a difference excludes no difference. Sums are no better or worse.
const isCertain = row => known(row.low) && !(row.low <= 0 && row.high >= 0);
const certainty = (row, least) => {
  if (Math.min(...row.numbers) < least) return soft(`too few to tell: fewer than ${least}`);
  if (!known(row.difference)) return soft(DASH);
  if (!known(row.low)) return row.difference ? [strong(differenceText(row, row.difference)), soft(" no interval: the values do not vary")] : soft("the same");
  return [strong(differenceText(row, row.difference)), ` (${boundText(row, row.low)} to ${boundText(row, row.high)}) `, soft(isCertain(row) ? "certain" : "not certain")];
};
const numbersText = row => (row.paired ? plural(row.numbers[0], "task") : row.numbers.map(count).join(" and "));

const rowOf = (row, least) => gridRow(`.pair${isCertain(row) && row.kind !== "sum" ? (row.difference > 0 ? ".better" : ".worse") : ""}`, { data: { id: nameOf(row) } },
  h("span.soft", null, nameOf(row)), h("span", null, valueText(row, row.a)), h("span", null, valueText(row, row.b)), h("span", null, certainty(row, least)), soft(numbersText(row)));

// The link to the sessions of a group, such as `meta:prompt_version=3`.
const sessionsOf = (label, number) => {
  const [by, ...rest] = label.split("="), value = rest.join("="), word = by.startsWith("meta:") ? `meta:${quoted(`${by.slice(5)}=${value}`)}` : `${by}:${quoted(value)}`;
  return h("a.linked", { href: address("", null, { q: word }) }, plural(number, "session"));
};

export default ({ place, signal }) => {
  const { a, b, q } = place.values, about = h("section.titlebar", { "aria-label": "Compared" }), list = h("div.list", { role: "rowgroup" });
  const head = headRow(["", "A", "B", "difference, B minus A", "compared"].map(name => h("span", null, name)));
  head.classList.add("pair");
  const show = found => {
    title(`${found.labels.join(" | ")}`);
    become(about, h("h1", null, link("#/compare", "Compare"), soft(" / "), strong(found.labels[0]), soft(" and "), strong(found.labels[1])),
      h("div.facts", null, h("span", null, "A ", strong(found.labels[0]), " ", sessionsOf(found.labels[0], found.sessions[0])), h("span", null, "B ", strong(found.labels[1]), " ", sessionsOf(found.labels[1], found.sessions[1])),
        found.in_both ? h("span.warn", null, `${plural(found.in_both, "session")} in both`) : ""),
      h("p.soft", null, "In brackets the 95 % interval of the difference. With at least ", String(found.least), " tasks in both groups, each task is compared with itself."));
    become(list, found.rows.filter(row => known(row.a) || known(row.b)).map(row => rowOf(row, found.least)));
  };
  return {
    body: h("div", null, about, h("div.table.compare.groups", { role: "grid", "aria-label": "Measures" }, head, list)),
    read: () => get("groups", { a, b, q }, signal),
    show,
    keys: () => [["Escape", "back", () => history.back()]],
  };
};
