// @ts-check
/**
 * Which widgets of a node act with the values it has now. Pure: no page, no node.
 *
 * A widget that does not act stays shown while it holds something else than its resting value: the run would warn of it or refuse it, and
 * nobody can mend what is not there to be seen.
 */

/** @typedef {Record<string, unknown>} Values */
/** @typedef {{applies: (v: Values) => boolean, rest?: unknown}} Rule */

/** @param {Values} v */
const custom = (v) => v.preset === undefined || v.preset === "custom";
/** @param {Values} v */
const multistep = (v) => custom(v) && v.method === "multistep";
/** @param {Values} v */
const adaptive = (v) => v.method === "adaptive";
/** @param {Values} v */
const noisy = (v) => Number(v.eta) > 0 && !adaptive(v);
/** @param {Values} v */
const made = (v) => v.schedule !== "manual";

/** @type {Record<string, Record<string, Rule>>} rules by node, then by widget; a widget without a rule always acts */
export const RULES = {
  DPMSolverSamplerExt: {
    algorithm: { applies: custom },
    order: { applies: custom },
    method: { applies: custom },
    solver_type: { applies: (v) => custom(v) && Number(v.order) > 1 },
    start: { applies: (v) => multistep(v) && Number(v.order) > 1 },
    final_rule: { applies: (v) => multistep(v) && Number(v.order) > 1 },
  },
  DPMSolverSamplerAdvancedExt: {
    start: { applies: multistep, rest: "corrected" },
    final_rule: { applies: multistep, rest: "smooth" },
    corrector: { applies: (v) => multistep(v) && !noisy(v), rest: "none" },
    slopes: { applies: (v) => multistep(v) && !noisy(v), rest: "auto" },
    eta: { applies: (v) => !adaptive(v), rest: 0 },
    s_noise: { applies: noisy, rest: 1 },
    noise_rule: { applies: (v) => noisy(v) && !multistep(v), rest: "sde" },
    r1: { applies: (v) => v.method === "singlestep_fixed" && Number(v.order) > 1, rest: 0 },
    r2: { applies: (v) => v.method === "singlestep_fixed" && Number(v.order) > 2, rest: 0 },
    threshold_ratio: { applies: (v) => v.thresholding !== "off", rest: 0.995 },
    threshold_max: { applies: (v) => v.thresholding !== "off", rest: 1 },
    rtol: { applies: adaptive, rest: 0.05 },
    atol: { applies: adaptive, rest: 0.0078 },
    safety: { applies: adaptive, rest: 0 },
    max_evaluations: { applies: adaptive, rest: 1000 },
    data_std: { applies: (v) => v.algorithm === "dpmsolver-v3", rest: 1 },
    corrector_range: { applies: (v) => multistep(v) && v.corrector !== "none", rest: "full" },
  },
  DPMSolverSchedulerExt: {
    steps: { applies: made },
    denoise: { applies: made },
    sigma_max: { applies: made },
    sigma_min: { applies: made },
    final_sigma: { applies: made },
    manual_sigmas: { applies: (v) => v.schedule === "manual" },
  },
};

/**
 * The names of the widgets of node `kind` that are to be hidden.
 * @param {string} kind
 * @param {Values} values
 * @returns {Set<string>}
 */
export function hiddenWidgets(kind, values) {
  const hidden = new Set();
  for (const [name, rule] of Object.entries(RULES[kind] ?? {})) {
    if (name in values && !rule.applies(values) && (!("rest" in rule) || values[name] === rule.rest)) hidden.add(name);
  }
  return hidden;
}
