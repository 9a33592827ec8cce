// What the peer has said so far. Sections are replaced whole; rounds and lines of the log are gathered, within bounds.

export const MAX_ROUNDS = 256; // in the plots and the list
const MAX_LINES = 400;
const NOTHING = {
  task: null, round: null, rounds: { task: null, last: 0, rounds: [], slashes_since: 0 }, measured: { task: null, losses: [], audits: [] },
};

// `live`: as the peer tells it by itself. `chosen`: the number of another task to show, null for the one that it tells
// of; `other`: its sections, once they are here; `failure`: why they are not. `sections`: what is shown.
export const store = { live: {}, chosen: null, other: null, failure: "", sections: {}, rounds: new Map(), task: null, lines: [], at: 0, skew: 0 };

export function take(message) {
  const { sections, log, at } = message;
  Object.assign(store.live, sections);
  store.at = at;
  store.skew = at - Date.now() / 1000;
  compose();
  if (log.reset) store.lines = [];
  store.lines = [...store.lines, ...log.rows].slice(-MAX_LINES);
}

export function choose(number) {
  store.chosen = number;
  takeOther(null);
}

// Of the chosen task; null where they cannot be had, with the reason.
export function takeOther(sections, failure = "") {
  store.other = sections ?? (failure ? store.other : null);
  store.failure = failure;
  compose();
}

export const isElsewhere = () => store.chosen !== null && store.live.task?.task !== store.chosen;

// Whether `message` is of another peer, or of another release, than what was heard at this address before.
export function isAnother(message) {
  const [before, now] = [store.live.peer, message.sections.peer];
  return Boolean(before && now) && ["account", "genesis", "version"].some((name) => before[name] !== now[name]);
}

function compose() {
  store.sections = { ...store.live, ...(isElsewhere() ? store.other ?? NOTHING : {}) };
  const { rounds, round } = store.sections;
  if (rounds && rounds.task !== store.task) {
    store.task = rounds.task;
    store.rounds.clear();
  }
  addRounds([...(rounds?.rounds ?? []), ...(round ? [round] : [])]);
}

export function addRounds(rows) {
  for (const row of rows) store.rounds.set(row.round, row);
  const numbers = [...store.rounds.keys()].sort((a, b) => a - b);
  for (const number of numbers.slice(0, Math.max(0, numbers.length - MAX_ROUNDS))) store.rounds.delete(number);
}

export const rounds = () => [...store.rounds.values()].sort((a, b) => a.round - b.round); // the oldest first
export const now = () => Date.now() / 1000 + store.skew; // by the peer's clock
export const own = () => store.sections.peer?.account;
export const nameOfDomain = (account) =>
  store.sections.task?.participants.find((row) => row.account === account)?.domain ?? "";
