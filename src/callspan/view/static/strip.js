// Strip: the cost and the context of each step of a long session, and its dearest, slowest and failed steps.
import { button, h, soft, strong, svg } from "./dom.js";
import { brief, known, money, most, ms, time } from "./format.js";
import { stepMs, totalOf } from "./course.js";

const WIDTH = 600, HEIGHT = 56, EDGE = 2;
const top = (rows, measure) => rows.reduce((best, row) => (known(measure(row)) && (!best || Number(measure(row)) > Number(measure(best))) ? row : best), null);

// The steps that are not inside other steps, with their sums.
const outermost = nodes => nodes.flatMap(node => (node.step ? [node] : outermost(node.inside)));
const stepsOf = data => outermost(data.tree.top).sort((a, b) => a.step.timestep_position - b.step.timestep_position).map(node => ({ node, step: node.step, total: totalOf(node) }));
const toolFailed = node => node.inside.some(one => (one.entry?.kind === "tool" && one.entry.record.error) || toolFailed(one));

// The dearest, the slowest, and the failed steps.
export const notable = data => {
  const rows = stepsOf(data), runs = data.session.outcome === "in_progress", now = Date.now();
  return {
    dearest: top(rows, row => row.total.cost), slowest: top(rows, row => stepMs(row.step, runs, now)),
    failed: rows.filter(row => row.total.errors || toolFailed(row.node) || ["error", "failure"].includes(row.step.outcome)),
  };
};

// The words for notable steps, by id. Failed ones have marks.
export const namesOf = data => {
  const { dearest, slowest } = notable(data), names = new Map();
  for (const [name, row] of Object.entries({ dearest, slowest })) if (row) names.set(row.step.timestep_id, [...names.get(row.step.timestep_id) || [], name]);
  return names;
};

const bars = (rows, high) => rows.map(({ total }, at) => {
  const height = total.cost === null ? 0 : Number(total.cost) / (high || 1) * (HEIGHT - EDGE), width = WIDTH / rows.length;
  return svg("rect", { class: total.errors ? "failed" : "cost", x: at * width, width: width * .7, y: HEIGHT - height, height: Math.max(height, total.errors ? EDGE : 0) });
});
const line = (rows, high) => {
  const points = rows.map(({ total }, at) => (total.context === null ? null : `${(at + .35) / rows.length * WIDTH},${HEIGHT - total.context / high * (HEIGHT - EDGE)}`)).filter(Boolean);
  return svg("polyline", { class: "context", points: points.join(" ") });
};

// `go` is called with the id of the step that was chosen.
export const stepStrip = (data, go) => {
  const rows = stepsOf(data), dear = most(rows.map(row => Number(row.total.cost ?? 0))), context = most(rows.map(row => row.total.context ?? 0)) || 1;
  const { dearest, slowest, failed } = notable(data), runs = data.session.outcome === "in_progress";
  const at = event => rows[Math.min(rows.length - 1, Math.floor((event.clientX - event.currentTarget.getBoundingClientRect().left) / event.currentTarget.clientWidth * rows.length))];
  const jump = (key, name, row, said) => row && button([h("kbd", null, key), ` ${name} `, strong(`step ${row.step.timestep_position}`), " ", soft(said)], () => go(row.step.timestep_id), { class: "chip" });
  return h("section.stepstrip", { "aria-label": "Steps" },
    h("p", null,
      h("span.legend", null, h("i.model"), "cost a step, up to ", strong(money(dear))), h("span.legend", null, h("i.tool"), "tokens in, up to ", strong(brief(context))),
      jump("d", "dearest", dearest, money(dearest?.total.cost)), jump("s", "slowest", slowest, slowest && time(stepMs(slowest.step, runs, Date.now()))),
      jump("e", failed.length > 1 ? `${failed.length} failed steps, first` : "failed", failed[0], "")),
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true", onclick: event => go(at(event).step.timestep_id) }, bars(rows, dear), line(rows, context)),
    h("p.axis", null, h("span", null, "step 0"), h("span", null, `step ${rows.at(-1).step.timestep_position}`)));
};
