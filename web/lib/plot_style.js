// @ts-check
/** How the schedule plot looks: its colours and its style sheet. The host's theme gives the rest. */

/** Orders 1 to 4; those between are mixed. Told apart also by people who see few colours, on dark and on light ground. */
const COLOURS = [
  [92, 124, 226],
  [22, 158, 138],
  [226, 148, 20],
  [222, 76, 120],
];
const UNKNOWN = "#8a8f98";

export const STYLE = `
:host { display: block; box-sizing: border-box; width: 100%; min-width: 0; height: 100%; min-height: 170px; contain: layout paint style inline-size;
  --ground: var(--comfy-input-bg, #222); }
:host([data-vue]) { height: 200px; --ground: var(--component-node-widget-background, var(--comfy-input-bg, #222)); }
.box { display: flex; flex-direction: column; height: 100%; min-height: 170px; box-sizing: border-box; padding: 6px 8px 5px; gap: 2px;
  border-radius: 8px; background: var(--ground); color: var(--input-text, #ddd); font: 11px/1.35 Inter, system-ui, sans-serif;
  user-select: none; overflow: hidden; }
.head, .foot { display: flex; align-items: center; gap: 8px; min-width: 0; flex: none; }
.title { font-weight: 600; white-space: nowrap; }
.what { color: var(--descrip-text, #999); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; min-width: 0; flex: 1; }
.note { color: var(--descrip-text, #999); overflow: hidden; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; flex: none; }
.note:empty { display: none; }
.note.warn { color: var(--warning-background, #d9922b); }
.mark { color: var(--descrip-text, #999); font-size: 10px; white-space: nowrap; cursor: help; }
.mark[hidden] { display: none; }
.badge { border-radius: 4px; padding: 0 5px; border: 1px solid currentColor; opacity: .75; font-size: 10px; white-space: nowrap; }
.axes { display: flex; margin-left: auto; border: 1px solid var(--border-color, #4e4e4e); border-radius: 5px; overflow: hidden; flex: none; }
.axes button { all: unset; cursor: pointer; padding: 1px 8px; font-size: 12px; line-height: 15px; color: var(--descrip-text, #999); }
.axes button[aria-pressed="true"] { background: var(--border-color, #4e4e4e); color: var(--input-text, #ddd); }
.axes button:focus-visible { outline: 2px solid rgb(92 124 226); outline-offset: -2px; }
.chart { position: relative; flex: 1; min-height: 96px; }
svg { position: absolute; inset: 0; width: 100%; height: 100%; display: block; overflow: hidden; }
.empty { position: absolute; inset: 0; display: flex; align-items: center; justify-content: center; text-align: center; padding: 0 16px;
  color: var(--descrip-text, #999); white-space: normal; }
.grid { stroke: var(--border-color, #4e4e4e); stroke-opacity: .45; }
.band { fill: var(--input-text, #ddd); fill-opacity: .055; }
.tick, .caption { fill: var(--descrip-text, #999); font-size: 10px; }
.path { fill: none; stroke: var(--descrip-text, #999); stroke-width: 1.4; stroke-opacity: .75; }
.path.open { stroke-dasharray: 3 3; }
.dot { stroke: var(--ground); stroke-width: 1; }
.end { fill: var(--ground); stroke: var(--descrip-text, #999); stroke-width: 1.4; }
.ring { fill: none; stroke: var(--input-text, #ddd); stroke-width: 1.5; }
.stem { stroke: var(--input-text, #ddd); stroke-opacity: .35; stroke-dasharray: 2 3; }
.tip { position: absolute; pointer-events: none; padding: 3px 7px; border-radius: 5px; white-space: nowrap; z-index: 1;
  background: var(--comfy-menu-bg, #353535); color: var(--input-text, #ddd); border: 1px solid var(--border-color, #4e4e4e);
  box-shadow: 0 2px 8px rgb(0 0 0 / .25); }
:host([data-edit]) .dot { cursor: ns-resize; }
.tip b { font-weight: 600; }
.legend { display: flex; gap: 7px; flex: none; color: var(--descrip-text, #999); }
.legend b { display: inline-block; width: 46px; height: 8px; border-radius: 4px; align-self: center; }
.legend i { display: inline-block; width: 8px; height: 8px; border-radius: 50%; margin-right: 3px; }
`;

/**
 * @param {number | null} order
 * @returns {string}
 */
export function colourOf(order) {
  if (order === null) return UNKNOWN;
  const at = Math.min(Math.max(order, 1), COLOURS.length) - 1;
  const low = Math.min(Math.floor(at), COLOURS.length - 2);
  const mixed = COLOURS[low].map((v, i) => Math.round(v + (COLOURS[low + 1][i] - v) * (at - low)));
  return `rgb(${mixed.join(" ")})`;
}
