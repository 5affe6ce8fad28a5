// The curve of an episode's reward so far, with the rewards that stand out.
import { h } from "./dom.js";
import { curve } from "./bars.js";
import { most, signed } from "./format.js";

const WIDTH = 600, HEIGHT = 72, EDGE = 2, LABELS = 3, APART = .15, DOTS = 8;
const SHARES = [.4, .8], ROUNDING = 1e-9;

// Of more rewards the server sends a curve of so many points, whose differences are no rewards.
const POINTS = 600;

// From what size on a reward stands out, so that less than half of them do; Infinity where none does.
export const largeOf = rewards => {
  const sizes = rewards.map(Math.abs), largest = most(sizes);
  return SHARES.map(share => share * largest - ROUNDING).find(size => size > 0 && sizes.filter(one => one >= size).length < sizes.length / 2) ?? Infinity;
};

const highlightsOf = points => {
  const rewards = points.map((value, at) => value - (at ? points[at - 1] : 0)), large = points.length < POINTS ? largeOf(rewards) : Infinity;
  const found = rewards.map((reward, at) => ({ reward, so_far: points[at], at: at / (points.length - 1) }));
  return found.filter(one => Math.abs(one.reward) >= large).sort((a, b) => Math.abs(b.reward) - Math.abs(a.reward)).slice(0, DOTS);
};

// The largest have a label each, where none is near.
const labelled = found => {
  const chosen = [];
  for (const one of found) {
    if (chosen.length < LABELS && chosen.every(other => Math.abs(other.at - one.at) > APART)) chosen.push(one);
  }
  return chosen;
};

export const rewardCurve = data => {
  const high = Math.max(0, ...data.curve), low = Math.min(0, ...data.curve), found = highlightsOf(data.curve), labels = labelled(found.filter(one => one.at <= 1 - APART));
  const top = value => EDGE + (high - value) / (high - low || 1) * (HEIGHT - 2 * EDGE);
  const dots = found.map(
    one => h(`i.dot.${one.reward > 0 ? "good" : "bad"}`,
      { title: signed(one.reward), style: { left: `${one.at * 100}%`, top: `${top(one.so_far)}px` } }
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
