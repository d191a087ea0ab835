// @ts-check
/**
 * The schedule plot: an element that draws the outline of a run as SVG. It knows nothing of ComfyUI.
 *
 * @typedef {object} Call one model call, as solvers/outline.py writes it
 * @property {number} call
 * @property {number} sigma
 * @property {number | null} lam
 * @property {number} step
 * @property {number} to
 * @property {number | null} order
 * @property {number | null} predicted
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

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 38, right: 12, top: 10, bottom: 18 };
/** Orders 1 to 4; those between are mixed. Told apart also by people who see few colours, on dark and on light ground. */
const COLOURS = [
  [92, 124, 226],
  [22, 158, 138],
  [226, 148, 20],
  [222, 76, 120],
];
const UNKNOWN = "#8a8f98";

const STYLE = `
:host { display: block; box-sizing: border-box; width: 100%; min-width: 0; height: 100%; min-height: 170px; contain: layout paint style inline-size;
  --ground: var(--comfy-input-bg, #222); }
:host([data-vue]) { height: 200px; --ground: var(--component-node-widget-background, var(--comfy-input-bg, #222)); }
.box { display: flex; flex-direction: column; height: 100%; min-height: 170px; box-sizing: border-box; padding: 6px 8px 5px; gap: 2px;
  border-radius: 8px; background: var(--ground); color: var(--input-text, #ddd); font: 11px/1.35 Inter, system-ui, sans-serif;
  user-select: none; overflow: hidden; }
.head, .foot { display: flex; align-items: center; gap: 8px; min-width: 0; flex: none; }
.title { font-weight: 600; white-space: nowrap; }
.what, .note { color: var(--descrip-text, #999); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; min-width: 0; flex: 1; }
.note.warn { color: var(--warning-background, #d9922b); }
.badge { border-radius: 4px; padding: 0 5px; border: 1px solid currentColor; opacity: .75; font-size: 10px; white-space: nowrap; }
.axes { display: flex; border: 1px solid var(--border-color, #4e4e4e); border-radius: 5px; overflow: hidden; flex: none; }
.axes button { all: unset; cursor: pointer; padding: 1px 8px; font-size: 12px; line-height: 15px; color: var(--descrip-text, #999); }
.axes button[aria-pressed="true"] { background: var(--border-color, #4e4e4e); color: var(--input-text, #ddd); }
.axes button:focus-visible { outline: 2px solid rgb(92 124 226); outline-offset: -2px; }
.chart { position: relative; flex: 1; min-height: 110px; }
svg { position: absolute; inset: 0; width: 100%; height: 100%; display: block; overflow: hidden; }
.empty { position: absolute; inset: 0; display: flex; align-items: center; justify-content: center; text-align: center; padding: 0 16px;
  color: var(--descrip-text, #999); white-space: normal; }
.grid { stroke: var(--border-color, #4e4e4e); stroke-opacity: .45; }
.band { fill: var(--input-text, #ddd); fill-opacity: .055; }
.tick, .caption { fill: var(--descrip-text, #999); font-size: 10px; }
.path { fill: none; stroke: var(--descrip-text, #999); stroke-width: 1.4; stroke-opacity: .75; }
.path.open { stroke-dasharray: 3 3; }
.dot { stroke: var(--ground); stroke-width: 1; }
.end { fill: var(--ground); stroke: var(--descrip-text, #999); stroke-width: 1.4; }
.ring { fill: none; stroke: var(--input-text, #ddd); stroke-width: 1.5; }
.stem { stroke: var(--input-text, #ddd); stroke-opacity: .35; stroke-dasharray: 2 3; }
.tip { position: absolute; pointer-events: none; padding: 3px 7px; border-radius: 5px; white-space: nowrap; z-index: 1;
  background: var(--comfy-menu-bg, #353535); color: var(--input-text, #ddd); border: 1px solid var(--border-color, #4e4e4e);
  box-shadow: 0 2px 8px rgb(0 0 0 / .25); }
:host([data-edit]) .dot { cursor: ns-resize; }
.tip b { font-weight: 600; }
.legend { display: flex; gap: 7px; flex: none; color: var(--descrip-text, #999); }
.legend i { display: inline-block; width: 8px; height: 8px; border-radius: 50%; margin-right: 3px; }
`;

/**
 * @param {number | null} order
 * @returns {string}
 */
export function colourOf(order) {
  if (order === null) return UNKNOWN;
  const at = Math.min(Math.max(order, 1), COLOURS.length) - 1;
  const low = Math.min(Math.floor(at), COLOURS.length - 2);
  const mixed = COLOURS[low].map((v, i) => Math.round(v + (COLOURS[low + 1][i] - v) * (at - low)));
  return `rgb(${mixed.join(" ")})`;
}

/**
 * @param {number} value
 * @returns {string}
 */
export function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(size >= 100 ? 4 : 3)));
}

/**
 * A label's number: "0" rather than "-0", a true minus.
 * @param {number} value
 */
function signed(value) {
  return short(Math.abs(value) < 1e-9 ? 0 : value).replace("-", "−");
}

/**
 * Round values inside of a range, about `count` of them.
 * @param {number} low
 * @param {number} high
 * @param {number} count
 * @returns {number[]}
 */
export function ticks(low, high, count) {
  const raw = (high - low) / Math.max(count, 1);
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * (/** @type {number} */ ([1, 2, 5, 10].find((s) => s * power >= raw * 0.999)) || 10);
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) found.push(v);
  return found;
}

/**
 * What a run is in one line, for people who do not see the picture.
 * @param {Plan} plan
 * @returns {string}
 */
export function described(plan) {
  const calls = plan.evaluations === null ? "as many model calls as its tolerance asks" : counted(plan.evaluations);
  const levels = plan.calls.map((c) => short(c.sigma)).slice(0, 40);
  return `${plan.solver}: ${calls}` + (levels.length ? ` at sigma ${levels.join(", ")}` : "");
}

/** @param {number} n */
function counted(n) {
  return `${n} model call${n === 1 ? "" : "s"}`;
}

export class Plot {
  /**
   * @param {(look: Look) => void} [onLook] called when the user changes the axis
   * @param {() => void} [onSize] called when the element has another size, or is shown at all
   */
  constructor(onLook, onSize) {
    this.element = document.createElement("div");
    this.element.className = "dpm-solver-ext-plot";
    this.element.textContent = "The steps of this run: needs a browser that draws."; // what a page without shadow trees shows
    this.root = this.element.attachShadow({ mode: "open" });
    /** @type {Plan | null} */
    this.plan = null;
    /** @type {"sigma" | "lam"} */
    this.axis = "sigma";
    this.ran = false;
    this.message = "";
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
    this.onLook = onLook;
    this.build();
    this.sized = new ResizeObserver(() => {
      this.draw();
      onSize?.();
    });
    this.sized.observe(this.part("chart"));
  }

  /** The fixed parts, once. @private */
  build() {
    this.root.innerHTML = `<style>${STYLE}</style><div class="box" role="img"><div class="head"><span class="title"></span>
<span class="what"></span><span class="badge" hidden></span><span class="axes" role="group" aria-label="axis">
<button data-axis="sigma" title="Noise level: sigma">σ</button><button data-axis="lam" title="Half log signal-to-noise: lambda">λ</button>
</span></div><div class="chart"><svg></svg><div class="empty"></div><div class="tip" hidden></div></div>
<div class="foot"><span class="note"></span><span class="legend"></span></div></div>`;
    for (const button of this.root.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        this.look({ axis: button.dataset.axis === "lam" ? "lam" : "sigma" });
        this.onLook?.({ axis: this.axis });
      });
    }
    const chart = this.part("chart");
    chart.addEventListener("pointermove", (event) => this.point(event));
    chart.addEventListener("pointerleave", () => this.held === null && this.hover(null));
    chart.addEventListener("pointerdown", (event) => this.grab(event));
    chart.addEventListener("pointerup", () => this.drop());
    chart.addEventListener("pointercancel", () => this.drop());
  }

  /**
   * @param {string} name a class of `build`
   * @returns {HTMLElement}
   * @private
   */
  part(name) {
    return /** @type {HTMLElement} */ (this.root.querySelector(`.${name}`));
  }

  /** @param {Look} look */
  look(look) {
    this.axis = look.axis === "lam" ? "lam" : "sigma";
    this.draw();
  }

  /**
   * @param {Plan} plan
   * @param {boolean} ran whether this is a run that took place
   */
  show(plan, ran) {
    [this.plan, this.ran, this.message, this.near] = [plan, ran, "", this.held];
    this.draw();
  }

  /** One sentence in place of the picture. @param {string} sentence */
  say(sentence) {
    [this.plan, this.ran, this.message, this.near] = [null, false, sentence, null];
    this.draw();
  }

  destroy() {
    this.sized.disconnect();
  }

  draw() {
    const { plan } = this;
    this.element.toggleAttribute("data-edit", !!this.onDrag);
    this.element.toggleAttribute("data-vue", !!this.element.closest("[data-node-id]")); // Nodes 2.0: other colours, and no height of its own
    const calls = plan?.evaluations ?? null;
    this.part("title").textContent = !plan ? "Steps" : calls === null ? "adaptive" : counted(calls);
    this.part("what").title = plan?.solver ?? "";
    this.part("what").textContent = (plan?.solver ?? "").replace(/^multistep /, ""); // what most are; there is little room
    this.part("badge").hidden = !this.ran;
    this.part("badge").textContent = "as it ran";
    const note = plan?.notes?.[0] ?? "";
    this.part("note").textContent = note || plan?.source || "";
    this.part("note").title = plan?.notes?.length ? plan.notes.join("\n") : (plan?.source ?? "");
    this.part("note").classList.toggle("warn", !!note);
    this.part("box").setAttribute("aria-label", plan ? described(plan) : this.message);
    for (const button of this.root.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.axis === this.axis));
    }
    const empty = this.part("empty");
    empty.textContent = plan?.calls.length ? "" : this.message || (plan ? "Chooses its own steps as it runs." : "");
    empty.hidden = !empty.textContent;
    const orders = new Set((plan?.calls ?? []).flatMap((c) => (c.order === null ? [] : [Math.round(c.order)])));
    this.part("legend").innerHTML = orders.size
      ? `order ${[...orders].sort().map((o) => `<span><i style="background:${colourOf(o)}"></i>${o}</span>`).join(" ")}`
      : "";
    this.chart();
    this.hover(this.near);
  }

  /** The axes, the way and the dots. @private */
  chart() {
    const svg = /** @type {SVGSVGElement} */ (this.root.querySelector("svg"));
    svg.replaceChildren();
    this.dots = [];
    const { plan } = this;
    const { clientWidth: width, clientHeight: height } = this.part("chart");
    if (!plan?.calls.length || width < 80 || height < 60) return;
    const total = Math.max(plan.evaluations ?? 0, ...plan.calls.map((c) => c.call + 1));
    /** @param {{sigma: number, lam: number | null}} at */
    const value = (at) => (this.axis === "sigma" ? at.sigma : at.lam);
    const end = plan.last ? { sigma: plan.last[0], lam: plan.last[1] } : null;
    const finite = [...plan.calls.map(value), end ? value(end) : null].filter((v) => v !== null);
    let [low, high] = [Math.min(...finite), Math.max(...finite)];
    if (!(high > low)) [low, high] = [low - 1, high + 1];
    if (this.axis === "lam") [low, high] = [low - 0.04 * (high - low), high + 0.04 * (high - low)];
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
      if (this.axis === "sigma") return v;
      return plan.path === "flow" ? 1 / (1 + Math.exp(v)) : Math.exp(-v);
    };
    this.bands(svg, x, top, bottom);
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
   * @param {SVGSVGElement} svg
   * @param {(n: number) => number} x
   * @param {number} top
   * @param {number} bottom
   * @private
   */
  bands(svg, x, top, bottom) {
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
      const middle = (Math.max(a, MARGIN.left) + b) / 2;
      const caption = name === "start" ? "start" : "final";
      if (b - a > 26) add(group, "text", { class: "caption", x: middle, y: bottom - 4, "text-anchor": "middle" }, caption);
      add(group, "title", {}, name === "start" ? "Start-up: fewer model calls to learn from" : "Final rule: a lower order at the end");
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
    this.part("chart").setPointerCapture(event.pointerId);
  }

  /** @private */
  drop() {
    if (this.held === null) return;
    this.held = null;
    this.onDrag?.();
  }

  /** @param {PointerEvent} event @private */
  point(event) {
    const box = this.part("chart").getBoundingClientRect();
    const scale = box.width / (this.part("chart").clientWidth || 1) || 1; // the canvas zooms its widgets by a transform
    const at = (event.clientX - box.left) / scale;
    const dot = this.held === null ? undefined : this.dots[this.held];
    if (dot) {
      const sigma = this.onDrag?.(dot.call.sigma, this.sigmaAt((event.clientY - box.top) / scale)) ?? null;
      if (sigma === null) return;
      dot.call.sigma = sigma; // at once; the server's answer follows
      dot.call.lam = this.plan?.path === "flow" ? Math.log((1 - sigma) / sigma) : -Math.log(sigma);
      this.near = this.held;
      this.draw();
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
    const tip = this.part("tip");
    const svg = this.root.querySelector("svg");
    svg?.querySelectorAll(".ring, .stem").forEach((e) => e.remove());
    const dot = index === null ? undefined : this.dots[index];
    tip.hidden = !dot;
    if (!dot || !svg) return;
    const { call } = dot;
    const chart = this.part("chart");
    add(svg, "line", { class: "stem", x1: dot.x, x2: dot.x, y1: MARGIN.top, y2: chart.clientHeight - MARGIN.bottom });
    add(svg, "circle", { class: "ring", cx: dot.x, cy: dot.y, r: 6 });
    const lam = call.lam === null ? (call.sigma === 0 ? "∞" : "−∞") : signed(Number(call.lam.toFixed(2)));
    const order = call.order === null ? "" : ` · order ${short(call.order)}${call.predicted === null ? "" : `, ${short(call.predicted)} at first`}`;
    const part = call.part === "start" ? " · start-up" : call.part === "final" ? " · final rule" : "";
    tip.innerHTML = `<b>call ${call.call + 1}</b> · σ ${short(call.sigma)} · λ ${lam}<br>step ${call.step + 1}${order}${part}`;
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
