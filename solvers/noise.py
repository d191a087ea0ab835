"""Noise for the SDE solvers: Brownian motion in the variable sigma, addressed by interval.

The noise of sigma_from → sigma_to is the increment of one Brownian path over that interval, divided by the root of its length. So the
increments of sub-steps add up to that of the whole step, and a run with twice the steps sees the same path more finely.

Item i's path depends on (seed, i) only, not on the batch size or the device (it is drawn on the CPU), and has nothing in common with
the initial noise of the same seed. On torch it is torchsde's tree, as in k-diffusion and ComfyUI: item 0 is what their
BrownianTreeNoiseSampler draws for that seed at batch 1. NumPy and JAX have `Tree`, the same idea without torch.
"""

import math
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

UNIT = 1e-6  # torchsde's tree knows sigmas to this
Increment = Callable[[float, float, float], Any]


def brownian(x: Any, sigmas: Sequence[float], seed: int | Sequence[int] | None) -> Callable[[float, float], Any]:
    """The hook `noise(sigma_from, sigma_to)` of `execute`: unit normal arrays of the shape, dtype and device of `x` (batch, ...).

    `sigmas` spans the path: from its least positive to its largest, so all stages between are covered; ask for none outside. `seed` is
    any integer (negative ones count modulo 2**64, as in torch), one integer a batch item, or None for fresh noise (on torch from its
    global generator). Half-precision noise is drawn in float32. Under `jax.jit` the noise is a constant of the compiled run.
    ValueError or ImportError, one sentence.
    """
    positive = [float(s) for s in sigmas if s > 0]
    if not positive or not math.isfinite(max(positive)):
        raise ValueError(f"noise: sigmas {list(map(float, sigmas))} span no finite range; give those of the run, from the largest down.")
    seeds = item_seeds(seed if seed is not None else _fresh(x), x.shape[0])
    make = _torch_path if hasattr(x, "lerp") else _numpy_path
    increment = make(x, min(positive), max(positive), seeds) if seeds else lambda *_: x  # x is empty, and so is its noise
    return partial(_unit_noise, min(positive), max(positive), increment)


def item_seeds(seed: int | Sequence[int], batch: int) -> list[int]:
    """One non-negative seed a batch item: `seed` itself, then numbers derived from (seed, i); a list is taken as it is."""
    if isinstance(seed, Sequence):
        if len(seed) != batch:
            raise ValueError(f"noise: {len(seed)} seeds for a batch of {batch}; give one seed a batch item, or a single one.")
        return [_integer(s) for s in seed]
    first = _integer(seed)
    later = (np.random.SeedSequence(first, spawn_key=(i,)).generate_state(2, np.uint64) for i in range(1, batch))
    return [first, *(int(a) << 64 | int(b) for a, b in later)][:batch]


def _integer(seed: Any) -> int:
    try:
        value = operator.index(seed)
    except TypeError:
        raise ValueError(f"noise: seed {seed!r} is no integer; give one, or None for fresh noise.") from None
    return value if value >= 0 else value % 2**64


def _fresh(x: Any) -> int:
    if hasattr(x, "lerp"):
        import torch

        return int(torch.randint(2**63 - 1, ()))  # the CPU's global generator: `torch.manual_seed` repeats a run
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])


def _unit_noise(low: float, high: float, increment: Increment, sigma_from: float, sigma_to: float) -> Any:
    a, b = sorted((float(sigma_from), float(sigma_to)))
    outside = a < low * (1 - UNIT) or b > high * (1 + UNIT)
    a, b = max(a, low), min(b, high)  # stages come from λ and may be a rounding outside
    if outside or not a < b:
        raise ValueError(f"noise: {sigma_from:g} → {sigma_to:g} is no interval within {low:g}…{high:g}; make it from the run's own sigmas.")
    return increment(a, b, math.copysign(1 / math.sqrt(b - a), sigma_to - sigma_from))


def _torch_path(x: Any, low: float, high: float, seeds: list[int]) -> Increment:
    """scale · (W(b) - W(a)) of torchsde's trees, one an item."""
    import torch

    try:
        import torchsde
    except ImportError:
        raise ImportError("SDE solvers draw their noise with torchsde, which is not installed; run `pip install torchsde`.") from None
    dtype = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    w0 = torch.zeros(x.shape[1:], dtype=dtype)
    low = round(low, 6)  # as the tree does itself, which warns of values a rounding outside
    high = max(round(high, 6), low + UNIT)
    trees: list[Any] = [torchsde.BrownianTree(low, w0, high, entropy=s) for s in seeds]
    device, out = x.device, x.dtype

    def increment(a: float, b: float, scale: float) -> Any:
        start, end = (min(max(round(v, 6), low), high) for v in (a, b))
        if start == end:  # shorter than the tree can tell: the noise of the shortest interval there
            start, end = (start, round(start + UNIT, 6)) if start < high else (round(start - UNIT, 6), start)
            scale *= math.sqrt((b - a) / UNIT)
        w = torch.stack([tree(start, end) for tree in trees]).mul_(scale).to(out)
        if device.type == "cuda":  # from pinned memory the copy is queued and nothing waits for the device
            return w.pin_memory().to(device, non_blocking=True)
        return w.to(device)

    return increment


def _numpy_path(x: Any, low: float, high: float, seeds: list[int]) -> Increment:
    trees = [Tree(x.shape[1:], low, high, s) for s in seeds]
    dtype, lib = np.dtype(x.dtype), np if isinstance(x, np.ndarray) else x.__array_namespace__()

    def increment(a: float, b: float, scale: float) -> Any:
        return lib.asarray(np.stack([(tree.at(b) - tree.at(a)) * scale for tree in trees]).astype(dtype))

    return increment


class Tree:
    """One Brownian path W on [low, high] by bisection (virtual Brownian tree): W(t) is a function of (seed, t), in any order of calls.

    Between known ends a < m < b, W(m) is normal with mean linear in m and variance (m-a)(b-m)/(b-a) (Brownian bridge). Nodes lie at
    geometric means, as sigmas span decades. Below DEPTH halvings a bridge to t itself ends the search: the law of all points is exact
    as long as no two of them share one of the 2**DEPTH cells, for sigma from 4519 to 0.03 those closer than 2e-8 of their size.
    """

    DEPTH = 30

    def __init__(self, shape: Sequence[int], low: float, high: float, seed: int):
        self.shape, self.low, self.high, self.seed = tuple(shape), low, high, seed
        self.known: dict[float, np.ndarray] = {low: np.zeros(self.shape), high: math.sqrt(high - low) * self._normal(0, 0)}

    def _normal(self, depth: int, cell: int) -> np.ndarray:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(1, depth, cell))).standard_normal(self.shape)

    def at(self, t: float) -> np.ndarray:
        """W(t), float64, W(low) = 0."""
        if t in self.known:
            return self.known[t]
        a, b, depth, cell = self.low, self.high, 0, 0
        w_a, w_b = self.known[a], self.known[b]
        m, w = a, w_a
        while m != t:
            depth += 1
            m = math.sqrt(a) * math.sqrt(b) if depth <= self.DEPTH else t
            if not a < m < b:  # float64 ends here: a narrow range
                m = t
            w = w_a + (w_b - w_a) * ((m - a) / (b - a)) + math.sqrt((m - a) * (b - m) / (b - a)) * self._normal(depth, cell)
            a, w_a, b, w_b, cell = (a, w_a, m, w, 2 * cell) if t < m else (m, w, b, w_b, 2 * cell + 1)
        while len(self.known) > 6:  # the two ends and the newest: a solver asks for neighbours
            self.known.pop(next(k for k in self.known if k not in (self.low, self.high)))
        self.known[t] = w
        return w
