// Bars: hollow is the wait for the first token, full the answer, a red line a failed attempt, hatched the wait after it.
import { h, svg } from "./dom.js";
import { least, most, time, ms, known } from "./format.js";
import { elapsedMs, isRunning, lastedMs } from "./rows.js";

const piece = (kind, from, to, axis, title) => h(`i.${kind}`, { title, style: { left: `${axis.at(from)}%`, width: `${Math.max(0, axis.at(to) - axis.at(from))}%` } });

// The pieces of a failed attempt, an array of start, end, status, error, wait and requested wait. The call began at `start` (ms).
export const failedPieces = (start, [from, to, status, error, wait], axis) => [
  h("i.failed", { title: `${error || "failed"} ${status || ""}`, style: { left: `${axis.at(start + from)}%` } }),
  wait ? piece("pause", start + (to ?? from), start + (to ?? from) + wait, axis, `then waited ${time(wait)}`) : "",
];

// The pieces of a call with its attempts.
export const callPieces = (start, call, axis, now) => {
  const lasted = lastedMs(call, start, now), end = start + lasted, tries = call.attempts;
  const found = tries.slice(0, -1).flatMap(one => failedPieces(start, one, axis));
  const began = start + (tries.length ? tries.at(-1)[0] : 0);
  if (["error", "timeout"].includes(call.outcome)) {
    found.push(piece("wait", began, end, axis), h("i.failed", { style: { left: `${axis.at(end)}%` } }));
    return found;
  }
  if (isRunning(call)) return [...found, piece("wait", began, end, axis, "in progress")];
  const first = known(call.first_token_ns) ? start + ms(call.first_token_ns) : null;
  if (first !== null) found.push(piece("wait", began, first, axis, `first token after ${time(ms(call.first_token_ns))}`));
  found.push(piece(["cancelled", "interrupted", "unknown"].includes(call.outcome) ? "stopped" : "model", first ?? began, end, axis, time(lasted)));
  return found;
};

export const toolPiece = (start, lasted, axis, failed) => piece(failed ? "tool broken" : "tool", start, start + (lasted || 0), axis, time(lasted));
export const dot = (at, axis) => h("i.dot", { style: { left: `${axis.at(at)}%` } });
export const span = (from, to, axis) => piece("line", from, to, axis);

// The axis: `at` converts a time to per cent of the width. Each idle time in `gaps` is reduced to a narrow column.
export const axisOf = (start, end, gaps = []) => {
  const cut = gaps.filter(([from, to]) => from >= start && to <= end), each = Math.min(2.5, 40 / cut.length);
  const busy = Math.max(1, end - start - cut.reduce((total, [from, to]) => total + to - from, 0)), room = 100 - each * cut.length;
  const at = ms => {
    let idle = 0, columns = 0;
    for (const [from, to] of cut) {
      if (ms >= to) { idle += to - from; columns += each; } else if (ms > from) { idle += ms - from; columns += each * (ms - from) / (to - from); }
    }
    return Math.max(0, Math.min(100, (ms - start - idle) / busy * room + columns));
  };
  return { at, cut, busy };
};

// The times longer than `least` in which nothing ran; `runs` are starts and lengths by time.
const SHORT_IDLE_MS = 3000;
export const gapsOf = (runs, least) => {
  const found = [];
  let latest = Infinity;
  for (const [start, lasted] of runs) {
    if (start - latest > least) found.push([latest, start]);
    latest = Math.max(latest === Infinity ? start : latest, start + (lasted || 0));
  }
  return found;
};

const ns = length => (known(length) ? length * 1e6 : null);

// The course of a session in a list. Its width grows with the square root of the busy time.
export const course = row => {
  if (row.curve.length) return curve([row.curve], 128, 20);
  const box = h("span.track.course", { title: ms(row.active_ns) ? `busy for ${time(ms(row.active_ns))}; width is the root of it` : null });
  if (!row.course.length) return box;
  const now = Date.now() - (ms(row.start_ns) || 0), runs = row.outcome === "in_progress";
  const lastedOf = ([, start, lasted]) => elapsedMs(lasted, start, runs, now) ?? 0;
  const gaps = gapsOf(row.course.map(run => [run[1], lastedOf(run)]), SHORT_IDLE_MS), whole = axisOf(0, most(row.course.map(run => run[1] + lastedOf(run))), gaps);
  const width = Math.min(1, Math.max(0.18, Math.sqrt(whole.busy / 40000))), axis = { at: ms => whole.at(ms) * width };
  for (const run of row.course) {
    const [kind, start, length, first, outcome, retries] = run, lasted = lastedOf(run);
    if (kind === "tool") box.append(toolPiece(start, lasted, axis, outcome === "error"));
    else {
      const attempts = retries ? Array.from({ length: retries + 1 }, (_, at) => [at * lasted * 0.6 / (retries + 1), null, null, "failed", null]) : [];
      box.append(...callPieces(start, { duration_ns: ns(length), first_token_ns: ns(first), outcome, attempts }, axis, now).filter(Boolean));
    }
  }
  return box;
};

export const curve = (lines, width, height) => {
  const all = [0, ...lines.flat()], low = least(all), high = most(all), rise = high - low || 1;
  const y = value => 2 + (high - value) / rise * (height - 4);
  const best = lines.reduce((found, line) => (line.at(-1) > found.at(-1) ? line : found), lines[0]);
  const drawn = line => svg("polyline", { class: line === best ? "best" : "rest", points: line.map((value, at) => `${line.length > 1 ? at / (line.length - 1) * width : 0},${y(value)}`).join(" ") });
  return svg("svg", { class: "curve", viewBox: `0 0 ${width} ${height}`, width, height, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("line", { class: "zero", x1: 0, x2: width, y1: y(0), y2: y(0) }), lines.filter(line => line !== best).map(drawn), drawn(best));
};
