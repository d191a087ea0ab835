// @ts-check
/** Changes that are one step of the page's undo. */

/**
 * @param {import("./host").App} app
 * @param {() => void} change
 */
export function oneStep(app, change) {
  app.canvas?.emitBeforeChange?.();
  try {
    change();
  } finally {
    // here the page compares the graph with its last state: after the nodes have fitted their size to it, which is a microtask
    queueMicrotask(() => app.canvas?.emitAfterChange?.());
  }
}
