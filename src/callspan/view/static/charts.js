// Charts: strips of calls, cost, tokens, times and scores on one time axis, and tables. Every number links to its rows.
import { address, become, h, svg, link, soft, strong, button } from "./dom.js";
import { get } from "./api.js";
import { brief, count, grouped, known, money, plain, plural, signed, sum, time, DASH, ms } from "./format.js";
import { title } from "./app.js";
import { filterLine, quoted, wordsOf } from "./filters.js";
import { cost, percent } from "./rows.js";

const LEFT = 64, HEIGHT = 112, TOP = 6, BOTTOM = 18, MOST_SLOTS = 240, MODELS = 4;
const FILLS = ["model", "tool", "env", "wait"];
const UNITS = { day: 24 * 3600e3, hour: 3600e3, minute: 60e3 };
const TABLES = [["User", "user"], ["Model", "model"]];
const MOST_KEYS = 3;

// Times as the store names them: 2026-11-20, or 2026-11-20T08:00Z.
const begin = key => Date.parse(key.length > 10 ? key : `${key}T00:00Z`);
const keyOf = (ms, unit) => { const text = new Date(ms).toISOString(); return unit === "day" ? text.slice(0, 10) : unit === "hour" ? `${text.slice(0, 13)}:00Z` : `${text.slice(0, 16)}Z`; };
const nameOf = (key, unit) => {
  const at = new Date(begin(key));
  return unit === "day" ? `${at.getUTCDate()} ${at.toLocaleDateString("en-GB", { weekday: "short", timeZone: "UTC" })}` : at.toISOString().slice(11, 16);
};
const every = (keys, unit) => {
  const step = UNITS[unit], known = (keys || []).filter(Boolean).sort();
  if (!known.length) return [];
  const last = begin(known.at(-1)), first = Math.max(begin(known[0]), last - (MOST_SLOTS - 1) * step);
  return Array.from({ length: Math.round((last - first) / step) + 1 }, (_, at) => keyOf(first + at * step, unit));
};
const within = (line, key, unit) => {
  const end = keyOf(begin(key) + UNITS[unit], unit);
  const iso = one => (one.length > 10 ? one.replace("Z", "+00:00") : `${one}T00:00+00:00`);
  return [...wordsOf(line).filter(word => !/^(since|until):/.test(word)), `since:${iso(key)}`, `until:${iso(end)}`].join(" ");
};

// A strip has a drawing for each width; each of its times is a link whose name has the numbers.
const strip = ({ name, about, slots, unit, top, low = 0, unitText, paint, words, href }) => {
  const box = h("div.drawing");
  const draw = () => {
    const width = Math.max(240, box.clientWidth), inner = HEIGHT - TOP - BOTTOM, step = (width - LEFT - 8) / slots.length;
    const x = at => LEFT + (at + .5) * step, y = value => TOP + inner - (value - low) / ((top - low) || 1) * inner;
    const skip = Math.ceil(slots.length / Math.max(1, Math.floor((width - LEFT) / 64)));
    box.replaceChildren(svg("svg", { width, height: HEIGHT, role: "group", "aria-label": name },
      svg("path", { d: `M${LEFT} ${y(top)}H${width}M${LEFT} ${y(low)}H${width}`, class: "rule" }), low < 0 && svg("path", { d: `M${LEFT} ${y(0)}H${width}`, class: "rule dotted" }),
      svg("text", { x: LEFT - 6, y: y(top) + 4, "text-anchor": "end" }, unitText(top)), svg("text", { x: LEFT - 6, y: y(low) + 4, "text-anchor": "end" }, unitText(low)),
      paint({ x, y, step: Math.min(step, 96), svg }),
      slots.map(
        (key, at) => svg("a",
          { href: href(key), "aria-label": `${nameOf(key, unit)}: ${words(key)}`, tabindex: at ? "-1" : "0", class: "slot" },
          svg("title", {}, `${key}: ${words(key)}`),
          svg("rect", { x: x(at) - step / 2, y: TOP, width: step, height: inner, class: "cover" })
        )
      ),
      slots.map((key, at) => at % skip === 0 && svg("text", { x: x(at), y: HEIGHT - 4, "text-anchor": "middle" }, nameOf(key, unit)))));
  };
  const beside = ({ key: pressed, target }) => {
    const slot = { ArrowLeft: target.previousElementSibling, ArrowRight: target.nextElementSibling }[pressed];
    if (slot?.matches(".slot")) slot.focus();
  };
  const part = h("section.strip", { "aria-label": name, onkeydown: beside }, h("h2", null, name, " ", about), box);
  draw();
  return Object.assign(part, { draw });
};

const key = (fill, ...words) => h("span.legend", null, h(`i.${fill}`), ...words, " ");
const bar = (tools, at, from, to, fill) => tools.svg("rect",
  { x: tools.x(at) - tools.step * .28, width: tools.step * .56, y: tools.y(to), height: Math.max(0, tools.y(from) - tools.y(to)), class: fill }
);
const sumsBy = found => { const sums = new Map(found.sums.map(row => [row.keys[0], row])); return slot => sums.get(slot) || {}; };
const largest = values => Math.max(0, ...values.map(Number).filter(Number.isFinite)) || 1;

const stacked = (slots, parts) => tools => slots.flatMap(
  (slot, at) => {
    let from = 0;
    return parts(slot).filter(([value]) => value > 0).map(
      ([value, fill]) => { const one = bar(tools, at, from, from + value, fill); from += value; return one; }
    );
  }
);

const callStrip = (found, slots, common) => {
  const of = sumsBy(found), seen = slots.map(of).filter(row => row.keys), [calls, errors, cancelled] = ["calls", "errors", "cancelled"].map(name => sum(seen.map(row => row[name])) ?? 0);
  const others = row => (row.errors ? `, ${row.errors} failed (${percent(row.errors, row.calls)})` : "") + (row.cancelled ? `, ${row.cancelled} cancelled` : "");
  return strip({ ...common, name: "Calls", about: [strong(count(calls)), " ", key("model", "ended well"), cancelled ? key("wait", "cancelled") : "", key("failed", "failed"), errors ? h("b.bad", null, percent(errors, calls)) : soft("none failed")],
    top: largest(slots.map(slot => of(slot).calls)), unitText: value => brief(value),
    words: slot => `${plural(of(slot).calls ?? 0, "call")}${others(of(slot))}`,
    paint: stacked(slots, slot => { const { calls: all = 0, errors: failed = 0, cancelled: left = 0 } = of(slot); return [[failed, "failed"], [left, "wait"], [all - failed - left, "model"]]; }) });
};

const costStrip = (found, slots, common) => {
  const of = sumsBy(found), cells = grouped(found.by_model, row => row.keys[0]);
  const totals = [...grouped(found.by_model, row => row.keys[1])].map(([name, rows]) => [name, sum(rows.map(row => row.cost_usd))]);
  const models = totals.filter(([, usd]) => usd).sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const fill = model => FILLS[Math.min(models.indexOf(model), MODELS - 1)];
  const seen = slots.map(of).filter(row => row.keys), without = sum(seen.map(row => row.calls_without_cost)), left = found.sums.length - seen.length;
  return strip({ ...common, name: "Cost", top: largest(slots.map(slot => of(slot).cost_usd)), unitText: value => (value ? money(value) : "0"),
    about: [
      strong(money(sum(seen.map(row => row.cost_usd)))),
      " ",
      models.slice(0, MODELS - 1).map(model => key(fill(model), model || "no model")),
      models.length >= MODELS ? key(FILLS[MODELS - 1], models.length === MODELS ? models.at(-1) : "others") : "",
      without ? soft(`${plural(without, "call")} without a known cost`) : "",
      left ? h("span.warn", null, `${plural(left, common.unit)} before ${slots[0]} left out: choose a time`) : ""
    ],
    words: slot => `${money(of(slot).cost_usd)}, ${plural(of(slot).calls ?? 0, "call")}`,
    paint: stacked(slots, slot => (cells.get(slot) || []).map(row => [Number(row.cost_usd || 0), fill(row.keys[1])]).sort((a, b) => FILLS.indexOf(a[1]) - FILLS.indexOf(b[1]))) });
};

const tokenStrip = (found, slots, common) => {
  const of = sumsBy(found);
  const parts = slot => { const row = of(slot), cached = row.cache_read_tokens || 0; return [[cached, "wait"], [(row.input_tokens || 0) - cached, "model"], [row.output_tokens || 0, "tool"]]; };
  return strip({ ...common, name: "Tokens", about: [key("wait", "from cache"), key("model", "new input"), key("tool", "output")], top: largest(slots.map(slot => sum(parts(slot).map(([value]) => value)))), unitText: value => brief(value),
    words: slot => `${brief(of(slot).input_tokens)} in, ${brief(of(slot).output_tokens)} out`, paint: stacked(slots, parts) });
};

const rangeStrip = (name, measure) => (found, slots, common) => {
  const of = sumsBy(found), p50 = row => ms(row[`${measure}_p50_ns`]), p95 = row => ms(row[`${measure}_p95_ns`]);
  return strip({ ...common, name, about: [key("model", "p50"), key("wait", "to p95"), soft("successful calls")], top: largest(found.sums.map(p95)), unitText: value => (value ? time(value) : "0"),
    words: slot => `p50 ${time(p50(of(slot)))}, p95 ${time(p95(of(slot)))}`,
    paint: tools => slots.flatMap((slot, at) => {
      const middle = p50(of(slot)), high = p95(of(slot)), across = Math.min(10, tools.step * .56), line = Math.min(18, tools.step * .9);
      return known(middle) ? [
        svg("rect", { x: tools.x(at) - across / 2, width: across, y: tools.y(high), height: Math.max(1, tools.y(middle) - tools.y(high)), class: "wait" }),
        svg("rect", { x: tools.x(at) - line / 2, width: line, y: tools.y(middle) - 1, height: 3, class: "model" }),
      ] : [];
    }) });
};

const path = (tools, slots, means) => {
  const known = slots.map((slot, at) => [at, means[slot]]).filter(([, value]) => value !== undefined && value !== null);
  return svg("path", { d: known.map(([at, value], number) => `${number ? "L" : "M"}${tools.x(at)} ${tools.y(value)}`).join(""), class: "curveline" });
};

const scoreStrip = (found, slots, common) => {
  const points = grouped(found.points, ([time]) => time), values = found.points.map(([, , value]) => value);
  const low = Math.min(0, ...values);
  return strip({ ...common, name: found.objective === "reward" ? "Reward" : `Score ${found.objective}`, about: [key("goodbar", "succeeded"), key("env", "did not"), key("model", "mean"), found.more ? soft("of the newest sessions") : ""], top: Math.max(...values, low + 1e-9), low, unitText: value => (value ? signed(value) : "0"),
    words: slot => `mean ${plain(found.means[slot])} of ${count(points.get(slot)?.length ?? 0)}`,
    paint: tools => [
      path(tools, slots, found.means),
      ...slots.flatMap(
        (slot, at) => (points.get(slot) || []).map(
          ([, , value, good], number, all) => svg("circle",
            { cx: tools.x(at) + ((number + .5) / all.length - .5) * tools.step * .5, cy: tools.y(value), r: 3, class: good ? "goodbar" : "env" }
          )
        )
      )
    ] });
};

// The strips of calls, each with whether a sum has something to draw.
const STRIPS = [
  [callStrip, row => row.calls], [costStrip, row => Number(row.cost_usd)], [tokenStrip, row => row.input_tokens || row.output_tokens],
  [rangeStrip("Time of a call", "duration"), row => row.duration_p50_ns !== null], [rangeStrip("First token", "first_token"), row => row.first_token_p50_ns !== null],
];

const share = (part, whole) => h("span.track.inline", null, h("i.model", { style: { left: "0", width: `${whole ? part / whole * 100 : 0}%` } }));
const failedOf = row => `${row.errors} (${percent(row.errors, row.calls)})`;
const wordOf = (by, value) => (by.startsWith("meta:") ? `meta:${quoted(`${by.slice(5)}=${value}`)}` : `${by}:${quoted(value)}`);
const sumsTable = (name, by, found, line) => {
  const most = largest(found.rows.map(row => row.calls)), label = by.replace(/^meta:/, "");
  if (!found.rows.some(row => row.keys[0] !== null)) return "";
  return h("section.sums", { "aria-label": name, tabindex: "0" }, h("h2", null, name), h("table.numbers", null,
    h("thead", null, h("tr", null, [label, "calls", "failed", "tokens in", "cost", "p50", "p95"].map((one, at) => h("th", { scope: "col", class: at > 1 ? "right" : "" }, one)))),
    h("tbody", null, found.rows.map(row => { const [value] = row.keys, q = value === null ? line : `${line} ${wordOf(by, value)}`.trim(); return h("tr", null,
      h("th", { scope: "row" }, value === null ? soft(`no ${label}`) : link(address("calls", null, { q }), value || DASH)), h("td", null, share(row.calls, most), " ", count(row.calls)),
      h("td.right", null,
        row.errors ? (
          value === null ? h("span.bad", null, failedOf(row)) : link(address("calls", null, { q: `${q} failed` }), h("span.bad", null, failedOf(row)))
        ) : soft(DASH)
      ),
      h("td.right", null, brief(row.input_tokens)),
      h("td.right", null, cost(row)), h("td.right", null, time(ms(row.duration_p50_ns))), h("td.right", null, time(ms(row.duration_p95_ns)))); }))),
    found.more ? h("p.soft.pad", null, `and ${plural(found.more, "more")}`) : "");
};

// The tables: of users, models, and the metadata keys with few values.
const tablesOf = keys => [...TABLES, ...keys.filter(one => one.name !== "user_id" && one.is_choice && one.values.length > 1).slice(0, MOST_KEYS).map(one => [one.name, `meta:${one.name}`])];

export default ({ place, app, signal }) => {
  const line = place.values.q || "", { objective } = place.values;
  const go = chosen => { location.hash = address("charts", null, { q: line, objective: chosen }); };
  const left = h("div.strips"), right = h("div.tables"), unit = h("p.soft.pad"), filters = filterLine(line, q => { location.hash = address("charts", null, { q }); }, { app });
  const redraw = () => { if (left.isConnected) for (const one of left.children) one.draw?.(); };
  const watch = new ResizeObserver(redraw);
  const show = ({ charts, tables, scores, keys }) => {
    const slots = every(charts.span, charts.unit), href = page => slot => address(page, null, { q: within(line, slot, charts.unit) });
    const ofCalls = { unit: charts.unit, slots, href: href("calls") }, ofScores = { unit: charts.unit, slots, href: href("") };
    become(left,
      ofCalls.slots.length ? STRIPS.filter(([, has]) => charts.sums.some(has)).map(([made]) => made(charts, ofCalls.slots, ofCalls)) : h("p.pad", null, line ? "No call has all of this." : "No calls were recorded yet."),
      scores.points.length ? scoreStrip(scores, ofScores.slots, ofScores) : "");
    become(right, tablesOf(keys).map(([name, by], number) => sumsTable(name, by, tables[number], line)),
      scores.objectives.length > 1 ? h("p.pad", null, "Score ",
        h("span.segments", { role: "group", "aria-label": "Score" }, scores.objectives.map(one => button(one, () => go(one), { "aria-pressed": String(one === scores.objective) })))
      ) : "");
    unit.replaceChildren(`by ${charts.unit}, times in UTC`);
    title("Charts");
    redraw();
  };
  return {
    body: h("div", null, h("h1.hidden", null, "Charts"), !globalThis.CALLSPAN_FILE && filters.form, h("div.panes.charts", null, left, right), unit),
    read: async () => {
      const keys = await get("keys", { q: line }, signal);
      const reading = [get("charts", { q: line }, signal), Promise.all(tablesOf(keys).map(([, by]) => get("table", { q: line, by }, signal))), get("scores", { q: line, objective }, signal)];
      const [charts, tables, scores] = await Promise.all(reading);
      return { charts, tables, scores, keys };
    },
    show,
    ready: () => { redraw(); watch.observe(left); },
    close: () => watch.disconnect(),
    keys: () => [["Tab", "strip"], ["← →", "time"], ["Enter", "its rows"], ["f", "filter", filters.focus], ["Escape", "back", () => history.back()]],
  };
};
