"""ComfyUI: one adapter from its calling convention to the solvers, the nodes, and the registration."""
