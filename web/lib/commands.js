// @ts-check
/**
 * The commands of this pack in the page's list (Ctrl-K), its entries in the menu of a node, and its settings.
 *
 * @typedef {import("./host").App} App
 * @typedef {import("./host").Node} Node
 * @typedef {import("./presets.js").Preset} Preset
 */

import { isRun, SAMPLERS, SCHEDULER, sourceOf } from "./graph.js";
import { meant, presetsFor, targetsOf, tell, turnTo } from "./presets.js";
import { oneStep } from "./undo.js";
import { said } from "./words.js";

export const PLOT = "DPMSolverExt.Plot";
export const ADDED = "DPMSolverExt.Preset";
const NONE = "auto, 12 steps";

/**
 * @param {App} app
 * @param {Preset[]} table
 */
export function commandsOf(app, table) {
  const presets = table.map((preset) => ({
    id: `DPMSolverExt.${preset.id}`,
    label: `DPM-Solver preset: ${preset.label}`,
    icon: "pi pi-bolt",
    function: () => {
      const nodes = meant(app, table);
      if (nodes.length) turnTo(app, preset, nodes);
      else tell(app, "warn", preset, said(SELECT));
    },
  }));
  return [
    ...presets,
    { id: "DPMSolverExt.AddNodes", label: "DPM-Solver: add sampler and scheduler nodes", icon: "pi pi-plus", function: () => addNodes(app) },
    {
      id: "DPMSolverExt.TogglePlot",
      label: "DPM-Solver: show or hide the plots",
      icon: "pi pi-chart-line",
      function: () => app.extensionManager?.setting?.set(PLOT, app.extensionManager.setting.get(PLOT) === false),
    },
  ];
}

const SELECT =
  "Select the KSampler that it is for, or the SamplerCustom whose sampler and sigmas come from nodes of this pack or of ComfyUI's own lists.";

/**
 * The entries of a node's menu.
 * @param {App} app
 * @param {Preset[]} table
 * @param {Node} node
 */
export function menuOf(app, table, node) {
  const targets = targetsOf(table, node);
  if (!targets.length) return [];
  const options = presetsFor(table, node).map((preset) => ({ content: said(preset.label), callback: () => turnTo(app, preset, targets) }));
  return [{ content: said("DPM-Solver presets"), has_submenu: true, submenu: { options } }];
}

/**
 * @param {Preset[]} table
 * @param {(shown: boolean) => void} onPlot
 */
export function settingsOf(table, onPlot) {
  return [
    {
      id: PLOT,
      category: ["DPM-Solver (ext)", "DPM-Solver nodes", "Plot"],
      name: "Plot of the steps in the nodes",
      tooltip: "Off: the sampler, scheduler and tuning nodes show their widgets only.",
      type: "boolean",
      defaultValue: true,
      onChange: (/** @type {boolean} */ value) => onPlot(value !== false),
    },
    {
      id: ADDED,
      category: ["DPM-Solver (ext)", "DPM-Solver nodes", "Preset"],
      name: "Preset of nodes that you add",
      tooltip: "What DPM-Solver Sampler and Scheduler (ext) are set to when you add them. Workflows that you load keep their own values.",
      type: "combo",
      options: [{ text: NONE, value: "none" }, ...table.map((preset) => ({ text: preset.label, value: preset.id }))],
      defaultValue: "none",
    },
  ];
}

/**
 * Put a sampler and a scheduler of this pack into the graph: before the selected node that runs them, connected, or in the middle.
 * @param {App} app
 */
function addNodes(app) {
  const { canvas } = app;
  const graph = canvas?.graph;
  if (!canvas || !graph) return;
  oneStep(app, () => {
    const run = [...(canvas.selectedItems ?? [])].find((item) => isRun(item)) ?? null;
    const [left, top, width, height] = canvas.ds.visible_area;
    const at = run ? [run.pos[0] - 380, run.pos[1]] : [left + width / 2 - 160, top + height / 2 - 300];
    const made = [SAMPLERS[0], SCHEDULER].map((kind) => LiteGraph.createNode(kind));
    let down = at[1];
    for (const node of made) {
      if (!node) continue;
      graph.add(node);
      node.pos = [at[0], down];
      down += node.size[1] + 60;
    }
    const [sampler, scheduler] = made;
    if (!run || !sampler || !scheduler) return;
    sampler.connect(0, run, "sampler");
    scheduler.connect(0, run, "sigmas");
    const guider = sourceOf(run, "guider");
    const taker = [run, guider].find((node) => node && sourceOf(node, "model"));
    const model = taker && sourceOf(taker, "model");
    const place = model?.outputs?.findIndex((output) => output.type === "MODEL") ?? -1;
    if (model && place >= 0) model.connect(place, scheduler, "model");
  });
}
