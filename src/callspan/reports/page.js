"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const perPage = 100, perSession = 400;
  const table = document.getElementById("sessions"), find = document.getElementById("find");
  const user = document.getElementById("user"), objective = document.getElementById("objective");
  const scoreOf = s => ["", "reward"].includes(objective.value) ? s.reward : s.scores[objective.value]?.[0] ?? null;
  const columns = [
    ["started", s => s.start], ["session", s => s.name || s.id], ["user", s => s.user ?? "", 1], ["outcome", s => s.outcome],
    ["reward", scoreOf], ["steps", s => s.counts[0], 1], ["calls", s => s.counts[1], 1], ["errors", s => s.errors, 1],
    ["tokens", s => (s.in ?? 0) + (s.out ?? 0), 1], ["cost", s => s.cost === null ? null : Number(s.cost)], ["time", s => s.ms, 1]];
  let order = 0, down = true, first = 0;

  // Recorded text only ever becomes text: no markup is made of it anywhere.
  const make = (name, look, text) => {
    const node = document.createElement(name);
    if (look) node.className = look;
    if (text !== undefined && text !== null) node.textContent = text;
    return node;
  };
  const unknown = "\u2013";
  const two = n => String(n).padStart(2, "0");
  const number = n => n === null || n === undefined ? unknown : n.toLocaleString("en-US");
  const brief = n => n === null || n === undefined || n < 100000 ? number(n)
    : n < 999500 ? Number((n / 1e3).toPrecision(3)) + "k" : Number((n / 1e6).toPrecision(3)) + "M";
  const money = text => {
    if (text === null) return unknown;
    const usd = Number(text), amount = Math.abs(usd), sign = usd < 0 ? "-" : "";
    if (!Number.isFinite(usd)) return unknown;
    // Below one dollar: three significant digits, without trailing zeros behind the cents.
    if (amount < 1 && amount) return sign + "$" + amount.toFixed(2 - Math.floor(Math.log10(amount))).replace(/(\.\d\d\d*?)0+$/, "$1");
    return sign + "$" + amount.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  };
  const time = ms => {
    if (ms === null || ms === undefined) return unknown;
    if (ms < 9.95 && ms > 0) return ms.toFixed(1) + " ms";
    if (ms < 999.5) return Math.round(ms) + " ms";
    if (ms < 59995) return (ms / 1000).toFixed(2) + " s";
    const whole = Math.round(ms / 1000), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
    if (hours) return hours + " h " + two(minutes) + " min";
    return minutes + " min" + (whole % 60 ? " " + two(whole % 60) + " s" : "");
  };
  const reward = r => r === null || r === undefined ? unknown : (r > 0 ? "+" : "") + Number(r.toPrecision(4));
  const others = scores => Object.entries(scores).map(([name, [, text]]) => "score of " + name + ": " + text).join(", ");
  const tone = r => r === null || r === undefined ? "" : r > 0 ? "good" : r < 0 ? "bad" : "";
  const when = ms => {
    const at = new Date(ms);
    return [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-") + " " + two(at.getHours()) + ":" + two(at.getMinutes());
  };
  const outcomes = { success: "good", error: "bad", failure: "bad", timeout: "bad", cancelled: "warn", interrupted: "warn" };

  // Where a time is in the waterfall, as a share of all that is not idle.
  const scaleOf = (s, ends) => {
    const elapsed = ms => s.idle.reduce((left, [from, to]) => left - Math.max(0, Math.min(ms, to) - from), ms);
    const whole = Math.max(1, ends.reduce((a, b) => Math.max(a, elapsed(b)), 0));
    return ms => elapsed(ms) / whole;
  };
  const bar = (track, look, start, length, scale) => {
    const node = make("i", look), left = 100 * scale(start);
    node.style.left = Math.min(99.5, left) + "%";
    if (length !== null) node.style.width = Math.min(100 - left, 100 * scale(start + length) - left) + "%";
    track.append(node);
  };
  const line = (look, label, bars, end, scale) => {
    const node = make("div", "line " + look), track = make("span", "track");
    for (const [kind, start, length] of bars) bar(track, kind, start, length, scale);
    const name = make("span");
    name.title = label.join(" ");
    name.append(make("b", "", label[0]), document.createTextNode(label[1] ? " " + label[1] : ""));
    node.append(name, track, make("span", "", end));
    return node;
  };
  const callLine = (c, inside, scale) => {
    const [, at, model, outcome, ms, first, inputTokens, outputTokens, cost, retries, output, error, id] = c;
    const bars = [["call " + outcome, at, ms ?? 0]];
    if (first !== null) bars.push(["wait", at, first]);
    const odd = [outcome !== "success" ? outcome : error ? "cut off" : "", !retries ? "" : retries === 1 ? "1 retry" : retries + " retries"].filter(Boolean);
    const node = line(inside + " call", [data.models[model], odd.length ? "· " + odd.join(" · ") : output], bars, time(ms), scale);
    if (odd.length) node.firstChild.className = outcomes[outcome] === "bad" ? "bad" : "warn";
    node.tabIndex = 0;
    const open = () => {
      if (node.nextSibling && node.nextSibling.className === "output") return node.nextSibling.remove();
      const more = make("div", "output", output || (error ? "" : "no output, or it was not kept"));
      if (error) more.append(make("div", "bad", error));
      more.append(make("small", "", `${number(inputTokens)} in, ${number(outputTokens)} out · ${money(cost)}`
        + (first === null ? "" : ` · first token ${time(first)}`) + ` · ${data.command} show ${id}`));
      node.after(more);
    };
    node.onclick = open;
    node.onkeydown = e => { if (e.key === "Enter") open(); };
    return node;
  };
  const eventLine = (e, inside, scale) => {
    const [, at, kind, text, worth, ms] = e;
    const end = worth !== null ? reward(worth) : ms !== null ? time(ms) : "";
    const node = line(inside + " event", [kind, text], [[kind === "tool" ? "tool" : "mark", at, kind === "tool" ? ms ?? 0 : null]], end, scale);
    if (worth !== null) node.lastChild.className = tone(worth);
    return node;
  };

  const detail = s => {
    const box = make("div");
    box.append(make("p", "", [s.id, s.active === null ? "" : "active " + time(s.active), s.user && "user " + s.user, others(s.scores), s.meta].filter(Boolean).join("  ")));
    const legend = make("p", "legend");
    for (const [look, text] of [["wait", "until the first token"], ["", "call"], ["tool", "tool"], ["error", "failed"]])
      legend.append(make("i", "key " + look), document.createTextNode(text));
    box.append(legend);
    const ends = [s.ms ?? 0, ...s.calls.map(c => c[1] + (c[4] ?? 0)), ...s.steps.map(t => t[1] + (t[2] ?? 0)), ...s.events.map(e => e[1])];
    const scale = scaleOf(s, ends);
    const entries = [
      ...s.steps.map((t, at) => ({ at: t[1], rank: 0, step: at, draw: () => {
        const node = line("step", ["step " + t[0], [t[2] === null ? "" : "· " + time(t[2]), t[4] ? "· " + t[4] : "", t[5] ? "· " + others(t[5]) : ""].filter(Boolean).join(" ")], [["step", t[1], t[2] ?? 0]], t[3] === null ? "" : reward(t[3]), scale);
        if (t[3] !== null) node.lastChild.className = tone(t[3]);
        return node;
      } })),
      ...s.calls.map(c => ({ at: c[1], rank: 1, step: c[0], draw: inside => callLine(c, inside, scale) })),
      ...s.events.map(e => ({ at: e[1], rank: 1, step: e[0], draw: inside => eventLine(e, inside, scale) }))];
    const begin = step => step >= 0 ? s.steps[step][1] : null;
    const place = e => e.step >= 0 ? begin(e.step) : e.at;
    entries.sort((a, b) => place(a) - place(b) || a.step - b.step || a.rank - b.rank || a.at - b.at);
    if (!entries.length && s.counts[0] + s.counts[1])
      box.append(make("p", "none", "Its timeline is not in this page: " + data.command + " report --session " + s.id));
    // A time in which nothing ran is one line, before what follows it.
    for (let at = 0, gap = 0; at < entries.length && gap < s.idle.length; at++)
      while (gap < s.idle.length && s.idle[gap][1] <= entries[at].at) {
        const [from, to] = s.idle[gap++], draw = entries[at].draw;
        entries[at].draw = inside => {
          const both = document.createDocumentFragment();
          both.append(make("div", "idle", "\u2026 " + time(to - from) + " idle \u2026"), draw(inside));
          return both;
        };
      }
    for (const e of entries.slice(0, perSession)) box.append(e.draw(e.step >= 0 ? "inside" : ""));
    if (entries.length > perSession) {
      const more = make("button", "", "show all " + number(entries.length));
      more.onclick = () => { for (const e of entries.slice(perSession)) more.before(e.draw(e.step >= 0 ? "inside" : "")); more.remove(); };
      box.append(more);
    }
    return box;
  };

  const row = s => {
    const node = make("tr", "session");
    const cells = [when(s.start), s.name || s.id, s.user || unknown, [s.outcome || unknown, s.marks].filter(Boolean).join(", "), reward(scoreOf(s)), number(s.counts[0]), number(s.counts[1]),
      number(s.errors), brief(s.in) + "\u2192" + brief(s.out), money(s.cost), time(s.ms)];
    cells.forEach((text, at) => {
      const look = at === 3 ? s.outcome === "success" && s.marks ? "warn" : outcomes[s.outcome] : at === 4 ? tone(scoreOf(s)) : at === 7 && s.errors ? "bad" : "";
      const cell = make("td", [look, columns[at][2] ? "wide" : ""].filter(Boolean).join(" "), at ? text : null);
      // A phone does without the year.
      if (!at) cell.append(make("span", "wide", text.slice(0, 5)), document.createTextNode(text.slice(5)));
      if (at === 1) cell.title = s.id;
      if (at === 1 && s.last) cell.append(make("small", "", s.last));
      node.append(cell);
    });
    node.tabIndex = 0;
    node.setAttribute("aria-expanded", "false");
    const open = () => {
      const shown = node.nextSibling && node.nextSibling.className === "opened";
      node.setAttribute("aria-expanded", String(!shown));
      if (shown) return node.nextSibling.remove();
      const under = make("tr", "opened"), cell = make("td", "detail");
      cell.colSpan = columns.length;
      cell.append(detail(s));
      under.append(cell);
      node.after(under);
    };
    node.onclick = open;
    node.onkeydown = e => { if (e.key === "Enter") open(); };
    return node;
  };

  const draw = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = s => words.every(w => [s.name, s.id, s.user, s.outcome, s.meta, s.last, ...Object.keys(s.scores)].join(" ").toLowerCase().includes(w));
    const found = data.sessions.filter(s => fits(s) && (!user.value || s.user === user.value)
      && (!objective.value || scoreOf(s) !== null)), key = columns[order][1];
    found.sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === y) return 0;
      if (x === null) return 1;
      if (y === null) return -1;
      return (x < y ? -1 : 1) * (down ? -1 : 1);
    });
    first = Math.min(first, Math.max(0, Math.floor((found.length - 1) / perPage) * perPage));
    const head = make("tr");
    columns.forEach(([name, , wide], at) => {
      const cell = make("th", wide ? "wide" : "", (name === "reward" && objective.value || name) + (at === order ? (down ? " \u2193" : " \u2191") : ""));
      const sort = () => { down = at === order ? !down : true; order = at; first = 0; draw(); };
      if (at === order) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      cell.tabIndex = 0;
      cell.onclick = sort;
      cell.onkeydown = e => { if (e.key === "Enter") sort(); };
      head.append(cell);
    });
    const top = document.createElement("thead"), body = document.createElement("tbody");
    top.append(head);
    body.append(...found.slice(first, first + perPage).map(row));
    table.replaceChildren(top, body);
    document.getElementById("count").textContent = found.length === data.sessions.length ? number(found.length)
      : number(found.length) + " of " + number(data.sessions.length);
    const pages = document.getElementById("pages");
    pages.replaceChildren();
    if (found.length > perPage) {
      for (const [name, step] of [["\u2190 earlier page", -perPage], ["next page \u2192", perPage]]) {
        const button = make("button", "", name);
        button.disabled = first + step < 0 || first + step >= found.length;
        button.onclick = () => { first += step; draw(); };
        pages.append(button);
      }
      pages.append(make("span", "", `${first + 1} to ${Math.min(first + perPage, found.length)}`));
    }
    if (data.sessions.length === 1) body.firstChild.click();
  };
  const choices = (select, values) => {
    for (const value of ["", ...new Set(values)]) select.append(new Option(value || "all", value));
    select.parentNode.hidden = select.length < 2;
  };
  choices(user, data.sessions.map(s => s.user).filter(Boolean).sort());
  choices(objective, data.sessions.flatMap(s => [...(s.reward === null ? [] : ["reward"]), ...Object.keys(s.scores)]).sort());
  user.onchange = objective.onchange = find.oninput = () => { first = 0; draw(); };
  draw();
})();
