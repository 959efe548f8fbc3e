import { h, icon, isThrifty } from "./dom.js";

const UNPLAYABLE = "This browser cannot play this video.";
const GONE = "The video is not kept when the page is loaded again. Choose the file once more to watch it.";

/**
 * A video with the browser's controls. If the browser cannot play it, still pictures replace it, and seeking works as usual.
 * `source`: URL of the bytes, or null; `pictureAt(seconds)`: URL of a still, or null. `onTime(seconds, playing)` is called with
 * the current time, `onDuration(seconds)` with the duration.
 */
export class VideoPlayer {
  #pictureAt;
  #onTime;
  #wanted = 0;
  #unplayable = false;
  #frame = 0;

  constructor({ source, title, pictureAt = null, onTime, onDuration, signal }) {
    this.#pictureAt = pictureAt;
    this.#onTime = onTime;
    this.video = h("video", {
      controls: true,
      playsinline: true,
      preload: isThrifty() ? "none" : "metadata",
      "aria-label": title,
    });
    this.node = h("div", { class: "player" }, this.video);
    this.#listen(onDuration, signal);
    if (source) this.video.src = source;
    else this.#giveUp(GONE);
  }

  #listen(onDuration, signal) {
    const { video } = this;
    video.addEventListener("loadedmetadata", () => {
      if (Number.isFinite(video.duration)) onDuration(video.duration);
      if (video.currentTime === 0) video.currentTime = this.#wanted; // not every browser keeps what was asked for before
    });
    video.addEventListener("error", () => !signal.aborted && this.#giveUp(UNPLAYABLE));
    video.addEventListener("play", () => this.#follow());
    for (const event of ["pause", "seeking", "seeked", "loadedmetadata"]) video.addEventListener(event, () => this.#tell());
    signal.addEventListener("abort", () => this.#leave());
  }

  /** Width and height of its pictures; 16:9 until they are known. */
  frame() {
    const [width, height] = this.still ? [this.still.naturalWidth, this.still.naturalHeight] : [this.video.videoWidth, this.video.videoHeight];
    return width && height ? { width, height } : { width: 16, height: 9 };
  }

  seek(time) {
    this.#wanted = time;
    if (this.#unplayable) this.#showStill();
    else this.video.currentTime = time;
    this.#onTime(time, false);
  }

  toggle() {
    if (this.#unplayable) return;
    if (this.video.paused) this.video.play().catch(() => this.#tell());
    else this.video.pause();
  }

  #tell() {
    if (!this.#unplayable) this.#onTime(this.video.currentTime, !this.video.paused);
  }

  #follow() {
    cancelAnimationFrame(this.#frame);
    const next = () => {
      if (this.video.paused) return;
      this.#tell();
      this.#frame = requestAnimationFrame(next);
    };
    next();
  }

  #giveUp(why) {
    this.#unplayable = true;
    const note = h("p", { class: "player-note", role: "status" }, why);
    if (this.#pictureAt) {
      this.still = h("img", { class: "player-still", alt: "Still picture of the chosen time" });
      this.still.addEventListener("error", () => this.still.removeAttribute("src"));
      note.append(" Still pictures stand in for it.");
    }
    this.video.remove();
    this.node.prepend(this.still ?? icon("film", "big"), note);
    this.#showStill();
  }

  #showStill() {
    if (this.still) this.still.src = this.#pictureAt(this.#wanted);
  }

  #leave() {
    cancelAnimationFrame(this.#frame);
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }
}
