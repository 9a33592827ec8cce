// Who is connected: a map of this peer and its neighbours, and the same as a table.

import { account } from "./account.js";
import { badge, byId, empty, h, redraw, s, table } from "./dom.js";
import { bytes, plural, seconds, short } from "./format.js";
import { now, store } from "./store.js";

const MAX_NODES = 40;
const MAX_LABELS = 14;
let frame = null;

export function showNetwork() {
  const { peers, peer } = store.sections;
  if (!peers || !peer) return;
  const body = byId("peers-body");
  if (!frame) {
    frame = { map: h("div", { class: "card map" }), rows: h("div", { class: "card flush" }), said: "" };
    body.replaceChildren(h("div", { class: "net" }, frame.map, frame.rows));
    new ResizeObserver(() => draw()).observe(frame.map);
  }
  draw();
  const rows = peers.rows.map((row) => [account(row.account), [badge(row.is_validator ? "validator" : "peer", row.is_validator ? "good" : ""), " ", row.misdeeds ? badge(plural(row.misdeeds, "misdeed"), "bad") : ""],
    [row.address, h("span", { class: "muted small" }, row.is_outgoing ? " dialed" : " incoming")], seconds(now() - row.since), bytes(row.bytes_in), bytes(row.bytes_out)]);
  const columns = [["Account", ""], ["Role", ""], ["Address", ""], ["For", "num"], ["In", "num"], ["Out", "num"]];
  const invite = h("p", { class: "small muted", style: { padding: ".6rem .75rem", "overflow-wrap": "anywhere" } }, "Others join with ", h("code", {}, `--bootstrap ${peer.address}`));
  const content = rows.length ? [table("Connected peers", columns, rows)] : [empty("Nobody is connected", "This peer keeps looking; another one joins with the address below.")];
  const more = peers.count > peers.rows.length ? h("p", { class: "small muted" }, `${peers.count - peers.rows.length} more are connected.`) : null;
  redraw(frame.rows, ...content, ...(more ? [more] : []), invite);
}

function draw() {
  const { peers } = store.sections;
  const width = Math.round(frame.map.clientWidth - 36);
  if (!peers || width < 100) return;
  const nodes = [...peers.rows.map((row) => ({ ...row, away: false })), ...peers.away.map((name) => ({ account: name, away: true }))].slice(0, MAX_NODES);
  const said = JSON.stringify([width, nodes.map((row) => [row.account, row.away, row.is_validator, weight(row)])]);
  if (said === frame.said) return;
  frame.said = said;
  const height = Math.min(360, Math.max(240, width * 0.75));
  const [cx, cy] = [width / 2, height / 2];
  const [rx, ry] = [Math.max(40, cx - 58), cy - 34];
  const place = (index) => {
    const angle = (2 * Math.PI * index) / Math.max(1, nodes.length) - Math.PI / 2;
    return [cx + rx * Math.cos(angle), cy + ry * Math.sin(angle)];
  };
  const text = `This peer and ${plural(peers.count, "connected peer")}; ${plural(peers.away_count, "validator")} not connected.`;
  const edges = nodes.map((row, index) => row.away ? null : s("line", { class: "edge", x1: cx, y1: cy, x2: place(index)[0], y2: place(index)[1], "stroke-width": weight(row) }));
  const dots = nodes.map((row, index) => node(row, ...place(index), nodes.length <= MAX_LABELS, cy));
  frame.map.replaceChildren(s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": text }, edges, dots,
    s("circle", { class: "self", cx, cy, r: 12 }), s("text", { class: "you", x: cx, y: cy + 28, "text-anchor": "middle" }, "this peer")),
    h("ul", { class: "legend" }, mark("validator", "node"), mark("peer", "node plain"), peers.away_count ? mark("validator, not connected", "node away") : null, h("li", {}, "a thicker line carried more bytes")));
}

const weight = (row) => (row.away ? 0 : Math.round(10 * (1 + Math.log10(1 + (row.bytes_in + row.bytes_out) / 1e4))) / 10);
const mark = (name, kind) => h("li", {}, s("svg", { viewBox: "0 0 16 16", width: 14, height: 14 }, s("circle", { class: kind, cx: 8, cy: 8, r: 6 })), name);

function node(row, x, y, labelled, cy) {
  const kind = row.away ? "node away" : row.is_validator ? "node" : "node plain";
  const label = labelled ? s("text", { x, y: y + (y < cy ? -13 : 21), "text-anchor": "middle" }, short(row.account)) : null;
  const title = row.away ? `${row.account}: a validator that is not connected here` : `${row.account}: ${bytes(row.bytes_in)} in, ${bytes(row.bytes_out)} out`;
  return s("g", {}, s("title", {}, title), s("circle", { class: kind, cx: x, cy: y, r: 8 }), label);
}
