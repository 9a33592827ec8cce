// Which task is shown: the one that the peer tells of by itself, or another one, which is asked for while it is chosen.
// The choice is in the page's address, so that it can be kept and passed on.

import { byId, h } from "./dom.js";
import { inCoins, PHASES, plural } from "./format.js";
import { choose, isElsewhere, store, takeOther } from "./store.js";

const ANSWER_MS = 15_000;
const LEAST_MS = 2_000; // between two questions, however fast blocks come
const ENDED_MS = 30_000; // of a task that has ended
let onChange = () => {};
let asked = 0;
let busy = false;
let said = "";

export function startChoice(change) {
  onChange = change;
  const number = Number(new URLSearchParams(location.search).get("task"));
  if (Number.isSafeInteger(number) && number > 0) choose(number);
}

export function showChoice() {
  const { tasks, task } = store.live;
  const rows = tasks?.tasks ?? [];
  const known = rows.some((row) => row.task === store.chosen);
  const now = JSON.stringify([rows, task?.task, store.chosen]);
  if (now === said) return;
  said = now;
  const body = byId("task-choice");
  if (rows.length < 2 && store.chosen === null) {
    body.replaceChildren();
    return;
  }
  const option = (value, text) => h("option", { value, selected: String(store.chosen ?? "") === value }, text);
  const options = [option("", task ? `as this peer: task ${task.task}` : "as this peer"), ...rows.map((row) => option(String(row.task), describe(row)))];
  if (store.chosen !== null && !known) options.push(option(String(store.chosen), `Task ${store.chosen}`));
  const hidden = (tasks?.count ?? 0) - rows.length;
  if (!body.querySelector("select")) {
    body.replaceChildren(h("div", { class: "tools" }, h("label", { for: "task-number" }, "Show"),
      h("select", { id: "task-number", onchange: (event) => pick(event.target.value) }), h("span", { class: "muted" })));
  }
  body.querySelector("select").replaceChildren(...options); // the element stays, and with it the focus
  body.querySelector("span").textContent = hidden > 0 ? `and ${plural(hidden, "older one")}: ?task=N in the address` : "";
}

function describe(row) {
  const where = row.is_ended ? "ended" : row.round ? `${nameRound(row.round, row.rounds)}, ${PHASES[row.phase] ?? row.phase}` : "waiting";
  return `Task ${row.task}: ${where}, pot ${inCoins(row.pot)}, ${plural(row.participants, "participant")}`;
}

function pick(value) {
  choose(value === "" ? null : Number(value));
  const address = new URL(location.href);
  if (store.chosen === null) address.searchParams.delete("task");
  else address.searchParams.set("task", value);
  history.replaceState(null, "", address);
  asked = 0;
  onChange();
  refresh();
}

// Asks for the chosen task where the peer does not tell of it by itself; called when there is a new block.
export async function refresh() {
  const number = store.chosen;
  if (!isElsewhere() || busy || Date.now() - asked < (store.other?.task.is_ended ? ENDED_MS : LEAST_MS)) return;
  [busy, asked] = [true, Date.now()];
  try {
    const answer = await fetch(`/api/task?task=${number}`, { signal: AbortSignal.timeout(ANSWER_MS) });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const { sections } = await answer.json();
    if (number === store.chosen) takeOther(sections);
  } catch (error) {
    if (number === store.chosen) takeOther(null, `It cannot be shown now: ${error.message}`);
  } finally {
    busy = false;
  }
  onChange();
  if (number !== store.chosen) {
    asked = 0; // another one was picked meanwhile
    await refresh();
  }
}

function nameRound(number, guaranteed) { // as the command line says it
  return number <= guaranteed ? `round ${number} of ${guaranteed}` : `extra round ${number - guaranteed} after ${guaranteed}`;
}
