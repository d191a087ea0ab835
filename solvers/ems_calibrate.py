"""Calibration: measure a model's moments along its own sampling paths, by forward passes only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import on_host
from .ems import Moments
from .ems_paths import advance, begin_paths, node_sigmas, starts
from .ems_pool import Pool, usable_kind
from .path import Path


def cost(samples: int, nodes: int, probes: int = 1, lead: bool = False) -> int:
    """Sample-evaluations of a calibration (one call on one latent is 1). `lead`: the path starts at pure noise, one more a sample."""
    return samples * (nodes * (1 + probes) + lead)


def calibrate(
    denoise: Callable[[Any, float], Any],
    path: Path,
    shape: Sequence[int],
    *,
    sigma_max: float,
    sigma_min: float,
    samples: int = 16,
    nodes: int = 20,
    probes: int = 1,
    kind: str = "radial",
    seed: int = 0,
    batch: int = 8,
    table: Sequence[float] | None = None,
    moments: Moments | None = None,
    metadata: dict[str, str] | None = None,
    report: Callable[[int, int, Moments], None] | None = None,
    begin: Callable[[list[int]], None] | None = None,
    ids: Sequence[int] | None = None,
    device: Any = None,
    dtype: Any = None,
) -> Moments:
    """Moments of `denoise(x (b, *shape), sigma) -> x0` on `samples` paths from noise of `seed`, from sigma_max to sigma_min of the host.

    x is a NumPy array of `dtype` (float64), or with `device` a torch tensor there (float32); b is at most `batch`. `begin(numbers)` is
    called before every call that is for other samples than the last one, with their numbers: for prompts that differ. `ids`: make these
    samples and no others, in place of 0 … samples-1.

    `report(done, total, moments)` is called after every model call, in sample-evaluations, with the moments so far. What it or `denoise`
    raises ends the calibration; to go on, give the last `moments` again (as they are, or from a file): they are continued in place and
    lose at most the evaluations of one node. `table`: see `ems_paths.node_sigmas`; `metadata`: see `Moments`; by default that of `moments`.
    ValueError, one sentence, before any call for options that cannot be, or moments of other settings.
    """
    kind, _ = usable_kind(kind, shape)
    for name, value, least in (("samples", samples, 1), ("probes", probes, 0), ("batch", batch, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is {value!r}; give a whole number from {least} up.")
    sigmas = node_sigmas(path, sigma_max, sigma_min, nodes, table)
    words = dict(moments.metadata if metadata is None and moments is not None else metadata or {})
    fresh = Moments(kind, tuple(shape), np.array([path.half_logsnr(s) for s in sigmas]), words)
    if moments is None:
        moments = fresh
    else:
        fresh.check_same(moments)
        moments.metadata.update(fresh.metadata)
    pool, lead = Pool(kind, shape), starts(path, sigma_max, sigmas[0])
    wanted = [(seed, int(i)) for i in (range(samples) if ids is None else ids)]
    each, total = cost(1, len(sigmas), probes, lead), cost(len(wanted), len(sigmas), probes, lead)
    if moments.pending and not set(moments.pending.ids) <= set(wanted):
        moments.pending = None  # begun for another seed, or for more samples than are wanted now
    done = each * len(set(wanted) & set(moments.ids))
    if moments.pending:
        done += len(moments.pending.ids) * cost(1, moments.pending.node, probes, lead)
    last: list[int] = []

    def call(ids: list[tuple[int, int]], x: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
        """(x as the model saw it, its prediction), float64, in calls of at most `batch`."""
        nonlocal done, last
        pairs = []
        for i in range(0, len(x), batch):
            numbers = [number for _, number in ids[i : i + batch]]
            if begin is not None and numbers != last:
                begin(numbers)
            last = numbers
            given = _array(x[i : i + batch], device, dtype)
            out = denoise(given, sigma)
            if tuple(out.shape) != tuple(given.shape):
                raise ValueError(
                    f"The prediction is of shape {tuple(out.shape)}, the latents {tuple(given.shape)}; they must have one shape."
                )
            pairs.append((on_host(given, "x"), on_host(out, "The prediction")))
            if not np.isfinite(pairs[-1][1]).all():
                raise ValueError(f"The prediction at sigma {sigma:g} holds NaN or infinite values; calibrate in a wider precision.")
            done += len(numbers)
            if report is not None:
                report(done, total, moments)
        seen, out = (np.concatenate(a) for a in zip(*pairs, strict=True))
        return seen, out

    while moments.pending or not set(wanted) <= set(moments.ids):
        if moments.pending is None:
            done_before = set(moments.ids)
            chunk = [i for i in wanted if i not in done_before][:batch]
            moments.pending = begin_paths(chunk, pool, path, sigma_max, sigmas[0], moments, call)
        while moments.pending.node < len(sigmas):
            moments.pending = advance(moments.pending, pool, path, sigmas, probes, call)
        for name, a in moments.pending.sums.items():
            moments.sums[name] += a
        moments.ids[:] = sorted([*moments.ids, *moments.pending.ids])
        moments.pending = None
    return moments


def _array(x: np.ndarray, device: Any, dtype: Any) -> Any:
    """x as the model wants it."""
    if device is None:
        return x.astype(dtype or np.float64)
    import torch

    return torch.from_numpy(x).to(device=device, dtype=dtype or torch.float32)
