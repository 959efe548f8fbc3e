import * as api from "./api.js";
import { toLabel } from "./address.js";
import { h, icon } from "./dom.js";
import { percent, words } from "./format.js";

const HUES = 12;
const hues = new Map();
let known = null;

function preferred(label) {
  let hash = 2166136261;
  for (const letter of label) hash = Math.imul(hash ^ letter.codePointAt(0), 16777619);
  return (hash >>> 0) % HUES;
}

/** Each label's hue on the colour wheel, or the next free one: the same after every reload of an index. */
function learn(names) {
  for (const label of [...names].sort()) {
    if (hues.has(label)) continue;
    const round = Math.floor(hues.size / HUES) * HUES;
    const taken = new Set([...hues.values()].slice(round));
    let place = preferred(label);
    while (taken.has(place)) place = (place + 5) % HUES;
    hues.set(label, place);
  }
}

/** A label's colour for the style sheet; neighbouring hues differ in lightness too. */
function colourOf(label) {
  learn([label]);
  const place = hues.get(label);
  return { "--hue": 25 + (360 / HUES) * place, "--tone": place % 2 };
}

/** Labels in the index, most frequent first: [{label, clips}]. Loaded once; empty if that failed. */
export function indexLabels() {
  known ??= api.labels().then(
    (list) => {
      learn(list.map(({ label }) => label));
      return list;
    },
    () => {
      known = null;
      return [];
    },
  );
  return known;
}

/** Load them again after a login. */
export function forgetLabels() {
  known = null;
}

/** A select field for a label of the index, or none; removed if the index has no labels. */
export function labelField(name, none, chosen, changed) {
  const select = h("select", { "aria-label": name, on: { change: () => changed(select.value) } });
  const field = h("div", { class: "field select" }, select, icon("chevron"));
  const show = (label) => {
    if ([...select.options].every(({ value }) => value !== label)) select.append(option(label));
    select.value = label;
  };
  select.append(h("option", { value: "" }, none));
  show(chosen);
  indexLabels().then((labels) => {
    const names = labels.map(({ label }) => label).sort();
    const now = select.value;
    select.replaceChildren(select.options[0], ...names.map(option));
    show(now);
    field.hidden = select.options.length < 2;
  });
  return { field, show };
}

const option = (label) => h("option", { value: label }, words(label));

export const swatch = (label) => h("span", { class: "swatch", "aria-hidden": "true", vars: colourOf(label) });

export function chip({ label, score }, href = toLabel(label)) {
  const text = [
    swatch(label),
    h("span", { class: "chip-name" }, words(label)),
    h("span", { class: "chip-score" }, percent(score)),
  ];
  return h("a", { class: "chip", href }, text);
}

export const always = () => true;

/** Labels with bars, best first, with space for `rows` of them. `linked(label)`: whether it links to its moments. */
export function labelBars(labels, { rows = 5, linked = always } = {}) {
  const items = labels.slice(0, rows).map(({ label, score }) => {
    const name = words(label);
    return h(
      "li",
      { class: "label-row" },
      swatch(label),
      linked(label) ? h("a", { class: "label-name", href: toLabel(label) }, name) : h("span", { class: "label-name" }, name),
      h("span", { class: "label-score" }, percent(score)),
      h("span", { class: "label-bar", "aria-hidden": "true", vars: { ...colourOf(label), "--score": score } }),
    );
  });
  return h("ul", { class: "label-rows", vars: { "--rows": rows } }, items);
}
