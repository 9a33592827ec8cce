// What the plots show: losses and verdicts over rounds, audits, finality, traffic, the training that runs.

import { Chart, fromZero, plots } from "./chart.js";
import { bytes, short } from "./format.js";
import { rounds, store } from "./store.js";

const percent = (value) => `${value > 0 ? "+" : ""}${+value.toFixed(2)} %`;
const seconds = (value) => `${+value.toFixed(2)} s`;
const nats = (value) => value.toFixed(3);
const LINES = ["--plot-1", "--plot-2", "--plot-3", "--plot-4"];
const GROUPS = [
  ["accepted", "--good", (seat) => seat.verdict === "ACCEPTED"],
  ["accused or slashed", "--bad", (seat) => seat.verdict === "ACCUSED_NORM" || seat.verdict === "INVALID" || seat.slashed !== "0", { size: 11 }],
  ["rejected", "--warn", (seat) => seat.verdict.startsWith("REJECTED") || seat.verdict === "DUPLICATE", { isHollow: true }],
  ["not judged", "--muted", () => true],
];
const GUILTY = 25; // per cent: an auditor names from here on (flock_chain.audit_rule)
const SUSPECT = 20;
const FAR = 10; // per cent of the loss: no proposal in good faith changes it by so much
let charts = null;
let ceiling = Infinity; // of the changes: what is refused unread has 100,000 %, beside which all others would be one line
const change = (value) => (value === ceiling ? `over ${percent(ceiling)}` : percent(value));

function make() {
  const parent = plots();
  parent.replaceChildren();
  return {
    change: new Chart(parent, { title: "Loss change by proposal", caption: "Median of what the voters measured on their own rows at a quarter step, in per cent of the loss. Below zero is better; what is far above the others, or was refused for what it recites, stands at the upper edge.",
      series: GROUPS.map(([name, color, , shape]) => ({ name, color, kind: "points", ...shape })), empty: "No round was tallied yet.", format: change, tick: percent, xName: "round" }),
    loss: new Chart(parent, { title: "Loss on this peer's own rows", caption: "Nats per token on its hold-out, which nobody else sees: of the adapter each round began with, and of what came of it here.",
      series: [{ name: "global adapter", color: "--plot-1" }, { name: "candidate, as voter", color: "--plot-3", kind: "points" }, { name: "own training", color: "--plot-2", kind: "points", isHollow: true }],
      empty: "This peer has measured nothing yet: it does when it is drawn.", format: nats, xName: "round" }),
    audit: new Chart(parent, { title: "Audit for planted text", caption: `How surely each accepted proposal, amplified, makes the model recite a string of words that nothing before it calls for, as this peer measured. From ${GUILTY} % on it names the proposer. Drawn are the ${LINES.length} accounts that came highest.`,
      series: [], empty: "No audit was measured here yet; a task has them where its terms say so.", format: (value) => `${+value.toFixed(1)} %`, xName: "audit",
      range: (_, low, high) => [Math.min(0, (low ?? 0) * 1.1), Math.max(35, (high ?? 0) * 1.1)] }),
    training: new Chart(parent, { title: "Training here", caption: "Loss of the training that runs on this peer, or ran last, by step.",
      series: [{ name: "loss, nats per token", color: "--plot-2" }], empty: "Nothing was trained here since this peer started.", format: nats, xName: "step" }),
    finality: new Chart(parent, { title: "Time to finality", caption: "From accepting a transaction here to its final block: the last 200, the newest on the right.",
      series: [{ name: "seconds", color: "--plot-1", kind: "points", size: 4 }], empty: "No transaction became final here yet.", format: seconds, xName: "transaction", range: fromZero }),
    traffic: new Chart(parent, { title: "Traffic by round", caption: "Bytes of files that this peer sent and received in each round, since it started.",
      series: [{ name: "sent and received", color: "--plot-4", kind: "bars" }], empty: "No file was sent or fetched in a round yet.", format: (value) => bytes(Math.max(0, value)), xName: "round", range: fromZero }),
  };
}

export function showPlots() {
  const { chain, training, measured } = store.sections;
  if (!chain) return;
  charts ??= make();
  charts.change.draw(changes(rounds()));
  charts.loss.draw(losses(measured.losses));
  const [audits, lines] = audit(measured.audits);
  charts.audit.draw(audits, lines);
  charts.training.draw(columns(training.curve));
  charts.finality.draw([chain.finality.samples.map((_, index) => index + 1), chain.finality.samples]);
  charts.traffic.draw(columns(Object.entries(training.bytes_by_round).map(([number, value]) => [Number(number), value])));
}

export const recolour = () => Object.values(charts ?? {}).forEach((chart) => chart.recolour());

const columns = (rows) => [rows.map((row) => row[0]), rows.map((row) => row[1])];

function changes(rows) {
  const medians = rows.flatMap((row) => row.proposers.map((seat) => seat.median)).filter((value) => value !== null);
  const near = medians.map((value) => value / 10_000).filter((value) => Math.abs(value) < FAR);
  ceiling = near.length === medians.length ? Infinity : 1.5 * Math.max(1, ...near.map(Math.abs));
  const data = [[], ...GROUPS.map(() => [])];
  for (const row of rows) {
    row.proposers.forEach((seat, index) => {
      if (seat.median === null) return;
      data[0].push(row.round + (index - (row.proposers.length - 1) / 2) * Math.min(0.14, 0.7 / row.proposers.length));
      const group = GROUPS.findIndex(([, , fits]) => fits(seat));
      GROUPS.forEach((_, number) => data[number + 1].push(number === group ? Math.min(ceiling, seat.median / 10_000) : null));
    });
  }
  return data;
}

function losses(rows) {
  const numbers = [...new Set(rows.map((row) => row.round))].sort((a, b) => a - b);
  const of = (number, role) => rows.find((row) => row.round === number && row.role === role);
  return [numbers, numbers.map((n) => (of(n, "voter") ?? of(n, "proposer")).before), numbers.map((n) => of(n, "voter")?.after ?? null), numbers.map((n) => of(n, "proposer")?.after ?? null)];
}

function audit(rows) {
  const accounts = [...new Set(rows.flatMap((row) => Object.keys(row.values)))].sort();
  const worst = (name) => Math.max(...rows.map((row) => row.values[name] ?? 0));
  const shown = accounts.sort((a, b) => worst(b) - worst(a)).slice(0, LINES.length);
  const marks = shown.length ? [[SUSPECT, "suspicious", "--warn"], [GUILTY, "named", "--bad"]] : [];
  const data = [shown.length ? rows.map((row) => row.audit) : [], ...shown.map((name) => rows.map((row) => (name in row.values ? row.values[name] / 10_000 : null))), ...marks.map(([level]) => rows.map(() => level))];
  const lines = [...shown.map((name, index) => ({ name: short(name), color: LINES[index] })), ...marks.map(([level, name, color]) => ({ name: `${name} from ${level} %`, color, dash: [6, 4] }))];
  return [data, lines];
}
