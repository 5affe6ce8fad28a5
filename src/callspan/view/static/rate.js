// Rating: a thumb, a score, a note for a call or a session, which the store keeps as feedback.
import { h, mark, button } from "./dom.js";
import { send } from "./api.js";

export const ratingBox = target => {
  const value = h("input", { type: "number", step: "any", "aria-label": "Score", placeholder: "score" }), note = h("input", { type: "text", "aria-label": "Note", placeholder: "note" });
  const said = h("span", { role: "status" });
  const rate = async given => {
    const text = note.value.trim(), body = { ...target, ...given, ...(text ? { note: text } : {}) };
    try {
      await send("rate", body);
      for (const field of [value, note]) field.value = "";
      said.replaceChildren("kept");
    } catch (error) { said.replaceChildren(mark("error", error.message)); }
  };
  const submit = event => {
    event.preventDefault();
    rate(value.value === "" ? {} : { value: Number(value.value) });
  };
  return h("form.rate", { "aria-label": "Rate", onsubmit: submit },
    button(mark("success", "good"), () => rate({ label: "thumbs_up" }), { title: "thumbs up" }), button(mark("failure", "bad"), () => rate({ label: "thumbs_down" }), { title: "thumbs down" }),
    value, note, h("button", { type: "submit" }, "rate"), said);
};
