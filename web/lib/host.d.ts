// The little of ComfyUI's front end that this pack touches, for the type checker only.

export interface Widget {
  name: string;
  type?: string;
  value: unknown;
  hidden?: boolean;
  serialize?: boolean;
  options?: Record<string, unknown>;
  element?: HTMLElement;
  callback?: (...args: unknown[]) => unknown;
  computeSize?: (width?: number) => [number, number];
}

export interface Slot {
  name: string;
  type?: string;
  link?: number | null;
  links?: number[] | null;
  widget?: { name: string };
}

export interface Node {
  id: number | string;
  type?: string;
  comfyClass?: string;
  graph?: Graph | null;
  subgraph?: Graph;
  pos: [number, number] | Float32Array;
  size: [number, number] | Float32Array;
  flags?: Record<string, unknown>;
  properties: Record<string, unknown>;
  widgets?: Widget[];
  inputs?: Slot[];
  outputs?: Slot[];
  onRemoved?: () => void;
  onConfigure?: (info: { properties?: Record<string, unknown> }) => void;
  onConnectionsChange?: (...args: unknown[]) => void;
  addDOMWidget(name: string, type: string, element: HTMLElement, options: Record<string, unknown>): Widget;
  connect(slot: number, node: Node, input: string): unknown;
  computeSize(): [number, number];
  setSize(size: [number, number]): void;
  setDirtyCanvas(foreground: boolean, background: boolean): void;
}

export interface Graph {
  links?: unknown;
  _links?: unknown;
  nodes: Node[];
  add(node: Node): unknown;
  getNodeById(id: number | string): Node | null | undefined;
}

export interface Canvas {
  graph?: Graph | null;
  ds: { visible_area: ArrayLike<number> & Iterable<number> };
  selectedItems?: Set<Node>;
  emitBeforeChange?: () => void;
  emitAfterChange?: () => void;
  processMouseWheel?: (event: WheelEvent) => void;
}

export interface App {
  graph: Graph;
  rootGraph?: Graph;
  extensionManager?: {
    setting?: { get(id: string): unknown; set(id: string, value: unknown): unknown };
    toast?: { add(message: { severity: string; summary: string; detail: string; life: number }): void };
  };
  canvas?: Canvas;
  registerExtension(extension: Record<string, unknown>): void;
}

export interface Api {
  fetchApi(route: string, options?: RequestInit): Promise<Response>;
  addEventListener(name: string, listener: (event: CustomEvent) => void): void;
}

declare global {
  const LiteGraph: { createNode(kind: string): Node | null };
}
