// What the account still has in tasks that have ended, and the order that fetches it: as `status` says it.

import { h } from "./dom.js";
import { exactly, inCoins, seconds } from "./format.js";

const TITLE = "Left in tasks that have ended";

// A list: empty where nothing is left.
export function leftBehind(rows) {
  if (!rows?.length) return [];
  return [h("div", { class: "card flush left" }, h("h3", {}, TITLE),
    h("ul", { class: "events limited", tabindex: "0", "aria-label": TITLE }, rows.flatMap(amounts)))];
}

function amounts(row) {
  const when = row.free_in ? `in ${seconds(row.free_in)} of chain time` : "now";
  const told = [
    ["bond", "bonded", "leave", "begins to take it back"], ["unbonding", "unbonding", "withdraw", `pays it out ${when}`],
    ["claimable", "earned and not claimed", "claim", "pays it out"], ["pot", "of its pot", "pot", "takes it back"],
  ];
  return told.filter(([name]) => row[name] !== "0").map(([name, what, order, does]) => h("li", {},
    h("span", { class: "muted" }, `Task ${row.task}`), h("span", { title: `${exactly(row[name])} coins` }, `${inCoins(row[name])} ${what}`),
    h("span", { class: "where" }, h("code", {}, `task ${order} --task ${row.task}`), ` ${does}`)));
}
