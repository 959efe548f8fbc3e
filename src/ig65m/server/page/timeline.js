import { toLabel } from "./address.js";
import { cellAt, cellsOf, draw, lanesOf, niceStep, ticks } from "./bands.js";
import { button, h } from "./dom.js";
import { clock, percent, span, spoken, words } from "./format.js";
import { always, swatch } from "./labels.js";

const LANES = 6;
const MOST_LANES = 40; // a canvas has a largest size
const WORTH_A_LANE = 0.1;
const TICKS_APART = 72;
const CUTS_APART = 12;

/** Clips with their labels over time, a semantic code below, an axis, and a playhead that is a slider. */
export class Timeline {
  #clips;
  #cells;
  #lanes;
  #few;
  #all = false;
  #picture = null;
  #duration;
  #time = 0;
  #onSeek;
  #linked;
  #shots;

  /**
   * `strip`: URL of a picture with a column for each clip, or null; `linked(label)`: whether it links to its moments; `shots`:
   * [{start, end}], whose boundaries are marked.
   */
  constructor({ clips, duration, shots = [], strip = null, linked = always, onSeek, signal }) {
    this.#clips = clips;
    this.#shots = shots;
    this.#cells = cellsOf(clips);
    this.#lanes = lanesOf(clips);
    const worth = this.#lanes.filter(({ best }) => best >= WORTH_A_LANE);
    this.#few = (worth.length ? worth : this.#lanes).slice(0, LANES);
    this.#duration = duration || 1;
    this.#onSeek = onSeek;
    this.#linked = linked;
    this.#build();
    if (strip) this.#load(strip);
    this.#fill();
    this.#listen(signal);
    this.setTime(0);
  }

  #build() {
    this.names = h("ul", { class: "lane-names", "aria-label": "Labels in this video" });
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.axis = h("div", { class: "axis", "aria-hidden": "true" });
    this.cuts = h("div", { class: "cuts", "aria-hidden": "true" });
    this.now = h("span", { class: "playhead-time", "aria-hidden": "true" });
    this.hover = h("div", { class: "hover-line", hidden: true });
    this.tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    const head = h("div", { class: "playhead" });
    this.plot = h(
      "div",
      { class: "plot", role: "slider", tabindex: 0, "aria-label": "Time in the video", "aria-valuemin": 0 },
      this.canvas,
      this.cuts,
      this.axis,
      this.hover,
      head,
      this.now,
      this.tip,
    );
    this.toggle = button("", () => this.#showAll(!this.#all), { look: "quiet small", "aria-expanded": "false" });
    this.toggle.hidden = this.#lanes.length <= this.#few.length;
    this.node = h("div", { class: "timeline" }, this.names, this.plot, this.toggle);
  }

  #load(strip) {
    const picture = new Image();
    picture.addEventListener("load", () => {
      this.#picture = picture;
      this.#draw();
    });
    picture.addEventListener("error", () => {
      this.node.classList.remove("with-strip");
      this.#fill();
    });
    picture.src = strip;
    this.node.classList.add("with-strip");
  }

  get #shown() {
    return this.#all ? this.#lanes.slice(0, MOST_LANES) : this.#few;
  }

  #showAll(all) {
    this.#all = all;
    this.#fill();
    this.#draw();
  }

  #fill() {
    const rows = this.#shown.map(({ label }) => {
      const text = [swatch(label), h("span", { class: "lane-label" }, words(label))];
      return h("li", {}, this.#linked(label) ? h("a", { href: toLabel(label) }, text) : text);
    });
    if (this.node.classList.contains("with-strip")) rows.push(h("li", { class: "strip-name" }, "Semantic code"));
    this.names.replaceChildren(...rows);
    this.node.style.setProperty("--lanes", this.#shown.length);
    const number = this.#lanes.length;
    const more = number > MOST_LANES ? `Show ${MOST_LANES} of ${number} labels` : `Show all ${number} labels`;
    this.toggle.textContent = this.#all ? "Show fewer labels" : more;
    this.toggle.setAttribute("aria-expanded", String(this.#all));
  }

  #draw() {
    const width = this.plot.clientWidth;
    if (!width) return;
    const swatches = this.names.querySelectorAll(".swatch");
    draw(this.canvas, {
      lanes: this.#shown.map(({ scores }, i) => ({ scores, colour: getComputedStyle(swatches[i]).backgroundColor })),
      cells: this.#cells,
      duration: this.#duration,
      picture: this.#picture,
      line: getComputedStyle(this.axis).borderTopColor,
      size: {
        width,
        lane: this.#pixels("--lane"),
        band: this.#pixels("--band"),
        strip: this.#pixels("--strip"),
        gap: this.#pixels("--strip-gap"),
      },
    });
    this.#drawAxis(width);
  }

  #pixels(name) {
    return Number.parseFloat(getComputedStyle(this.node).getPropertyValue(name));
  }

  #drawAxis(width) {
    const { times, digits } = ticks(this.#duration, width, TICKS_APART);
    const at = (time) => ({ "--at": `${(time / this.#duration) * 100}%` });
    this.axis.replaceChildren(...times.map((time) => h("span", { class: "tick", vars: at(time) }, clock(time, digits))));
    this.#drawCuts(width);
  }

  /** A mark from the end of each shot to the start of the next: a gradual transition has a length. */
  #drawCuts(width) {
    const share = (seconds) => `${(Math.max(seconds, 0) / this.#duration) * 100}%`;
    const marks = this.#shots.slice(1).map(({ start }, i) => {
      const { end } = this.#shots[i];
      return h("span", { class: "cut", vars: { "--at": share(Math.min(start, end)), "--wide": share(start - end) } });
    });
    this.cuts.replaceChildren(...marks);
    this.cuts.classList.toggle("dense", marks.length * CUTS_APART > width);
  }

  #listen(signal) {
    const resized = new ResizeObserver(() => this.#draw());
    resized.observe(this.plot);
    signal.addEventListener("abort", () => resized.disconnect());
    document.addEventListener("themechange", () => this.#draw(), { signal });
    this.plot.addEventListener("keydown", (event) => this.#key(event));
    this.plot.addEventListener("focus", () => this.#say());
    this.plot.addEventListener("pointerdown", (event) => this.#press(event));
    this.plot.addEventListener("pointermove", (event) => this.#move(event));
    this.plot.addEventListener("click", (event) => event.detail && this.#onSeek(this.#timeAt(event)));
    this.plot.addEventListener("pointerleave", () => this.#unhover());
  }

  #timeAt({ clientX }) {
    const { left, width } = this.plot.getBoundingClientRect();
    return Math.min(Math.max((clientX - left) / width, 0), 1) * this.#duration;
  }

  /** A touch may start a scroll: the following click decides, or a move along the axis. */
  #press(event) {
    if (event.button !== 0) return;
    this.plot.setPointerCapture(event.pointerId);
    if (event.pointerType === "mouse") this.#onSeek(this.#timeAt(event));
  }

  #move(event) {
    if (this.plot.hasPointerCapture(event.pointerId)) this.#onSeek(this.#timeAt(event));
    this.#point(event);
  }

  #unhover() {
    this.hover.hidden = true;
    this.tip.hidden = true;
  }

  #point(event) {
    if (!this.#clips.length) return;
    const time = this.#timeAt(event);
    const number = cellAt(this.#cells, time);
    const clip = this.#clips[number];
    const lane = this.#shown[Math.floor((event.clientY - this.canvas.getBoundingClientRect().top) / this.#pixels("--lane"))];
    const best = lane ? { label: lane.label, score: lane.scores[number] } : clip.labels[0];
    this.tip.replaceChildren(
      h(
        "span",
        { class: "tip-label" },
        best ? [swatch(best.label), `${words(best.label)} ${percent(best.score)}`] : `clip ${number + 1}`,
      ),
      h("span", { class: "tip-time" }, span(clip.start, clip.end)),
    );
    this.plot.style.setProperty("--hover", `${(time / this.#duration) * 100}%`);
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
    this.plot.style.setProperty("--at", `${Math.min(time / this.#duration, 1) * 100}%`);
    this.now.textContent = clock(time, 1);
    if (!quietly) this.#say();
  }

  #say() {
    const best = this.labelsAt(this.#time)[0];
    const label = best ? `, ${words(best.label)} ${percent(best.score)}` : "";
    this.plot.setAttribute("aria-valuenow", this.#time.toFixed(1));
    this.plot.setAttribute("aria-valuemax", this.#duration.toFixed(1));
    this.plot.setAttribute("aria-valuetext", `${spoken(this.#time)} of ${spoken(this.#duration)}${label}`);
  }

  /** A video may be longer than its last clip. */
  setDuration(duration) {
    const atLeast = this.#clips.at(-1)?.end ?? 0;
    this.#duration = Math.max(duration, atLeast) || 1;
    this.#draw();
    this.setTime(this.#time);
  }

  clipAt(time) {
    return this.#clips[cellAt(this.#cells, time)] ?? null;
  }

  labelsAt(time) {
    return this.clipAt(time)?.labels ?? [];
  }
}
