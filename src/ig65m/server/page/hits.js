import * as api from "./api.js";
import { rewrite, toLabel, toSimilar, toSimilarShot, toVideo } from "./address.js";
import { announce, button, buttonLink, h, icon } from "./dom.js";
import { clock, count, percent, span, words } from "./format.js";
import { chip, indexLabels, labelField, swatch } from "./labels.js";
import { preview, stopPreview } from "./preview.js";
import { failure, notice, skeletons } from "./states.js";

const STEP = 12;
const MOST = 96;

/** Moments similar to one moment of a video, to one of its shots, or to any of its moments. */
export function similar(main, place, signal) {
  const query = h("div", { class: "query" }, queryPlaceholder());
  const byShot = place.shot !== null;
  const ofAll = place.time === null && !byShot;
  return results(main, place, signal, {
    heading: byShot ? "Moments like this shot" : ofAll ? "Moments like any of this video" : "Moments like this one",
    address: (options) => (byShot ? toSimilarShot(place.id, place.shot, options) : toSimilar(place.id, place.time, options)),
    ask: ({ merge, others, label, count: number }) => ({
      video: place.id,
      time: place.time,
      shot: place.shot,
      merge: merge && byShot ? "shot" : merge,
      others,
      label,
      count: number,
    }),
    switches: true,
    merging: byShot ? "One hit for each shot" : undefined,
    beside: query,
    answered: (answer) => query.querySelector("a") ?? query.replaceChildren(...queryPicture(answer.query, place.id, ofAll)),
    score: similarity,
    byShot,
    queried: ofAll ? ({ query_time: when }) => `like the moment at ${clock(when, 1)}` : null,
  });
}

/** Moments with the highest scores of a label. */
export function surest(main, place, signal) {
  return results(main, place, signal, {
    heading: [swatch(place.name), words(place.name)],
    title: words(place.name),
    address: (options) => toLabel(place.name, options),
    ask: ({ merge, count: number }) => ({ label: place.name, merge, count: number }),
    beside: h("p", { class: "summary" }, "The moments where the model is surest of it."),
    score: (score) => h("span", { class: "score", title: "Score of the label" }, percent(score)),
  });
}

function results(main, place, signal, kind) {
  const options = { ...place.options };
  const list = h("ul", { class: "grid", "aria-label": "Moments found" });
  const rest = h("div", { class: "rest" });
  let request = new AbortController();

  async function load() {
    request.abort();
    request = new AbortController();
    const { signal: current } = request;
    list.setAttribute("aria-busy", "true");
    if (!list.querySelector(".hit")) list.replaceChildren(...skeletons(8));
    try {
      const [answer] = await Promise.all([api.search(kind.ask(options), current), indexLabels()]);
      if (current.aborted) return;
      kind.answered?.(answer);
      show(answer.hits);
    } catch (error) {
      if (current.aborted) return;
      showHits(list, []);
      rest.replaceChildren(failure(error, load, current));
    } finally {
      if (!current.aborted) list.removeAttribute("aria-busy");
    }
  }

  function show(hits) {
    const byKeyboard = rest.contains(document.activeElement);
    const before = list.querySelectorAll(".hit").length;
    showHits(list, hits, kind);
    announce(hits.length ? `${count(hits.length, "moment")} found` : "Nothing found");
    if (byKeyboard) list.children[before]?.querySelector("a").focus({ preventScroll: true });
    if (!hits.length) rest.replaceChildren(none());
    else if (hits.length < options.count || options.count >= MOST) rest.replaceChildren();
    else rest.replaceChildren(button("Show more", () => change({ count: options.count + STEP })));
  }

  function change(values) {
    Object.assign(options, values);
    rewrite(kind.address(options));
    load();
  }

  const tools = h("div", { class: "tools" }, switches(options, kind, change));
  const head = h("div", { class: "page-head stacked" }, h("h1", { tabindex: -1 }, kind.heading), kind.beside);
  main.replaceChildren(head, tools, list, rest);
  load();
  signal.addEventListener("abort", () => {
    request.abort();
    stopPreview();
  });
  return { title: kind.title ?? kind.heading };
}

const none = () => notice("search", "Nothing found", h("p", {}, "No other moment fits what was asked for."));

function switches(options, { switches: all = false, merging = "Merge neighbours" }, change) {
  const one = (name, text) => {
    const box = h("input", { type: "checkbox", role: "switch", on: { change: () => change({ [name]: box.checked }) } });
    box.checked = options[name];
    return h("label", { class: "switch" }, box, h("span", { class: "track", "aria-hidden": "true" }), text);
  };
  if (!all) return [one("merge", merging)];
  return [
    one("others", "Other videos only"),
    one("merge", merging),
    labelField("Label", "Any label", options.label, (label) => change({ label })).field,
  ];
}

function queryPlaceholder() {
  const lines = Array.from({ length: 4 }, () => h("div", { class: "line" }));
  return [h("div", { class: "skeleton" }, h("div", { class: "thumb" })), h("div", { class: "query-text skeleton" }, lines)];
}

function queryPicture(query, id, ofAll) {
  const where = ofAll ? `${query.title}, any of its moments` : query.title;
  const href = toVideo(id, query.start);
  const text = h(
    "div",
    { class: "query-text" },
    h("a", { class: "card-title", href }, where),
    h("p", { class: "quiet-text times" }, span(query.start, query.end)),
    h("p", { class: "quiet-text" }, "Scores are cosine similarities: 1 is the same."),
    h("p", {}, buttonLink("Back to the video", href, { look: "small" })),
  );
  return [preview({ id, title: query.title, start: query.start, end: query.end, href }), text];
}

/** The hits in a list. */
const shown = new WeakMap();

const isSame = (a, b) => a.id === b.id && a.start === b.start && a.end === b.end && a.score === b.score;

/**
 * Show hits in a list; unchanged cards stay. `score(number)` formats a score; `queried(hit)` describes the part of the query
 * that a hit is similar to, if it differs from hit to hit; with `byShot`, hits lead to moments like their shots.
 */
export function showHits(list, hits, { score = similarity, queried = null, byShot = false } = {}) {
  const before = shown.get(list) ?? [];
  stopPreview();
  hits.forEach((hit, i) => {
    if (before[i] && isSame(before[i], hit)) return;
    const place = list.children[i];
    const fresh = card(hit, score, queried, byShot);
    if (place) place.replaceWith(fresh);
    else list.append(fresh);
  });
  while (list.childElementCount > hits.length) list.lastElementChild.remove();
  shown.set(list, hits);
}

function similarity(score) {
  return h("span", { class: "score", title: "Cosine similarity" }, score.toFixed(3));
}

function card(hit, score, queried, byShot) {
  const { id, title, start, end, shot } = hit;
  const href = toVideo(id, start);
  const like = h(
    "a",
    {
      class: "button quiet icon-only small",
      href: byShot && shot !== null ? toSimilarShot(id, shot) : toSimilar(id, (start + end) / 2),
      "aria-label": `More like ${title} at ${clock(start, 1)}`,
      title: "More like this",
    },
    icon("similar"),
  );
  return h(
    "li",
    { class: "card hit" },
    preview({ id, title, start, end, href }),
    h("div", { class: "hit-head" }, h("a", { class: "card-title", href, title }, title), like),
    h("div", { class: "hit-facts" }, h("span", { class: "times" }, span(start, end)), score(hit.score)),
    queried ? h("p", { class: "quiet-text times" }, queried(hit)) : null,
    h(
      "div",
      { class: "card-meta" },
      hit.labels.slice(0, 2).map((one) => chip(one)),
    ),
  );
}
