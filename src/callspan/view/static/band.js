// Band: the last hour, what is in progress and what is worth a look, above the list. A part without content is left out.
import { address, h, link, mark, right, soft, strong } from "./dom.js";
import { clock, count, known, money, ms, oneLine, plural, time } from "./format.js";
import { answerOf, callMarks, callsFailed, cost, percent, questionOf, titleOf, tokensOf } from "./rows.js";

const MOST_WORTH = 3;

const worthLine = row => h("p.line", null,
  link(address("call", row.call_id), callMarks(row)[0] || "", " ", row.model || "", row.cut_by_length && row.max_tokens && `, max_tokens ${count(row.max_tokens)}`, " ",
    soft(oneLine(row.error || "") || answerOf(row) || questionOf(row) || row.session_name || "")),
  h("span.right.soft", null, clock(ms(row.start_ns), false)));

const worth = (now, when) => now.worth.length && h("div", null,
  h("h2", null, "Worth a look ", soft(when)),
  now.worth.slice(0, MOST_WORTH).map(worthLine));

// What a report contains.
const contents = now => {
  const about = now.contents, noun = (number, one, many = `${one}s`) => [strong(count(number)), number === 1 ? ` ${one}` : ` ${many}`];
  return [
    h("div", null, h("h2", null, "Recorded"),
      h("p.soft", null, noun(about.calls, "call"), ", ", noun(about.sessions, "session"), ", ", strong(count(about.errors)), " of the calls failed, ", noun(about.retries, "retry", "retries")),
      h("p.soft", null, strong(tokensOf(about)), " tokens, ", strong(cost(about)), about.calls_without_cost ? ` ${plural(about.calls_without_cost, "call")} without a known cost` : "")),
    worth(now, "in this file"),
    h("div", null, h("h2", null, "In this file"), h("p.soft", null, about.missing || "All of it."),
      h("p.soft", null, "Live changes, filters, Find, comparisons and exact bodies: ", h("code", null, `${about.command} view`))),
  ];
};

const FEW_CALLS = 2;
const lastHour = hour => {
  const top = Math.max(1, ...hour.minutes), failed = hour.errors ? `${callsFailed(hour.errors)} (${percent(hour.errors, hour.calls)})` : "";
  const times = known(hour.duration_p50_ns) && ["  p50 ", strong(time(ms(hour.duration_p50_ns))), "  p95 ", strong(time(ms(hour.duration_p95_ns)))];
  return h("div", null,
    h("h2", null, "Last hour ", soft(strong(count(hour.calls)), hour.calls === 1 ? " call  " : " calls  ", strong(money(hour.cost_usd)), hour.cost_usd !== null && hour.calls_without_cost ? "*" : "",
      hour.calls >= FEW_CALLS && times, "  ", failed && [h("a.bad", { href: address("calls", null, { q: "failed since:1h" }) }, failed), "  "],
      hour.retries ? [strong(count(hour.retries)), hour.retries === 1 ? " retry" : " retries"] : "")),
    hour.calls >= FEW_CALLS && [
      h("div.minutes", { role: "img", "aria-label": `${plural(hour.calls, "call")} in the last hour` }, hour.minutes.map(number => h("i", { style: { height: `${number / top * 100}%` } }))),
      h("p.axis", null, h("span", null, "60 min ago"), h("span", null, "30"), h("span", null, "now"))]);
};

const running = now => now.running.length && h("div", null,
  h("h2", null, "In progress"),
  now.running.map(row => h("p.line", null,
    link(address("session", row.session_id), mark("in progress", ""), strong(row.name || "session"), " ", row.user_id || "", " ", soft(oneLine(titleOf(row)))),
    right(time(ms(now.at_ns) - ms(row.start_ns))))));

// `small`: of a store with a few rows, it is one line.
export const band = (now, { small }) => {
  const parts = (now.contents ? contents(now) : [now.hour.calls ? lastHour(now.hour) : 0, running(now), worth(now, "in the last day")]).filter(Boolean);
  return parts.length ? h(`section.band.of${parts.length}${small && !now.contents ? ".small" : ""}`, { "aria-label": now.contents ? "Report" : "Now" }, parts) : "";
};
