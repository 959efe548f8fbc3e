import { button, h } from "./dom.js";
import { percent, words } from "./format.js";

const COLOURS = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]]; // inferno
const OPACITY = 0.75; // of the highest value
const UNSEEN = 0.55; // opacity of the black over what the model does not see
const WIDTH = 128; // pixels of the drawing, which the browser scales

/**
 * A switch that draws over the player where the model finds the best label of the clip at the current time.
 *
 * `load(time)` gives a promise of the server's class map. The drawing has the shape of the player's picture, `player.frame()`.
 */
export class ClassMapSwitch {
  #load;
  #player;
  #signal;
  #maps = new Map(); // by the start of the clip
  #highest = new Map(); // value of each label so far
  #time = 0;
  #clip = null;
  #loading = false;

  constructor({ load, player, signal }) {
    this.#load = load;
    this.#player = player;
    this.#signal = signal;
    this.canvas = h("canvas", { class: "class-map", "aria-hidden": "true", hidden: true });
    player.node.append(this.canvas);
    this.button = button("Show where", () => this.#switch(!this.#isOn), { look: "small", "aria-pressed": "false" });
    this.said = h("p", { class: "quiet-text" });
    this.error = h("p", { role: "status" });
    this.node = h("section", { class: "where", "aria-label": "Where the model finds it" }, this.button, this.said, this.error);
  }

  get #isOn() {
    return this.button.getAttribute("aria-pressed") === "true";
  }

  #switch(isOn, error = "") {
    this.button.setAttribute("aria-pressed", String(isOn));
    this.error.textContent = error;
    this.#update();
  }

  setTime(time, clip) {
    this.#time = time;
    this.#clip = clip;
    this.#update();
  }

  #update() {
    const map = this.#isOn && this.#clip ? this.#maps.get(this.#clip.start) : null;
    this.canvas.hidden = !map;
    this.said.textContent = map ? `Yellow: where the model finds ${words(map.label)} (${percent(map.score)}).` : "";
    if (map) this.#draw(map);
    else if (this.#isOn) this.#fetch();
  }

  /** Load the map of the current clip, one at a time: the next one is that of the clip that is current then. */
  async #fetch() {
    if (this.#loading || !this.#clip) return;
    this.#loading = true;
    const { start, end } = this.#clip;
    let error = null;
    try {
      const map = await this.#load((start + end) / 2);
      const highest = Math.max(1e-9, ...map.values.flat(2), this.#highest.get(map.label) ?? 0);
      this.#highest.set(map.label, highest);
      this.#maps.set(start, map);
    } catch (reason) {
      error = reason;
    }
    this.#loading = false;
    if (this.#signal.aborted) return;
    if (error) this.#switch(false, error.message);
    else this.#update();
  }

  #draw(map) {
    const { width, height } = this.#player.frame();
    this.canvas.width = WIDTH;
    this.canvas.height = Math.max(1, Math.round((WIDTH * height) / width));
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(this.canvas.width, this.canvas.height);
    paint(image, valuesAt(map, this.#time), map, this.#highest.get(map.label));
    context.putImageData(image, 0, 0);
  }
}

/** Values (rows, columns) of a map at a time in seconds, linear between its times. */
export function valuesAt({ values, times }, time) {
  const [before, after, share] = between(times, time);
  return values[before].map((row, y) => row.map((value, x) => value + share * (values[after][y][x] - value)));
}

/** The numbers of the two places around one, and the share of the second; beyond the ends, the end. */
export function between(places, place) {
  const after = places.findIndex((each) => each > place);
  if (after === 0) return [0, 0, 0];
  if (after < 0) return [places.length - 1, places.length - 1, 0];
  return [after - 1, after, (place - places[after - 1]) / (places[after] - places[after - 1])];
}

function paint(image, values, { rows, columns, region }, highest) {
  const across = Array.from({ length: image.width }, (_, x) => between(columns, (x + 0.5) / image.width));
  for (let y = 0; y < image.height; y += 1) {
    const [above, below, down] = between(rows, (y + 0.5) / image.height);
    const isRowSeen = isWithin((y + 0.5) / image.height, region.top, region.height);
    for (let x = 0; x < image.width; x += 1) {
      const [left, right, share] = across[x];
      const at = (row) => values[row][left] + share * (values[row][right] - values[row][left]);
      const value = Math.min(Math.max((at(above) + down * (at(below) - at(above))) / highest, 0), 1);
      const isSeen = isRowSeen && isWithin((x + 0.5) / image.width, region.left, region.width);
      const [red, green, blue] = isSeen ? colourOf(value) : [0, 0, 0];
      image.data.set([red, green, blue, 255 * (isSeen ? OPACITY * value : UNSEEN)], 4 * (y * image.width + x));
    }
  }
}

const isWithin = (place, start, length) => place >= start && place < start + length;

function colourOf(value) {
  const place = value * (COLOURS.length - 1);
  const first = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[first].map((from, i) => from + (place - first) * (COLOURS[first + 1][i] - from));
}
