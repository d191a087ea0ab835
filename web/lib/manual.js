// @ts-check
/** The manual schedule as text and as numbers. Pure. */

/**
 * @param {string} text
 * @returns {number[]}
 */
export function parsed(text) {
  return text
    .split(/[\s,;]+/)
    .filter((word) => word !== "")
    .map(Number);
}

/**
 * The text with one sigma moved: it stays between its neighbours, and all else stays as it was written.
 * @param {string} text
 * @param {number} from the sigma as it was drawn
 * @param {number} to
 * @returns {{text: string, sigma: number} | null} null if `from` is not in it, or the last sigma, where the run ends
 */
export function moved(text, from, to) {
  const levels = parsed(text);
  const index = levels.findIndex((v) => Math.abs(v - from) <= 1e-6 * Math.max(Math.abs(v), 1e-6));
  if (index < 0 || index === levels.length - 1 || levels.some((v) => !Number.isFinite(v))) return null;
  const ends = [index > 0 ? levels[index - 1] : 2 * levels[0] - levels[1], levels[index + 1]];
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const room = 0.02 * (high - low);
  const sigma = Number(Math.min(Math.max(to, low + room), high - room).toPrecision(4));
  return { text: levels.map((v, i) => String(i === index ? sigma : v)).join(", "), sigma };
}
