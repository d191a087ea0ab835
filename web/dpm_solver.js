// @ts-check
/** DPM-Solver (ext) in ComfyUI's page: the schedule plot in its nodes, widgets that show only while they act, presets and settings. */

// @ts-ignore the host serves it
import { api } from "../../scripts/api.js";
// @ts-ignore the host serves it
import { app } from "../../scripts/app.js";

import { ADDED, PLOT, commandsOf, menuOf, settingsOf } from "./lib/commands.js";
import { remember } from "./lib/family.js";
import { PLOTTED, SAMPLERS, SCHEDULER, kindOf, nodeAt, plottedOf } from "./lib/graph.js";
import { Panel } from "./lib/panel.js";
import { setWidgets, whenAdded } from "./lib/presets.js";
import { speak } from "./lib/words.js";

const VERSION = "0.1.0"; // that of pyproject.toml: a test holds it there
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

/** @returns {Promise<import("./lib/presets.js").Preset[]>} none from a server that is older than this page */
async function presets() {
  try {
    const answer = await api.fetchApi("/dpm_solver_ext/presets", { signal: AbortSignal.timeout(3000) });
    return answer.ok ? await answer.json() : [];
  } catch {
    return [];
  }
}

const table = await presets();
const commands = commandsOf(app, table);
const setting = (/** @type {string} */ id) => app.extensionManager?.setting?.get(id);
speak(() => setting("Comfy.Locale"));

app.registerExtension({
  name: "DPMSolverExt",
  aboutPageBadges: [
    { label: `DPM-Solver (ext) v${VERSION}`, url: "https://github.com/dpm-solver-ext/dpm-solver-ext", icon: "pi pi-chart-line" },
  ],
  commands,
  menuCommands: [{ path: ["Extensions", "DPM-Solver (ext)"], commands: commands.map((command) => command.id) }],
  settings: settingsOf(table, (shown) => panels.forEach((panel) => panel.show(shown))),
  /** @param {import("./lib/host").Node} node */
  getNodeMenuItems: (node) => menuOf(app, table, node),
  setup() {
    api.addEventListener("graphChanged", changed);
    api.addEventListener("dpm_solver_ext.plan", (/** @type {CustomEvent} */ event) => {
      const { node, plan, family, live } = event.detail ?? {};
      const run = nodeAt(app.rootGraph ?? app.graph, String(node));
      if (!run) return;
      if (family) remember(run, family);
      const shown = live ? [run] : plottedOf(run); // what a tuning tries is not the run of the sampler that it was given
      for (const found of shown) panels.get(found)?.ran(plan, live ?? "as it ran");
    });
  },
  /** @param {import("./lib/host").Node} node */
  nodeCreated(node) {
    const kind = kindOf(node);
    if (kind === SCHEDULER || SAMPLERS.includes(kind)) {
      whenAdded(node, () => {
        const preset = table.find((row) => row.id === setting(ADDED));
        if (preset) setWidgets(preset, [node]);
      });
    }
    if (!PLOTTED.includes(kind)) return;
    panels.set(node, new Panel(node, app, api, changed, setting(PLOT) !== false));
    changed();
  },
  afterConfigureGraph: changed,
});
