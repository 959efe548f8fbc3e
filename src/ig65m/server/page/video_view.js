import { ClassMapSwitch } from "./class_map.js";
import { h, throttled } from "./dom.js";
import { clock, percent, span, words } from "./format.js";
import { always, labelBars } from "./labels.js";
import { MotionPanel } from "./motion.js";
import { ShotStrip } from "./shots.js";
import { spanList } from "./span_list.js";
import { VideoPlayer } from "./video_player.js";
import { Timeline } from "./timeline.js";

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
  motion = null,
  classMap = null,
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
  const moves = motion ? new MotionPanel({ load: motion, duration: line.duration, signal, onSeek: seek }) : null;
  const moved = (time, playing) => {
    line.setTime(time, playing);
    film?.setTime(time);
    moves?.setTime(time, playing);
    moment.show(time, line.clipAt(time));
    where?.setTime(time, line.clipAt(time));
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
    onDuration: (seconds) => {
      line.setDuration(seconds);
      moves?.setDuration(line.duration);
    },
  });
  const where = classMap ? new ClassMapSwitch({ load: classMap, player, signal }) : null;
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
    where?.node,
    h("div", { class: "actions" }, actions.nodes),
  );
  const inWords = spanList(clips, { noun: "clip", heading: "Labels", textOf: labelsInWords, seek });
  const over = h("section", { class: "over", "aria-label": "Timeline" }, film?.node, line.node, inWords, moves?.node);
  for (const part of [player.node, over]) part.addEventListener("keydown", (event) => byKey(event, player, film));
  seek(start);
  return { node: h("div", { class: "video-body" }, player.node, beside, over), seek };
}

/**
 * Space plays while a timeline has the focus. N and P go to the next and previous shot while the player, the shots or a timeline have
 * it: on the whole page, speech input would press them.
 */
function byKey(event, player, film) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isOnTimeline = event.target.closest(".plot") !== null;
  const direction = { n: 1, p: -1 }[event.key.toLowerCase()];
  if (event.key === " " && isOnTimeline) player.toggle();
  else if (film && direction && (isOnTimeline || event.target.closest(".player, .shots"))) film.step(direction);
  else return;
  event.preventDefault();
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

function labelsInWords({ labels }) {
  return labels.slice(0, 3).map(({ label, score }) => `${words(label)} ${percent(score)}`).join(", ") || "no labels";
}
