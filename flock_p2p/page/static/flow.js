// What comes and goes: files under way, and the news of the chain.

import { account } from "./account.js";
import { badge, bar, byId, empty, h, keep } from "./dom.js";
import { bytes, count, id, inCoins, plural, seconds, time, VERDICTS } from "./format.js";
import { store } from "./store.js";

export function showTransfers() {
  const { transfers, training } = store.sections;
  if (!transfers) return;
  const body = byId("transfers-body");
  if (!transfers.rows.length) {
    const text = `Sent ${bytes(training.sent)} and received ${bytes(training.received)} of files since this peer started.`;
    body.replaceChildren(empty("Nothing is being fetched", text));
    return;
  }
  if (!body.firstChild?.classList.contains("card")) body.replaceChildren(h("ul", { class: "card" }));
  keep(body.firstChild, transfers.rows, (row) => row.file, (row) => {
    const share = row.bytes ? row.done / row.bytes : 0;
    const left = row.eta_seconds === null ? "" : `, ${seconds(row.eta_seconds)} left`;
    return h("li", { class: "transfer" }, h("p", { class: "small" }, h("span", {}, "File ", h("code", { title: row.file }, id(row.file)), ` from ${plural(Object.keys(row.providers).length, "peer")}`),
      h("span", { class: "muted" }, `${bytes(row.done)} of ${bytes(row.bytes)}, ${bytes(row.bytes_per_second)}/s${left}`)), bar(share, `File ${id(row.file)}`));
  });
}

const TEXTS = {
  "TaskBoard.TaskOpened": ["opened a task with a pot of", ""], "TaskBoard.TaskStopped": ["The task was stopped by its creator", "warn"], "TaskBoard.TaskEnded": ["The task has ended, with what is left of the pot:", ""],
  "TaskBoard.Joined": ["bonded", "good"], "TaskBoard.Left": ["left, taking back", ""], "TaskBoard.Adopted": ["The voters have settled on a global adapter", ""],
  "TaskBoard.Accused": ["is accused; held are", "warn"], "TaskBoard.Convicted": ["was convicted by more than half of all stake and lost", "bad"], "TaskBoard.Freed": ["was cleared, and has back", "good"],
  "TaskBoard.Slashed": ["was slashed", "bad"], "TaskBoard.Audited": ["was looked at in an audit", ""], "TaskBoard.AuditClosed": ["An audit closed", ""],
  "TaskBoard.Struck": ["has strikes, for proposals in a row that more than half of all stake named:", "warn"], "TaskBoard.Unseated": ["was away too long and is drawn no more", "warn"],
  "TaskBoard.Rejoined": ["came back", ""], "TaskBoard.FellBack": ["The adapter before came back: the newer one could not be had", "warn"],
  "Stake.Bonded": ["bonded as validator", ""], "Stake.Unbonding": ["asked to take out of its stake", ""], "Stake.Delegated": ["bonded with a validator", ""], "Stake.Undelegated": ["asked to take back from a validator", ""],
  "Stake.Jailed": ["was jailed: it did not vote", "warn"], "Stake.Unjailed": ["is back from jail", ""],
  "Stake.Admitted": ["was admitted as validator", "good"], "Stake.Convicted": ["signed twice, and is convicted", "bad"], "Stake.Slashed": ["lost of its stake", "bad"],
  "Stake.DelegatorSlashed": ["lost of what it had bonded with a validator", "bad"],
};

export function showEvents() {
  const { events, chain } = store.sections;
  if (!events || !chain) return;
  const body = byId("events-body");
  if (!events.rows.length) {
    body.replaceChildren(empty("No news yet", `Bonds, verdicts and slashes appear here. Blocks were read from height ${count(events.since)} on.`));
    return;
  }
  if (!body.querySelector("ul")) body.replaceChildren(h("div", { class: "card flush limited", tabindex: "0", role: "region", "aria-label": "Events" }, h("ul", { class: "events" })));
  const seen = new Map();
  const rows = events.rows.map((row) => {
    const key = `${row.height} ${row.contract} ${row.event} ${row.account}`;
    seen.set(key, (seen.get(key) ?? 0) + 1);
    return { ...row, key: `${key} ${seen.get(key)}` };
  });
  keep(body.querySelector("ul"), rows, (row) => row.key, describe);
}

function describe(row) {
  const [text, tone] = row.event === "Verdict" ? ["", ""] : TEXTS[`${row.contract}.${row.event}`] ?? [row.event, ""];
  const amount = row.amount && row.event !== "Verdict" && !(row.event === "Audited" && row.amount === "0") ? inCoins(row.amount) : "";
  const where = [row.task ? `task ${row.task}` : "", row.round ? `round ${row.round}` : "", row.audit ? `audit ${row.audit}` : "", `height ${count(row.height)}`].filter(Boolean).join(", ");
  return h("li", {}, h("time", {}, time(row.timestamp)), row.account ? account(row.account) : null,
    row.event === "Verdict" ? badge(...(VERDICTS[row.verdict] ?? [row.verdict, ""])) : h("span", { class: tone === "bad" ? "bad" : "" }, text, amount ? h("strong", {}, ` ${amount}`) : ""),
    marks(row), h("span", { class: "where" }, where));
}

function marks(row) {
  if (row.event === "Audited" && !row.flags.length) return badge("not found guilty", "good");
  return row.flags.map((flag) => badge(flag, flag === "void" ? "" : "bad"));
}
