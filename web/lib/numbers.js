// @ts-check
/** Numbers and runs as text, for the plot. Pure. */

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
 * @returns {string}
 */
export function signed(value) {
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
 * @param {import("./plot").Plan} plan
 * @returns {string}
 */
export function described(plan) {
  const calls = plan.evaluations === null ? "as many model calls as its tolerance asks" : counted(plan.evaluations);
  const levels = plan.calls.map((c) => short(c.sigma)).slice(0, 40);
  return `${plan.solver}: ${calls}` + (levels.length ? ` at sigma ${levels.join(", ")}` : "");
}

/**
 * @param {number} n
 * @returns {string}
 */
export function counted(n) {
  return `${n} model call${n === 1 ? "" : "s"}`;
}
