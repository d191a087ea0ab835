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
  size: [number, number] | Float32Array;
  flags?: Record<string, unknown>;
  properties: Record<string, unknown>;
  widgets?: Widget[];
  inputs?: Slot[];
  outputs?: Slot[];
  onRemoved?: () => void;
  onConfigure?: (info: unknown) => void;
  onConnectionsChange?: (...args: unknown[]) => void;
  addDOMWidget(name: string, type: string, element: HTMLElement, options: Record<string, unknown>): Widget;
  computeSize(): [number, number];
  setSize(size: [number, number]): void;
  setDirtyCanvas(foreground: boolean, background: boolean): void;
}

export interface Graph {
  links?: unknown;
  _links?: unknown;
  getNodeById(id: number | string): Node | null | undefined;
}

export interface App {
  graph: Graph;
  rootGraph?: Graph;
  extensionManager?: { workflow?: { activeWorkflow?: { changeTracker?: { checkState?: () => void } } | null } };
  canvas?: { processMouseWheel?: (event: WheelEvent) => void };
  registerExtension(extension: Record<string, unknown>): void;
}

export interface Api {
  fetchApi(route: string, options?: RequestInit): Promise<Response>;
  addEventListener(name: string, listener: (event: CustomEvent) => void): void;
}
