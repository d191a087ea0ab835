// @ts-check
/** DPM-Solver (ext) in ComfyUI's page: the schedule plot in its nodes, and widgets that show only while they act. */

// @ts-ignore the host serves it
import { api } from "../../scripts/api.js";
// @ts-ignore the host serves it
import { app } from "../../scripts/app.js";

import { PLOTTED, kindOf, nodesOfRun } from "./lib/graph.js";
import { Panel } from "./lib/panel.js";

/** @type {Map<import("./lib/host").Node, Panel>} */
const panels = new Map();
let waiting = false;

/** Look at all plots again, once, after what happens now: a change in one node may belong to the run of another. */
function changed() {
  if (waiting) return;
  waiting = true;
  queueMicrotask(() => {
    waiting = false;
    for (const [node, panel] of panels) {
      if (panel.gone) panels.delete(node);
      else panel.changed();
    }
  });
}

app.registerExtension({
  name: "DPMSolverExt",
  aboutPageBadges: [
    { label: "DPM-Solver (ext)", url: "https://github.com/dpm-solver-ext/dpm-solver-ext", icon: "pi pi-chart-line" },
  ],
  setup() {
    api.addEventListener("graphChanged", changed);
    api.addEventListener("dpm_solver_ext.plan", (/** @type {CustomEvent} */ event) => {
      const { node, plan } = event.detail ?? {};
      for (const found of nodesOfRun(app.rootGraph ?? app.graph, String(node))) panels.get(found)?.ran(plan);
    });
  },
  /** @param {import("./lib/host").Node} node */
  nodeCreated(node) {
    if (!PLOTTED.includes(kindOf(node))) return;
    panels.set(node, new Panel(node, app, api, changed));
    changed();
  },
  afterConfigureGraph: changed,
});
