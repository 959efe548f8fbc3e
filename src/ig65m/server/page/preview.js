import * as api from "./api.js";
import { button, h, icon, isThrifty } from "./dom.js";
import { clock } from "./format.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const HOVER_MS = 120;
const RETRY_MS = 3000; // a server that is busy says to come back in a while

/** The preview that plays: {card, video, pressed}; pressed if a button started it, which then stops it. */
let playing = null;

/** A thumbnail; a drawing if it cannot be loaded. */
export function thumbnail(id, time) {
  const picture = h("img", { alt: "", loading: "lazy", decoding: "async", width: 320, height: 180 });
  const frame = h("span", { class: "thumb-picture" }, picture);
  picture.addEventListener("load", () => frame.classList.add("loaded"));
  const load = () => (picture.src = api.thumbnailOf(id, time));
  const giveUp = () => picture.replaceWith(icon("film", "big"));
  const failed = () => {
    picture.addEventListener("error", giveUp);
    setTimeout(() => picture.isConnected && load(), RETRY_MS);
  };
  picture.addEventListener("error", failed, { once: true });
  load();
  return frame;
}

/**
 * A thumbnail of a moment, as a link. The moment plays in a loop, muted, while the pointer or the focus is on it. On touch screens, or
 * with reduced motion or data, a button plays it.
 */
export function preview({ id, title, start, end, href }) {
  const name = `${title}, ${clock(start, 1)} to ${clock(end, 1)}`;
  const picture = thumbnail(id, (start + end) / 2);
  const link = h(
    "a",
    { class: "thumb-link", href, "aria-label": name },
    picture,
    h("span", { class: "badge" }, clock(start, 1)),
  );
  const toggle = button("", () => (isPlaying(card) ? stopPreview() : play(card, true)), {
    drawing: "play",
    look: "icon-only thumb-toggle",
    "aria-label": `Play a preview of ${name}`,
    "aria-pressed": "false",
  });
  const card = { frame: h("div", { class: "thumb" }, link, toggle), picture, toggle, id, start, end };
  playUnderPointer(card);
  link.addEventListener("focus", () => link.matches(":focus-visible") && invite(card));
  link.addEventListener("blur", () => dismiss(card));
  return card.frame;
}

function playUnderPointer(card) {
  let timer = 0;
  card.frame.addEventListener("pointerenter", ({ pointerType }) => {
    if (pointerType === "mouse") timer = setTimeout(invite, HOVER_MS, card);
  });
  card.frame.addEventListener("pointerleave", () => {
    clearTimeout(timer);
    dismiss(card);
  });
}

const isPlaying = (card) => playing?.card === card;

function invite(card) {
  if (!calm.matches && !isThrifty() && !isPlaying(card) && card.frame.isConnected) play(card, false);
}

function dismiss(card) {
  if (isPlaying(card) && !playing.pressed) stopPreview();
}

function play(card, pressed) {
  stopPreview();
  const { id, start, end, frame, picture } = card;
  const video = h("video", { class: "thumb-video", playsinline: true, tabindex: -1, "aria-hidden": "true" });
  const mine = { card, video, pressed };
  const again = () => {
    if (playing !== mine) return;
    if (video.ended || video.currentTime >= end - 0.02) video.currentTime = start;
    video.play().catch(() => {}); // a browser that plays nothing unasked keeps the still picture
  };
  playing = mine;
  video.muted = true;
  video.addEventListener("timeupdate", () => video.currentTime >= end && again());
  video.addEventListener("pause", again); // where the browser stops at the end of the span
  video.addEventListener("ended", again);
  video.addEventListener("playing", () => frame.classList.add("playing"), { once: true });
  video.addEventListener("error", () => playing === mine && stopPreview());
  video.src = `${api.fileOf(id)}#t=${start.toFixed(2)},${end.toFixed(2)}`;
  picture.append(video);
  press(card, true);
  again();
}

/** Stop the preview; called when a view is left. */
export function stopPreview() {
  if (!playing) return;
  const { card, video } = playing;
  playing = null;
  card.frame.classList.remove("playing");
  press(card, false);
  video.pause();
  video.removeAttribute("src");
  video.load(); // lets go of the connection
  video.remove();
}

function press({ toggle }, pressed) {
  toggle.setAttribute("aria-pressed", String(pressed));
  toggle.querySelector("use").setAttribute("href", pressed ? "#i-stop" : "#i-play");
}
