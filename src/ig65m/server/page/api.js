/** An error response of the server. `status` is 0 if no server responded. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "unreachable", retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/** Dispatches "unreachable", "reachable" and "unauthorized". */
export const connection = new EventTarget();

const tell = (event) => connection.dispatchEvent(new Event(event));

function unreachable() {
  tell("unreachable");
  return new ApiError("The server does not answer.");
}

function secondsOf(retryAfter) {
  if (!retryAfter) return null;
  const number = Number(retryAfter);
  const wait = Number.isFinite(number) ? number : (Date.parse(retryAfter) - Date.now()) / 1000;
  return Number.isFinite(wait) ? Math.max(0, Math.ceil(wait)) : null;
}

/** Return the response of a successful request; otherwise throw an ApiError. */
function settled(status, text, retryAfter) {
  tell("reachable");
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new ApiError(`The server gave an answer that is no JSON (status ${status}).`, { status, code: "no_json" });
  }
  if (status >= 200 && status < 300) return body;
  if (status === 401) tell("unauthorized");
  const { code = "error", message = `The server refused (status ${status}).` } = body?.error ?? {};
  throw new ApiError(message, { status, code, retryAfter: secondsOf(retryAfter) });
}

function address(path, query = {}) {
  const search = new URLSearchParams(
    Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== ""),
  );
  return search.size ? `${path}?${search}` : path;
}

async function request(url, options) {
  let response;
  let text;
  try {
    response = await fetch(url, { credentials: "same-origin", ...options });
    text = await response.text();
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
  return settled(response.status, text, response.headers.get("Retry-After"));
}

const get = (path, query, signal) => request(address(`api/${path}`, query), { signal });
const video = (id) => `videos/${encodeURIComponent(id)}`;

export const health = (signal) => get("health", {}, signal);
export const labels = (signal) => get("labels", {}, signal);
export const videos = (query, signal) => get("videos", query, signal);
export const timeline = (id, signal) => get(`${video(id)}/timeline`, {}, signal);
export const motion = (id, signal) => get(`${video(id)}/motion`, {}, signal);
export const classMap = (id, time, signal) => get(`${video(id)}/class-map`, { time }, signal);
export const oneVideo = (id, signal) => get(video(id), {}, signal);
export const search = (query, signal) => get("search", query, signal);

export function login(token, signal) {
  const body = JSON.stringify({ token });
  return request("api/login", { method: "POST", headers: { "Content-Type": "application/json" }, body, signal });
}

export const thumbnailOf = (id, time) => address(`api/${video(id)}/thumbnail.jpg`, { time: time.toFixed(2) });
export const semanticCodeOf = (id) => `api/${video(id)}/semcode.png`;
export const fileOf = (id) => `api/${video(id)}/file`;

/**
 * Send a file and wait for the response. `onSent(share)` is called with the progress, 0 to 1, which fetch does not report.
 */
export function send(path, query, file, { onSent, signal }) {
  return new Promise((resolve, reject) => {
    const sender = new XMLHttpRequest();
    sender.open("POST", address(`api/${path}`, query));
    sender.setRequestHeader("Content-Type", file.type.startsWith("video/") ? file.type : "application/octet-stream");
    sender.upload.addEventListener("progress", (event) => event.lengthComputable && onSent(event.loaded / event.total));
    sender.upload.addEventListener("load", () => onSent(1));
    sender.addEventListener("error", () => reject(unreachable()));
    sender.addEventListener("abort", () => reject(new DOMException("The upload was cancelled.", "AbortError")));
    sender.addEventListener("load", () => {
      try {
        resolve(settled(sender.status, sender.responseText, sender.getResponseHeader("Retry-After")));
      } catch (error) {
        reject(error);
      }
    });
    signal.addEventListener("abort", () => sender.abort(), { once: true });
    sender.send(file);
  });
}
