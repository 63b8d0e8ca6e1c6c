// Elements out of plain values. All text goes through `visible`, and becomes text nodes, never markup.

const SVG = "http://www.w3.org/2000/svg";
// Marks that reorder or hide text, and control characters but for tab and newline.
const UNSEEN = /([\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]|<\|[^|<>\n]{1,40}\|>)/u;

function visible(text) {
  return String(text).replaceAll("\r\n", "\n").split(UNSEEN).filter((part) => part !== "").map((part) => {
    if (!UNSEEN.test(part)) return document.createTextNode(part);
    const special = part.startsWith("<|");
    const code = part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    const mark = document.createElement("span");
    mark.className = special ? "special" : "unseen";
    mark.textContent = special ? part : `U+${code}`;
    return mark;
  });
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(...(child instanceof Node ? [child] : visible(child)));
  }
  return node;
}

const el = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

const number = (value, digits = 0) =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}%`;
const signed = (value, digits) => value.toFixed(digits).replace("-", "−");
const listed = (values) => values.map((value) => number(value)).join(" and ");
const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

function duration(seconds) {
  if (seconds > 0 && seconds < 0.95) return `${number(1000 * seconds)} ms`;
  if (seconds < 10) return `${number(seconds, 1)} s`;
  if (seconds < 120) return `${number(seconds)} s`;
  const whole = Math.round(seconds), minutes = Math.floor(whole / 60);
  if (minutes < 60) return whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// How an answer stands; the sign goes before the colour, which not everybody sees.
function verdict(ok) {
  if (ok === true) return el("span", { class: "right", role: "img", "aria-label": "right" }, "✓");
  if (ok === false) return el("span", { class: "wrong", role: "img", "aria-label": "wrong" }, "✗");
  return null;
}

function media(query) {
  return window.matchMedia(query).matches;
}
