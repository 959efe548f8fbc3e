import { connection } from "./api.js";
import { button, h, icon } from "./dom.js";

/** An empty state: drawing, heading, text, and what to do. */
export function notice(drawing, heading, ...content) {
  return h("div", { class: "notice" }, icon(drawing, "big"), h("h2", {}, heading), content);
}

export const command = (text) => h("pre", { class: "command", tabindex: 0, "aria-label": "Command" }, h("code", {}, text));

/**
 * A failed request with the server's message. `retry`, or null, is called by a button, after a countdown if the server sent
 * Retry-After; if the server was unreachable, it is called once the server responds.
 */
export function failure(error, retry, signal) {
  const gone = error.status === 0;
  const heading = gone ? "The server does not answer" : error.status === 503 ? "The server is busy" : "That did not work";
  const node = notice("alert", heading, h("p", {}, gone ? "Is it still running?" : error.message));
  node.setAttribute("role", "alert");
  if (!retry) return node;
  const over = new AbortController();
  const again = () => {
    over.abort();
    retry();
  };
  const ask = button("Try again", again, { look: "primary" });
  const until = AbortSignal.any([signal, over.signal]);
  if (gone) connection.addEventListener("reachable", again, { signal: until });
  if (error.retryAfter) countDown(ask, error.retryAfter, until);
  node.append(h("p", {}, ask));
  return node;
}

function countDown(node, seconds, signal) {
  const text = node.textContent;
  let left = seconds;
  const tick = () => {
    node.disabled = left > 0;
    node.textContent = left > 0 ? `${text} in ${left} s` : text;
    if (left === 0) clearInterval(timer);
    left -= 1;
  };
  const timer = setInterval(tick, 1000);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  tick();
}

/** Grey placeholders for cards that are being loaded. */
export function skeletons(number) {
  const card = () =>
    h(
      "li",
      { class: "card skeleton" },
      h("div", { class: "thumb" }),
      h("div", { class: "line" }),
      h("div", { class: "line short" }),
    );
  return Array.from({ length: number }, card);
}
