// What the peer has said so far. Sections are replaced whole; rounds and lines of the log are gathered, within bounds.

export const MAX_ROUNDS = 256; // in the plots and the list
const MAX_LINES = 400;

export const store = { sections: {}, rounds: new Map(), task: null, lines: [], at: 0, skew: 0 };

export function take(message) {
  const { sections, log, at } = message;
  Object.assign(store.sections, sections);
  store.at = at;
  store.skew = at - Date.now() / 1000;
  if (sections.rounds && sections.rounds.task !== store.task) {
    store.task = sections.rounds.task;
    store.rounds.clear();
  }
  addRounds([...(sections.rounds?.rounds ?? []), ...(sections.round ? [sections.round] : [])]);
  if (log.reset) store.lines = [];
  store.lines = [...store.lines, ...log.rows].slice(-MAX_LINES);
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
