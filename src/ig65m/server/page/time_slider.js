import { niceStep, ticks } from "./bands.js";
import { h } from "./dom.js";
import { clock, spoken } from "./format.js";

const TICKS_APART = 72;

/** A drawing over time that is a slider: an axis below it, a playhead, and a tip under the pointer. */
export class TimeSlider {
  #duration;
  #time = 0;
  #draw;
  #saidAt;
  #tipAt;
  #onSeek;

  /**
   * `layers`: nodes of the drawing; `draw(width)` is called when it must be drawn again; `saidAt(seconds)`: what a screen reader
   * says besides the time, or ""; `tipAt(seconds, event)`: nodes of the tip, or null.
   */
  constructor({ name, layers, duration, draw, saidAt, tipAt, onSeek, signal }) {
    this.#duration = duration;
    this.#draw = draw;
    this.#saidAt = saidAt;
    this.#tipAt = tipAt;
    this.#onSeek = onSeek;
    this.#build(name, layers);
    this.#listen(signal);
  }

  #build(name, layers) {
    this.axis = h("div", { class: "axis", "aria-hidden": "true" });
    this.now = h("span", { class: "playhead-time", "aria-hidden": "true" });
    this.hover = h("div", { class: "hover-line", hidden: true });
    this.tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.node = h(
      "div",
      { class: "plot", role: "slider", tabindex: 0, "aria-label": name, "aria-valuemin": 0 },
      layers,
      this.axis,
      this.hover,
      h("div", { class: "playhead" }),
      this.now,
      this.tip,
    );
  }

  #listen(signal) {
    const { node } = this;
    const resized = new ResizeObserver(() => this.draw());
    resized.observe(node);
    signal.addEventListener("abort", () => resized.disconnect());
    document.addEventListener("themechange", () => this.draw(), { signal });
    node.addEventListener("keydown", (event) => this.#key(event));
    node.addEventListener("focus", () => this.say());
    node.addEventListener("pointerdown", (event) => this.#press(event));
    node.addEventListener("pointermove", (event) => this.#move(event));
    node.addEventListener("click", (event) => event.detail && this.#onSeek(this.#timeAt(event)));
    node.addEventListener("pointerleave", () => this.#unhover());
  }

  draw() {
    const width = this.node.clientWidth;
    if (!width) return;
    const { times, digits } = ticks(this.#duration, width, TICKS_APART);
    const at = (time) => ({ "--at": `${(time / this.#duration) * 100}%` });
    this.axis.replaceChildren(...times.map((time) => h("span", { class: "tick", vars: at(time) }, clock(time, digits))));
    this.#draw(width);
  }

  #timeAt({ clientX }) {
    const { left, width } = this.node.getBoundingClientRect();
    return Math.min(Math.max((clientX - left) / width, 0), 1) * this.#duration;
  }

  /** A touch may start a scroll: the following click decides, or a move along the axis. */
  #press(event) {
    if (event.button !== 0) return;
    this.node.setPointerCapture(event.pointerId);
    if (event.pointerType === "mouse") this.#onSeek(this.#timeAt(event));
  }

  #move(event) {
    if (this.node.hasPointerCapture(event.pointerId)) this.#onSeek(this.#timeAt(event));
    this.#point(event);
  }

  #unhover() {
    this.hover.hidden = true;
    this.tip.hidden = true;
  }

  #point(event) {
    const time = this.#timeAt(event);
    const tip = this.#tipAt(time, event);
    if (!tip) return;
    this.tip.replaceChildren(...tip);
    this.node.style.setProperty("--hover", `${(time / this.#duration) * 100}%`);
    this.hover.hidden = false;
    this.tip.hidden = false;
  }

  #key(event) {
    const step = niceStep(this.#duration / 60);
    const leaps = {
      ArrowRight: step,
      ArrowUp: step,
      ArrowLeft: -step,
      ArrowDown: -step,
      PageUp: 10 * step,
      PageDown: -10 * step,
    };
    const target = { Home: 0, End: this.#duration }[event.key] ?? this.#time + leaps[event.key];
    if (Number.isNaN(target) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#onSeek(Math.min(Math.max(target, 0), this.#duration));
  }

  /** Move the playhead. While the video plays (`quietly`), a screen reader does not announce it. */
  setTime(time, quietly = false) {
    this.#time = time;
    this.node.style.setProperty("--at", `${Math.min(time / this.#duration, 1) * 100}%`);
    this.now.textContent = clock(time, 1);
    if (!quietly) this.say();
  }

  say() {
    const also = this.#saidAt(this.#time);
    this.node.setAttribute("aria-valuenow", this.#time.toFixed(1));
    this.node.setAttribute("aria-valuemax", this.#duration.toFixed(1));
    const text = `${spoken(this.#time)} of ${spoken(this.#duration)}`;
    this.node.setAttribute("aria-valuetext", also ? `${text}, ${also}` : text);
  }

  setDuration(duration) {
    this.#duration = duration;
    this.draw();
    this.setTime(this.#time);
  }
}
