import { button, h } from "./dom.js";
import { count, span } from "./format.js";

const ROWS = 100;

/**
 * Spans of a video as text, filled when it is opened: `items` [{start, end}], called `noun`; `heading`: of the column with
 * `textOf(item)`. A click on a span seeks to its start.
 */
export function spanList(items, { noun, heading, textOf, seek }) {
  const table = h("tbody", {});
  const row = (item) => {
    const { start, end } = item;
    const jump = h("button", { class: "jump times", type: "button", on: { click: () => seek(start) } }, span(start, end));
    return h("tr", {}, h("td", {}, jump), h("td", {}, textOf(item)));
  };
  const more = button("Show more", () => fill(), { look: "quiet small" });
  const fill = () => {
    const from = table.childElementCount;
    table.append(...items.slice(from, from + ROWS).map(row));
    more.hidden = table.childElementCount === items.length;
  };
  const title = noun[0].toUpperCase() + noun.slice(1);
  const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, title), h("th", { scope: "col" }, heading)));
  const summary = h("summary", {}, `${count(items.length, noun)} in words`);
  const details = h("details", { class: "span-list" }, summary, h("table", {}, head, table), more);
  details.addEventListener("toggle", fill, { once: true });
  return details;
}
