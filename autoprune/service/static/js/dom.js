// Elements from code. Text reaches the document as text nodes only, so a name that looks like HTML stays a name.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `props`: attributes; `on`: listeners; `props.class`, `data`: as in HTML; null and false are left out. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An SVG element. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, call] of Object.entries(value)) element.addEventListener(event, call);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "value" && "value" in element) element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** Put `children` in place of what the element holds. */
export function put(element, ...children) {
  element.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** `put` for parts that were opened by hand: those that were open stay so. */
export function redone(element, ...children) {
  const open = [...element.querySelectorAll("details")].map((each) => each.open);
  put(element, ...children);
  element.querySelectorAll("details").forEach((each, at) => {
    each.open = open[at] ?? each.open;
  });
  return element;
}

/** A width in percent, set through the CSSOM: the page's policy allows no style attributes. */
export function percent(element, share, property = "width") {
  element.style.setProperty(property, `${(100 * Math.min(1, Math.max(0, share))).toFixed(2)}%`);
  return element;
}

let speaking = 0;
const waiting = new Map();

/**
 * Tell users of screen readers what changed, when nothing more came for a moment: of messages about one thing the
 * latest, of several things all.
 */
export function announce(text, about = "") {
  waiting.delete(about);
  waiting.set(about, text);
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    document.getElementById("announcer").textContent = [...waiting.values()].join(". ");
    waiting.clear();
  }, 400);
}

/** Save bytes under a name, as if the user had followed a link. */
export function save(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 30_000);
}

/** A table: `columns` are {label, title, text (left-aligned)}, rows are lists of cells (text or elements). */
export function table(caption, columns, rows, props = {}) {
  const head = columns.map((column) =>
    h("th", { scope: "col", title: column.title, class: column.text && "text" }, column.label),
  );
  const body = rows.map((cells) =>
    h(
      "tr",
      {},
      cells.map((cell, at) => h("td", { class: columns[at].text && "text" }, cell)),
    ),
  );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      props,
      h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, head)),
      h("tbody", {}, body),
    ),
  );
}
