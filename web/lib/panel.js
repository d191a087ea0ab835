// @ts-check
/**
 * A node's plot and the widgets it hides: asks the server when something changes, and draws the answer.
 *
 * @typedef {import("./host").Node} Node
 * @typedef {import("./host").Api} Api
 * @typedef {import("./host").App} App
 */

import { hiddenWidgets } from "./applies.js";
import { SCHEDULER, kindOf, requestOf, valuesOf } from "./graph.js";
import { GAP, Hiding } from "./hiding.js";
import { moved } from "./manual.js";
import { Plot } from "./plot.js";
import { oneStep } from "./undo.js";

const NAME = "dpm_plan"; // of the widget; never in a saved workflow
const HEIGHT = 190;
const WIDTH = 320;
const WAIT = 120; // ms between the last change and the question
const LOOK = "dpm_plan_axis"; // property of the node, saved with the workflow
const ROOM = "dpm_plan_room"; // the same: false where the node had no plot, and so no room for one

export class Panel {
  /**
   * @param {Node} node
   * @param {App} app
   * @param {Api} api
   * @param {() => void} onChange called when a widget of the node has changed
   * @param {boolean} shown whether there is a plot
   */
  constructor(node, app, api, onChange, shown) {
    this.node = node;
    this.app = app;
    this.api = api;
    this.plot = new Plot(
      (look) => {
        node.properties[LOOK] = look.axis;
      },
      () => this.hiding.rows(this.hidden()), // it was put into a page, or into another one
    );
    this.shown = shown;
    this.asked = "";
    /** @type {string | null} */
    this.model = null;
    /** @type {number | undefined} */
    this.timer = undefined;
    this.gone = false;
    this.widget = node.addDOMWidget(NAME, "dpm_plan", this.plot.element, {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => HEIGHT,
      getValue: () => "",
      setValue: () => {},
    });
    this.widget.serialize = false; // the options' is for the prompt, this one for the saved workflow
    this.hiding = new Hiding(node, this.widget);
    this.plot.element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.listen(onChange);
    this.hiding.arrange(this.hidden(), false);
    node.setSize([Math.max(node.size[0], WIDTH), node.computeSize()[1]]); // of a new node; a saved one brings its own
    this.noteRoom();
  }

  /** @param {() => void} onChange @private */
  listen(onChange) {
    const { node } = this;
    for (const widget of node.widgets ?? []) {
      if (widget === this.widget) continue;
      const before = widget.callback;
      widget.callback = function (...args) {
        const result = before?.apply(this, args);
        onChange();
        return result;
      };
    }
    const [configured, removed, connected] = [node.onConfigure, node.onRemoved, node.onConnectionsChange];
    node.onConfigure = (info) => {
      configured?.call(node, info);
      this.hiding.arrange(this.hidden(), false); // the size that was saved is the right one for what was shown then
      this.room(info?.properties?.[ROOM] !== false);
      onChange();
    };
    node.onConnectionsChange = function (...args) {
      connected?.apply(this, args);
      onChange();
    };
    node.onRemoved = () => {
      removed?.call(node);
      this.destroy();
    };
  }

  /** Over the plot the wheel zooms the canvas, as it does beside it. @param {WheelEvent} event @private */
  wheel(event) {
    if (this.plot.element.closest("[data-node-id]")) return; // Nodes 2.0 hands it on by itself
    event.preventDefault();
    this.app.canvas?.processMouseWheel?.(event);
  }

  destroy() {
    this.gone = true;
    clearTimeout(this.timer);
    this.plot.destroy();
  }

  /** The names of the widgets that are to be hidden now: for a value that comes by a link, which is not known, nothing hides. @private */
  hidden() {
    const hidden = hiddenWidgets(kindOf(this.node), valuesOf(this.node));
    return this.shown ? hidden : hidden.add(NAME);
  }

  /** The user wants plots, or none. @param {boolean} shown */
  show(shown) {
    if (this.shown === shown) return;
    this.shown = shown;
    this.noteRoom();
    this.changed();
  }

  /**
   * A workflow made with plots is opened without them, or the other way round: the size that was saved has room for one or not.
   * @param {boolean} had whether it has
   * @private
   */
  room(had) {
    const { node } = this;
    if (had !== this.shown) {
      const height = node.size[1] + (this.shown ? 1 : -1) * (HEIGHT + GAP);
      node.setSize([node.size[0], Math.max(height, node.computeSize()[1])]);
    }
    this.noteRoom();
  }

  /** @private */
  noteRoom() {
    if (this.shown) delete this.node.properties[ROOM];
    else this.node.properties[ROOM] = false;
  }

  /** Something may have changed: hide what does not act now, and ask again if the question is another. */
  changed() {
    if (this.gone) return;
    this.hiding.arrange(this.hidden(), true);
    const manual = kindOf(this.node) === SCHEDULER && valuesOf(this.node).schedule === "manual" && "manual_sigmas" in valuesOf(this.node);
    this.plot.onDrag = manual ? (from, to) => this.drag(from, to) : null;
    this.plot.look({ axis: this.node.properties[LOOK] === "lam" ? "lam" : "sigma" });
    clearTimeout(this.timer);
    if (!this.shown) return;
    this.timer = window.setTimeout(() => void this.ask(), WAIT);
  }

  /**
   * A dot of the manual schedule is moved: its number in the text follows. The end of a drag is one step of the page's undo.
   * @param {number} [from]
   * @param {number} [to]
   * @returns {number | null} the sigma that it has now
   * @private
   */
  drag(from, to) {
    const widget = this.node.widgets?.find((w) => w.name === "manual_sigmas");
    if (!widget) return null;
    if (from === undefined || to === undefined) {
      oneStep(this.app, () => {});
      return null;
    }
    const found = moved(String(widget.value), from, to);
    if (found === null) return null;
    widget.value = found.text;
    widget.callback?.(found.text);
    return found.sigma;
  }

  /** Ask the server what would run. Only the last question counts. */
  async ask() {
    if (this.gone) return;
    const body = JSON.stringify(requestOf(this.node, this.model));
    if (body === this.asked) return;
    this.asked = body;
    let found;
    try {
      const answer = await this.api.fetchApi("/dpm_solver_ext/plan", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      found = await answer.json();
    } catch {
      if (this.asked === body) {
        this.asked = "";
        this.plot.say("The server does not answer.");
      }
      return;
    }
    if (this.gone || this.asked !== body) return;
    if (found.error) this.plot.say(String(found.error));
    else this.plot.show(found, "");
  }

  /**
   * A run has begun or ended that this node was part of, or its tuning has found something.
   * @param {import("./plot.js").Plan} plan
   * @param {string} badge
   */
  ran(plan, badge) {
    clearTimeout(this.timer);
    this.model = plan.model ?? this.model;
    this.asked = JSON.stringify(requestOf(this.node, this.model)); // it stays until a widget changes
    this.plot.show(plan, badge);
  }
}
