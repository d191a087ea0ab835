"""The paths of a calibration: their nodes, their noise, and the moments at one node.

A path is followed with DPM-Solver++ 2M in y = x/α, where dy/dλ = x0 - y (arXiv 2211.01095, eq. 8): over a step h

    y ← e^{-h} y + (1 - e^{-h}) (x0 + h/(2 h_before) (x0 - x0_before))

which is stable and, with the nodes of a calibration, accurate enough: statistics hardly depend on it. Noise and probes of a sample come
from its own numbers (seed, sample, node), whoever makes it, in whatever batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from .ems import Moments, Pending
from .ems_pool import Pool
from .path import Path

OPEN = -4.6  # paths from more noise than this λ have their first node here: flow sigma 0.99
STEP = 0.1  # of a probe, in standard deviations of the noise
NOISE, PROBE = 1, 2  # what random numbers are for
Call = Callable[[list[tuple[int, int]], np.ndarray, float], tuple[np.ndarray, np.ndarray]]


def node_sigmas(path: Path, sigma_max: float, sigma_min: float, nodes: int, table: Sequence[float] | None = None) -> list[float]:
    """`nodes` falling host sigmas, even in λ from sigma_max (or λ = -4.6, if that is less noise) to sigma_min, each moved to the nearest
    of `table`, for models that know no others; equal ones count once. ValueError, one sentence, where fewer than 4 are left."""
    if not isinstance(nodes, int) or nodes < 4:
        raise ValueError(f"nodes is {nodes}; statistics are curves, so give 4 or more, 20 is usual.")
    a, b = (path.half_logsnr(s) if s > 0 else math.nan for s in (sigma_max, sigma_min))
    a = max(a, OPEN)
    if not a < b < math.inf:
        raise ValueError(f"sigma_max is {sigma_max:g} and sigma_min {sigma_min:g}; give falling noise levels above 0.")
    lam = np.linspace(a, b, nodes)
    if table is not None:
        known = np.array(sorted(path.half_logsnr(float(s)) for s in table if s > 0 and path.alpha(float(s)) > 0))
        known = known[(known >= a - 1e-6) & (known <= b + 1e-6)]
        if len(known) < 4:
            raise ValueError(f"table has {len(known)} noise levels from {sigma_max:g} to {sigma_min:g}; a calibration needs 4 or more.")
        lam = known[np.unique(np.abs(known - lam[:, None]).argmin(1))]
    return [path.from_half_logsnr(float(v)) for v in lam]


def starts(path: Path, sigma_max: float, first: float) -> bool:
    """Whether paths start at more noise than their first node, with one evaluation that is in no sum."""
    return path.half_logsnr(sigma_max) < path.half_logsnr(first) - 1e-6


def random(purpose: int, *numbers: int) -> np.random.Generator:
    """A stream of its own for each purpose and numbers. NumPy fills a seed with zeros and splits large numbers into words, so that without
    the purpose a first probe would be its path's noise; 64 bits a number keep all apart."""
    return np.random.default_rng([purpose, *(w for n in numbers for w in (n & 0xFFFFFFFF, n >> 32))])


def begin_paths(ids: list[tuple[int, int]], pool: Pool, path: Path, sigma_max: float, first: float, m: Moments, call: Call) -> Pending:
    """Samples `ids` at the first node: noise there, or where pure noise is more, one first-order step from it."""
    x = np.stack([random(NOISE, *i).standard_normal(pool.shape) for i in ids]) * path.sigma(sigma_max)
    if starts(path, sigma_max, first):
        x, x0 = call(ids, x, sigma_max)
        x = path.alpha(first) * x0 + path.sigma(first) / path.sigma(sigma_max) * (x - path.alpha(sigma_max) * x0)
    return Pending(ids, 0, x, np.zeros_like(x), m.zeros())


def advance(now: Pending, pool: Pool, path: Path, sigmas: Sequence[float], probes: int, call: Call) -> Pending:
    """Evaluate and probe at the node of `now`, whose sums grow, and go to the next. `now` stays as it was if `call` raises."""
    k, s, alpha, step = now.node, sigmas[now.node], path.alpha(sigmas[now.node]), STEP * path.sigma(sigmas[now.node])
    x, x0 = call(now.ids, now.x, s)
    y = x / alpha
    u = y - x0
    fu, fy = pool.transform(u), pool.transform(y)
    gain = {"u": pool.total(u), "y": pool.total(y), "uu": pool.product(fu, fu), "uy": pool.product(fu, fy), "yy": pool.product(fy, fy)}
    gain |= {"n": pool.count(len(y)), "zj": 0.0, "zz": 0.0}
    for p in range(probes):  # one-sided: odd moments of a symmetric z vanish, so the bias is that of central differences, O(step²)
        z = np.stack([pool.probe(random(PROBE, *i, k, p)) for i in now.ids])
        moved, x0_moved = call(now.ids, x + step * z, s)
        z = (moved - x) / step  # as the model saw it
        fz, fj = pool.transform(z), pool.transform(z - alpha * (x0_moved - x0) / step)
        gain["zj"] = gain["zj"] + pool.product(fz, fj)
        gain["zz"] = gain["zz"] + pool.product(fz, fz)
    for name, a in gain.items():
        now.sums[name][k] = a
    if k + 1 == len(sigmas):
        return Pending(now.ids, k + 1, x, x0, now.sums)
    lam = [path.half_logsnr(sigmas[i]) for i in (max(k - 1, 0), k, k + 1)]
    h = lam[2] - lam[1]
    ahead = x0 + h / (2 * (lam[1] - lam[0])) * (x0 - now.x0) if k else x0
    return Pending(now.ids, k + 1, path.alpha(sigmas[k + 1]) * (math.exp(-h) * y - math.expm1(-h) * ahead), x0, now.sums)
