// The place of somebody who reads, kept while a page is drawn again: how far each pane is scrolled.
import { keyOf } from "./dom.js";

const EDGE = 8;
const rowsIn = box => [...box.querySelectorAll("[data-id],[data-entry]")];

// What stays where it is in a pane: the chosen row, else the first one that is seen, unless the pane is at its beginning.
const placeOf = pane => {
  const { top, bottom } = pane.getBoundingClientRect(), rows = rowsIn(pane);
  const seen = row => { const edges = row.getBoundingClientRect(); return edges.bottom > top && edges.top < bottom; };
  const chosen = rows.find(row => row.matches("[aria-selected=true], .picked") && seen(row));
  const anchor = chosen || (pane.scrollTop > 0 && rows.find(seen)) || null;
  const ends = !chosen && pane.scrollTop > 0 && pane.scrollTop + pane.clientHeight > pane.scrollHeight - EDGE;
  return { pane, key: anchor && keyOf(anchor), at: anchor?.getBoundingClientRect().top, ends };
};

// Draws, and returns how many rows of `main` are new above what is seen.
export const keepPlace = (main, draw) => {
  const before = new Set(rowsIn(main).map(keyOf)), places = [main, ...main.querySelectorAll(".panes > *")].map(placeOf);
  draw();
  const rows = new Map(rowsIn(main).map(row => [keyOf(row), row]));
  for (const { pane, key, at, ends } of places) {
    const anchor = rows.get(key);
    if (ends && pane !== main) pane.scrollTop = pane.scrollHeight;
    else if (anchor) pane.scrollTop += anchor.getBoundingClientRect().top - at;
  }
  const order = [...main.querySelectorAll(".list [data-id]")], anchor = rows.get(places[0].key);
  return order.slice(0, Math.max(0, order.indexOf(anchor))).filter(row => !before.has(keyOf(row))).length;
};
