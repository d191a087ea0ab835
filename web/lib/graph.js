// @ts-check
/**
 * What the graph says of a run: the scheduler and the sampler that meet in a sampling node. Reads nodes, changes nothing.
 *
 * @typedef {import("./host").Node} Node
 * @typedef {import("./host").Graph} Graph
 */

export const SCHEDULER = "DPMSolverSchedulerExt";
export const TUNE = "DPMSolverTuneScheduleExt";
export const SAMPLERS = ["DPMSolverSamplerExt", "DPMSolverSamplerAdvancedExt"];
export const LOAD = "DPMSolverLoadTunedExt";
export const PLOTTED = [SCHEDULER, TUNE, LOAD, ...SAMPLERS];
const READ = ["BasicScheduler", "KSamplerSelect"]; // of the host's own nodes
const FAR = 50; // reroutes in a row

/**
 * @param {Node | null | undefined} node
 * @returns {string}
 */
export function kindOf(node) {
  return node?.comfyClass ?? node?.type ?? "";
}

/**
 * The values of the widgets of a node that the server reads: those of its inputs. A widget that is fed by a link is left out, its value is
 * not known here; so is what others put into the node, such as the host's text on how far a run is.
 * @param {Node} node
 * @returns {Record<string, unknown>}
 */
export function valuesOf(node) {
  /** @type {Record<string, unknown>} */
  const values = {};
  for (const widget of node.widgets ?? []) {
    const input = node.inputs?.find((i) => i.widget?.name === widget.name);
    if (input && (input.link ?? null) === null) values[widget.name] = widget.value;
  }
  return values;
}

/**
 * @param {Graph | null | undefined} graph
 * @param {number | string | null | undefined} id
 */
function linkOf(graph, id) {
  if (!graph || id === null || id === undefined) return null;
  const links = /** @type {any} */ (graph.links ?? graph._links);
  return (typeof links?.get === "function" ? links.get(id) : null) ?? links?.[id] ?? null;
}

/**
 * The node that feeds an input, through reroutes; null for none, or one outside of this graph.
 * @param {Node} node
 * @param {string} name
 * @returns {Node | null}
 */
export function sourceOf(node, name) {
  let link = linkOf(node.graph, node.inputs?.find((i) => i.name === name)?.link);
  for (let i = 0; i < FAR && link; i++) {
    const from = node.graph?.getNodeById(link.origin_id) ?? null;
    if (kindOf(from) !== "Reroute") return from;
    link = linkOf(node.graph, from?.inputs?.[0]?.link);
  }
  return null;
}

/**
 * The first sampling node that an output leads to, through reroutes: one that takes a sampler and sigmas.
 * @param {Node} node
 * @param {string} name
 * @returns {Node | null}
 */
export function runOf(node, name) {
  const output = node.outputs?.find((o) => o.name === name);
  const waiting = [...(output?.links ?? [])];
  for (let i = 0; i < FAR && waiting.length; i++) {
    const link = linkOf(node.graph, waiting.shift());
    const to = link ? node.graph?.getNodeById(link.target_id) : null;
    if (kindOf(to) === "Reroute") waiting.push(...(to?.outputs?.[0]?.links ?? []));
    else if (to && isRun(to)) return to;
  }
  return null;
}

/**
 * @param {Node} node
 * @param {string} name
 */
function inputLinked(node, name) {
  return (node.inputs?.find((i) => i.name === name)?.link ?? null) !== null;
}

/**
 * @param {Node | null} node
 * @returns {Record<string, unknown> | null}
 */
function asked(node) {
  const kind = kindOf(node);
  return node && (SAMPLERS.includes(kind) || READ.includes(kind) || kind === SCHEDULER || kind === LOAD) ? { node: kind, ...valuesOf(node) } : null;
}

/**
 * What to ask the server for: the run that a node takes part in, as far as the graph tells; `null` for what it does not.
 * @param {Node} node one of `PLOTTED`
 * @param {string | null} model the token of the last run; asked for as "" where a model is connected that has not run yet
 * @returns {{scheduler: Record<string, unknown> | null, sampler: Record<string, unknown> | null, model: string | null}}
 */
export function requestOf(node, model) {
  const kind = kindOf(node);
  if (kind === TUNE) {
    const { steps } = valuesOf(node);
    const sampler = asked(sourceOf(node, "sampler"));
    return { scheduler: steps === undefined ? null : { schedule: "auto", steps }, sampler, model: model ?? "" };
  }
  if (kind === LOAD) return { scheduler: asked(node), sampler: asked(sourceOf(node, "sampler")), model: null };
  const run = runOf(node, kind === SCHEDULER ? "sigmas" : "sampler");
  const scheduler = kind === SCHEDULER ? node : run && sourceOf(run, "sigmas");
  const sampler = SAMPLERS.includes(kind) ? node : run && sourceOf(run, "sampler");
  const connected = kindOf(scheduler) !== SCHEDULER || inputLinked(/** @type {Node} */ (scheduler), "model");
  return { scheduler: asked(scheduler), sampler: asked(sampler), model: connected ? (model ?? "") : null };
}

/**
 * The node with this id; "12:5" is node 5 in subgraph node 12.
 * @param {Graph | null | undefined} root
 * @param {string} id
 * @returns {Node | null}
 */
export function nodeAt(root, id) {
  let graph = root;
  /** @type {Node | null | undefined} */
  let node = null;
  for (const part of id.split(":")) {
    node = graph?.getNodeById(/^\d+$/.test(part) ? Number(part) : part);
    graph = node?.subgraph;
  }
  return node ?? null;
}

/**
 * Whether a node takes a sampler and sigmas, and so runs them.
 * @param {Node | null | undefined} node
 * @returns {boolean}
 */
export function isRun(node) {
  const names = node?.inputs?.map((input) => input.name) ?? [];
  return names.includes("sampler") && names.includes("sigmas");
}

/**
 * The nodes whose plot a run at a node belongs to: itself, and those that feed its sampler and its sigmas.
 * @param {Node} run
 * @returns {Node[]}
 */
export function plottedOf(run) {
  const found = [run, sourceOf(run, "sampler"), sourceOf(run, "sigmas")].filter((node) => node !== null);
  return [...new Set(found)].filter((node) => PLOTTED.includes(kindOf(node)));
}
