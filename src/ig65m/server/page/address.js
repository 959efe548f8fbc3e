/** Each state of the page has an address after the #; this module formats and parses them. */

const seconds = (time) => String(Math.round(time * 100) / 100);

function withQuery(path, values) {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value));
  return query.size ? `#${path}?${query}` : `#${path}`;
}

export const toCollection = ({ label = "", text = "" } = {}) => withQuery("/", { label, text });
export const toVideo = (id, time = 0) => withQuery(`/video/${encodeURIComponent(id)}`, { t: time ? seconds(time) : "" });
export const toUpload = () => "#/upload";
export const toResult = (time = 0) => withQuery("/upload/result", { t: time ? seconds(time) : "" });

/** Moments similar to the one at `time`, or with null to any moment of the video. */
export function toSimilar(id, time, options = {}) {
  return withQuery(`/similar/${encodeURIComponent(id)}${time === null ? "" : `@${seconds(time)}`}`, optionsToQuery(options));
}

/** Moments similar to a shot of a video, by its number. */
export function toSimilarShot(id, shot, options = {}) {
  return withQuery(`/similar/${encodeURIComponent(id)}`, { shot: String(shot), ...optionsToQuery(options) });
}

export const toLabel = (label, options = {}) => withQuery(`/label/${encodeURIComponent(label)}`, optionsToQuery(options));

function optionsToQuery({ merge = true, others = false, label = "", count = 12 }) {
  return { merge: merge ? "" : "no", others: others ? "yes" : "", label, count: count === 12 ? "" : String(count) };
}

function queryToOptions(query) {
  const count = Number.parseInt(query.get("count") ?? "", 10);
  return {
    merge: query.get("merge") !== "no",
    others: query.get("others") === "yes",
    label: query.get("label") ?? "",
    count: count > 0 && count <= 96 ? count : 12,
  };
}

/** The address of the current view. */
let shown = null;

/** Record that the view of this address is shown, and mark its history entry as visited. */
export function arrive(hash) {
  history.replaceState({ seen: true }, "", hash);
  shown = location.hash;
}

/** Write the state of the view into the address without a new history entry, unless another address was opened meanwhile. */
export function rewrite(hash) {
  if (location.hash === shown) arrive(hash);
}

function timeOf(text) {
  const number = Number.parseFloat(text ?? "");
  return Number.isFinite(number) && number >= 0 ? number : null;
}

function numberOf(text) {
  return /^[0-9]{1,15}$/.test(text ?? "") ? Number(text) : null;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Parser of the part after the # for each view. */
const PLACES = [
  [/^\/?$/, (_, query) => ({ view: "collection", label: query.get("label") ?? "", text: query.get("text") ?? "" })],
  [/^\/upload$/, () => ({ view: "upload" })],
  [/^\/upload\/result$/, (_, query) => ({ view: "result", time: timeOf(query.get("t")) ?? 0 })],
  [/^\/video\/(.+)$/, ([id], query) => ({ view: "video", id: decoded(id), time: timeOf(query.get("t")) ?? 0 })],
  [/^\/label\/(.+)$/, ([name], query) => ({ view: "label", name: decoded(name), options: queryToOptions(query) })],
  [
    /^\/similar\/(.+?)(?:@([0-9.]+))?$/,
    ([id, moment], query) => ({
      view: "similar",
      id: decoded(id),
      time: timeOf(moment),
      shot: moment ? null : numberOf(query.get("shot")),
      options: queryToOptions(query),
    }),
  ],
];

/** Parse an address to {view, ...}; an unknown one gives {view: "missing"}. */
export function parse(hash) {
  const [path, search = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  for (const [pattern, read] of PLACES) {
    const match = path.match(pattern);
    if (match) return read(match.slice(1), new URLSearchParams(search));
  }
  return { view: "missing" };
}
