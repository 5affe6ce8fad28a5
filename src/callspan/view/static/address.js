// The addresses of pages.
export const address = (page, id, values) => {
  const text = new URLSearchParams(Object.entries(values || {}).filter(([, value]) => value)).toString();
  return `#/${page}${id ? "/" + encodeURIComponent(id) : ""}${text ? "?" + text : ""}`;
};
