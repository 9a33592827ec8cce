// Who holds what: this peer's stakes, the validators' weights, the participants' bonds.

import { account } from "./account.js";
import { badge, bar, byId, empty, h, redraw, table } from "./dom.js";
import { coins, coinsNumber, exactly, inCoins, plural, time } from "./format.js";
import { leftBehind } from "./left.js";
import { store } from "./store.js";

const SHOWN = 64;
let said = "";

export function showStakes() {
  const { stakes, task, peer, peers, measured, left } = store.sections;
  if (!stakes || !peer || !peers) return;
  const now = JSON.stringify([stakes, task?.participants, peers.away, peer.balance, measured?.pay, left]);
  if (now === said) return;
  said = now;
  redraw(byId("stakes-body"), h("div", { class: "cards" }, own(stakes, task, peer, measured?.pay, left)), ...leftBehind(left), h("div", { class: "net", style: { "margin-top": ".75rem" } },
    h("div", { class: "card" }, h("h3", {}, "Consensus"), validators(stakes, peers)), h("div", { class: "card flush" }, participants(task))));
}

function own(stakes, task, peer, pay, left) {
  const mine = task?.participants.find((row) => row.account === peer.account);
  const leaving = stakes.unbonding === "0" ? "" : `${inCoins(stakes.unbonding)} leaving`;
  return [
    stat("Validator stake", coins(stakes.stake), [stakes.delegated === "0" ? "" : `${coins(stakes.delegated)} delegated to it`, leaving, stakes.jailed_until ? `jailed until ${time(stakes.jailed_until)}` : ""]),
    stat("Bond in this task", coins(mine?.bond ?? "0"), [mine ? (mine.held === "0" ? "" : `${coins(mine.held)} held by an accusation`) : "takes no part in it"]),
    stat("Earned in this task", coins(pay?.total), [pay ? `${inCoins(pay.amount)} in round ${pay.round}` : "nothing by this peer's seats yet", "claimed by the peer itself"]),
    stat("Rewards to claim", coins(stakes.reward), ["of consensus; the command stake claim pays them out"]),
    stat("Free balance", coins(peer.balance), ["pays gas and new bonds", left?.length ? "more is left in ended tasks, below" : "", coins(peer.balance) === exactly(peer.balance) ? "" : `exactly ${exactly(peer.balance)}`]),
  ];
}

const stat = (name, value, notes) => h("dl", { class: "card stat" }, h("dt", {}, name), h("dd", { class: "value" }, value, h("small", {}, " coins")), h("dd", { class: "note" }, notes.filter(Boolean).join(" · ")));

function validators(stakes, peers) {
  const total = coinsNumber(stakes.total) || 1;
  const rows = [...stakes.validators].sort((a, b) => coinsNumber(b.weight) - coinsNumber(a.weight));
  const items = rows.slice(0, SHOWN).map((row) => {
    const share = coinsNumber(row.weight) / total;
    return h("li", { class: "transfer" }, h("p", { class: "small" }, h("span", {}, account(row.account), " ", peers.away.includes(row.account) ? badge("not connected", "warn") : null),
      h("span", { class: "muted" }, `${inCoins(row.weight, 2)} · ${(100 * share).toFixed(1)} %`)), bar(share, `Share of ${row.account}`));
  });
  const more = rows.length > SHOWN ? h("p", { class: "small muted" }, `${rows.length - SHOWN} more.`) : null;
  return [h("p", { class: "muted small" }, `${plural(rows.length, "validator")}, ${inCoins(stakes.total, 0)}; blocks need more than two thirds.`), h("ul", { class: "limited", tabindex: "0", "aria-label": "Validators" }, items), more];
}

function participants(task) {
  if (!task) return empty("No task", "Bonds are paid into tasks.");
  if (!task.participants.length) return empty("Nobody has bonded yet", "Peers bond by themselves when they join.");
  const rows = task.participants.map((row) => [account(row.account), h("bdi", { class: "clip" }, row.domain || "–"), inCoins(row.bond), row.last_accepted ? `round ${row.last_accepted}` : "–", state(row)]);
  return table("Participants of the task", [["Participant", ""], ["Domain", ""], ["Bond", "num"], ["Last accepted", "num"], ["State", ""]], rows);
}

function state(row) {
  return [row.is_expelled ? badge("expelled", "bad") : row.strikes ? badge(plural(row.strikes, "strike"), "warn") : null, row.is_suspended ? badge("suspended", "bad") : null, row.held !== "0" ? badge(`${coins(row.held)} held`, "warn") : null, row.is_unseated ? badge("unseated", "warn") : null,
    row.is_leaving ? badge("leaving") : null, row.missed ? badge(`missed ${row.missed}`, "warn") : null].filter(Boolean);
}
