// @ts-check
/**
 * The schedule plot: an element that draws the outline of a run as SVG. It knows nothing of ComfyUI.
 *
 * @typedef {import("./chart").Call} Call
 * @typedef {import("./chart").Plan} Plan
 * @typedef {{axis: "sigma" | "lam"}} Look
 */

import { Chart } from "./chart.js";
import { counted, described, short } from "./numbers.js";
import { STYLE, colourOf } from "./plot_style.js";
import { said } from "./words.js";

const MEASURED =
  "Measured in the run: how far a step leans on the last change between predictions. The order is that of leaning on it in full.";

export class Plot {
  /**
   * @param {(look: Look) => void} [onLook] called when the user changes the axis
   * @param {() => void} [onSize] called when the element has another size, or is shown at all
   */
  constructor(onLook, onSize) {
    this.element = document.createElement("div");
    this.element.className = "dpm-solver-ext-plot";
    this.root = this.element.attachShadow({ mode: "open" });
    this.root.innerHTML = `<style>${STYLE}</style><div class="box" role="img"><div class="head"><span class="title"></span>
<span class="badge" hidden></span><span class="mark" hidden></span><span class="axes" role="group" aria-label="${said("axis")}">
<button data-axis="sigma" title="${said("Noise level: sigma")}">σ</button>
<button data-axis="lam" title="${said("Half log signal-to-noise: lambda")}">λ</button>
</span></div><div class="chart"><svg></svg><div class="empty"></div><div class="tip" hidden></div></div>
<div class="foot"><span class="what"></span><span class="legend"></span></div><div class="note"></div></div>`;
    /** @type {Plan | null} */
    this.plan = null;
    /** @type {"sigma" | "lam"} */
    this.axis = "sigma";
    /** What the picture is, if it is no preview: of a run, or of a tuning. */
    this.badge = "";
    this.message = "";
    this.chart = new Chart(this.part("chart"));
    for (const button of this.root.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        this.look({ axis: button.dataset.axis === "lam" ? "lam" : "sigma" });
        onLook?.({ axis: this.axis });
      });
    }
    this.sized = new ResizeObserver(() => {
      this.draw();
      onSize?.();
    });
    this.sized.observe(this.part("chart"));
  }

  /** @param {((from?: number, to?: number) => number | null) | null} drag see `Chart` */
  set onDrag(drag) {
    this.chart.onDrag = drag;
    this.element.toggleAttribute("data-edit", !!drag);
  }

  /**
   * @param {string} name a class of what the constructor writes
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
   * @param {string} badge what it is of; "" for a preview
   */
  show(plan, badge) {
    [this.plan, this.badge, this.message, this.chart.near] = [plan, badge, "", this.chart.held];
    this.draw();
  }

  /** One sentence in place of the picture. @param {string} sentence */
  say(sentence) {
    [this.plan, this.badge, this.message, this.chart.near] = [null, "", sentence, null];
    this.draw();
  }

  destroy() {
    this.sized.disconnect();
  }

  draw() {
    const { plan } = this;
    this.element.toggleAttribute("data-vue", !!this.element.closest("[data-node-id]")); // Nodes 2.0: other colours, and no height of its own
    const calls = plan?.evaluations ?? null;
    this.part("title").textContent = said(!plan ? "Steps" : calls === null ? "adaptive" : counted(calls));
    this.part("badge").hidden = !this.badge;
    this.part("badge").textContent = said(this.badge);
    this.part("mark").hidden = !plan?.calls.some((call) => call.measured);
    this.part("mark").textContent = said("measured");
    this.part("mark").title = said(MEASURED);
    this.part("what").title = said(plan?.solver ?? "");
    this.part("what").textContent = said((plan?.solver ?? "").replace(/^multistep /, "")); // what most are; there is little room
    const notes = (plan?.notes ?? []).map(said);
    const source = said(plan?.source ?? "");
    this.part("note").textContent = notes[0] || source;
    this.part("note").title = notes.length ? notes.join("\n") : source;
    this.part("note").classList.toggle("warn", notes.length > 0);
    this.part("box").setAttribute("aria-label", said(plan ? described(plan) : this.message));
    for (const button of this.root.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.axis === this.axis));
    }
    const empty = this.part("empty");
    empty.textContent = plan?.calls.length ? "" : said(this.message || (plan ? "Chooses its own steps as it runs." : ""));
    empty.hidden = !empty.textContent;
    this.part("legend").innerHTML = legend(plan?.calls ?? []);
    this.chart.draw(plan, this.axis);
    this.chart.hover(this.chart.near);
  }
}

/**
 * The colours of the dots: one for each order, or where there are blends a strip from the lowest order to the highest.
 * @param {Call[]} calls
 * @returns {string}
 */
function legend(calls) {
  const orders = [...new Set(calls.flatMap((c) => (c.order === null ? [] : [c.order])))].sort((a, b) => a - b);
  if (!orders.length) return "";
  if (orders.every(Number.isInteger)) {
    return `${said("order")} ${orders.map((o) => `<span><i style="background:${colourOf(o)}"></i>${o}</span>`).join(" ")}`;
  }
  const [low, high] = [orders[0], orders[orders.length - 1]];
  const stops = Array.from({ length: 9 }, (_, i) => colourOf(low + ((high - low) * i) / 8));
  return `${said("order")} <span>${short(low)}</span><b style="background:linear-gradient(90deg,${stops.join(",")})"></b><span>${short(high)}</span>`;
}
