import * as api from "./api.js";
import { rewrite, toResult, toUpload } from "./address.js";
import { announce, button, buttonLink, h, icon } from "./dom.js";
import { bytes, clock, count, percent, span, words } from "./format.js";
import { showHits } from "./hits.js";
import { indexLabels } from "./labels.js";
import { stopPreview } from "./preview.js";
import { failure, notice } from "./states.js";
import { watched } from "./video_view.js";

const KEPT = "ig65m-result";
const RETRIED = new Set([0, 408, 503]);

/** A dropped file that waits for the view; then the last classified one, with its result. */
let waiting = null;
let last = null;

/** Start the next upload view with this file. */
export function offer(file) {
  waiting = file;
}

/** Choose a video, send it, wait. */
export function upload(main, _place, signal) {
  const body = h("div", {});
  main.replaceChildren(
    h(
      "div",
      { class: "page-head stacked" },
      h("h1", { tabindex: -1 }, "Classify a video"),
      h("p", { class: "summary" }, "It is sent to this server only, and deleted there when it has been analysed."),
    ),
    body,
  );
  const choose = () => body.replaceChildren(chooser(start));
  const chooseAgain = () => {
    choose();
    body.querySelector("input").focus();
  };

  async function start(file) {
    const job = new AbortController();
    const cancel = () => job.abort();
    signal.addEventListener("abort", cancel, { once: true });
    const bar = progress(file, cancel);
    body.replaceChildren(bar.node);
    announce(`Uploading ${file.name}`);
    try {
      await checkSize(file, job.signal);
      const answer = await api.send("classify", {}, file, { onSent: bar.show, signal: job.signal });
      keep(file, answer);
      location.hash = toResult();
    } catch (error) {
      if (signal.aborted) return;
      if (job.signal.aborted) chooseAgain();
      else body.replaceChildren(failed(error, file, start, chooseAgain, signal));
    } finally {
      signal.removeEventListener("abort", cancel);
    }
  }

  choose();
  if (waiting) start(waiting);
  waiting = null;
  return { title: "Classify a video" };
}

/** The server refuses a file over its limit too, but a browser may not read that response while it sends. */
async function checkSize(file, signal) {
  const { max_upload: most } = await api.health(signal);
  if (file.size <= most) return;
  const message = `${file.name} has ${bytes(file.size)}; this server takes ${bytes(most)} at most.`;
  throw new api.ApiError(message, { status: 413, code: "too_large" });
}

function chooser(start) {
  const input = h("input", { type: "file", id: "file", class: "hidden-text", accept: "video/*,.mkv,.ts,.m2ts,.avi,.flv,.wmv" });
  input.addEventListener("change", () => input.files[0] && start(input.files[0]));
  const label = h("label", { class: "button primary", for: "file" }, "Choose a file");
  return h(
    "div",
    { class: "chooser" },
    icon("upload", "big"),
    h("p", { class: "chooser-text" }, "Drop a video anywhere on this page"),
    h("p", { class: "quiet-text" }, "or"),
    input,
    label,
  );
}

function progress(file, cancel) {
  const state = h("p", { class: "progress-state" }, "Uploading");
  const bar = h("progress", { max: 1, value: 0, "aria-label": `Upload of ${file.name}` });
  const share = h("span", { class: "times quiet-text" }, bytes(file.size));
  const show = (sent) => {
    if (sent < 1) {
      bar.value = sent;
      share.textContent = `${bytes(sent * file.size)} of ${bytes(file.size)}, ${percent(sent)}`;
    } else if (bar.hasAttribute("value")) {
      bar.removeAttribute("value");
      state.textContent = "Analysing";
      share.textContent = "This takes a moment.";
      announce("Uploaded. Analysing.");
    }
  };
  const node = h(
    "div",
    { class: "progress" },
    h("p", { class: "progress-name" }, file.name),
    h("div", { class: "progress-line" }, state, share),
    bar,
    button("Cancel", cancel),
  );
  return { node, show };
}

function failed(error, file, start, chooseAgain, signal) {
  const node = failure(error, RETRIED.has(error.status) ? () => start(file) : null, signal);
  node.append(h("p", { class: "quiet-text" }, file.name), h("p", {}, button("Choose another file", chooseAgain)));
  return node;
}

function keep(file, answer) {
  if (last?.url) URL.revokeObjectURL(last.url);
  last = { name: file.name, file, url: URL.createObjectURL(file), answer };
  try {
    sessionStorage.setItem(KEPT, JSON.stringify({ name: file.name, answer }));
  } catch {
    // no space, or storage is disabled: the result is lost on reload
  }
}

function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT));
  } catch {
    return null;
  }
}

/** Result of the last upload; its labels survive a reload, the video does not. */
export function result(main, place, signal) {
  last ??= kept();
  if (!last) {
    location.replace(toUpload());
    return { title: "Classify a video" };
  }
  const { name, answer, url = null } = last;
  const view = { title: name, update: () => {} };
  const head = h(
    "div",
    { class: "page-head stacked" },
    h("h1", { tabindex: -1 }, name),
    h("p", { class: "summary" }, describe(answer)),
  );
  const body = h("div", {});
  main.replaceChildren(head, ...(answer.error ? [partial(answer.error)] : []), body, alike(last.file, signal));
  const best = answer.labels[0];
  announce(best ? `${name}: ${words(best.label)}, ${percent(best.score)}` : `${name} was analysed`);

  indexLabels().then((known) => {
    if (signal.aborted) return;
    const { node, seek } = watched({
      clips: answer.clips,
      duration: answer.clips.at(-1)?.end ?? 1,
      labels: answer.labels,
      start: place.time,
      title: name,
      source: url,
      strip: null,
      linked: (label) => known.some((one) => one.label === label),
      actions: { nodes: [buttonLink("Classify another", toUpload(), { look: "small" })], at: () => {} },
      remember: (time) => rewrite(toResult(time)),
      signal,
    });
    view.update = ({ time }) => seek(time);
    body.replaceChildren(node);
  });
  return view;
}

function describe({ model, clips }) {
  return `${clock(clips.at(-1)?.end ?? 0, 1)}, ${count(clips.length, "clip")}, ${model}`;
}

function partial({ message, last_good_time: until }) {
  const where = until === null || until === undefined ? "" : ` It was read up to ${clock(until, 1)}.`;
  return h("p", { class: "note", role: "status" }, icon("alert"), h("span", {}, `The video breaks off: ${message}${where}`));
}

/** Moments of the collection most similar to the upload; the file is sent again, since the server does not keep it. */
function alike(file, signal) {
  const list = h("ul", { class: "grid", "aria-label": "Similar moments" });
  const state = h("div", { class: "rest" });
  const node = h("section", { class: "section" }, h("h2", {}, "Similar moments in the collection"), state, list);
  const idle = () => state.replaceChildren(button("Find similar moments", find, { drawing: "similar", look: "primary" }));

  async function find() {
    const job = new AbortController();
    signal.addEventListener("abort", () => job.abort(), { once: true });
    const bar = progress(file, () => job.abort());
    state.replaceChildren(bar.node);
    try {
      const { hits } = await api.send("search", { count: 12, merge: true }, file, { onSent: bar.show, signal: job.signal });
      state.replaceChildren();
      showHits(list, hits, { queried: ({ query }) => `like yours at ${span(query.start, query.end)}` });
      announce(`${count(hits.length, "moment")} found`);
      if (!hits.length) state.replaceChildren(notice("search", "Nothing found"));
    } catch (error) {
      if (signal.aborted) return;
      if (job.signal.aborted) idle();
      else state.replaceChildren(failure(error, find, signal));
    }
  }

  signal.addEventListener("abort", stopPreview);
  if (file) idle();
  else state.replaceChildren(h("p", { class: "quiet-text" }, "Choose the file once more to search with it."));
  return node;
}
