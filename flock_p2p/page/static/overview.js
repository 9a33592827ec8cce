// The six numbers that a person looks for first.

import { byId, h, keep } from "./dom.js";
import { bytes, coins, count, exactly, inCoins, PHASES, plural, seconds } from "./format.js";
import { isElsewhere, now, store } from "./store.js";
import { age } from "./status.js";

export function showOverview() {
  const { peer, peers, chain, task, training } = store.sections;
  if (!peer || !chain) return;
  const up = ` · up ${seconds(now() - peer.started_at)}`;
  if (byId("network").textContent !== peer.network + up) byId("network").replaceChildren(h("bdi", {}, peer.network), up);
  document.title = task && !task.is_ended ? `Round ${task.round} · ${peer.network}` : `${peer.network} · flock-p2p`;
  keep(byId("cards"), [
    height(chain), network(peer, peers), round(task), loss(training, task), balance(peer, task), disk(peer, training),
  ], (row) => row.name, card);
}

const card = ({ name, value, unit, note, title }) => h("dl", { class: "card stat" },
  h("dt", {}, name), h("dd", { class: "value", title }, value, unit ? h("small", {}, ` ${unit}`) : null), h("dd", { class: "note" }, note));

function height(chain) {
  const { p50, p95 } = chain.finality;
  const finality = p50 === null ? "no transaction seen yet" : `final in ${p50.toFixed(2)} s, 95 % within ${p95.toFixed(2)} s`;
  return { name: "Height", value: count(chain.height), unit: "", note: `block ${age(chain.head_timestamp)} ago · ${finality}` };
}

function network(peer, peers) {
  const here = peer.validators - peers.away_count;
  const note = `${here} of ${plural(peer.validators, "validator")} reachable${peer.has_quorum ? "" : ": no quorum"}`;
  return { name: "Peers", value: count(peers.count), unit: "connected", note };
}

function round(task) {
  if (!task) return { name: "Round", value: "–", unit: "", note: isElsewhere() ? `task ${store.chosen} is not here` : "no task on this network yet" };
  const unit = task.round > task.terms.rounds ? `after ${task.terms.rounds} guaranteed` : `of ${task.terms.rounds}`;
  if (task.is_ended) return { name: "Round", value: task.round, unit, note: "the task has ended" };
  return { name: "Round", value: task.round || "–", unit, note: `phase: ${PHASES[task.phase] ?? task.phase}` };
}

function loss(training, task) {
  const { step, steps, loss: value } = training.latest;
  if (typeof value !== "number") return { name: "Training", value: "–", unit: "", note: task && !task.is_ended ? "not this peer's turn yet" : "nothing to train" };
  return { name: "Training loss", value: value.toFixed(3), unit: "nats/token", note: `step ${step ?? "?"} of ${steps ?? "?"} of the last training here` };
}

// The bond is the board's word: the peer itself takes no part in a task that had ended when it was started.
function balance(peer, task) {
  const role = peer.is_validator ? (peer.not_signing ? "validator, not signing" : "validator") : "follows the chain";
  const bond = task?.participants.find((row) => row.account === peer.account)?.bond ?? "0";
  const bonded = bond === "0" ? "" : ` · ${coins(bond)} more bonded to task ${task.task}`;
  return { name: "Balance in coins", value: cut(peer.balance), unit: "", note: `${role}${bonded}`, title: inCoins(peer.balance, 18) };
}

const cut = (wei) => (coins(wei, 2) === exactly(wei) ? coins(wei, 2) : `${coins(wei, 2)}…`);

function disk(peer, training) {
  return { name: "Contents", value: bytes(peer.disk.used), unit: "", note: `of ${bytes(peer.disk.quota)} · sent ${bytes(training.sent)}, received ${bytes(training.received)}` };
}
