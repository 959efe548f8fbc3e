import * as api from "./api.js";
import { arrive, parse, toUpload } from "./address.js";
import { collection } from "./collection.js";
import { button, h } from "./dom.js";
import { count } from "./format.js";
import { similar, surest } from "./hits.js";
import { forgetLabels } from "./labels.js";
import { login } from "./login.js";
import { player } from "./video_page.js";
import { notice } from "./states.js";
import { offer, result, upload } from "./upload.js";

const VIEWS = { collection, video: player, similar, label: surest, upload, result, missing };
/** Views that update themselves when the address changes, and the part of it that must stay the same. */
const KEPT = { collection: () => "", video: ({ id }) => id, result: () => "" };
const FIRST_WAIT_MS = 2000;
const LONGEST_WAIT_MS = 15000;

const main = document.getElementById("main");
const banner = document.getElementById("banner");
let current = null;

/** Show the view of the current address. */
function render({ anew = false } = {}) {
  const place = parse(location.hash);
  const key = place.view in KEPT ? `${place.view} ${KEPT[place.view](place)}` : null;
  place.returning = history.state?.seen === true;
  arrive(location.hash || "#/");
  if (!anew && key && current?.key === key) current.view.update(place);
  else show(place, key);
}

function show(place, key) {
  const first = current === null;
  current?.life.abort();
  const life = new AbortController();
  main.replaceChildren();
  scrollTo({ top: 0, behavior: "instant" });
  current = { key, life, view: null };
  current.view = VIEWS[place.view](main, place, life.signal);
  document.title = `${current.view.title} · ig65m`;
  markSection(place.view === "result" ? "upload" : place.view);
  if (!first) main.querySelector("h1")?.focus({ preventScroll: true });
}

function markSection(section) {
  for (const link of document.querySelectorAll(".nav a")) {
    if (link.dataset.view === section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function missing(place) {
  place.replaceChildren(
    h("h1", { class: "hidden-text", tabindex: -1 }, "Not found"),
    notice(
      "search",
      "There is nothing at this address",
      h("p", {}, h("a", { class: "button", href: "#/" }, "To the collection")),
    ),
  );
  return { title: "Not found" };
}

function askForToken() {
  if (current?.key === "login") return;
  current?.life.abort();
  const life = new AbortController();
  current = { key: "login", life, view: {} };
  login(main, life.signal, () => {
    forgetLabels();
    render({ anew: true });
    describeService();
  });
}

async function describeService() {
  try {
    const { model, videos, clips, kind } = await api.health();
    document.getElementById("service").textContent =
      `${model}, ${count(videos, "video")}, ${count(clips, "clip")}, ${kind} search`;
  } catch {
    document.getElementById("service").textContent = "";
  }
}

/** A banner while the server is unreachable; it is asked again, at growing intervals, until it responds. */
function watchConnection() {
  let timer = 0;
  let wait = FIRST_WAIT_MS;
  const ask = () => api.health().catch(() => {}); // what came of it is heard here
  const row = () =>
    h("div", { class: "wrap banner-row" }, "The server does not answer.", button("Try again", ask, { look: "small" }));
  api.connection.addEventListener("unreachable", () => {
    if (!banner.firstChild) banner.append(row());
    clearTimeout(timer);
    timer = setTimeout(ask, wait);
    wait = Math.min(2 * wait, LONGEST_WAIT_MS);
  });
  api.connection.addEventListener("reachable", () => {
    banner.replaceChildren();
    clearTimeout(timer);
    wait = FIRST_WAIT_MS;
  });
  api.connection.addEventListener("unauthorized", askForToken);
}

function watchDrops() {
  const curtain = document.getElementById("drop");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    curtain.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) curtain.hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    curtain.hidden = true;
    const [file] = event.dataTransfer.files;
    if (!file) return;
    offer(file);
    if (location.hash === toUpload()) render({ anew: true });
    else location.hash = toUpload();
  });
}

function watchTheme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const changed = () => {
    toggle.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
    document.dispatchEvent(new Event("themechange"));
  };
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("ig65m-theme", root.dataset.theme);
    } catch {
      // storage is disabled: the theme lasts until the page is closed
    }
    changed();
  });
  dark.addEventListener("change", changed);
  changed();
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the view, not a place in it
  main.focus();
});
history.scrollRestoration = "manual";
watchConnection();
watchDrops();
watchTheme();
addEventListener("hashchange", () => render());
render();
describeService();
