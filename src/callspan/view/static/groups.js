// Groups: two groups of sessions compared, as the command does: means, differences and their 95 % intervals.
import { address, become, h, link, soft, strong } from "./dom.js";
import { get } from "./api.js";
import { brief, count, known, money, plural, signed, time, DASH, ms } from "./format.js";
import { title } from "./app.js";
import { metaWord, quoted } from "./filters.js";
import { gridRow, headRow } from "./rows.js";

const NAMES = {
  timesteps: "steps", errors: "failed calls", input_tokens: "tokens in", output_tokens: "tokens out", reasoning_tokens: "reasoning tokens", cost_usd: "cost", duration_ns: "time", active_ns: "active time"
};
const nameOf = row => (row.kind === "score" && row.name !== "reward" ? `score ${row.name}` : NAMES[row.name] || row.name);
// The values of a row and their difference are written in one unit, with as many digits as make the written difference that
// of the written values: 14 ms and 13 ms are not 2 ms apart.
const TIMES = [[999.5e6, 1e6, " ms", 0], [9.95e9, 1e9, " s", 1], [59.5e9, 1e9, " s", 0]];
const SIZES = [[999.5e6, 1e9, "G"], [999.5e3, 1e6, "M"], [999.5, 1e3, "k"]];
const MOST_MORE = 2;
const formOf = (row, a, b) => {
  const size = Math.max(a, b);
  if (row.kind === "success") return { unit: 0.01, least: 0, after: " %" };
  if (row.name === "cost_usd") return { unit: 1, least: Math.max(...[a, b].map(usd => money(usd).split(".")[1].length)), before: "$" };
  if (row.name.endsWith("_ns")) {
    const [, unit, after, least] = TIMES.find(([below]) => size < below) || [];
    return unit && { unit, least, after };
  }
  const [, unit, after] = SIZES.find(([from]) => size >= from) || [0, 1, ""];
  return { unit, least: 2, after, isTrimmed: true };
};
// Writes a value of a row, as a number and its unit; null if values are unknown or need no more digits.
const writerOf = row => {
  if (row.kind === "score" || ![row.a, row.b, row.difference].every(known)) return null;
  const values = [row.a, row.b, row.difference].map(Number), form = formOf(row, ...values);
  if (!form) return null;
  const rounded = digits => values.map(value => Number((value / form.unit).toFixed(digits)));
  const isVisible = digits => rounded(digits).every((value, at) => value || !values[at]);
  const agrees = digits => { const [a, b, difference] = rounded(digits); return Number((b - a).toFixed(digits)) === difference; };
  const every = Array.from({ length: MOST_MORE + 1 }, (_, more) => form.least + more).filter(isVisible), digits = every.find(agrees) ?? every[1] ?? every[0];
  if (digits === undefined) return null;
  return (value, more = 0) => {
    const most = digits + more, number = Math.abs(value / form.unit).toLocaleString("en-US", { minimumFractionDigits: form.isTrimmed ? 0 : most, maximumFractionDigits: most });
    return [`${form.before || ""}${number}`, form.after || ""];
  };
};
const valueText = (row, value, write) => {
  if (!known(value)) return DASH;
  if (write) return write(value).join("");
  if (row.kind === "success") return `${Math.round(value * 100)} %`;
  if (row.kind === "score") return signed(value);
  if (row.name === "cost_usd") return money(value);
  return row.name.endsWith("_ns") ? time(ms(value)) : brief(value);
};
// A short time with its fraction of a millisecond, because differences of calls may be that small.
const sizeText = (row, value) => (row.name.endsWith("_ns") && value > 0 && value < 1e6 ? `${Number(ms(value).toPrecision(2))} ms` : valueText(row, value));
const boundText = (row, value, write, more) => {
  if (write) {
    const [number, unit] = write(value, more);
    return `${value < 0 ? "−" : "+"}${number}${row.kind === "success" ? "" : unit}`;
  }
  if (row.kind === "success") return signed(Math.round(value * 100));
  return row.kind === "score" ? signed(value) : `${value < 0 ? "−" : "+"}${sizeText(row, Math.abs(value))}`;
};
export const differenceText = (row, value, write) => boundText(row, value, write) + (row.kind === "success" ? " points" : "");
// Whether the interval of a difference excludes no difference. Sums are no better or worse.
const isCertain = row => known(row.low) && !(row.low <= 0 && row.high >= 0);
const intervalText = (row, write) => {
  const bounds = more => [row.low, row.high].map(value => boundText(row, value, more === null ? null : write, more));
  const isExact = ([low, high]) => low !== high && [low, high].every((text, at) => /[1-9]/.test(text) || !Number([row.low, row.high][at]));
  return ([0, 1, 2].map(bounds).find(isExact) || bounds(null)).join(" to ");
};
const certainty = (row, least, write) => {
  if (Math.min(...row.numbers) < least) return soft(`too few to tell: fewer than ${least}`);
  if (!known(row.difference)) return soft(DASH);
  if (!known(row.low)) return Number(row.difference) ? [strong(differenceText(row, row.difference, write)), soft(" no interval: the values do not vary")] : soft("the same");
  return [strong(differenceText(row, row.difference, write)), ` (${intervalText(row, write)}) `, soft(isCertain(row) ? "certain" : "not certain")];
};
const numbersText = row => (row.paired ? plural(row.numbers[0], "task") : row.numbers.map(count).join(" and "));

export const rowOf = (row, least) => {
  const write = writerOf(row);
  return gridRow(`.pair${isCertain(row) && row.kind !== "sum" ? (row.difference > 0 ? ".better" : ".worse") : ""}`, { data: { id: nameOf(row) } },
    h("span.soft", null, nameOf(row)), h("span", null, valueText(row, row.a, write)), h("span", null, valueText(row, row.b, write)), h("span", null, certainty(row, least, write)), soft(numbersText(row)));
};

// The link to the sessions of a group, such as `meta:prompt_version=3`.
const sessionsOf = (label, number) => {
  const [by, ...rest] = label.split("="), value = rest.join("="), key = by.startsWith("meta:") && by.slice(5);
  // Calls inherit the metadata of their session, but a list of sessions has only those that carry it themselves.
  return key
    ? h("a.linked", { href: address("calls", null, { q: metaWord(key, value) }), title: "their calls" }, plural(number, "session"))
    : h("a.linked", { href: address("", null, { q: `${by}:${quoted(value)}` }) }, plural(number, "session"));
};

export default ({ place, signal }) => {
  const { a, b, q } = place.values, about = h("section.titlebar", { "aria-label": "Compared" }), list = h("div.list", { role: "rowgroup" });
  const head = headRow(["", "A", "B", "difference, B minus A", "compared"].map(name => h("span", null, name)));
  head.classList.add("pair");
  const show = found => {
    title(`${found.labels.join(" | ")}`);
    become(about, h("h1", null, link("#/compare", "Compare"), soft(" / "), strong(found.labels[0]), soft(" and "), strong(found.labels[1])),
      h("div.facts", null, h("span", null, "A ", strong(found.labels[0]), " ", sessionsOf(found.labels[0], found.sessions[0])), h("span", null, "B ", strong(found.labels[1]), " ", sessionsOf(found.labels[1], found.sessions[1])),
        found.in_both ? h("span.warn", null, `${plural(found.in_both, "session")} with both values, in neither group`) : ""),
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
