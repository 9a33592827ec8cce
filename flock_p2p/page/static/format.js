// Numbers and names as people read them, with their units. Knows no element.

const WEI = 10n ** 18n;

export function coins(wei, digits = 4) {
  const value = BigInt(wei ?? 0);
  const sign = value < 0n ? "−" : "";
  const whole = (value < 0n ? -value : value) / WEI;
  const part = ((value < 0n ? -value : value) % WEI).toString().padStart(18, "0").slice(0, digits).replace(/0+$/, "");
  if (!whole && !part && value) return `${sign}<${digits ? `0.${"0".repeat(digits - 1)}1` : "1"}`;
  const grouped = whole.toString().replace(/\B(?=(\d{3})+$)/g, "\u2009");
  return sign + grouped + (part ? `.${part}` : "");
}

// Every digit that there is: what is shown of a balance may be cut, so this stands where somebody can look.
export const exactly = (wei) => coins(wei, 18);

export const inCoins = (wei, digits) => `${coins(wei, digits)} ${BigInt(wei ?? 0) === WEI ? "coin" : "coins"}`;

export const coinsNumber = (wei) => Number(BigInt(wei ?? 0) / 10n ** 12n) / 1e6;

export function bytes(count) {
  if (!Number.isFinite(count)) return "–";
  if (count < 1000) return `${count} B`;
  let value = count;
  for (const unit of ["kB", "MB", "GB", "TB"]) {
    value /= 1000;
    if (value < 1000) return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)} ${unit}`;
  }
  return `${value.toFixed(0)} TB`;
}

export function seconds(value) {
  const whole = Math.max(0, Math.round(value));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export const short = (account) => (account ? `${account.slice(0, 6)}…${account.slice(-4)}` : "–");
export const id = (hex) => (hex ? hex.slice(0, 10) : "–");
export const count = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, "\u2009");
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;
export const time = (unix) => new Date(unix * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
export const ppm = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${(Math.abs(value) / 10000).toFixed(2)} %`;

export const VERDICTS = {
  NONE: ["not judged", ""], ACCEPTED: ["accepted", "good"], REJECTED_LOSS: ["rejected: loss", "warn"],
  REJECTED_NORM: ["rejected: norm", "warn"], ACCUSED_NORM: ["accused: norm", "bad"], DUPLICATE: ["copy", "warn"],
  VOID: ["void", ""], INVALID: ["accused: invalid bytes", "bad"], UNOPENED: ["never opened", "bad"],
  REJECTED_AGGREGATE: ["round rejected", "warn"],
};

export const PHASES = {
  WAITING: "Waiting", DRAW_PROPOSERS: "Draw", COMMIT: "Train", DRAW_VOTERS: "Draw voters", REVEAL: "Reveal",
  AVAILABILITY: "Fetch", SCORE_COMMIT: "Score", SCORE_REVEAL: "Open scores", TALLY: "Tally", ADOPT: "Adopt",
  AUDIT: "Audit", ENDED: "Ended",
};

// The same account has the same colour on every page: an aid to the eye, no proof of anything.
export function hue(account) {
  let sum = 0;
  for (const each of account) sum = (sum * 31 + each.charCodeAt(0)) % 3600;
  return `hsl(${sum / 10} 62% 52%)`;
}
