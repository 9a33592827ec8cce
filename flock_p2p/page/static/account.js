// One account, wherever it is named: a colour, the ends of the address, whether it is this peer, and its domain.

import { badge, h } from "./dom.js";
import { hue, short } from "./format.js";
import { nameOfDomain, own } from "./store.js";

export function account(address, { domain = false } = {}) {
  const text = domain ? nameOfDomain(address) : "";
  return h("span", { class: "account" },
    h("i", { style: { background: hue(address) }, "aria-hidden": "true" }),
    h("code", { title: address }, short(address)),
    address === own() ? badge("this peer", "you") : null,
    text ? h("bdi", { class: "muted small clip" }, text) : null);
}
