"""Calibration: measure a model's moments along its own sampling paths, by forward passes only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .ems import Moments
from .ems_pool import Pool, usable_kind
from .path import Path

OPEN = -4.6  # paths that start at more noise (λ below) have their first node here: flow sigma 0.99
STEP = 0.1  # of a probe, in standard deviations of the noise


def cost(samples: int, nodes: int, probes: int = 1, lead: bool = False) -> int:
    """Sample-evaluations of a calibration (one call on one latent is 1). `lead`: the path starts at pure noise, one more a sample."""
    return samples * (nodes * (1 + probes) + lead)


def node_sigmas(path: Path, sigma_max: float, sigma_min: float, nodes: int, table: Sequence[float] | None = None) -> list[float]:
    """`nodes` falling host sigmas, even in λ from sigma_max (or λ = -4.6, if that is less noise) to sigma_min, each moved to the nearest
    of `table`, for models that know no others; equal ones count once."""
    a, b = max(path.half_logsnr(sigma_max), OPEN), path.half_logsnr(sigma_min)
    if not nodes >= 4 or not a < b < math.inf:
        raise ValueError(f"nodes is {nodes} from sigma {sigma_max:g} to {sigma_min:g}; give 4 or more, and falling sigmas above 0.")
    lam = np.linspace(a, b, nodes)
    if table is not None:
        known = np.array(sorted(path.half_logsnr(float(s)) for s in table if 0 < path.alpha(float(s)) and s > 0))
        known = known[(known >= a - 1e-6) & (known <= b + 1e-6)]
        lam = np.unique(known[np.abs(known[None] - lam[:, None]).argmin(1)])
    return [path.from_half_logsnr(float(v)) for v in lam]


def calibrate(
    denoise: Callable[[Any, float], Any],
    path: Path,
    shape: Sequence[int],
    *,
    sigma_max: float,
    sigma_min: float,
    samples: int = 24,
    nodes: int = 36,
    probes: int = 1,
    kind: str = "radial",
    seed: int = 0,
    batch: int = 8,
    table: Sequence[float] | None = None,
    moments: Moments | None = None,
    settings: dict[str, str] | None = None,
    report: Callable[[int, int, Moments], None] | None = None,
    begin: Callable[[Sequence[int]], None] | None = None,
    ids: Sequence[int] | None = None,
    device: Any = None,
    dtype: Any = None,
) -> Moments:
    """Moments of `denoise(x (b, *shape), sigma) -> x0` on `samples` paths from noise of `seed`.

    x is a NumPy array of `dtype` (float64), or with `device` a torch tensor there (float32). `moments`, of an earlier or interrupted
    call, is gone on with, in place: samples in it are not made again. `report(done, total, moments)` is called after every model call,
    in sample-evaluations; what it or denoise raises ends the calibration and leaves `moments` with all finished chunks of `batch`
    samples. `begin(numbers)` is called before each chunk with its samples' numbers, for prompts that differ. `ids`: make these samples
    and no others, in place of 0 … samples-1.
    """
    kind, _ = usable_kind(kind, shape)
    sigmas = node_sigmas(path, sigma_max, sigma_min, nodes, table)
    lead = path.half_logsnr(sigma_max) < path.half_logsnr(sigmas[0]) - 1e-6
    fresh = Moments(kind, tuple(shape), np.array([path.half_logsnr(s) for s in sigmas]), dict(settings or {}))
    if moments is None:
        moments = fresh
    else:
        fresh.check_same(moments)
    wanted = list(range(samples) if ids is None else ids)
    todo = [i for i in wanted if (seed, i) not in set(moments.ids)]
    each = cost(1, len(sigmas), probes, lead)
    done, total = each * (len(wanted) - len(todo)), each * len(wanted)

    def call(x: np.ndarray, s: float) -> tuple[np.ndarray, np.ndarray]:
        """(x as the model saw it, its prediction), float64."""
        nonlocal done
        given = _array(x, device, dtype)
        out = denoise(given, s)
        if tuple(out.shape) != x.shape:
            raise ValueError(f"The prediction is of shape {tuple(out.shape)}, the latents {x.shape}; they must have one shape.")
        result = _host(given), _host(out)
        done += len(x)
        return result

    def tell() -> None:
        if report is not None:
            report(done, total, moments)

    pool = Pool(kind, shape)
    for first in range(0, len(todo), batch):
        chunk = todo[first : first + batch]
        if begin is not None:
            begin(chunk)
        part = Moments(kind, tuple(shape), moments.lam)
        x = np.stack([np.random.default_rng([seed, i]).standard_normal(pool.shape) for i in chunk])
        if lead:
            x, x0 = call(x * path.sigma(sigma_max), sigma_max)
            tell()
            x = path.alpha(sigmas[0]) * x0 + path.sigma(sigmas[0]) / path.sigma(sigma_max) * (x - path.alpha(sigma_max) * x0)
        else:
            x = x * path.sigma(sigmas[0])
        before: np.ndarray | None = None
        for k, s in enumerate(sigmas):
            alpha = path.alpha(s)
            x, x0 = call(x, s)
            tell()
            y = x / alpha
            _add(part, k, pool, y, x0)
            for p in range(probes):
                z = np.stack([pool.probe(np.random.default_rng([seed, i, k, p])) for i in chunk])
                moved, x0_moved = call(x + STEP * path.sigma(s) * z, s)
                change = (moved - x) / (STEP * path.sigma(s))
                _add_probe(part, k, pool, change, change - alpha * (x0_moved - x0) / (STEP * path.sigma(s)))
                if p < probes - 1 or k < len(sigmas) - 1:
                    tell()
            if k + 1 < len(sigmas):  # DPM-Solver++ 2M in y: y' = -(y - x0)
                h, previous = moments.lam[k + 1] - moments.lam[k], moments.lam[k] - moments.lam[k - 1]
                ahead = x0 if before is None else x0 + h / (2 * previous) * (x0 - before)
                x = path.alpha(sigmas[k + 1]) * (math.exp(-h) * y - math.expm1(-h) * ahead)
                before = x0
        for name, a in part.sums.items():
            moments.sums[name] += a
        moments.ids[:] = sorted([*moments.ids, *((seed, i) for i in chunk)])
        tell()
    return moments


def _add(m: Moments, k: int, pool: Pool, y: np.ndarray, x0: np.ndarray) -> None:
    u = y - x0
    fu, fy = pool.transform(u), pool.transform(y)
    sums = {"u": pool.total(u), "y": pool.total(y), "uu": pool.product(fu, fu), "uy": pool.product(fu, fy), "yy": pool.product(fy, fy)}
    for name, a in {**sums, "n": pool.count(len(y))}.items():
        m.sums[name][k] += a


def _add_probe(m: Moments, k: int, pool: Pool, z: np.ndarray, jz: np.ndarray) -> None:
    fz, fj = pool.transform(z), pool.transform(jz)
    m.sums["zj"][k] += pool.product(fz, fj)
    m.sums["zz"][k] += pool.product(fz, fz)


def _array(x: np.ndarray, device: Any, dtype: Any) -> Any:
    """x as the model wants it."""
    if device is None:
        return x.astype(dtype or np.float64)
    import torch

    return torch.from_numpy(x).to(dtype or torch.float32).to(device)


def _host(a: Any) -> np.ndarray:
    """Any library's array as float64 on the host."""
    if hasattr(a, "detach"):
        a = a.detach().to("cpu").double().numpy()
    return np.asarray(a, dtype=np.float64)
