import { cellAt, cellsOf } from "./bands.js";
import { h, svg } from "./dom.js";
import { clock, count, span } from "./format.js";
import { blocksOf, columnsOf, isCertain, isCut, limitOf, pathsOf, runsOf } from "./motion_geometry.js";
import { spanList } from "./span_list.js";
import { failure } from "./states.js";
import { TimeSlider } from "./time_slider.js";

/** `of`: a speed of the server in the unit; `moves`: in its positive and its negative direction; `least`: of its axis. */
const LANES = [
  { speed: "pan", name: "Pan", unit: "%/s", of: (widths) => 100 * widths, moves: ["pan_right", "pan_left"], least: 5 },
  { speed: "tilt", name: "Tilt", unit: "%/s", of: (heights) => 100 * heights, moves: ["tilt_up", "tilt_down"], least: 5 },
  { speed: "zoom", name: "Zoom", unit: "%/s", of: (growth) => 100 * Math.expm1(growth), moves: ["zoom_in", "zoom_out"], least: 5 },
  { speed: "roll", name: "Roll", unit: "°/s", of: (degrees) => degrees, moves: ["roll_clockwise", "roll_counterclockwise"], least: 3 },
];
const MOVES = {
  pan_left: { sign: "←", way: "left" },
  pan_right: { sign: "→", way: "right" },
  tilt_up: { sign: "↑", way: "up" },
  tilt_down: { sign: "↓", way: "down" },
  zoom_in: { sign: "+", way: "in" },
  zoom_out: { sign: "−", way: "out" },
  roll_clockwise: { sign: "↻", way: "clockwise" },
  roll_counterclockwise: { sign: "↺", way: "counterclockwise" },
};
const SHAKES = 0.5; // probability
const FASTEST = 1e4; // in the units of the lanes: no curve needs more
const CLIPS_APART = 2; // pixels, below which the curves are thinner
const BLOCK = 4; // pixels of the smallest block of segments
const ROOM_FOR_SIGN = 18; // pixels of a block
const ROOM_FOR_WORDS = 64;

/** The camera motion of a video under its timeline, once `load()` has it: `load` gives a promise of {clips, segments}. */
export class MotionPanel {
  #onSeek;
  #signal;
  #load;
  #duration;
  #time = 0;
  #chart = null;

  constructor({ load, duration, onSeek, signal }) {
    this.#load = load;
    this.#duration = duration || 1;
    this.#onSeek = onSeek;
    this.#signal = signal;
    this.body = h("div", {});
    this.node = h("section", { class: "motion", "aria-label": "Camera motion" }, h("h2", { class: "small-head" }, "Camera motion"));
    this.node.append(this.body);
    this.#fill();
  }

  async #fill() {
    this.body.replaceChildren(h("div", { class: "timeline motion-chart skeleton", "aria-busy": "true" }, h("div", { class: "thumb" })));
    try {
      const motion = await this.#load();
      if (!this.#signal.aborted) this.#show(motion);
    } catch (error) {
      if (this.#signal.aborted) return;
      const isUnknown = error.code === "no_motion";
      this.body.replaceChildren(
        isUnknown ? h("p", { class: "quiet-text" }, error.message) : failure(error, () => this.#fill(), this.#signal),
      );
    }
  }

  #show({ clips, segments }) {
    this.#chart = new MotionChart({ clips, segments, duration: this.#duration, onSeek: this.#onSeek, signal: this.#signal });
    const heading = "Camera motion";
    const inWords = spanList(segments, { noun: "segment", heading, textOf: ({ text }) => text, seek: this.#onSeek });
    this.body.replaceChildren(this.#chart.node, inWords);
    this.setTime(this.#time);
  }

  setTime(time, quietly = false) {
    this.#time = time;
    this.#chart?.setTime(time, quietly);
  }

  setDuration(duration) {
    this.#duration = duration;
    this.#chart?.setDuration(duration);
  }
}

/** Segments above four curves of speeds, each with a band of one standard deviation. */
class MotionChart {
  #clips;
  #cells;
  #runs;
  #segments;
  #places;
  #lanes;
  #duration;
  #slider;

  constructor({ clips, segments, duration, onSeek, signal }) {
    this.#clips = clips;
    this.#cells = cellsOf(clips);
    this.#runs = runsOf(clips);
    this.#segments = segments;
    this.#places = segments.map(({ start, end }) => [start, end]);
    this.#duration = duration;
    const steady = clips.filter((clip) => !isCut(clip));
    this.#lanes = LANES.map((lane) => ({ ...lane, limit: limitOf(steady.map((clip) => speedOf(lane, clip)), lane.least) }));
    this.#build(onSeek, signal);
  }

  #build(onSeek, signal) {
    this.said = h("p", { class: "motion-now" });
    this.blocks = h("div", { class: "motion-blocks", "aria-hidden": "true" });
    this.curves = svg("svg", { class: "curves", "aria-hidden": "true" });
    this.values = this.#lanes.map(() => h("span", { class: "lane-value" }));
    this.#slider = new TimeSlider({
      name: "Time in the camera motion",
      layers: [this.blocks, this.curves],
      duration: this.#duration,
      draw: (width) => this.#draw(width),
      saidAt: (time) => this.#segmentAt(time)?.text ?? "",
      tipAt: (time, event) => this.#tipAt(time, event),
      onSeek,
      signal,
    });
    const key = h("p", { class: "quiet-text motion-key" }, "Line: speed. Band: one standard deviation. No line: a cut, or damage.");
    this.chart = h("div", { class: "timeline motion-chart" }, this.#names(), this.#slider.node);
    this.node = h("div", {}, this.said, this.chart, key);
  }

  #names() {
    const rows = this.#lanes.map(({ name, moves, limit }, i) =>
      h(
        "li",
        {},
        h("span", { class: "lane-name" }, name),
        this.values[i],
        moves.map((move) => h("span", { class: "limit", "aria-hidden": "true" }, `${limit.toLocaleString("en")} ${MOVES[move].way}`)),
      ),
    );
    return h("ul", { class: "motion-names", "aria-label": "Speeds at this moment" }, rows);
  }

  #draw(width) {
    this.#drawBlocks(width);
    const style = getComputedStyle(this.chart);
    const [lane, tall] = ["--motion-lane", "--curve"].map((name) => Number.parseFloat(style.getPropertyValue(name)));
    this.curves.setAttribute("viewBox", `0 0 ${width} ${LANES.length * lane}`);
    const xOf = (time) => (time / this.#duration) * width;
    const drawn = this.#lanes.map((each, i) => this.#drawLane(each, (i + 1) * lane - tall / 2, { width, tall, xOf }));
    this.curves.replaceChildren(...drawn);
    this.curves.classList.toggle("dense", this.#clips.length * CLIPS_APART > width);
  }

  #drawLane(lane, middle, { width, tall, xOf }) {
    const yOf = (speed) => middle - (Math.min(Math.max(speed / lane.limit, -1), 1) * tall) / 2;
    const speeds = this.#clips.map((clip) => speedOf(lane, clip));
    const runs = this.#runs.map((run) => columnsOf(run, this.#cells, speeds, this.#duration / width));
    const { line, band } = pathsOf(runs, { xOf, yOf });
    return svg(
      "g",
      { "data-speed": lane.speed },
      svg("rect", { class: "lane-ground", x: 0, y: middle - tall / 2, width, height: tall }),
      svg("path", { class: "band", d: band }),
      svg("path", { class: "zero", d: `M0 ${middle}H${width}` }),
      svg("path", { class: "curve", d: line }),
    );
  }

  #drawBlocks(width) {
    const share = (seconds) => `${(seconds / this.#duration) * 100}%`;
    const blocks = blocksOf(this.#segments, (BLOCK * this.#duration) / width).map(({ start, end, segments }) => {
      const longest = segments.reduce((a, b) => (b.end - b.start > a.end - a.start ? b : a));
      const room = segments.length > 1 ? 0 : ((end - start) / this.#duration) * width;
      const vars = { "--at": share(start), "--wide": share(end - start), "--gap": room < ROOM_FOR_SIGN ? "0px" : "1px" };
      return h("span", { class: `motion-block ${lookOf(longest)}`, vars }, wordsIn(longest, room));
    });
    this.blocks.replaceChildren(...blocks);
  }

  #segmentAt(time) {
    return this.#segments[cellAt(this.#places, time)] ?? null;
  }

  #tipAt(time, { clientY }) {
    const box = this.curves.getBoundingClientRect();
    const lane = this.#lanes[Math.floor(((clientY - box.top) / box.height) * LANES.length)];
    const here = lane ? this.#clips[cellAt(this.#cells, time)] : this.#segmentAt(time);
    if (!here) return null;
    const text = lane ? `${lane.name} ${inWords(lane, here)}` : here.text;
    return [h("span", { class: "tip-label" }, text), h("span", { class: "tip-time" }, span(here.start, here.end))];
  }

  setTime(time, quietly) {
    this.#slider.setTime(time, quietly);
    const clip = this.#clips[cellAt(this.#cells, time)];
    this.said.textContent = `At ${clock(time, 1)}: ${this.#segmentAt(time)?.text ?? "unknown"}`;
    this.values.forEach((value, i) => value.replaceChildren(...(clip ? valueOf(this.#lanes[i], clip) : [])));
  }

  setDuration(duration) {
    this.#duration = duration;
    this.#slider.setDuration(duration);
  }
}

function speedOf({ speed, of }, clip) {
  const [value, above] = [clip[speed], clip[speed] + clip.sigma[speed]].map((each) => Math.min(Math.max(of(each), -FASTEST), FASTEST));
  return { value, sigma: above - value };
}

/** The move of a speed, or null if it may as well be 0. */
function moveOf({ moves }, speed) {
  return isCertain(speed) ? MOVES[moves[speed.value > 0 ? 0 : 1]] : null;
}

/** A speed as "14 ± 1 %/s", without sign if it has a direction. */
function amount(lane, speed) {
  const value = moveOf(lane, speed) ? Math.abs(speed.value) : speed.value;
  const digits = Math.abs(value) < 9.95 ? 1 : 0;
  return `${fixed(value, digits)} ± ${fixed(speed.sigma, digits)}\u2009${lane.unit}`;
}

function fixed(value, digits) {
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits, signDisplay: "negative" };
  return value.toLocaleString("en", options).replace("-", "−");
}

function inWords(lane, clip) {
  if (isCut(clip)) return "not known: a cut";
  const speed = speedOf(lane, clip);
  return [amount(lane, speed), moveOf(lane, speed)?.way].filter(Boolean).join(" ");
}

function valueOf(lane, clip) {
  if (isCut(clip)) return ["cut"];
  const speed = speedOf(lane, clip);
  const move = moveOf(lane, speed);
  if (!move) return [amount(lane, speed)];
  return [
    `${amount(lane, speed)} `,
    h("span", { class: "signs", "aria-hidden": "true" }, move.sign),
    h("span", { class: "hidden-text" }, move.way),
  ];
}

function lookOf({ moves, shake }) {
  if (moves.length) return "moves";
  return shake >= SHAKES ? "shakes" : "rests";
}

/** What a block has room for: signs of the moves, and the text. */
function wordsIn({ moves, text }, room) {
  const signs = moves.map(({ move }) => MOVES[move]?.sign ?? "•");
  if (room < ROOM_FOR_SIGN * Math.max(signs.length, 1)) return [];
  return [
    signs.length ? h("span", { class: "signs" }, signs.join("")) : null,
    room < ROOM_FOR_WORDS ? null : h("span", { class: "words" }, text),
  ];
}
