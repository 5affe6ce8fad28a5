// Rate: thumbs, a score, a label, a note and tags for a call or session, which the store keeps.
import { address, h, mark, button } from "./dom.js";
import { get, send } from "./api.js";

// Keeps a rating and says so in `said`; returns whether it was kept.
const keep = async (said, rating) => {
  try {
    await send("rate", rating);
    said.replaceChildren("kept");
    return true;
  } catch (error) {
    said.replaceChildren(mark("error", error.message));
    return false;
  }
};
const status = () => h("span", { role: "status" });

// The words that select the list which the target is in: of the last list, or for a call those of its session.
const lineOf = (target, list, session) => {
  const isOfCalls = list.startsWith("#/calls"), line = new URLSearchParams(list.split("?")[1]).get("q") || "";
  if (target.session) return isOfCalls ? "" : line;
  return isOfCalls ? line : session ? `session:${session}` : "";
};

// `more` stands beside the thumbs; the form is folded. `next` opens what is next in the list and not rated yet;
// `sessionOf` returns the session of a call.
export const ratingBox = (target, app, { more = "", sessionOf = () => null } = {}) => {
  const field = (type, name) => h("input", { type, step: type === "number" ? "any" : null, "aria-label": name[0].toUpperCase() + name.slice(1), placeholder: name });
  const value = field("number", "score"), label = field("text", "label"), note = field("text", "note"), tag = field("text", "tag"), said = status();
  const rate = async given => {
    const text = note.value.trim(), word = label.value.trim();
    const kept = await keep(said, { ...target, ...(word ? { label: word } : {}), ...given, ...(text ? { note: text } : {}) });
    if (kept) for (const one of [value, label, note]) one.value = "";
  };
  const submit = event => {
    event.preventDefault();
    rate(value.value === "" ? {} : { value: Number(value.value) });
  };
  const addTag = async event => {
    event.preventDefault();
    if (tag.value.trim() && await keep(said, { ...target, tag: tag.value.trim() })) tag.value = "";
  };
  const [kind] = Object.keys(target);
  const next = async () => {
    const { id } = await get("unrated", { ...target, q: lineOf(target, app.list, sessionOf()) });
    if (id) location.hash = address(kind, id); else said.replaceChildren(`no other ${kind} is unrated`);
  };
  const box = h("div.rating", null,
    button(mark("success", "good"), () => rate({ label: "thumbs_up" }), { title: "thumbs up" }), button(mark("failure", "bad"), () => rate({ label: "thumbs_down" }), { title: "thumbs down" }),
    h("details", null, h("summary", null, "score, label, note, tag"),
      h("form.rate", { "aria-label": "Rate", onsubmit: submit }, value, label, note, h("button", { type: "submit" }, "rate")),
      h("form.rate", { "aria-label": "Tags", onsubmit: addTag }, tag, h("button", { type: "submit" }, "tag"))),
    button("next unrated", next, { class: "plain linked", title: "u" }), said, more);
  return { box, next, key: ["u", "next unrated", next] };
};

// The thumbs beside an answer in a conversation.
export const thumbs = call => {
  if (globalThis.CALLSPAN_FILE) return "";
  const said = status(), thumb = (kind, label, name) => button(mark(kind, ""), () => keep(said, { call, label }), { class: "plain", "aria-label": `rate this answer: ${name}`, title: name });
  return h("span.thumbs", null, thumb("success", "thumbs_up", "good"), thumb("failure", "thumbs_down", "bad"), said);
};
