// The course of rewards: the curve of an episode with the steps that stand out, and what it shows before one is chosen.
import { h, link, soft, strong } from "./dom.js";
import { curve } from "./bars.js";
import { plural, signed } from "./format.js";
import { address } from "./address.js";
import { observationText, rewardText } from "./conversation.js";

const WIDTH = 600, HEIGHT = 72, EDGE = 2, LABELS = 3, APART = .15;

const boundsOf = data => ({ high: Math.max(0, ...data.curve), low: Math.min(0, ...data.curve) });
const nameOf = one => (one.position === null ? "a step" : `step ${one.position}`);
const hrefOf = (data, one) => address("session", data.session.id, { step: one.position === null ? "" : String(one.position) });

// The largest have a label each, where none is near.
const labelled = found => {
  const chosen = [];
  for (const one of [...found].sort((a, b) => Math.abs(b.reward) - Math.abs(a.reward))) {
    if (chosen.length < LABELS && chosen.every(other => Math.abs(other.at - one.at) > APART)) chosen.push(one);
  }
  return chosen;
};

export const rewardCurve = data => {
  const { high, low } = boundsOf(data), labels = labelled(data.highlights.filter(one => one.at <= 1 - APART));
  const top = value => EDGE + (high - value) / (high - low || 1) * (HEIGHT - 2 * EDGE);
  const dots = data.highlights.map(
    one => h(`i.dot.${one.reward > 0 ? "good" : "bad"}`,
      { title: `${nameOf(one)}: ${signed(one.reward)}`, style: { left: `${one.at * 100}%`, top: `${top(one.so_far)}px` } }
    )
  );
  const end = data.curve.at(-1), last = end === undefined ? [] : [h("span.said.left", { style: { left: "100%", top: `${top(end)}px` } }, signed(end))];
  const words = labels.map(one => h(`span.said${one.at > .2 ? ".left" : ""}`, { style: { left: `${one.at * 100}%`, top: `${top(one.so_far)}px` } }, signed(one.reward)));
  return h("div.bigcurve", null,
    h("div.axis", null, h("span", null, signed(high)), h("span", null, low < 0 ? signed(low) : "0")),
    h("div.plot", null, h("i.chosen", { hidden: true }), curve([data.curve.length ? data.curve : [0]], WIDTH, HEIGHT), dots, words, last),
    h("span"), h("div.axis", null, h("span", null, "step 0"), h("span", null, `step ${Math.max(0, data.session.steps - 1)}`)));
};

// Marks the steps of a row on the curve.
export const showBand = (course, data, row) => {
  const band = course.querySelector(".plot .chosen"), steps = Math.max(1, data.session.steps);
  const { first, last } = row.dataset;
  band.hidden = false;
  band.style.setProperty("left", `${first / steps * 100}%`);
  band.style.setProperty("width", `${(last - first + 1) / steps * 100}%`);
};

// What stands beside the steps before one is chosen; `pick` chooses a step that is loaded.
export const overview = (data, pick) => {
  const { high, low } = boundsOf(data), found = data.highlights;
  const row = one => h("tr", null,
    h("th", { scope: "row" }, h("a.linked", { href: hrefOf(data, one), onclick: event => { if (pick(one)) event.preventDefault(); } }, nameOf(one))),
    h("td.right", null, rewardText(one.reward)),
    h("td.right", null, soft(signed(one.so_far))),
    h("td.seen", null, observationText({ record: { data: one.data } })));
  const heads = ["step", "reward", "so far", "observation after"].map((name, at) => h(`th${at === 1 || at === 2 ? ".right" : ""}`, { scope: "col" }, name));
  return [
    h("div.stepline", null, strong("Course of rewards"), soft(plural(data.session.steps, "step")), h("span.right", null, rewardText(data.session.reward ?? 0))),
    h("p.pad", null, "The reward so far is between ", strong(signed(low)), " and ", strong(signed(high)),
      "; ",
      found.length ? plural(found.length, "step stands out:", "steps stand out:") : "no step stands out."
    ),
    found.length ? h("div.pad.standing",
      { tabindex: "0", role: "group", "aria-label": "Rewards that stand out" },
      h("table.numbers", null, h("thead", null, h("tr", null, heads)), h("tbody", null, found.map(row)))
    ) : "",
  ].filter(Boolean);
};
