/* Runs before the first paint, so that a remembered theme does not flash. */
(() => {
  let theme;
  try {
    theme = localStorage.getItem("ig65m-theme");
  } catch {
    return; // storage is switched off: the system's theme it is
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
