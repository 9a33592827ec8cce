// The end of the peer's log, as text. Follows while its end is in sight.

import { byId, empty, h } from "./dom.js";
import { store } from "./store.js";

const GRAVE = new Set(["WARNING", "ERROR", "CRITICAL"]);
let frame = null;
let last = -1;

export function showLog(force = false) {
  const body = byId("log-body");
  if (!store.lines.length) {
    frame = null;
    body.replaceChildren(empty("No line yet", "What the peer writes into its peer.log appears here."));
    return;
  }
  frame ??= make(body);
  const id = store.lines.at(-1).id;
  if (id === last && !force) return;
  last = id;
  const { lines } = frame;
  const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
  const grave = frame.level.value === "grave";
  const shown = store.lines.filter((row) => !grave || GRAVE.has(row.level));
  lines.replaceChildren(...shown.map(line));
  if (!shown.length) lines.append(h("p", { class: "muted" }, "No warning in the last lines."));
  if (atEnd || force) lines.scrollTop = lines.scrollHeight;
}

function make(body) {
  const level = h("select", { id: "log-level", onchange: () => showLog(true) }, h("option", { value: "all" }, "everything"), h("option", { value: "grave" }, "warnings and errors"));
  const lines = h("div", { class: "card lines", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "The peer's log" });
  body.replaceChildren(h("div", { class: "tools" }, h("label", { for: "log-level" }, "Show"), level, h("span", { class: "muted" }, "the last 400 lines; older ones are in the home's peer.log, peer.log.1 and peer.log.2")), lines);
  return { level, lines };
}

function line(row) {
  if (row.at === null) return h("p", { class: "more" }, row.text);
  return h("p", { class: row.level }, h("time", { datetime: row.at }, row.at.slice(11, 19)), row.level === "INFO" ? "" : `${row.level} `, row.text);
}
