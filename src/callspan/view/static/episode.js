// Episode: the cumulative reward above a table of steps, in which equal steps are one row.
import { address, h, right, soft, span, strong } from "./dom.js";
import { clock, least, most, oneLine, plural, signed, sum, time, ms } from "./format.js";
import { axisOf, callPieces } from "./bars.js";
import { actionText, answers, contextOf, footLine, observationText, rewardText, turnOf } from "./conversation.js";
import { part, text, turnBox } from "./parts.js";
import { largeOf, rewardCurve, showBand } from "./rewards.js";
import { gridRow, headRow } from "./rows.js";

const stepsOf = data => {
  const inside = new Map(data.steps.map(step => [step.timestep_id, []]));
  for (const entry of data.rows) inside.get(entry.timestep_id)?.push(entry);
  let soFar = 0;
  return data.steps.filter(step => inside.get(step.timestep_id).length).map(step => {
    const entries = inside.get(step.timestep_id), of = kind => entries.filter(entry => entry.kind === kind);
    const environment = of("environment").at(-1), action = of("action").at(-1), calls = of("call");
    const reward = step.reward ?? environment?.record.reward ?? null;
    soFar += reward ?? 0;
    return { step, entries, calls, action, environment, reward, soFar };
  });
};

// Whether most steps have an action, a reward of the environment and at most one call: then a table replaces the tree.
export const isEpisode = data => {
  const steps = stepsOf(data), fit = steps.filter(one => one.action && one.environment?.record.reward !== undefined && one.calls.length <= 1);
  return steps.length > 1 && fit.length > steps.length / 2 ? { course, detail, callOf, opening, showBand } : null;
};

const runsOf = (steps, next) => {
  const runs = [];
  // The last step, and so the last run of equal steps, may continue on the next page.
  for (const one of next ? steps.slice(0, -1) : steps) {
    const key = `${one.action ? actionText(one.action) : ""} ${one.reward}`, last = runs.at(-1);
    const odd = one.calls.some(call => call.call.outcome !== "success");
    if (last && last.key === key && !odd && !last.odd) last.steps.push(one); else runs.push({ key, odd, steps: [one] });
  }
  return next && runs.length > 1 ? runs.slice(0, -1) : runs;
};

const word = one => oneLine(one.action ? actionText(one.action).replace(/^(move|action) /, "") : one.calls[0]?.call.output || "–");
const callOf = (data, row) => stepsOf(data).find(one => one.step.timestep_id === row.dataset.id)?.calls[0]?.id || "";

const course = data => {
  const steps = stepsOf(data), times = data.rows.filter(entry => entry.timestep_id);
  const start = least(times.map(entry => ms(entry.start_ns))), end = most(times.map(entry => ms(entry.start_ns) + (ms(entry.duration_ns) || 0)));
  const axis = axisOf(start, end), large = largeOf(steps.map(one => one.reward ?? 0));
  const rows = runsOf(steps, data.next).map(({ steps: some }) => {
    const first = some[0], last = some.at(-1), reward = sum(some.map(one => one.reward));
    const rare = Math.abs(first.reward ?? 0) >= large;
    const seen = [first, last].map(one => (one.environment ? observationText(one.environment) : ""));
    return gridRow("", { data: { id: last.step.timestep_id, first: first.step.timestep_position, last: last.step.timestep_position } },
      right(soft(some.length > 1 ? `${first.step.timestep_position}–${last.step.timestep_position}` : first.step.timestep_position)),
      span(rare ? strong(word(first)) : word(first), some.length > 1 ? soft(` × ${some.length}`) : ""),
      right(rare && reward !== null ? rewardText(reward) : soft(signed(reward))),
      right(soft(signed(last.soFar))),
      span(some.length > 1 && seen[0] !== seen[1] ? `${seen[0]} → ${seen[1]}` : seen[1]),
      h("span.track", null, some.flatMap(one => one.calls.flatMap(call => callPieces(ms(call.start_ns), call.call, axis, Date.now())))),
      right(soft(time(sum(some.map(one => ms(one.step.duration_ns) || 0))))));
  });
  const heads = ["step", "action", "reward", "so far", "observation after", "when", "time"].map((name, at) => h(`span${[0, 2, 3, 6].includes(at) ? ".right" : ""}`, null, name));
  const [others, outside] = [true, false].map(isReward => data.rows.filter(entry => !entry.timestep_id && (entry.kind === "reward") === isReward));
  const context = contextOf(data.rows, data.instructions);
  return [rewardCurve(data), h("div.episode", { role: "grid", "aria-label": "Steps" }, headRow(heads), rows),
    others.length ? h("p.pad.soft", null, "scores: ", others.map(entry => [entry.record.objective, " ", strong(signed(entry.record.value ?? null)), " "])) : "",
    outside.length ? [h("div.stepline", null, strong("outside of steps")), outside.map(entry => turnOf(entry, context))] : ""];
};

// What is shown before a step is chosen.
const opening = data => detail(data, { dataset: { id: stepsOf(data)[0].step.timestep_id } });

// The selected step: observation, action and reward, then the messages that its call sent.
const detail = (data, row) => {
  const steps = stepsOf(data), at = steps.findIndex(one => one.step.timestep_id === row.dataset.id), one = steps[at];
  if (!one) return [];
  const before = steps[at - 1]?.environment, call = one.calls[0], context = contextOf(data.rows, data.instructions);
  const seen = one.environment?.record.data?.before ?? before?.record.data?.after;
  return [
    h("div.stepline", null, strong(`step ${one.step.timestep_position}`), soft(clock(ms(one.step.start_ns))),
      h("span.right", null,
        call ? [h("a.linked", { href: address("call", call.id) }, "call"), soft(`  ${call.call.model || ""}  ${time(ms(call.duration_ns))}`)] : ""
      )
    ),
    seen !== undefined && seen !== null ? turnBox("observation", "environment", [text(typeof seen === "string" ? seen : JSON.stringify(seen))]) : "",
    ...one.entries.filter(entry => !["action", "environment"].includes(entry.kind)).flatMap(
      entry => (
        entry.kind === "call"
          ? [
            turnBox("assistant", one.calls.length > 1 ? clock(ms(entry.start_ns)) : "policy",
              [answers(entry, context.join), footLine(entry.call)],
              { class: entry === call ? "turn picked" : "turn" }
            )
          ]
          : turnOf(entry, context)
      )
    ),
    one.action ? turnBox("", "action", [h("p", null, strong(actionText(one.action)))]) : "",
    turnBox("", "reward",
      [
        h("p", null,
          one.reward === null ? soft("none is recorded") : rewardText(one.reward),
          soft(`  so far ${signed(one.soFar)}`),
          one.step.terminated ? soft("  terminated") : one.step.truncated ? soft("  truncated") : ""
        )
      ]
    ),
    one.environment ? turnBox("observation", "environment", [text(observationText(one.environment))]) : "",
    call?.turn.new.length ? h("div.stepline", null, strong("Sent with this call"), soft(`${plural(call.turn.sent ?? call.turn.new.length, "message")}, new ${call.turn.new.length}`)) : "",
    ...(call?.turn.new || []).map(message => turnBox(message.role, "", message.parts.map(one => part(one)))),
  ].filter(Boolean);
};
