import * as api from "./api.js";
import { rewrite, toSimilar, toSimilarShot, toVideo } from "./address.js";
import { announce, buttonLink, h } from "./dom.js";
import { clock, count } from "./format.js";
import { indexLabels } from "./labels.js";
import { thumbnail } from "./preview.js";
import { Shots } from "./shots.js";
import { command, failure } from "./states.js";
import { watched } from "./video_view.js";

/** One video of the collection. */
export function player(main, place, signal) {
  const heading = h("h1", { tabindex: -1 }, "\u00a0");
  const facts = h("p", { class: "summary" }, "\u00a0");
  const body = h("div", {});
  const view = { title: "Video", update: ({ time }) => (place.time = time) };
  main.replaceChildren(h("div", { class: "page-head stacked" }, heading, facts), body);

  async function load() {
    body.replaceChildren(skeleton());
    try {
      const [video, line] = await Promise.all([api.oneVideo(place.id, signal), api.timeline(place.id, signal), indexLabels()]);
      if (!signal.aborted) show(video, line);
    } catch (error) {
      if (signal.aborted) return;
      heading.textContent = view.title;
      body.replaceChildren(failure(error, load, signal));
    }
  }

  function show(video, { clips, duration, shots, has_motion: hasMotion, has_class_maps: hasClassMaps }) {
    heading.textContent = video.title;
    document.title = `${video.title} · ig65m`;
    facts.replaceChildren(...describe(video, shots));
    announce(video.title);
    const { node, seek } = watched({
      clips,
      duration,
      labels: video.labels,
      start: place.time,
      title: video.title,
      source: api.fileOf(place.id),
      pictureAt: (time) => api.thumbnailOf(place.id, Math.min(time, duration)),
      strip: api.semanticCodeOf(place.id),
      shots,
      shotPictureAt: (time) => thumbnail(place.id, time),
      motion: hasMotion ? () => api.motion(place.id, signal) : null,
      classMap: hasClassMaps ? (time) => api.classMap(place.id, time, signal) : null,
      actions: actions(place.id, shots),
      remember: (time) => rewrite(toVideo(place.id, time)),
      signal,
    });
    view.update = ({ time }) => seek(time);
    body.replaceChildren(node, ...(video.labels.length ? [] : [withoutLabels()]));
  }

  load();
  return view;
}

function describe({ duration, clips, status }, shots) {
  const text = [clock(duration), count(clips, "clip"), ...(shots.length ? [count(shots.length, "shot")] : [])].join(", ");
  return status === "ok"
    ? [text]
    : [text, h("span", { class: "tag" }, status === "partial" ? "breaks off before its end" : status)];
}

function actions(id, shots) {
  const like = buttonLink("More like this moment", toSimilar(id, 0), { drawing: "similar", look: "primary" });
  const any = buttonLink("Like any of its moments", toSimilar(id, null), { look: "quiet small" });
  const ofShot = shots.length ? buttonLink("Moments like this shot", "", { drawing: "film" }) : null;
  const places = new Shots(shots);
  const at = (time) => {
    like.setAttribute("href", toSimilar(id, time));
    ofShot?.setAttribute("href", toSimilarShot(id, shots[places.at(time)].number));
  };
  return { nodes: [like, ofShot, any].filter(Boolean), at };
}

function skeleton() {
  const part = (name) => h("div", { class: `${name} skeleton` }, h("div", { class: "thumb" }));
  return h("div", { class: "video-body", "aria-busy": "true" }, part("player"), h("div", { class: "now" }), part("over"));
}

function withoutLabels() {
  return h(
    "div",
    { class: "notice left" },
    h("h2", {}, "No labels are stored with these features"),
    h(
      "p",
      {},
      "Moments are found without them. To see labels over time, compute features with --top-k and a model that has classes:",
    ),
    command("ig65m extract videos/ --output features/ --top-k 5\nig65m index add INDEX features/"),
  );
}
