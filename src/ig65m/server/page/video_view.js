import { button, h, throttled } from "./dom.js";
import { clock, count, percent, span, words } from "./format.js";
import { always, labelBars } from "./labels.js";
import { ShotStrip } from "./shots.js";
import { VideoPlayer } from "./video_player.js";
import { Timeline } from "./timeline.js";

const ROWS = 100;
const RESTING_MS = 150; // browsers refuse some 200 new addresses in 30 s
const PLAYING_MS = 1000;

/**
 * A video, the labels at its current time, and a timeline, kept in sync: {node, seek(seconds)}.
 *
 * `labels`: labels of the whole video; `actions`: {nodes, at(seconds)}, shown below the labels; `remember(seconds)` is called with
 * the time now and then; `shots`: [{start, end}], empty if they are unknown, and `shotPictureAt(seconds)` makes a picture of one;
 * other options are for the player and the timeline.
 */
export function watched({
  clips,
  duration,
  labels,
  start,
  title,
  source,
  pictureAt,
  strip,
  shots = [],
  shotPictureAt,
  linked = always,
  actions,
  remember,
  signal,
}) {
  const moment = momentLabels(linked);
  const write = throttled(RESTING_MS, signal, remember);
  let written = 0;
  const seek = (time) => player.seek(time);
  const line = new Timeline({ clips, duration, shots, strip, linked, signal, onSeek: seek });
  const film = shots.length ? new ShotStrip({ shots, pictureAt: shotPictureAt, signal, onSeek: seek }) : null;
  const moved = (time, playing) => {
    line.setTime(time, playing);
    film?.setTime(time);
    moment.show(time, line.clipAt(time));
    actions.at(time);
    if (playing && performance.now() - written < PLAYING_MS) return;
    written = performance.now();
    write(time);
  };
  const player = new VideoPlayer({
    source,
    title,
    pictureAt,
    signal,
    onTime: moved,
    onDuration: (seconds) => line.setDuration(seconds),
  });
  line.plot.addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    player.toggle();
  });
  for (const part of film ? [player.node, film.node, line.plot] : []) {
    part.addEventListener("keydown", (event) => stepByKey(event, film));
  }
  const whole = labels.length
    ? h(
        "section",
        { "aria-label": "In the whole video" },
        h("h2", { class: "small-head" }, "In the whole video"),
        labelBars(labels, { rows: 3, linked }),
      )
    : null;
  const beside = h(
    "div",
    { class: "now" },
    clips.some((clip) => clip.labels.length) ? [moment.node, whole] : null,
    h("div", { class: "actions" }, actions.nodes),
  );
  const over = h("section", { class: "over", "aria-label": "Timeline" }, film?.node, line.node, clipList(clips, seek));
  seek(start);
  return { node: h("div", { class: "video-body" }, player.node, beside, over), seek };
}

/** N and P work while the player, the shots or the timeline have the focus: on the whole page, speech input would press them. */
function stepByKey(event, film) {
  const direction = { n: 1, p: -1 }[event.key.toLowerCase()];
  if (!direction || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  film.step(direction);
}

function momentLabels(linked) {
  const when = h("span", { class: "times" });
  const spans = h("span", { class: "quiet-text times" });
  const bars = h("div", {});
  const node = h("section", { "aria-label": "At this moment" }, h("h2", { class: "small-head" }, "At ", when, spans), bars);
  let shown = null;
  const show = (time, clip) => {
    when.textContent = clock(time, 1);
    if (!clip || clip === shown) return;
    shown = clip;
    spans.textContent = `clip ${span(clip.start, clip.end)}`;
    bars.replaceChildren(labelBars(clip.labels, { linked }));
  };
  return { node, show };
}

/** The timeline as text, filled when it is opened. */
function clipList(clips, seek) {
  const table = h("tbody", {});
  const row = ({ start, end, labels }) => {
    const jump = h("button", { class: "jump times", type: "button", on: { click: () => seek(start) } }, span(start, end));
    const said = labels.slice(0, 3).map(({ label, score }) => `${words(label)} ${percent(score)}`);
    return h("tr", {}, h("td", {}, jump), h("td", {}, said.join(", ") || "no labels"));
  };
  const more = button("Show more", () => fill(), { look: "quiet small" });
  const fill = () => {
    const from = table.childElementCount;
    table.append(...clips.slice(from, from + ROWS).map(row));
    more.hidden = table.childElementCount === clips.length;
  };
  const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Clip"), h("th", { scope: "col" }, "Labels")));
  const summary = h("summary", {}, `${count(clips.length, "clip")} in words`);
  const details = h("details", { class: "clip-list" }, summary, h("table", {}, head, table), more);
  details.addEventListener("toggle", fill, { once: true });
  return details;
}
