// Format: numbers, money, times and recorded text for people. An unknown value is a dash, never 0.
export const DASH = "–";
export const known = value => value !== null && value !== undefined;
export const ms = ns => (known(ns) ? ns / 1e6 : null);

export const count = value => (known(value) ? value.toLocaleString("en-US") : DASH);
export const plural = (value, one, many = one + "s") => `${count(value)} ${value === 1 ? one : many}`;

const minus = number => String(number).replace("-", "−");
export const brief = value => {
  if (!known(value)) return DASH;
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (Math.abs(value) >= size * 0.9995) return minus(Number((value / size).toPrecision(3))) + unit;
  return minus(Math.round(value * 100) / 100);
};
export const tokens = (sent, got) => (known(sent) || known(got) ? `${brief(sent)} → ${brief(got)}` : DASH);

// Money as `formatting.py` writes it: cents, below a dollar three significant digits, halves rounded to even.
const AMOUNT = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d{1,3}))?$/i, MOST_EXPONENT = 400, CENTS = 2, SIGNIFICANT = 3;
// An integer without its last digits; fewer than none are zeros to add.
const withoutDigits = (number, dropped) => {
  if (dropped <= 0) return number * 10n ** BigInt(-dropped);
  const unit = 10n ** BigInt(dropped), whole = number / unit, twice = 2n * (number % unit);
  return twice > unit || (twice === unit && whole % 2n) ? whole + 1n : whole;
};
export const money = usd => {
  const [, minus, whole, fraction = "", exponent = "0"] = AMOUNT.exec(String(usd)) || [];
  let places = fraction.length - Number(exponent), digits = whole === undefined ? 0n : BigInt(whole + fraction), decimals = CENTS;
  if (whole === undefined || places > MOST_EXPONENT || String(digits).length - 1 - places > MOST_EXPONENT) return DASH;
  if (places > 0 && digits && digits < 10n ** BigInt(places)) {
    const dropped = Math.max(0, String(digits).length - SIGNIFICANT);
    [digits, places] = [withoutDigits(digits, dropped), places - dropped];
    while (places > CENTS && digits % 10n === 0n) [digits, places] = [digits / 10n, places - 1];
    decimals = Math.max(CENTS, places);
  }
  const text = String(withoutDigits(digits, places - decimals)).padStart(decimals + 1, "0");
  return `${minus && digits ? "−" : ""}$${BigInt(text.slice(0, -decimals)).toLocaleString("en-US")}.${text.slice(-decimals)}`;
};

export const time = ms => {
  if (!known(ms)) return DASH;
  if (ms < 1) return ms > 0 ? "<1 ms" : "0 ms";
  if (ms < 999.5) return Math.round(ms) + " ms";
  if (ms < 9950) return (ms / 1000).toFixed(1) + " s";
  if (ms < 59500) return Math.round(ms / 1000) + " s";
  const seconds = Math.round(ms / 1000), minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 ? `${minutes} min ${String(seconds % 60).padStart(2, "0")}` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${String(minutes % 60).padStart(2, "0")}` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
};

// Four significant digits, but all of the integer part of what fits in a column.
const short = size => Number(size.toPrecision(4));
const digits = size => (size >= 1e15 ? short(size).toExponential() : size >= 1000 ? Math.round(size).toLocaleString("en-US") : String(short(size)));
export const signed = value => {
  if (!known(value)) return DASH;
  const text = digits(Math.abs(value));
  return (value < 0 ? "−" : value > 0 ? "+" : "") + text;
};
export const plain = value => (known(value) ? (value < 0 ? "−" : "") + digits(Math.abs(value)) : DASH);
export const bytes = value => (!known(value) ? DASH : value < 1000 ? `${value} bytes` : value < 1e6 ? `${brief(value / 1000)} kB` : `${brief(value / 1e6)} MB`);

const two = number => String(number).padStart(2, "0");
export const clock = (ms, seconds = true) => {
  if (!known(ms)) return DASH;
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}${seconds ? ":" + two(at.getSeconds()) : ""}`;
};
// A time with its day, for lists in another order.
export const dated = ms => {
  if (!known(ms)) return DASH;
  const at = new Date(ms), isThisYear = at.getFullYear() === new Date().getFullYear();
  return `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: isThisYear ? undefined : "numeric" })} ${clock(ms, false)}`;
};
export const day = ms => {
  const at = new Date(ms), today = new Date(), yesterday = new Date();
  yesterday.setDate(today.getDate() - 1);
  if (at.toDateString() === today.toDateString()) return "Today";
  if (at.toDateString() === yesterday.toDateString()) return "Yesterday";
  return at.toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short", year: at.getFullYear() === today.getFullYear() ? undefined : "numeric" });
};
export const words = text => (text.trim() ? text.trim().split(/\s+/).length : 0);
export const least = values => values.reduce((a, b) => Math.min(a, b), Infinity);
export const most = values => values.reduce((a, b) => Math.max(a, b), -Infinity);
export const grouped = (rows, keyOf) => {
  const found = new Map();
  for (const row of rows) {
    const key = keyOf(row);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(row);
  }
  return found;
};
export const sum = values => {
  const some = values.filter(known);
  return some.length ? some.reduce((a, b) => a + Number(b), 0) : null;
};
// Removes invisible characters and those that change the direction of other text, as `formatting.py` does.
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]|(?<![^\u0000-\u007f])[\u200c\u200d]|[\u200c\u200d](?![^\u0000-\u007f\u200c\u200d])/gu;
export const shown = text => String(text).replace(INVISIBLE, "\ufffd");
export const oneLine = text => shown(text).replace(/\s+/g, " ").trim();
// A word for a shell's command line.
export const shell = word => (/^[\w.:@%+=/-]+$/.test(word) ? word : `'${String(word).replaceAll("'", "'\\''")}'`);
