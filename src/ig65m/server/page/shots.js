import { cellAt } from "./bands.js";
import { button, h } from "./dom.js";
import { clock, count } from "./format.js";

const NEARBY = "200px"; // pictures this far outside the visible part are loaded too
const RESTING_MS = 120; // pictures are loaded once the strip has rested for so long
const JUST_BEGUN = 0.5; // seconds of a shot, within which going back leads to the one before
const INSIDE = 0.001; // seconds after the cut, so that rounding does not show the frame before it

/** Number of the shot at a time, or of the nearest one: shots [{start, end}] in order. */
export class Shots {
  #cells;

  constructor(shots) {
    this.list = shots;
    this.#cells = shots.map(({ start, end }) => [start, end]);
  }

  at(time) {
    return cellAt(this.#cells, time);
  }

  /** Where to seek for the shot of that number. */
  startOf(number) {
    const { start, end } = this.list[number];
    return start + Math.min(INSIDE, (end - start) / 2);
  }

  /** Number of the next (1) or previous (-1) shot. */
  beside(time, direction) {
    const here = this.at(time);
    const begun = time - this.list[here].start > JUST_BEGUN;
    const wanted = here + (direction < 0 && begun ? 0 : direction);
    return Math.min(Math.max(wanted, 0), this.list.length - 1);
  }
}

/**
 * A strip with a picture of each shot; the current one is marked. `pictureAt(seconds)` makes a picture, only of what is visible.
 */
export class ShotStrip {
  #shots;
  #pictureAt;
  #onSeek;
  #time = 0;
  #current = null;
  #underPointer = false;

  constructor({ shots, pictureAt, onSeek, signal }) {
    this.#shots = new Shots(shots);
    this.#pictureAt = pictureAt;
    this.#onSeek = onSeek;
    this.#build();
    this.#listen(signal);
    this.setTime(0);
  }

  #build() {
    const { list } = this.#shots;
    const step = (direction, text, key) =>
      button(text, () => this.step(direction), {
        drawing: "chevron",
        look: `quiet icon-only small ${direction < 0 ? "back" : ""}`.trim(),
        title: `${text} (${key})`,
        "aria-keyshortcuts": key,
      });
    this.strip = h(
      "div",
      { class: "shot-strip", role: "toolbar", "aria-label": "Shots by time" },
      list.map(({ start, end }) =>
        h(
          "button",
          { class: "shot", type: "button", tabindex: -1, "aria-label": `Shot from ${clock(start, 1)} to ${clock(end, 1)}` },
          h("span", { class: "shot-picture" }),
          h("span", { class: "badge" }, clock(start, 1)),
        ),
      ),
    );
    const heading = h("h2", { class: "small-head" }, count(list.length, "shot"));
    const head = h("div", { class: "shots-head" }, heading, step(-1, "Previous shot", "P"), step(1, "Next shot", "N"));
    this.node = h("section", { class: "shots", "aria-label": "Shots" }, head, this.strip);
  }

  #listen(signal) {
    const { strip } = this;
    strip.addEventListener("click", ({ target }) => {
      const item = target.closest(".shot");
      if (item) this.#seek(this.#numberOf(item));
    });
    strip.addEventListener("keydown", (event) => this.#key(event));
    strip.addEventListener("pointerenter", ({ pointerType }) => (this.#underPointer = pointerType === "mouse"));
    strip.addEventListener("pointerleave", () => (this.#underPointer = false));
    this.#loadVisible(signal);
    const resized = new ResizeObserver(() => this.#reveal("instant"));
    resized.observe(strip);
    signal.addEventListener("abort", () => resized.disconnect());
  }

  #loadVisible(signal) {
    const { strip } = this;
    const visible = new Set();
    let timer = 0;
    const load = () => {
      for (const item of visible) this.#load(item);
    };
    const seen = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) {
          if (isIntersecting) visible.add(target);
          else visible.delete(target);
        }
        clearTimeout(timer);
        timer = setTimeout(load, RESTING_MS);
      },
      { root: strip, rootMargin: `0px ${NEARBY}` },
    );
    for (const item of strip.children) seen.observe(item);
    signal.addEventListener("abort", () => {
      seen.disconnect();
      clearTimeout(timer);
    });
  }

  #numberOf = (item) => [...this.strip.children].indexOf(item);

  #load(item) {
    const frame = item.firstChild;
    if (frame.firstChild) return;
    const { start, end } = this.#shots.list[this.#numberOf(item)];
    frame.append(this.#pictureAt((start + end) / 2));
  }

  #key(event) {
    const last = this.strip.childElementCount - 1;
    const here = this.#numberOf(document.activeElement);
    const target = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: last }[event.key];
    if (target === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const item = this.strip.children[Math.min(Math.max(target, 0), last)];
    this.#reachByTab(item);
    item.focus();
  }

  /** Only one picture of the strip is reached with Tab, the others from it with the arrow keys. */
  #reachByTab(item) {
    for (const other of this.strip.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    item.tabIndex = 0;
  }

  #seek(number) {
    this.#onSeek(this.#shots.startOf(number));
  }

  /** Seek to the next (1) or previous (-1) shot. */
  step(direction) {
    const byKeyboard = this.#isFocused();
    this.#seek(this.#shots.beside(this.#time, direction));
    const item = this.strip.children[this.#current];
    this.#reachByTab(item);
    if (byKeyboard) item.focus();
  }

  #isFocused = () => this.strip.querySelector(":focus-visible") !== null;

  /** Mark the shot at this time. */
  setTime(time) {
    this.#time = time;
    const number = this.#shots.at(time);
    if (number === this.#current) return;
    const before = this.strip.children[this.#current];
    const item = this.strip.children[number];
    before?.removeAttribute("aria-current");
    item.setAttribute("aria-current", "true");
    this.#current = number;
    if (this.#isFocused()) return;
    this.#reachByTab(item);
    if (!this.#underPointer) this.#reveal("auto");
  }

  #reveal(behavior) {
    const { strip } = this;
    const { offsetLeft: left, offsetWidth: width } = strip.children[this.#current];
    const isVisible = left >= strip.scrollLeft && left + width <= strip.scrollLeft + strip.clientWidth;
    if (!isVisible) strip.scrollTo({ left: left - (strip.clientWidth - width) / 2, behavior });
  }
}
