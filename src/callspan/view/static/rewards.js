// Rewards: the curve of the cumulative reward of an episode.
import { h } from "./dom.js";
import { curve } from "./bars.js";
import { most, signed } from "./format.js";

const WIDTH = 600, HEIGHT = 72, EDGE = 2;
const SHARES = [.4, .8], ROUNDING = 1e-9;

// The size from which rewards are highlighted, so that fewer than half are; Infinity for none.
export const largeOf = rewards => {
  const sizes = rewards.map(Math.abs), largest = most(sizes);
  return SHARES.map(share => share * largest - ROUNDING).find(size => size > 0 && sizes.filter(one => one >= size).length < sizes.length / 2) ?? Infinity;
};

export const rewardCurve = data => {
  const high = Math.max(0, ...data.curve), low = Math.min(0, ...data.curve), end = data.curve.at(-1);
  const top = EDGE + (high - end) / (high - low || 1) * (HEIGHT - 2 * EDGE);
  const last = end === undefined ? "" : h("span.said", { style: { left: "100%", top: `${top}px` } }, signed(end));
  return h("div.bigcurve", null,
    h("div.axis", null, h("span", null, signed(high)), h("span", null, low < 0 ? signed(low) : "0")),
    h("div.plot", null, h("i.chosen", { hidden: true }), curve([data.curve.length ? data.curve : [0]], WIDTH, HEIGHT), last),
    h("span"), h("div.axis", null, h("span", null, "step 0"), h("span", null, `step ${Math.max(0, data.session.timesteps - 1)}`)));
};

// Highlights the steps of a row on the curve.
export const showBand = (course, data, row) => {
  const band = course.querySelector(".plot .chosen"), steps = Math.max(1, data.session.timesteps);
  const { first, last } = row.dataset;
  band.hidden = false;
  band.style.setProperty("left", `${first / steps * 100}%`);
  band.style.setProperty("width", `${(last - first + 1) / steps * 100}%`);
};
