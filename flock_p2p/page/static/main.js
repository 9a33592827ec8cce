// Starts the page: one connection, and a look at what each message changed.

import { refresh, showChoice, startChoice } from "./choice.js";
import { byId, h } from "./dom.js";
import { showEvents, showTransfers } from "./flow.js";
import { Live } from "./live.js";
import { showLog } from "./log.js";
import { showNetwork } from "./network.js";
import { showOverview } from "./overview.js";
import { recolour, showPlots } from "./plots.js";
import { loadOlder, showRounds } from "./rounds.js";
import { showStakes } from "./stakes.js";
import { showLink, showWarnings, tick } from "./status.js";
import { isAnother, rounds, store, take } from "./store.js";
import { showTask, tickTask } from "./task.js";
import { startTheme } from "./theme.js";

const FIRST_ROUNDS = 64; // in the plots, without being asked for

// Which sections each part shows: it is drawn anew when one of them has changed.
const PARTS = [
  [showChoice, ["tasks", "task"]], [showTask, ["task", "training", "peer", "measured"]], [() => showRounds(showPlots), ["rounds", "round", "task"]], [showPlots, ["rounds", "round", "chain", "training", "measured"]],
  [showNetwork, ["peers", "peer"]], [showStakes, ["stakes", "left", "task", "peer", "peers"]], [showTransfers, ["transfers", "training"]], [showEvents, ["events"]],
  [showWarnings, ["peer", "peers", "chain"]],
];

const live = new Live(onMessage, (link) => showLink(link, () => live.start()));

async function onMessage(message) {
  if (isAnother(message)) {
    location.reload(); // its rounds are others, and so may be this page's files
    return;
  }
  take(message);
  const changed = new Set(Object.keys(message.sections));
  for (const [show, names] of PARTS) if (names.some((name) => changed.has(name))) attempt(show);
  attempt(showOverview);
  attempt(showLog);
  await fillPlots(changed.has("rounds"));
  if (changed.has("chain")) await refresh();
}

async function fillPlots(isNew) {
  if (isNew && store.rounds.size && store.rounds.size < FIRST_ROUNDS && rounds()[0].round > 1) await loadOlder();
}

// Another task was chosen, or has changed.
async function onChoice() {
  for (const show of [showChoice, showTask, () => showRounds(showPlots), showPlots, showStakes, showOverview]) attempt(show);
  await fillPlots(true);
}

// A part that fails says so, and takes no other part with it.
function attempt(show) {
  try {
    show();
  } catch (error) {
    console.error(error);
    if (!byId("warnings").querySelector("[data-fault]")) {
      byId("warnings").append(h("div", { class: "banner bad", "data-fault": true }, h("p", {}, `A part of this page failed, and may be out of date: ${error.message}`)));
    }
  }
}

function markPlace() {
  const links = [...document.querySelectorAll(".top nav a")];
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links) {
        const isHere = link.hash === `#${entry.target.id}`;
        if (isHere) link.setAttribute("aria-current", "location"); // without a value it says that it is not
        else link.removeAttribute("aria-current");
        if (isHere) link.parentElement.scrollLeft = link.offsetLeft - link.parentElement.clientWidth / 2; // a phone shows five
      }
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  for (const section of document.querySelectorAll("main > section")) observer.observe(section);
}

for (const id of ["cards", "task-body", "plots-body", "rounds-body", "peers-body", "stakes-body", "transfers-body", "events-body", "log-body"]) {
  byId(id).append(h("div", { class: "loading", "data-loading": true }, h("span", {}, "Asking the peer…")));
}
startTheme(recolour);
startChoice(onChoice);
markPlace();
live.start();
setInterval(() => {
  tick();
  tickTask();
  if (store.sections.chain && !document.body.classList.contains("stale")) attempt(showOverview);
}, 1000);
