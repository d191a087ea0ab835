// @ts-check
/**
 * Which family of models a node samples, as nodes/presets.py names them: by the nodes that say so in the graph, or by what a run has told.
 *
 * @typedef {import("./host").Node} Node
 */

import { isRun, kindOf, runOf, sourceOf, valuesOf } from "./graph.js";

const FAR = 50; // model nodes in a row
const FLOW = ["ModelSamplingSD3", "ModelSamplingAuraFlow", "ModelSamplingFlux"];

/** By the loader that a run's model came from, as it was then. @type {Map<string, string>} */
const told = new Map();

/**
 * The node that samples, for one that feeds it or is it.
 * @param {Node} node
 * @returns {Node | null}
 */
export function samplingNode(node) {
  if (isRun(node)) return node;
  for (const output of node.outputs ?? []) {
    const run = runOf(node, output.name);
    if (run) return run;
  }
  return null;
}

/**
 * The nodes that a model comes through, nearest first.
 * @param {Node} node
 * @returns {Node[]}
 */
function modelNodes(node) {
  const run = samplingNode(node) ?? node;
  const guider = sourceOf(run, "guider");
  const found = [];
  let at = sourceOf(node, "model") ?? sourceOf(run, "model") ?? (guider && sourceOf(guider, "model"));
  for (let i = 0; i < FAR && at; i++) {
    found.push(at);
    at = sourceOf(at, "model");
  }
  return found;
}

/** @param {Node[]} models @returns {string} */
function loaderOf(models) {
  const loader = models[models.length - 1];
  return loader ? JSON.stringify([loader.id, kindOf(loader), valuesOf(loader)]) : "";
}

/**
 * What a node of the host says of the model that it patches.
 * @param {Node} node
 * @returns {string | null}
 */
function saidBy(node) {
  const kind = kindOf(node);
  if (FLOW.includes(kind)) return "flow";
  if (kind === "ModelSamplingContinuousEDM") return "edm";
  if (kind === "ModelSamplingContinuousV") return "v";
  const { sampling } = kind === "ModelSamplingDiscrete" ? valuesOf(node) : {};
  return sampling === "v_prediction" ? "v" : sampling === "eps" ? "sd" : null;
}

/**
 * @param {Node} node
 * @returns {string | null} null where it is not known
 */
export function familyOf(node) {
  const models = modelNodes(node);
  return models.map(saidBy).find((family) => family !== null) ?? told.get(loaderOf(models)) ?? null;
}

/**
 * A run at this node has told its model's family.
 * @param {Node} run
 * @param {string} family
 */
export function remember(run, family) {
  const loader = loaderOf(modelNodes(run));
  if (loader) told.set(loader, family);
}
