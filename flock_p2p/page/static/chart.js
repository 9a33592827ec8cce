// One plot on uPlot: title, what it shows in words, a legend of our own, an empty state, and its numbers as a table.

import { byId, h, table } from "./dom.js";

const HEIGHT = 210;
const TABLE_ROWS = 40;
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
  #plot = null;
  #said = "";
  #drawn = null;

  // `series`: [{name, color (a CSS variable), kind: line | points | bars, dash, size, isHollow}], in the order of the data's columns.
  constructor(parent, { title, caption, series, empty, format, tick = format, xName, range }) {
    Object.assign(this, { title, series, empty, format, tick, xName, range });
    this.canvas = h("div", { class: "canvas", "aria-hidden": "true" });
    this.legend = h("ul", { class: "legend" });
    this.numbers = h("details", {}, h("summary", {}, "Numbers"));
    this.caption = h("figcaption", {}, caption);
    this.figure = h("figure", { class: "card plot" }, h("h3", {}, title), this.caption, this.canvas, this.legend, this.numbers);
    parent.append(this.figure);
    this.numbers.addEventListener("toggle", () => this.#fillNumbers());
    new ResizeObserver(() => this.#resize()).observe(this.canvas);
  }

  // `data`: columns, x first; null where there is no value. `series` may change with it.
  draw(data, series = this.series) {
    const said = JSON.stringify([data, series]);
    if (said === this.#said) return;
    this.#said = said;
    const same = this.#plot && JSON.stringify(series) === JSON.stringify(this.series);
    [this.series, this.#drawn] = [series, data];
    if (!data[0].length) this.#clear();
    else if (same) this.#plot.setData(data);
    else this.#build();
    this.#fillNumbers();
  }

  recolour() {
    if (this.#drawn?.[0].length) this.#build();
  }

  #clear() {
    this.#plot?.destroy();
    this.#plot = null;
    this.canvas.replaceChildren(h("p", { class: "empty" }, this.empty));
    this.legend.replaceChildren();
  }

  #build() {
    this.#plot?.destroy();
    this.canvas.replaceChildren();
    const axis = { stroke: css("--muted"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: `11px ${css("--sans")}` };
    this.#plot = new uPlot({
      width: Math.max(200, this.canvas.clientWidth), height: HEIGHT, legend: { show: false }, cursor: { y: false, drag: { x: false, y: false } },
      scales: { x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low - 0.4, high + 0.4]) }, y: { range: this.range ?? padded } },
      axes: [{ ...axis, size: 26, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] }, { ...axis, size: 64, values: (_, ticks) => ticks.map(this.tick) }],
      series: [{}, ...this.series.map((each) => this.#describe(each))],
      hooks: { setCursor: [(plot) => this.#tell(plot.cursor.idx)] },
    }, this.#drawn, this.canvas);
    this.#tell(null);
  }

  #describe({ color, kind, dash, size, isHollow }) {
    const stroke = css(color) || color;
    if (kind === "points") return { stroke, paths: () => null, points: { show: true, size: size ?? 8, width: 2, fill: isHollow ? css("--surface") : stroke, stroke } };
    if (kind === "bars") return { stroke, fill: stroke, paths: uPlot.paths.bars({ size: [0.7, 40] }), points: { show: false } };
    return { stroke, width: dash ? 1.25 : 2, dash, spanGaps: true, points: { show: !dash, size: 6, fill: stroke } };
  }

  #tell(index) {
    const at = index === null || index === undefined ? "" : `${this.xName} ${+this.#drawn[0][index].toFixed(2)}`;
    this.legend.replaceChildren(...this.series.map(({ name, color }, number) => {
      const value = index === null || index === undefined ? null : this.#drawn[number + 1][index];
      return h("li", {}, h("i", { style: { background: css(color) || color } }), name, value === null || value === undefined ? "" : h("strong", {}, this.format(value)));
    }), h("li", {}, at));
  }

  #fillNumbers() {
    if (!this.numbers.open || !this.#drawn) return;
    const data = this.#drawn;
    const rows = data[0].map((x, index) => [+x.toFixed(2), ...data.slice(1).map((column) => (column[index] === null ? "–" : this.format(column[index])))]);
    const columns = [[this.xName, "num"], ...this.series.map(({ name }) => [name, "num"])];
    this.numbers.replaceChildren(this.numbers.firstChild, table(`${this.title}, the last ${TABLE_ROWS}`, columns, rows.slice(-TABLE_ROWS).reverse()));
  }

  #resize() {
    if (this.#plot && this.canvas.clientWidth) this.#plot.setSize({ width: this.canvas.clientWidth, height: HEIGHT });
  }
}

function padded(_, low, high) {
  if (low === null) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * 0.12;
  return [low - room, high + room];
}

export const fromZero = (_, __, high) => [0, high > 0 ? high * 1.12 : 1];
export const plots = () => byId("plots-body");
