// Place: keeps the scroll position of each pane while a page is drawn again.
import { keyOf } from "./dom.js";

const EDGE = 8;
const rowsIn = box => [...box.querySelectorAll("[data-id],[data-entry]")];

// The row that keeps its position in a pane: the selected one, else the first visible one unless the pane is at its top.
const placeOf = pane => {
  const { top, bottom } = pane.getBoundingClientRect(), rows = rowsIn(pane);
  const seen = row => { const edges = row.getBoundingClientRect(); return edges.bottom > top && edges.top < bottom; };
  const chosen = rows.find(row => row.matches("[aria-selected=true], .picked") && seen(row));
  const anchor = chosen || (pane.scrollTop > 0 && rows.find(seen)) || null;
  const ends = !chosen && pane.scrollTop > 0 && pane.scrollTop + pane.clientHeight > pane.scrollHeight - EDGE;
  return { pane, key: anchor && keyOf(anchor), at: anchor?.getBoundingClientRect().top, ends };
};

// Draws, and returns the number of new rows above the visible ones.
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
