// Elements made and changed in place. Data enters as text or as an attribute, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; what is text becomes text. `on` has listeners by event. */
export function element(tag, { on = {}, ...attributes } = {}, ...children) {
  return fitted(document.createElement(tag), on, attributes, children);
}

/** The same of a drawing. */
export function drawn(tag, attributes = {}, ...children) {
  return fitted(document.createElementNS(SVG, tag), {}, attributes, children);
}

function fitted(node, on, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) put(node, name, value);
  for (const [event, listener] of Object.entries(on)) node.addEventListener(event, listener);
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Set an attribute, or take it away if it is null or false; nothing happens if it is so already. */
export function put(node, name, value) {
  const text = value === true ? "" : value === null || value === undefined || value === false ? null : `${value}`;
  if (node.getAttribute(name) === text) return;
  if (text === null) node.removeAttribute(name);
  else node.setAttribute(name, text);
}

/** Set the text of an element, if it is another. */
export function say(node, text) {
  const words = `${text}`;
  if (node.textContent !== words) node.textContent = words;
}

/** Make the children of `parent` be one for each item, in their order. What is there stays there: focus, selection and scrolling too. */
export function keep(parent, items, key, make, update) {
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let before = null;
  for (const item of items) {
    const name = `${key(item)}`;
    let node = known.get(name);
    if (!node) {
      node = make(item);
      node.dataset.key = name;
    }
    known.delete(name);
    update(node, item);
    const next = before ? before.nextElementSibling : parent.firstElementChild;
    if (next !== node) parent.insertBefore(node, next);
    before = node;
  }
  for (const node of known.values()) node.remove();
}

/** A table row by row, a list of texts each; a text may be a node. The first cell names its row. */
export function keepRows(body, rows) {
  keep(
    body,
    rows,
    ({ key, cells }) => `${cells.length} ${key}`,
    ({ cells }) => element("tr", {}, ...cells.map((_, place) => element(place ? "td" : "th", place ? {} : { scope: "row" }))),
    (row, { cells, marked }) => {
      put(row, "class", marked || null);
      cells.forEach((cell, place) => say(row.children[place], cell));
    },
  );
}

/** A table with a head, in a part that scrolls by itself; `body` is where its rows go. */
export function table(names, kind = "") {
  const body = element("tbody");
  const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)));
  const whole = element("table", { class: kind }, element("thead", {}, head), body);
  return { node: element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" }, whole), body, head };
}

/** A strip of numbers, each with its label and a note below: `[{ key, label, value, note, warm }]`. */
export function keepStats(list, stats) {
  keep(
    list,
    stats,
    ({ key }) => key,
    () => element("div", {}, element("dt"), element("dd", {}, element("span"), element("small"))),
    (node, { label, value, note = "", warm = false }) => {
      const [name, number] = node.children;
      say(name, label);
      say(number.firstChild, value);
      say(number.lastChild, note);
      put(number, "class", warm ? "warm" : null);
    },
  );
}

/** How much of a whole, as the width of a bar. */
export function fill(bar, share) {
  const width = `${(100 * Math.min(1, Math.max(0, share || 0))).toFixed(2)}%`;
  if (bar.style.width !== width) bar.style.width = width;
}
