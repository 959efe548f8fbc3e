import * as api from "./api.js";
import { rewrite, toCollection, toVideo } from "./address.js";
import { announce, button, h, icon, throttled } from "./dom.js";
import { clock, count, words } from "./format.js";
import { chip, indexLabels, labelField } from "./labels.js";
import { thumbnail } from "./preview.js";
import { command, failure, notice, skeletons } from "./states.js";

const PAGE = 60;
const TYPING_MS = 250;

/** State of the collection when it was left, to restore cards and scroll position. */
let left = null;

/** Cards of all videos, filtered by label and name, in pages. */
export function collection(main, place, signal) {
  const view = new Collection(place, signal);
  main.replaceChildren(...view.nodes);
  if (place.returning && left?.address === view.address) view.restore(left);
  else view.load();
  return { title: "Collection", update: (next) => view.filterBy(next) };
}

class Collection {
  #filter;
  #videos = [];
  #total = 0;
  #scroll = 0;
  #request = new AbortController();

  constructor({ label, text }, signal) {
    this.#filter = { label, text };
    this.summary = h("p", { class: "summary" }, "\u00a0");
    this.grid = h("ul", { class: "grid", "aria-label": "Videos" });
    this.rest = h("div", { class: "rest" });
    this.#buildTools(signal);
    const head = h("div", { class: "page-head" }, h("h1", { tabindex: -1 }, "Collection"), this.summary);
    this.nodes = [head, this.tools, this.grid, this.rest];
    this.#listen(signal);
  }

  get address() {
    return toCollection(this.#filter);
  }

  #buildTools(signal) {
    const changed = (change) => {
      Object.assign(this.#filter, change);
      rewrite(this.address);
      this.load();
    };
    this.text = h("input", { type: "search", placeholder: "Find by name", "aria-label": "Find by name", autocomplete: "off" });
    this.text.value = this.#filter.text;
    this.text.addEventListener(
      "input",
      throttled(TYPING_MS, signal, () => changed({ text: this.text.value.trim() })),
    );
    this.label = labelField("Label", "All labels", this.#filter.label, (label) => changed({ label }));
    this.tools = h(
      "search",
      { class: "tools" },
      h("div", { class: "field find" }, icon("search"), this.text),
      this.label.field,
    );
  }

  #listen(signal) {
    const near = new IntersectionObserver(([{ isIntersecting }]) => isIntersecting && this.#button?.click(), {
      rootMargin: "800px",
    });
    near.observe(this.rest);
    addEventListener("scroll", () => (this.#scroll = scrollY), { passive: true, signal });
    signal.addEventListener("abort", () => {
      this.#request.abort();
      near.disconnect();
      const { address } = this;
      left = this.#videos.length ? { address, videos: this.#videos, total: this.#total, scroll: this.#scroll } : null;
    });
  }

  get #button() {
    return this.rest.querySelector(".more");
  }

  filterBy({ label, text }) {
    this.#filter = { label, text };
    this.text.value = text;
    this.label.show(label);
    this.load();
  }

  restore({ videos, total, scroll }) {
    this.#add(videos, total);
    scrollTo({ top: scroll, behavior: "instant" });
  }

  /** Load the videos from this one on; from the first one, all cards are replaced. */
  async load(offset = 0) {
    this.#request.abort();
    this.#request = new AbortController();
    const { signal } = this.#request;
    if (offset === 0) this.#empty(skeletons(8));
    try {
      const [{ videos, total }] = await Promise.all([
        api.videos({ offset, limit: PAGE, ...this.#filter }, signal),
        indexLabels(),
      ]);
      if (signal.aborted) return;
      if (offset === 0) this.#empty();
      this.#add(videos, total);
    } catch (error) {
      if (signal.aborted) return;
      if (offset === 0) this.#empty();
      this.rest.replaceChildren(failure(error, () => this.load(offset), signal));
    }
  }

  #empty(placeholders = []) {
    this.#videos = [];
    this.grid.replaceChildren(...placeholders);
    this.grid.setAttribute("aria-busy", String(placeholders.length > 0));
    this.rest.replaceChildren();
  }

  #add(videos, total) {
    const byKeyboard = this.rest.contains(document.activeElement);
    const before = this.#videos.length;
    this.#videos = [...this.#videos, ...videos];
    this.#total = total;
    this.grid.append(...videos.map((video) => card(video, this.#filter.label)));
    this.summary.textContent = describe(total, this.#filter);
    announce(
      this.#videos.length < total ? `${this.summary.textContent}, ${this.#videos.length} shown` : this.summary.textContent,
    );
    this.tools.hidden = total === 0 && this.address === toCollection();
    this.#showRest(videos.length);
    if (byKeyboard) this.grid.children[before]?.querySelector("a").focus({ preventScroll: true });
  }

  #showRest(came) {
    if (this.#total === 0) this.rest.replaceChildren(nothing(this.#filter));
    else if (this.#videos.length < this.#total && came) {
      this.rest.replaceChildren(button("Show more", () => this.load(this.#videos.length), { look: "more" }));
    } else this.rest.replaceChildren();
  }
}

function describe(total, { label, text }) {
  return `${count(total, "video")}${label ? ` with ${words(label)}` : ""}${text ? ` for “${text}”` : ""}`;
}

function card({ id, title, duration, clips, status, labels }, wanted) {
  const others = labels.filter(({ label }) => label !== wanted);
  const chips = [...labels.filter(({ label }) => label === wanted), ...others].slice(0, 2);
  const picture = h("div", { class: "thumb" }, thumbnail(id, duration / 2), h("span", { class: "badge" }, clock(duration)));
  return h(
    "li",
    { class: "card" },
    h("a", { class: "card-link", href: toVideo(id) }, picture, h("span", { class: "card-title", title }, title)),
    h(
      "div",
      { class: "card-meta" },
      status === "ok" ? null : h("span", { class: "tag" }, status),
      chips.length ? chips.map((one) => chip(one, toCollection({ label: one.label }))) : count(clips, "clip"),
    ),
  );
}

function nothing({ label, text }) {
  if (label || text) {
    const all = h("a", { class: "button", href: toCollection() }, "Show all");
    return notice("search", "No video fits", h("p", {}, "Another name or label may."), h("p", {}, all));
  }
  return notice(
    "film",
    "No videos in this index yet",
    h("p", {}, "Compute features of a folder of videos, and add them:"),
    command("ig65m extract videos/ --output features/ --top-k 5\nig65m index add INDEX features/"),
    h("p", {}, "Then load this page again."),
  );
}
