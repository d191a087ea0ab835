// @ts-check
/**
 * The drawn part of the schedule plot: axes, bands, dots, the value under the pointer, and dots that can be dragged.
 *
 * @typedef {object} Call one model call, as solvers/outline.py writes it
 * @property {number} call
 * @property {number} sigma
 * @property {number | null} lam
 * @property {number} step
 * @property {number} to
 * @property {number | null} order
 * @property {number | null} predicted
 * @property {boolean} [measured] absent from a server that is older than this page
 * @property {"" | "start" | "final"} part
 *
 * @typedef {object} Plan
 * @property {string} solver
 * @property {string} path
 * @property {string} source
 * @property {string[]} notes
 * @property {number} steps
 * @property {number | null} evaluations
 * @property {[number, number | null] | null} first
 * @property {[number, number | null] | null} last
 * @property {Call[]} calls
 * @property {string | null} [model]
 *
 * @typedef {{axis: "sigma" | "lam"}} Look
 */

import { short, signed, ticks } from "./numbers.js";
import { colourOf } from "./plot_style.js";
import { said } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 38, right: 12, top: 10, bottom: 18 };

export class Chart {
  /** @param {HTMLElement} element with an svg, and a box of the class "tip" */
  constructor(element) {
    this.element = element;
    this.svg = /** @type {SVGSVGElement} */ (element.querySelector("svg"));
    this.tip = /** @type {HTMLElement} */ (element.querySelector(".tip"));
    /** @type {Plan | null} */
    this.plan = null;
    /** @type {"sigma" | "lam"} */
    this.axis = "sigma";
    /** @type {{call: Call, x: number, y: number}[]} */
    this.dots = [];
    /** @type {number | null} */
    this.near = null;
    /** The dot that is dragged. @type {number | null} */
    this.held = null;
    /** What a drag does: called with the sigma of a dot as it was and as it shall be, gives what it became, and is called once without when
     * the drag ends; null: dots cannot be moved. @type {((from?: number, to?: number) => number | null) | null} */
    this.onDrag = null;
    /** The sigma at a height of the chart. @type {(y: number) => number} */
    this.sigmaAt = () => 0;
    element.addEventListener("pointermove", (event) => this.point(event));
    element.addEventListener("pointerleave", () => this.held === null && this.hover(null));
    element.addEventListener("pointerdown", (event) => this.grab(event));
    element.addEventListener("pointerup", () => this.drop());
    element.addEventListener("pointercancel", () => this.drop());
  }

  /**
   * The axes, the way and the dots.
   * @param {Plan | null} plan
   * @param {"sigma" | "lam"} axis
   */
  draw(plan, axis) {
    const { svg } = this;
    [this.plan, this.axis, this.dots] = [plan, axis, []];
    svg.replaceChildren();
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!plan?.calls.length || width < 80 || height < 60) return;
    const total = Math.max(plan.evaluations ?? 0, ...plan.calls.map((c) => c.call + 1));
    /** @param {{sigma: number, lam: number | null}} at */
    const value = (at) => (axis === "sigma" ? at.sigma : at.lam);
    const end = plan.last ? { sigma: plan.last[0], lam: plan.last[1] } : null;
    const finite = [...plan.calls.map(value), end ? value(end) : null].filter((v) => v !== null);
    let [low, high] = [Math.min(...finite), Math.max(...finite)];
    if (!(high > low)) [low, high] = [low - 1, high + 1];
    if (axis === "lam") [low, high] = [low - 0.04 * (high - low), high + 0.04 * (high - low)];
    const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom];
    /** @param {number} n */
    const x = (n) => left + 6 + ((n + 0.0) / Math.max(total, 1)) * (right - left - 12);
    /** @param {number | null} v @param {number} sigma */
    const y = (v, sigma) => {
      if (v === null) return sigma === 0 ? top - 2 : bottom + 2; // λ = ±∞
      return bottom - ((v - low) / (high - low)) * (bottom - top);
    };
    this.sigmaAt = (at) => {
      const v = low + ((bottom - at) / (bottom - top)) * (high - low);
      if (axis === "sigma") return v;
      return plan.path === "flow" ? 1 / (1 + Math.exp(v)) : Math.exp(-v);
    };
    this.bands(axis, x, top, bottom);
    for (const v of ticks(low, high, Math.max(2, Math.floor((bottom - top) / 34)))) {
      add(svg, "line", { class: "grid", x1: left, x2: right, y1: y(v, 1), y2: y(v, 1) });
      add(svg, "text", { class: "tick", x: left - 5, y: y(v, 1) + 3.5, "text-anchor": "end" }, signed(v));
    }
    for (const n of ticks(0, total, Math.max(2, Math.floor((right - left) / 60)))) {
      if (Number.isInteger(n)) add(svg, "text", { class: "tick", x: x(n), y: height - 5, "text-anchor": "middle" }, String(n));
    }
    this.dots = plan.calls.map((call) => ({ call, x: x(call.call), y: y(value(call), call.sigma) }));
    const inner = this.dots.filter((d) => value(d.call) !== null);
    add(svg, "polyline", { class: "path", points: inner.map((d) => `${d.x},${d.y}`).join(" ") });
    const [one, two, last] = [this.dots[0], this.dots[1], this.dots[this.dots.length - 1]];
    if (two && value(one.call) === null) add(svg, "line", { class: "path open", x1: one.x, y1: one.y, x2: two.x, y2: two.y });
    if (end) {
      const to = { x: x(total), y: y(value(end), end.sigma) };
      const open = value(end) === null;
      add(svg, "line", { class: `path${open ? " open" : ""}`, x1: last.x, y1: last.y, x2: to.x, y2: to.y });
      if (open) add(svg, "text", { class: "tick", x: to.x - 5, y: top + 8, "text-anchor": "end" }, "λ = ∞, σ = 0");
      add(svg, "circle", { class: "end", cx: to.x, cy: to.y, r: 3 });
    }
    const r = Math.max(1.6, Math.min(4.5, ((right - left) / total) * 0.32));
    for (const d of this.dots) {
      add(svg, "circle", { class: "dot", cx: d.x, cy: d.y, r, fill: colourOf(d.call.order), "data-call": d.call.call });
    }
  }

  /**
   * Start-up and final rules: where a step follows fewer model calls than the rest.
   * @param {"sigma" | "lam"} axis
   * @param {(n: number) => number} x
   * @param {number} top
   * @param {number} bottom
   * @private
   */
  bands(axis, x, top, bottom) {
    const { svg } = this;
    const calls = this.plan?.calls ?? [];
    const total = Math.max(this.plan?.evaluations ?? 0, 1);
    const start = calls.filter((c) => c.part === "start");
    const final = calls.filter((c) => c.part === "final");
    /** @type {[string, number, number][]} */
    const bands = [];
    if (start.length) bands.push(["start", 0, start[start.length - 1].call + 1]);
    if (final.length) bands.push(["final", final[0].call, total]);
    for (const [name, from, to] of bands) {
      const [a, b] = [x(from - (name === "start" ? 0.5 : 0.25)), x(to - (name === "start" ? 0.5 : -0.1))];
      const group = add(svg, "g", { class: `part ${name}` });
      add(group, "rect", { class: "band", x: Math.max(a, MARGIN.left), y: top - 6, width: Math.max(b - Math.max(a, MARGIN.left), 2), height: bottom - top + 6 });
      // in the corner of the band that the way does not come to
      const [at, anchor] = name === "start" ? [Math.max(a, MARGIN.left) + 3, "start"] : [b - 3, "end"];
      const low = (axis === "sigma") === (name === "start");
      add(group, "text", { class: "caption", x: at, y: low ? bottom - 4 : top + 4, "text-anchor": anchor }, said(name));
      add(group, "title", {}, said(name === "start" ? "Start-up: fewer model calls to learn from" : "Final rule: a lower order at the end"));
    }
  }

  /**
   * Take the dot under the pointer, if dots can be moved.
   * @param {PointerEvent} event
   * @private
   */
  grab(event) {
    if (!this.onDrag || event.button !== 0) return;
    event.stopPropagation(); // the node is not to be moved
    this.point(event);
    this.held = this.near;
    this.element.setPointerCapture(event.pointerId);
  }

  /** @private */
  drop() {
    if (this.held === null) return;
    this.held = null;
    this.onDrag?.();
  }

  /** @param {PointerEvent} event @private */
  point(event) {
    const box = this.element.getBoundingClientRect();
    const scale = box.width / (this.element.clientWidth || 1) || 1; // the canvas zooms its widgets by a transform
    const at = (event.clientX - box.left) / scale;
    const dot = this.held === null ? undefined : this.dots[this.held];
    if (dot) {
      const sigma = this.onDrag?.(dot.call.sigma, this.sigmaAt((event.clientY - box.top) / scale)) ?? null;
      if (sigma === null) return;
      dot.call.sigma = sigma; // at once; the server's answer follows
      dot.call.lam = this.plan?.path === "flow" ? Math.log((1 - sigma) / sigma) : -Math.log(sigma);
      this.near = this.held;
      this.draw(this.plan, this.axis);
      this.hover(this.near);
      return;
    }
    let best = null;
    for (const [i, d] of this.dots.entries()) {
      if (best === null || Math.abs(d.x - at) < Math.abs(this.dots[best].x - at)) best = i;
    }
    this.hover(best);
  }

  /**
   * Show the values of dot number `index`, or none.
   * @param {number | null} index
   */
  hover(index) {
    this.near = index;
    const { svg, tip, element: chart } = this;
    svg.querySelectorAll(".ring, .stem").forEach((e) => e.remove());
    const dot = index === null ? undefined : this.dots[index];
    tip.hidden = !dot;
    if (!dot) return;
    const { call } = dot;
    add(svg, "line", { class: "stem", x1: dot.x, x2: dot.x, y1: MARGIN.top, y2: chart.clientHeight - MARGIN.bottom });
    add(svg, "circle", { class: "ring", cx: dot.x, cy: dot.y, r: 6 });
    const lam = call.lam === null ? (call.sigma === 0 ? "∞" : "−∞") : signed(Number(call.lam.toFixed(2)));
    const first = call.predicted === null ? "" : `, ${short(call.predicted)} before its correction`;
    const order = call.order === null ? "" : ` · ${said(`order ${short(call.order)}${first}`)}`;
    const part = call.part === "" ? "" : ` · ${said(call.part === "start" ? "start-up" : "final rule")}`;
    const slope = call.measured ? ` · ${said("slope measured")}` : "";
    tip.innerHTML =
      `<b>${said(`call ${call.call + 1}`)}</b> · σ ${short(call.sigma)} · λ ${lam}${slope}<br>${said(`step ${call.step + 1}`)}${order}${part}`;
    const width = tip.offsetWidth;
    const wanted = dot.x > chart.clientWidth / 2 ? dot.x - width - 12 : dot.x + 12;
    tip.style.left = `${Math.max(0, Math.min(wanted, chart.clientWidth - width))}px`;
    tip.style.top = `${dot.y > chart.clientHeight / 2 ? Math.max(0, dot.y - tip.offsetHeight - 10) : dot.y + 8}px`;
  }
}

/**
 * @param {Element} parent
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {string} [text]
 * @returns {SVGElement}
 */
function add(parent, tag, attributes, text) {
  const made = /** @type {SVGElement} */ (document.createElementNS(SVG, tag));
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}
