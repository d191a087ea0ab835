// @ts-check
/**
 * Hiding widgets of a node in both renderings. Values, order and what is saved stay.
 *
 * @typedef {import("./host").Node} Node
 * @typedef {import("./host").Widget} Widget
 */

export const GAP = 4; // px that the canvas puts under each widget

export class Hiding {
  /**
   * @param {Node} node
   * @param {Widget} own the widget that looks after the others
   */
  constructor(node, own) {
    this.node = node;
    this.own = own;
    /** @type {Map<Widget, PropertyDescriptor | undefined>} how hidden widgets say their size when they are shown */
    this.sizes = new Map();
  }

  /**
   * Show all widgets but these; the node keeps the height of what stays.
   * @param {Set<string>} hidden names
   * @param {boolean} resize whether the node may change its size
   */
  arrange(hidden, resize) {
    const { node } = this;
    const before = node.computeSize()[1];
    let moved = false;
    for (const widget of node.widgets ?? []) {
      const hide = hidden.has(widget.name);
      if (!!widget.hidden === hide) continue;
      widget.hidden = hide;
      this.collapse(widget, hide);
      moved = true;
    }
    this.rows(hidden);
    if (!moved) return;
    const after = node.computeSize()[1];
    if (resize) node.setSize([node.size[0], Math.max(after, node.size[1] + after - before)]);
    node.setDirtyCanvas(true, true);
  }

  /**
   * The classic canvas leaves the place of a hidden widget empty, unless it says that it needs none.
   * @param {Widget} widget
   * @param {boolean} hide
   * @private
   */
  collapse(widget, hide) {
    if (hide) {
      this.sizes.set(widget, Object.getOwnPropertyDescriptor(widget, "computeSize"));
      widget.computeSize = () => [0, -GAP];
      return;
    }
    const before = this.sizes.get(widget);
    delete widget.computeSize;
    if (before) Object.defineProperty(widget, "computeSize", before);
  }

  /**
   * Nodes 2.0 of front ends before 1.58 asks a widget only once whether it is hidden, and goes on to show one row for each.
   * @param {Set<string>} hidden
   */
  rows(hidden) {
    const widgets = this.node.widgets ?? [];
    const rows = this.own.element?.closest(".lg-node-widgets")?.children;
    if (rows?.length !== widgets.length) return; // the classic canvas, or one that hides by itself
    for (const [i, widget] of widgets.entries()) {
      const row = rows[i];
      if (row instanceof HTMLElement) row.style.display = hidden.has(widget.name) ? "none" : "";
    }
  }
}
