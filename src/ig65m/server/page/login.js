import * as api from "./api.js";
import { h } from "./dom.js";

/** The form for the token of the server; `entered` is called after a successful login. */
export function login(main, signal, entered) {
  const token = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
  const wrong = h("p", { class: "wrong", id: "wrong", role: "alert" });
  const enter = h("button", { class: "button primary", type: "submit" }, "Enter");
  const form = h(
    "form",
    { class: "login" },
    h("h1", { tabindex: -1 }, "Token"),
    h("p", { class: "quiet-text" }, "This server was started with a token. Enter it to go on."),
    h("label", { for: "token" }, "Token"),
    token,
    wrong,
    enter,
  );

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    enter.disabled = true;
    wrong.textContent = "";
    try {
      await api.login(token.value, signal);
      entered();
    } catch (error) {
      if (signal.aborted) return;
      wrong.textContent = error.status === 401 ? "That is not the token." : error.message;
      token.setAttribute("aria-describedby", "wrong");
      token.select();
    } finally {
      enter.disabled = false;
    }
  });
  main.replaceChildren(form);
  token.focus();
}
