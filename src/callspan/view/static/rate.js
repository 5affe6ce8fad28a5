// Rate: thumbs, a score, a label, a note and tags for a call or session, which the store keeps.
import { h, mark, button } from "./dom.js";
import { send } from "./api.js";

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

// `more` stands beside the thumbs; the form is folded.
export const ratingBox = (target, more = "") => {
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
  return h("div.rating", null,
    button(mark("success", "good"), () => rate({ label: "thumbs_up" }), { title: "thumbs up" }), button(mark("failure", "bad"), () => rate({ label: "thumbs_down" }), { title: "thumbs down" }),
    h("details", null, h("summary", null, "score, label, note, tag"),
      h("form.rate", { "aria-label": "Rate", onsubmit: submit }, value, label, note, h("button", { type: "submit" }, "rate")),
      h("form.rate", { "aria-label": "Tags", onsubmit: addTag }, tag, h("button", { type: "submit" }, "tag"))), said, more);
};

// The thumbs beside an answer in a conversation.
export const thumbs = call => {
  if (globalThis.CALLSPAN_FILE) return "";
  const said = status(), thumb = (kind, label, name) => button(mark(kind, ""), () => keep(said, { call, label }), { class: "plain", "aria-label": `rate this answer: ${name}`, title: name });
  return h("span.thumbs", null, thumb("success", "thumbs_up", "good"), thumb("failure", "thumbs_down", "bad"), said);
};
