import * as api from "./api.js";
import { rewrite, toCollection, toVideo } from "./address.js";
import { announce, button, h, icon, throttled } from "./dom.js";
import { clock, count, words } from "./format.js";
import { chip, indexLabels } from "./labels.js";
import { thumbnail } from "./preview.js";
import { command, failure, notice, skeletons } from "./states.js";

const PAGE = 60;

/** The collection as it was left, so that the way back finds the same cards at the same height. */
let left = null;

/** Cards of all videos, filtered by label and name, a page at a time. */
export function collection(main, place, signal) {
  const summary = h("p", { class: "summary" }, "\u00a0");
  const grid = h("ul", { class: "grid", "aria-label": "Videos" });
  const rest = h("div", { class: "rest" });
  const shown = { filter: { label: place.label, text: place.text }, videos: [], total: 0, scroll: 0 };
  let request = new AbortController();

  const tools = filters(shown.filter, signal, (change) => {
    Object.assign(shown.filter, change);
    rewrite(toCollection(shown.filter));
    load(0);
  });

  async function load(offset) {
    request.abort();
    request = new AbortController();
    const { signal: current } = request;
    if (offset === 0) {
      grid.replaceChildren(...skeletons(8));
      rest.replaceChildren();
      grid.setAttribute("aria-busy", "true");
    }
    try {
      const answer = await api.videos({ offset, limit: PAGE, ...shown.filter }, current);
      await indexLabels();
      if (current.aborted) return;
      if (offset === 0) grid.replaceChildren();
      add(answer);
    } catch (error) {
      if (current.aborted) return;
      if (offset === 0) grid.replaceChildren();
      rest.replaceChildren(failure(error, () => load(offset), current));
    } finally {
      if (!current.aborted) grid.removeAttribute("aria-busy");
    }
  }

  function add({ videos, total }) {
    shown.videos.push(...videos);
    if (grid.childElementCount === 0) shown.videos = videos;
    shown.total = total;
    grid.append(...videos.map((video) => card(video, shown.filter.label)));
    summary.textContent = describe(shown);
    announce(`${summary.textContent}${total > shown.videos.length ? `, ${shown.videos.length} shown` : ""}`);
    tools.node.hidden = total === 0 && toCollection(shown.filter) === toCollection();
    if (total === 0) rest.replaceChildren(empty(shown.filter));
    else if (shown.videos.length < total && videos.length) rest.replaceChildren(more());
    else rest.replaceChildren();
  }

  const more = () => button("Show more", () => load(shown.videos.length), { look: "more" });
  const near = new IntersectionObserver(([{ isIntersecting }]) => isIntersecting && rest.querySelector(".more")?.click(), {
    rootMargin: "800px",
  });

  main.replaceChildren(h("div", { class: "page-head" }, h("h1", { tabindex: -1 }, "Collection"), summary), tools.node, grid, rest);
  if (place.returning && left && toCollection(left.filter) === toCollection(shown.filter)) {
    add(left);
    scrollTo({ top: left.scroll, behavior: "instant" });
  } else {
    load(0);
  }
  near.observe(rest);
  addEventListener("scroll", () => (shown.scroll = scrollY), { passive: true, signal });
  signal.addEventListener("abort", () => {
    request.abort();
    near.disconnect();
    left = shown;
  });
  return {
    title: "Collection",
    update({ label, text }) {
      Object.assign(shown.filter, { label, text });
      tools.show(shown.filter);
      load(0);
    },
  };
}

function filters(filter, signal, changed) {
  const text = h("input", { type: "search", placeholder: "Find by name", "aria-label": "Find by name", autocomplete: "off" });
  const label = h("select", { "aria-label": "Label" });
  const show = (values) => {
    text.value = values.text;
    label.value = values.label;
  };
  text.addEventListener("input", throttled(250, signal, () => changed({ text: text.value.trim() })));
  label.addEventListener("change", () => changed({ label: label.value }));
  const offer = (labels) => {
    const names = new Set(labels.map((one) => one.label));
    if (filter.label) names.add(filter.label);
    label.replaceChildren(h("option", { value: "" }, "All labels"), ...[...names].sort().map((name) => h("option", { value: name }, words(name))));
    label.disabled = names.size === 0;
    label.value = filter.label;
  };
  offer([]);
  show(filter);
  indexLabels().then(offer);
  const node = h(
    "search",
    { class: "tools" },
    h("div", { class: "field find" }, icon("search"), text),
    h("div", { class: "field select" }, label, icon("chevron")),
  );
  return { node, show };
}

function describe({ total, filter }) {
  const label = filter.label ? ` with ${words(filter.label)}` : "";
  const text = filter.text ? ` named like “${filter.text}”` : "";
  return `${count(total, "video")}${label}${text}`;
}

function card({ id, title, duration, clips, status, labels }, wanted) {
  const first = labels.filter(({ label }) => label === wanted);
  const chips = [...first, ...labels.filter(({ label }) => label !== wanted)].slice(0, 2);
  return h(
    "li",
    { class: "card" },
    h(
      "a",
      { class: "card-link", href: toVideo(id) },
      h("div", { class: "thumb" }, thumbnail(id, duration / 2), h("span", { class: "badge" }, clock(duration))),
      h("span", { class: "card-title" }, title),
    ),
    h(
      "div",
      { class: "card-meta" },
      status === "ok" ? null : h("span", { class: "tag" }, status),
      chips.length ? chips.map((one) => chip(one, toCollection({ label: one.label }))) : count(clips, "clip"),
    ),
  );
}

function empty({ label, text }) {
  if (label || text) {
    return notice("search", "No video fits", h("p", {}, "Another name or label may."), h("p", {}, h("a", { class: "button", href: "#/" }, "Show all")));
  }
  return notice(
    "film",
    "No videos in this index yet",
    h("p", {}, "Compute features of a folder of videos, and add them:"),
    command("ig65m extract videos/ --output features/ --top-k 5\nig65m index add INDEX features/"),
    h("p", {}, "Then load this page again."),
  );
}
