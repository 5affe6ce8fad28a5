// The place of somebody who reads, kept while a page is drawn again: what is chosen, focused and open, and how far each
// pane is scrolled. Elements are found again by their ids, or by their number within what has an id.
const KEYED = "[data-id],[data-entry]";
const EDGE = 8;

const keyOf = node => `${node.dataset.id ?? ""} ${node.dataset.entry ?? ""}`;
const keyed = box => new Map([...box.querySelectorAll(KEYED)].map(node => [keyOf(node), node]));

// Where an element stands: in what has an id, or the whole; "" is that itself.
const pathOf = node => {
  const near = node.closest(KEYED), tag = node === near ? "" : node.tagName;
  return { key: near && keyOf(near), tag, at: tag && [...(near || document).querySelectorAll(tag)].indexOf(node) };
};
const found = ({ key, tag, at }, rows) => {
  const near = key === null ? document : rows.get(key);
  return tag && near ? near.querySelectorAll(tag)[at] : near;
};

// What stays where it is in a pane: the chosen row, else the first one that is seen, unless the pane is at its beginning.
const placeOf = pane => {
  const { top, bottom } = pane.getBoundingClientRect(), rows = [...pane.querySelectorAll(KEYED)];
  const seen = row => { const edges = row.getBoundingClientRect(); return edges.bottom > top && edges.top < bottom; };
  const chosen = rows.find(row => row.matches("[aria-selected=true], .picked") && seen(row));
  const anchor = chosen || (pane.scrollTop > 0 && rows.find(seen)) || null;
  const ends = !chosen && pane.scrollTop > 0 && pane.scrollTop + pane.clientHeight > pane.scrollHeight - EDGE;
  return { pane, key: anchor && keyOf(anchor), at: anchor?.getBoundingClientRect().top, ends };
};

// Draws, and returns how many rows of `main` are new above what is seen.
export const keepPlace = (main, draw) => {
  const before = keyed(main), focus = document.activeElement, focused = main.contains(focus) && pathOf(focus);
  const opened = [...main.querySelectorAll("details[open]")].map(pathOf), places = [main, ...main.querySelectorAll(".panes > *")].map(placeOf);
  const chosen = [...main.querySelectorAll("[aria-selected=true][data-id]")].map(keyOf), picked = [...main.querySelectorAll(".turn.picked[data-entry]")].map(keyOf);
  draw();
  const rows = keyed(main);
  for (const path of opened) {
    const details = found(path, rows);
    if (details && !details.open) details.open = true;
  }
  for (const key of chosen) {
    const row = rows.get(key);
    row?.setAttribute("aria-selected", "true");
    if (row) row.tabIndex = 0;
  }
  for (const key of picked) rows.get(key)?.classList.add("picked");
  if (focused && !focus.isConnected) found(focused, rows)?.focus({ preventScroll: true });
  for (const { pane, key, at, ends } of places) {
    const anchor = rows.get(key);
    if (ends && pane !== main) pane.scrollTop = pane.scrollHeight;
    else if (anchor) pane.scrollTop += anchor.getBoundingClientRect().top - at;
  }
  const order = [...main.querySelectorAll(".list [data-id]")], anchor = rows.get(places[0].key);
  return order.slice(0, Math.max(0, order.indexOf(anchor))).filter(row => !before.has(keyOf(row))).length;
};
