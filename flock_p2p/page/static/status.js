// What is wrong, above everything else: the peer is gone, or says that something needs its owner.

import { byId, h } from "./dom.js";
import { count, plural, seconds, short } from "./format.js";
import { now, store } from "./store.js";

const FEW_VALIDATORS = 4;
const CLOCK_SECONDS = 5;
let link = { state: "connecting" };
let seenAt = 0;
let shown = "";

export function showLink(next, retry) {
  if (next.state === "live") seenAt = Date.now();
  const changed = next.state !== link.state;
  link = next;
  document.body.classList.toggle("stale", link.state === "gone" && seenAt > 0);
  const pill = byId("link");
  const [text, tone] = { connecting: ["Connecting…", ""], live: ["Live", "good"], gone: ["Peer gone", "bad"] }[link.state];
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = `pill ${tone}`;
  const gone = byId("gone");
  if (link.state !== "gone") gone.replaceChildren();
  else if (changed || !gone.firstChild) {
    gone.replaceChildren(h("div", { class: "banner bad" },
      h("p", {}, h("strong", {}, "The peer does not answer. "), h("span", { id: "gone-why" }), " ",
        h("span", { id: "gone-when", "aria-live": "off" })),
      h("button", { type: "button", onclick: retry }, "Try now")));
  }
  tick();
}

export function tick() {
  if (link.state !== "gone" || !byId("gone-why")) return;
  const why = seenAt
    ? "What you see is how it was when it last did. It may have been stopped: peer.log in its home says why."
    : "It has not answered since this page was opened.";
  const text = link.reason || why;
  if (byId("gone-why").textContent !== text) byId("gone-why").textContent = text;
  const left = Math.max(0, Math.ceil((link.again - Date.now()) / 1000));
  const next = seenAt ? `It last answered ${seconds((Date.now() - seenAt) / 1000)} ago; trying` : "Trying";
  byId("gone-when").textContent = `${next} again ${left ? `in ${left} s` : "now"}.`;
}

export function showWarnings() {
  const { peer, peers, chain } = store.sections;
  if (!peer || !chain) return;
  const rows = warnings(peer, peers, chain);
  if (JSON.stringify(rows) === shown) return; // a screen reader hears each once
  shown = JSON.stringify(rows);
  byId("warnings").replaceChildren(...rows.map(([tone, text]) => h("div", { class: `banner ${tone}` }, h("p", {}, text))));
}

function warnings(peer, peers, chain) {
  const rows = [];
  if (peer.sync) {
    const left = peer.sync.eta_seconds === null ? "" : `, about ${seconds(peer.sync.eta_seconds)} left`;
    rows.push(["info", `Catching up with the network: block ${count(peer.sync.height)} of ${count(peer.sync.target)}${left}. What is below is as of that block.`]);
  }
  if (peer.not_signing) rows.push(["bad", `This validator does not sign blocks: ${peer.not_signing}`]);
  if (peer.is_silent && !peer.has_quorum) {
    const names = peers.away.slice(0, 4).map(short).join(", ");
    rows.push(["bad", `The chain stands still: validators with a third or more of the stake are not connected to this peer (${plural(peers.away_count, "validator")}: ${names}). It goes on by itself when they come back; if they never will, see "restart" in docs/validators.md.`]);
  }
  if (peer.stops_before !== null) rows.push(["warn", `This version of flock-p2p cannot go on from epoch ${count(peer.stops_before)} on, for the network's rules change there (it is epoch ${count(chain.epoch)} now): install a newer one before.`]);
  if (peer.validators < FEW_VALIDATORS) rows.push(["warn", `Only ${plural(peer.validators, "validator")}: the chain stops when one of them leaves.`]);
  const offset = peer.clock_offset?.seconds ?? peer.clock_offset;
  if (typeof offset === "number" && Math.abs(offset) > CLOCK_SECONDS) rows.push(["warn", `This machine's clock is about ${Math.abs(offset).toFixed(0)} s ${offset > 0 ? "ahead of" : "behind"} the other peers': set it by NTP, and start the peer again.`]);
  return rows;
}

export const age = (timestamp) => seconds(now() - timestamp);
