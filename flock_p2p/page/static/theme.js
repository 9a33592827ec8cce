// Light, dark, or as the system says; remembered in this browser.

import { byId } from "./dom.js";

const KEY = "flock-theme";
const NAMES = { auto: "Auto", light: "Light", dark: "Dark" };

export function startTheme(onChange) {
  const button = byId("theme");
  let theme = read();
  const apply = () => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = NAMES[theme];
    button.setAttribute("aria-label", `Colours: ${NAMES[theme]}`);
    onChange();
  };
  button.addEventListener("click", () => {
    const names = Object.keys(NAMES);
    theme = names[(names.indexOf(theme) + 1) % names.length];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // a browser without storage forgets it
    }
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", onChange);
  apply();
}

function read() {
  try {
    const found = localStorage.getItem(KEY);
    return found in NAMES ? found : "auto";
  } catch {
    return "auto";
  }
}
