"""What the proof of a tape needs for DPM-Solver-v3: tapes of single bins, and what l, s and b add up to on the way.

The integrals are made here anew, from the statistics' values at points; the planner has its own.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .path import Path
from .statistics import Statistics
from .tape import Affine, Claim, Field, Tape

BINS = 3  # of statistics, how many are tried


@functools.cache
def gauss():
    return np.polynomial.legendre.leggauss(24)


@functools.cache
def _to_points() -> np.ndarray:
    """From values at the nodes of `_gauss` to integrals from -1 to each node, of the polynomial through them: by its moments."""
    nodes, _ = gauss()
    powers = np.polynomial.chebyshev.chebvander(nodes, len(nodes) - 1)
    primitives = [np.polynomial.chebyshev.chebval(nodes, np.polynomial.chebyshev.chebint(row, lbnd=-1)) for row in np.eye(len(nodes))]
    return np.linalg.solve(powers.T, np.array(primitives)).T


@functools.lru_cache(maxsize=512)
def along(statistics: Statistics, lam_s: float, lam: float) -> tuple[float, float, float, np.ndarray]:
    """From λ_s to λ, of statistics of one bin: ∫l, ∫s, B = ∫ e^{-∫s} b, and rows of points: λ, weight, ∫l, ∫s, B. Gauss-Legendre on panels,
    whose integrals to each point are those of the polynomial through the panel's values."""
    nodes, weights = gauss()
    integrate = _to_points().T
    if math.isinf(lam):
        lam = max(lam_s, float(statistics.lam[-1]))
    marks = sorted([lam_s, lam, *(k for k in statistics.lam if min(lam_s, lam) < k < max(lam_s, lam))], reverse=bool(lam < lam_s))
    cuts = [np.linspace(p, q, math.ceil(abs(q - p) / 2) + 1)[:-1] for p, q in zip(marks, marks[1:], strict=False)]
    ends = np.concatenate([*cuts, [lam]])
    half = np.diff(ends)[:, None] / 2
    at = ends[:-1, None] + half * (nodes + 1)
    l, s, drift = (curve.value(at.ravel())[:, 0].reshape(at.shape) for curve in statistics.blocks[0])  # noqa: E741

    def summed(rate: np.ndarray) -> tuple[float, np.ndarray]:
        whole = half[:, 0] * (rate @ weights)
        return float(whole.sum()), half * (rate @ integrate) + (np.cumsum(whole) - whole)[:, None]

    (all_l, to_l), (all_s, to_s) = summed(l), summed(s)
    all_drift, to_drift = summed(np.exp(-to_s) * drift)
    return all_l, all_s, all_drift, np.stack([at, half * weights, to_l, to_s, to_drift]).reshape(5, -1)


def expected(path: Path, claim: Claim, k: int, statistics: Statistics) -> float:
    """DPM-Solver-v3's step on g = N_k from y = 1."""
    s, t = claim.sigma_from, claim.sigma_to
    lam_s, lam_t = path.half_logsnr(s), path.half_logsnr(t)
    whole, grown, b, (at, w, to_l, to_s, drift) = along(statistics, lam_s, lam_t)
    roots = [lam_s] * k if claim.rule == "pseudo" else [path.half_logsnr(n) for n in claim.nodes[:k]]
    g = np.prod([at - root for root in roots], axis=0) if roots else np.ones_like(at)
    if claim.rule == "dpmsolver" and k == 1 and len(claim.nodes) == 2:  # τ at the middle of the step
        g = (lam_t - lam_s) / 2 + lam_s - roots[0] + 0 * at
    y = math.exp(-whole) - float((w * np.exp(to_l - whole + to_s) * (claim.fades[k] * g + drift)).sum())
    if math.isinf(lam_t):  # x0 = (1-l) y - f; or in part the end of y' = -l y - f with l and f ∝ z = e^{-2τ}: dy/dz = (l y + f)/2
        share, ends = statistics.share(lam_s), np.array([lam_s, max(lam_s, float(statistics.lam[-1]))])
        l_s, l_t = statistics.blocks[0][0].value(ends)[:, 0]
        f = math.exp(grown) * (1 + b)
        nodes, weights = gauss()
        end = math.exp(-l_t / 2) * y - f / 4 * float((weights * np.exp(-l_t * (nodes + 1) / 4)).sum())
        y = share * (end if statistics.tail == "density" else (1 - l_t) * y - f) - (1 - share) * l_s
    return path.alpha(t) * y


def one_by_one(tape: Tape) -> Iterator[Tape]:
    """The tape itself, or with statistics of many bins the tapes that some of the bins run: those with the least, the middle and the
    greatest l, the extremes of s, and the greatest b."""
    if tape.statistics is None or tape.statistics.l[0].size == 1:
        yield tape
        return
    l, s, b = (a.reshape(len(tape.statistics.lam), -1) for a in (tape.statistics.l, tape.statistics.s, tape.statistics.b))  # noqa: E741
    order = np.argsort(l.mean(0))
    tried = {int(j) for j in order[np.linspace(0, len(order) - 1, BINS).astype(int)]}
    for j in sorted(tried | {int(a) for a in (s.mean(0).argmin(), s.mean(0).argmax(), np.abs(b).max(0).argmax())}):

        def number(w, j=j):
            return float(w.values[j]) if isinstance(w, Field) else w

        records = tuple(
            replace(r, terms=tuple((name, number(w)) for name, w in r.terms), bias=number(r.bias)) if isinstance(r, Affine) else r
            for r in tape.records
        )
        yield replace(tape, records=records, statistics=tape.statistics.at_bins([j]))
