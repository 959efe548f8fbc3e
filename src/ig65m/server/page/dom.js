const SVG = "http://www.w3.org/2000/svg";

/**
 * Create an element. Properties: `class`; `on: {event: listener}`; `vars: {"--name": value}`; anything else is an attribute,
 * omitted if null, undefined or false. Children: nodes, or anything else as text; null and undefined are omitted.
 */
export function h(tag, { class: names, on = {}, vars = {}, ...attributes } = {}, ...children) {
  const node = document.createElement(tag);
  if (names) node.className = names;
  for (const [event, listener] of Object.entries(on)) node.addEventListener(event, listener);
  for (const [name, value] of Object.entries(vars)) node.style.setProperty(name, String(value));
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** Create an element of SVG. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat());
  return node;
}

/** Create an icon from the drawings at the end of index.html. */
export function icon(name, extra = "") {
  return svg("svg", { class: `icon ${extra}`.trim(), "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));
}

export function button(text, listener, { drawing = null, look = "", ...attributes } = {}) {
  const content = drawing ? [icon(drawing), h("span", {}, text)] : [text];
  return h("button", { class: `button ${look}`.trim(), type: "button", on: { click: listener }, ...attributes }, content);
}

/** Create a link that looks like a button. */
export function buttonLink(text, href, { drawing = null, look = "" } = {}) {
  const content = drawing ? [icon(drawing), h("span", {}, text)] : [text];
  return h("a", { class: `button ${look}`.trim(), href }, content);
}

const reducedData = matchMedia("(prefers-reduced-data: reduce)");

/** Whether to save data. */
export const isThrifty = () => reducedData.matches || navigator.connection?.saveData === true;

/** Announce a text to screen readers. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}

/** Return the listener throttled: called at once, then at most every few milliseconds, last with the latest arguments. */
export function throttled(milliseconds, signal, listener) {
  let timer = 0;
  let waiting = null;
  const wait = () => {
    timer = setTimeout(() => {
      timer = 0;
      if (!waiting) return;
      listener(...waiting);
      waiting = null;
      wait();
    }, milliseconds);
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  return (...args) => {
    if (signal.aborted) return;
    if (timer) {
      waiting = args;
      return;
    }
    listener(...args);
    wait();
  };
}
