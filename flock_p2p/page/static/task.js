// The running task: where its round is, who sits in it, who is waited for.

import { account } from "./account.js";
import { badge, bar, byId, empty, h } from "./dom.js";
import { count, id, inCoins, PHASES, plural, seconds, VERDICTS } from "./format.js";
import { isElsewhere, now, store } from "./store.js";

const PAPER = "1"; // the paper's voting rule: one sealed vote on the aggregate, no tally, no adoption
let deadline = null;

export function showTask() {
  const { task, training, measured } = store.sections;
  const body = byId("task-body");
  if (!task && isElsewhere()) {
    body.replaceChildren(empty(`Task ${store.chosen}`, store.failure || "This peer is asked for it."));
    return;
  }
  if (!task) {
    body.replaceChildren(empty("No task yet", "When somebody opens one on this network, it appears here by itself."));
    return;
  }
  body.replaceChildren(h("div", { class: "card" }, stale(), head(task), progress(task), steps(task), clock(task),
    task.is_ended ? null : h("div", { class: "seats" }, proposers(task, measured), voters(task)), running(training, task, measured), skipped(measured, task), facts(task)));
  tickTask();
}

const stale = () => (isElsewhere() && store.failure ? h("p", { class: "small" }, badge("out of date", "warn"), ` ${store.failure}`) : null);

function head(task) {
  const state = task.is_ended ? badge("ended") : task.phase === "WAITING" ? badge("waiting for participants", "warn") : badge("running", "good");
  return h("div", { class: "task-head" }, h("h3", {}, h("bdi", {}, task.name ?? "Task")), h("span", { class: "muted" }, `task ${task.task}`), state,
    task.is_stopped && !task.is_ended ? badge("stopped by its creator", "warn") : null);
}

function progress(task) {
  const total = Number(task.terms.rounds);
  const done = task.is_ended ? total : Math.max(0, task.round - 1);
  const extra = task.round > total ? ` (${task.round - total} extra)` : "";
  const text = task.is_ended ? `${plural(task.round, "round")} done` : `Round ${task.round} of ${total}${extra}`;
  return [h("p", {}, h("strong", {}, text)), bar(total ? done / total : 0, text)];
}

function steps(task) {
  if (task.is_ended) return null;
  const audits = task.terms.audit_rounds !== "0";
  const isPaper = task.terms.voting_rule === PAPER;
  const names = Object.keys(PHASES).filter((name) => !["WAITING", "ENDED"].includes(name)
    && (audits || name !== "AUDIT") && !(isPaper && ["TALLY", "ADOPT"].includes(name)));
  const at = names.indexOf(task.phase);
  return h("ol", { class: "steps", "aria-label": "Phases of the round" }, names.map((name, index) =>
    h("li", { class: index < at ? "done" : "", "aria-current": index === at ? "step" : null }, PHASES[name])));
}

function clock(task) {
  deadline = task.is_ended || !task.deadline ? null : task;
  return h("p", { class: "muted small", id: "deadline" });
}

// A phase ends as soon as everybody drawn has acted; the deadline is for those who do not.
export function tickTask() {
  const line = byId("deadline");
  if (!line || !deadline) return;
  const since = Math.max(0, now() - (store.sections.chain?.head_timestamp ?? now()));
  const left = deadline.deadline - deadline.chain_time - since;
  const waited = deadline.awaited.length ? `waiting for ${plural(deadline.awaited.length, "peer")}` : "nobody is waited for";
  const text = left > 0 ? `${waited} · this phase ends in at most ${seconds(left)}` : `${waited} · the phase's time is over, the next block ends it`;
  if (line.textContent !== text) line.textContent = text;
}

function seats(title, rows, task, states) {
  const items = rows.map((row) => h("li", {}, account(row.account, { domain: true }), h("span", { class: "state" },
    task.awaited.includes(row.account) ? badge("awaited", "warn") : null, states(row))));
  return h("div", {}, h("h4", {}, `${title} (${rows.length})`), items.length ? h("ul", {}, items) : h("p", { class: "muted small" }, "Not drawn yet."));
}

function proposers(task, measured) {
  return seats("Proposers", task.proposers, task, (row) => {
    if (row.verdict !== "NONE") return badge(...VERDICTS[row.verdict]);
    if (!row.committed) return uncommitted(row, task, measured);
    return badge(row.held ? "held by voters" : row.revealed ? "revealed" : "committed", "good");
  });
}

// Once the phase is over nobody trains for it any more, and who skips the round trains in none.
function uncommitted(row, task, measured) {
  if (task.phase !== "COMMIT") return badge("missed", "warn");
  return row.account === store.sections.peer.account && skips(measured, task) ? badge("skips this round", "warn") : badge("training");
}

const skips = (measured, task) => measured?.task === task.task && measured.skipped?.round === task.round;

function voters(task) {
  return seats("Voters", task.voters, task, (row) =>
    badge(row.adopted ? "adoption vote" : row.revealed ? "scores open" : row.committed ? "scores sealed" : row.attested ? "has the files" : "fetching", row.attested ? "good" : ""));
}

function running(training, task, measured) {
  const { step, steps } = training.latest;
  const mine = task.phase === "COMMIT" && task.proposers.some((row) => row.account === store.sections.peer.account && !row.committed);
  if (!mine || !steps || skips(measured, task)) return null;
  return h("div", { style: { "margin-top": "1rem" } }, h("p", { class: "small" }, `This peer trains: step ${step} of ${steps}`), bar(step / steps, "Training here"));
}

// Without a word the owner would take the peer for one that was not drawn.
function skipped(measured, task) {
  const row = measured?.task === task.task ? measured.skipped : null;
  return row ? h("p", { class: "small" }, badge(`skipped round ${row.round}`, "warn"), " ", h("bdi", {}, row.why)) : null;
}

// Who looks on should know where a round adds more, or less, than other tasks do.
const rate = (thousandths) => (!thousandths || thousandths === 1000 ? [] : [["A round adds", `${thousandths / 1000} times the mean`]]);

function facts(task) {
  const members = task.participants.length;
  const rows = [
    ["Participants", `${members}, at least ${task.terms.min_participants}`], ["Pot left", inCoins(task.pot)],
    ["Least bond", inCoins(task.terms.min_bond)], ["Voting rule", task.terms.voting_rule === PAPER ? "the paper's, on the aggregate" : "on each proposal"],
    ["Audits", task.terms.audit_rounds === "0" ? "none" : `every ${plural(Number(task.terms.audit_rounds), "round")}`],
    ["LoRA", task.lora ? `rank ${task.lora.rank}, ${count(task.parameters)} parameters` : "document not here yet"],
    ...rate(task.server_lr_thousandths),
    ["Adapter", h("code", { title: task.adapter }, id(task.adapter))], ["Creator", account(task.creator)],
  ];
  return h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}
