// Every round: who proposed, what the voters measured, the verdict, what it cost. Older ones come when asked for.

import { account } from "./account.js";
import { badge, byId, empty, h, keep, table } from "./dom.js";
import { coins, id, inCoins, plural, ppm, VERDICTS } from "./format.js";
import { addRounds, MAX_ROUNDS, rounds, store } from "./store.js";

const ANSWER_MS = 15_000;
let frame = null;
let failure = "";
let busy = false;
let drawPlots = () => {};

export function showRounds(onMore) {
  drawPlots = onMore;
  const body = byId("rounds-body");
  const rows = rounds().filter((row) => row.proposers.length).reverse();
  if (!rows.length) {
    frame = null;
    body.replaceChildren(empty("No round yet", "A round begins when enough participants have bonded to a task."));
    return;
  }
  if (!frame || frame.list.parentElement !== body) {
    frame = { list: h("div", {}), more: h("div", { class: "tools", style: { "margin-top": ".75rem" } }) };
    body.replaceChildren(frame.list, frame.more);
  }
  const running = store.sections.task?.is_ended ? null : store.sections.task?.round;
  keep(frame.list, rows.map((row) => ({ ...row, running: row.round === running })), (row) => row.round, describe);
  showMore(rows.length);
}

function describe(row) {
  const counts = new Map();
  for (const seat of row.proposers) counts.set(seat.verdict, (counts.get(seat.verdict) ?? 0) + 1);
  const badges = row.running && !row.tallied
    ? [badge("running", "good")]
    : [...counts].map(([name, number]) => badge(`${number} ${(VERDICTS[name] ?? [name, ""])[0]}`, (VERDICTS[name] ?? ["", ""])[1]));
  const slashed = row.proposers.reduce((sum, seat) => sum + BigInt(seat.slashed), 0n);
  const cost = slashed ? badge(`${inCoins(slashed)} slashed`, "bad") : null;
  const after = row.adapter_after && row.adapter_after !== row.adapter_before && /[1-9a-f]/.test(row.adapter_after);
  return h("details", { class: "card round", open: row.running },
    h("summary", {}, h("strong", {}, `Round ${row.round}`), badges, cost,
      h("span", { class: "end" }, after ? ["adapter ", h("code", { title: row.adapter_after }, id(row.adapter_after))] : row.settled ? "adapter unchanged" : "")),
    h("div", { class: "inside" }, proposals(row), voters(row), pay(row)));
}

function proposals(row) {
  return table(`Proposals of round ${row.round}`, [["Proposer", ""], ["Verdict", ""], ["Loss change", "num"], ["Slashed", "num"]],
    row.proposers.map((seat) => [account(seat.account, { domain: true }), verdict(seat), seat.median === null ? "–" : ppm(seat.median),
      seat.slashed === "0" ? "–" : inCoins(seat.slashed)]));
}

function verdict(seat) {
  const [text, tone] = VERDICTS[seat.verdict] ?? [seat.verdict, ""];
  const more = seat.accusation;
  if (!more) return badge(text, tone);
  const held = `${inCoins(more.held)} were held`;
  const share = more.total ? `${Math.round((100 * more.guilty) / more.total)} % of all stake say guilty, ${Math.round((100 * more.innocent) / more.total)} % not` : "";
  return [badge(text, tone), " ", badge(more.state, more.state === "convicted" ? "bad" : more.state === "cleared" ? "good" : "warn"),
    h("span", { class: "muted small" }, ` ${held}; ${share}`)];
}

function voters(row) {
  if (!row.voters.length) return null;
  return h("p", { class: "small", style: { "margin-top": ".6rem" } }, h("span", { class: "muted" }, "Voters: "),
    row.voters.map((seat, index) => [index ? ", " : "", account(seat.account), seat.revealed ? "" : h("span", { class: "muted" }, " (no scores)")]));
}

function pay(row) {
  if (!row.settled) return null;
  const text = row.per_proposer === "0" && row.per_voter === "0" ? "Nobody was paid." : `Paid: ${inCoins(row.per_proposer)} to each accepted proposer, ${coins(row.per_voter)} to each voter.`;
  return h("p", { class: "small muted" }, text);
}

function showMore(shown) {
  const oldest = rounds()[0].round;
  if (oldest <= 1 || store.rounds.size >= MAX_ROUNDS) {
    frame.more.replaceChildren(h("span", { class: "muted" }, oldest <= 1 ? `All ${plural(shown, "round")}.` : `The last ${MAX_ROUNDS} rounds are shown.`));
    return;
  }
  if (frame.more.querySelector("button") && !failure) return;
  frame.more.replaceChildren(h("button", { type: "button", onclick: loadOlder }, "Older rounds"), h("span", { class: "muted", role: "status" }, failure));
}

export async function loadOlder() {
  if (busy || !store.rounds.size) return;
  busy = true;
  const [task, oldest] = [store.task, rounds()[0].round];
  try {
    const answer = await fetch(`/api/rounds?task=${task}&before=${oldest}`, { signal: AbortSignal.timeout(ANSWER_MS) });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const page = await answer.json();
    failure = "";
    if (task === store.task) addRounds(page.rounds);
  } catch (error) {
    if (task === store.task) failure = `They cannot be had now: ${error.message}`;
  } finally {
    busy = false;
  }
  if (frame) frame.more.replaceChildren();
  showRounds(drawPlots);
  drawPlots();
}
