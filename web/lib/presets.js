// @ts-check
/**
 * One-click presets: nodes/presets.py says what they set and why, this sets it.
 *
 * @typedef {import("./host").App} App
 * @typedef {import("./host").Node} Node
 * @typedef {object} Preset
 * @property {string} id
 * @property {string} label
 * @property {string} family
 * @property {string} level
 * @property {string} reason
 * @property {Record<string, Record<string, unknown>>} widgets by the id of a node
 */

import { familyOf, samplingNode } from "./family.js";
import { kindOf, sourceOf, valuesOf } from "./graph.js";
import { oneStep } from "./undo.js";
import { said } from "./words.js";

const LIFE = 15_000; // ms that a reason can be read

/**
 * The nodes that a preset sets when it is asked for at `node`: itself, or both that feed its run.
 * @param {Preset[]} table
 * @param {Node} node
 * @returns {Node[]} none where it can do nothing, or only half of it
 */
export function targetsOf(table, node) {
  const known = (/** @type {Node | null} */ n) => !!n && kindOf(n) in (table[0]?.widgets ?? {});
  const run = samplingNode(node);
  const both = run ? [sourceOf(run, "sampler"), sourceOf(run, "sigmas")] : [node];
  return both.every(known) ? /** @type {Node[]} */ (both) : [];
}

/**
 * Set the widgets of these nodes. What a link feeds, or what this host does not have, stays.
 * @param {Preset} preset
 * @param {Node[]} nodes
 * @returns {string[]} what stayed
 */
export function setWidgets(preset, nodes) {
  const kept = [];
  for (const node of nodes) {
    const free = valuesOf(node);
    for (const [name, value] of Object.entries(preset.widgets[kindOf(node)] ?? {})) {
      const widget = node.widgets?.find((w) => w.name === name);
      const choices = widget?.options?.values;
      if (!widget || !(name in free) || (Array.isArray(choices) && !choices.includes(value))) {
        kept.push(name);
      } else if (widget.value !== value) {
        widget.value = value;
        widget.callback?.(value);
      }
    }
    node.setDirtyCanvas(true, true);
  }
  return kept;
}

/**
 * One click: set it, as one step of undo, and say why.
 * @param {App} app
 * @param {Preset} preset
 * @param {Node[]} nodes
 */
export function turnTo(app, preset, nodes) {
  /** @type {string[]} */
  let kept = [];
  oneStep(app, () => {
    kept = setWidgets(preset, nodes);
  });
  const stays = kept.length ? said(` Not set, since it is connected or missing: ${[...new Set(kept)].join(", ")}.`) : "";
  tell(app, kept.length ? "warn" : "success", preset, said(preset.reason) + stays);
}

/**
 * A message of the page about a preset.
 * @param {App} app
 * @param {string} severity
 * @param {Preset} preset
 * @param {string} detail
 */
export function tell(app, severity, preset, detail) {
  app.extensionManager?.toast?.add({ severity, summary: said(preset.label), detail, life: LIFE });
}

/**
 * The presets for a node: where its family is known only those.
 * @param {Preset[]} table
 * @param {Node} node
 * @returns {Preset[]}
 */
export function presetsFor(table, node) {
  const family = familyOf(node);
  return family ? table.filter((preset) => preset.family === family) : table;
}

/**
 * Where a preset from the command list goes: to the selected nodes, or to the only run there is.
 * @param {App} app
 * @param {Preset[]} table
 * @returns {Node[]}
 */
export function meant(app, table) {
  const chosen = [...(app.canvas?.selectedItems ?? [])].filter((item) => kindOf(item));
  if (chosen.length) return [...new Set(chosen.flatMap((node) => targetsOf(table, node)))];
  const runs = new Map();
  for (const node of app.canvas?.graph?.nodes ?? []) {
    const targets = targetsOf(table, node);
    if (targets.length && (samplingNode(node) || "steps" in valuesOf(node))) runs.set(samplingNode(node) ?? node, targets);
  }
  return runs.size === 1 ? [...runs.values()][0] : [];
}

/**
 * Do something to a node that the user has added by hand, not to one of a workflow that is loaded, pasted or undone.
 * @param {Node} node as `nodeCreated` gets it
 * @param {() => void} act
 */
export function whenAdded(node, act) {
  let loaded = false;
  const mark = () => {
    loaded = true;
  };
  const configured = node.onConfigure;
  node.onConfigure = (info) => {
    mark();
    configured?.call(node, info);
  };
  for (const widget of node.widgets ?? []) {
    const before = widget.callback;
    widget.callback = function (...args) {
      mark(); // what loads a workflow in the format of the API sets its widgets one by one
      return before?.apply(this, args);
    };
  }
  queueMicrotask(() => {
    if (!loaded && node.graph) act();
  });
}
