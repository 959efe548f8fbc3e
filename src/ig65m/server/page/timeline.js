import { toLabel } from "./address.js";
import { cellAt, cellsOf, draw, lanesOf } from "./bands.js";
import { button, h } from "./dom.js";
import { percent, span, words } from "./format.js";
import { always, swatch } from "./labels.js";
import { TimeSlider } from "./time_slider.js";

const LANES = 6;
const MOST_LANES = 40; // a canvas has a largest size
const WORTH_A_LANE = 0.1;
const CUTS_APART = 12;

/** Clips with their labels over time, and below them a semantic code with a curve of its changes, in a slider of time. */
export class Timeline {
  #clips;
  #cells;
  #lanes;
  #few;
  #all = false;
  #picture = null;
  #duration;
  #slider;
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
    this.#linked = linked;
    this.#build(onSeek, signal);
    if (strip) this.#load(strip);
    this.#fill();
    this.setTime(0);
  }

  #build(onSeek, signal) {
    this.names = h("ul", { class: "lane-names", "aria-label": "Labels in this video" });
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.cuts = h("div", { class: "cuts", "aria-hidden": "true" });
    this.#slider = new TimeSlider({
      name: "Time in the video",
      layers: [this.canvas, this.cuts],
      duration: this.#duration,
      draw: (width) => this.#draw(width),
      saidAt: (time) => this.#saidAt(time),
      tipAt: (time, event) => this.#tipAt(time, event),
      onSeek,
      signal,
    });
    this.plot = this.#slider.node;
    this.toggle = button("", () => this.#showAll(!this.#all), { look: "quiet small", "aria-expanded": "false" });
    this.toggle.hidden = this.#lanes.length <= this.#few.length;
    this.node = h("div", { class: "timeline" }, this.names, this.plot, this.toggle);
  }

  #load(strip) {
    const picture = new Image();
    picture.addEventListener("load", () => {
      this.#picture = picture;
      this.#slider.draw();
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
    this.#slider.draw();
  }

  #fill() {
    const rows = this.#shown.map(({ label }) => {
      const text = [swatch(label), h("span", { class: "lane-label" }, words(label))];
      return h("li", {}, this.#linked(label) ? h("a", { href: toLabel(label) }, text) : text);
    });
    if (this.node.classList.contains("with-strip")) {
      rows.push(h("li", { class: "curve-name" }, "Change"), h("li", { class: "strip-name" }, "Semantic code"));
    }
    this.names.replaceChildren(...rows);
    this.node.style.setProperty("--lanes", this.#shown.length);
    const number = this.#lanes.length;
    const more = number > MOST_LANES ? `Show ${MOST_LANES} of ${number} labels` : `Show all ${number} labels`;
    this.toggle.textContent = this.#all ? "Show fewer labels" : more;
    this.toggle.setAttribute("aria-expanded", String(this.#all));
  }

  #draw(width) {
    const swatches = this.names.querySelectorAll(".swatch");
    draw(this.canvas, {
      lanes: this.#shown.map(({ scores }, i) => ({ scores, colour: getComputedStyle(swatches[i]).backgroundColor })),
      cells: this.#cells,
      changes: this.#clips.map(({ change }) => change),
      duration: this.#duration,
      picture: this.#picture,
      line: getComputedStyle(this.#slider.axis).borderTopColor,
      ink: getComputedStyle(this.names.querySelector(".curve-name") ?? this.names).color,
      size: {
        width,
        lane: this.#pixels("--lane"),
        band: this.#pixels("--band"),
        gap: this.#pixels("--strip-gap"),
        curve: this.#pixels("--curve"),
        strip: this.#pixels("--strip"),
      },
    });
    this.#drawCuts(width);
  }

  #pixels(name) {
    return Number.parseFloat(getComputedStyle(this.node).getPropertyValue(name));
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

  #tipAt(time, { clientY }) {
    if (!this.#clips.length) return null;
    const number = cellAt(this.#cells, time);
    const clip = this.#clips[number];
    const lane = this.#shown[Math.floor((clientY - this.canvas.getBoundingClientRect().top) / this.#pixels("--lane"))];
    const best = lane ? { label: lane.label, score: lane.scores[number] } : clip.labels[0];
    const label = best ? [swatch(best.label), `${words(best.label)} ${percent(best.score)}`] : `clip ${number + 1}`;
    const text = lane || !this.#picture || clip.change === null ? label : `change ${clip.change.toFixed(2)}`;
    return [h("span", { class: "tip-label" }, text), h("span", { class: "tip-time" }, span(clip.start, clip.end))];
  }

  #saidAt(time) {
    const best = this.labelsAt(time)[0];
    return best ? `${words(best.label)} ${percent(best.score)}` : "";
  }

  setTime(time, quietly = false) {
    this.#slider.setTime(time, quietly);
  }

  /** A video may be longer than its last clip. */
  setDuration(duration) {
    const atLeast = this.#clips.at(-1)?.end ?? 0;
    this.#duration = Math.max(duration, atLeast) || 1;
    this.#slider.setDuration(this.#duration);
  }

  get duration() {
    return this.#duration;
  }

  clipAt(time) {
    return this.#clips[cellAt(this.#cells, time)] ?? null;
  }

  labelsAt(time) {
    return this.clipAt(time)?.labels ?? [];
  }
}
