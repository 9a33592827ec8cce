// Elements from values. Whatever another peer wrote becomes a text node: nothing here, or on this page, parses HTML.

const SVG = "http://www.w3.org/2000/svg";
const ATTRIBUTES = new Set([
  "id", "title", "href", "for", "type", "role", "tabindex", "open", "scope", "selected", "colspan", "datetime", "value", "checked",
  "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height", "viewBox", "text-anchor", "stroke-width",
]);

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.setAttribute("class", value);
    else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "href" && !String(value).startsWith("#")) throw new Error("links stay on this page");
    else if (ATTRIBUTES.has(name) || name.startsWith("aria-") || name.startsWith("data-")) {
      element.setAttribute(name, value === true ? "" : String(value));
    } else throw new Error(`no attribute ${name}`);
  }
  element.append(...children.flat(3).filter((each) => each !== null && each !== undefined && each !== false)
    .map((each) => (each instanceof Node ? each : String(each))));
  return element;
}

export const h = (tag, properties = {}, ...children) => fill(document.createElement(tag), properties, children);
export const s = (tag, properties = {}, ...children) => fill(document.createElementNS(SVG, tag), properties, children);
export const byId = (id) => document.getElementById(id);

// A part that is drawn anew, of which regions of the same name keep focus and place: whoever reads there stays there.
export function redraw(parent, ...children) {
  const regions = () => [...parent.querySelectorAll("[tabindex][aria-label]")];
  const before = new Map(regions().map((each) => [each.ariaLabel, [each.scrollLeft, each.scrollTop, each === document.activeElement]]));
  parent.replaceChildren(...children);
  for (const each of regions()) {
    const [left, top, focused] = before.get(each.ariaLabel) ?? [0, 0, false];
    [each.scrollLeft, each.scrollTop] = [left, top];
    if (focused) each.focus({ preventScroll: true });
  }
}

// Children by key: a row that says the same keeps its element, and with it focus, selection and what is unfolded. What
// somebody unfolded or folded stays so; what was unfolded by itself is folded by itself.
export function keep(parent, rows, keyOf, make) {
  const known = parent.kept ?? new Map();
  const next = new Map();
  for (const row of rows) {
    const key = String(keyOf(row));
    const said = JSON.stringify(row);
    const before = known.get(key);
    if (before?.said === said) next.set(key, before);
    else {
      const element = make(row);
      const chosen = before?.chosen || (before !== undefined && before.element.open !== before.open);
      if (chosen) element.open = before.element.open;
      next.set(key, { said, element, chosen, open: element.open, focused: before?.element.contains(document.activeElement) });
    }
  }
  parent.kept = next;
  const focus = document.activeElement;
  place(parent, [...next.values()].map((each) => each.element));
  for (const each of next.values()) {
    if (each.focused) (each.element.querySelector("summary") ?? each.element).focus({ preventScroll: true });
    each.focused = false;
  }
  if (parent.contains(focus) && document.activeElement !== focus) focus.focus({ preventScroll: true });
}

// What is at its place already is not moved: an element that is taken out, even for a moment, loses selection and focus.
function place(parent, elements) {
  const wanted = new Set(elements);
  for (const each of [...parent.childNodes]) if (!wanted.has(each)) each.remove();
  let next = parent.firstChild;
  for (const each of elements) {
    if (each === next) next = next.nextSibling;
    else parent.insertBefore(each, next);
  }
}

export const empty = (title, text) => h("p", { class: "empty" }, h("strong", {}, title), text);
export const badge = (text, tone = "") => h("span", { class: `badge ${tone}` }, text);

export function table(caption, columns, rows) {
  const head = h("tr", {}, columns.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)));
  const body = rows.map((row) => h("tr", {}, row.map((cell, index) => h("td", { class: columns[index][1] }, cell))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, head), h("tbody", {}, body)));
}

export function bar(share, label) {
  const percent = Math.round(100 * Math.max(0, Math.min(1, share)));
  return h("div", { class: "bar", role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100",
    "aria-valuenow": percent }, h("i", { style: { width: `${percent}%` } }));
}
