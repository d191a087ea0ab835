"""What the proof of a tape needs for DPM-Solver-v3: the bins it tries, and what l, s and b add up to on the way.

The integrals are made here anew, from the statistics' values at points; the planner has its own.
"""

import functools
import math
from typing import Any

import numpy as np

from .statistics import Statistics

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


class Along:
    """l, s and b of statistics of one bin, summed up along the λ `levels` of a tape by Gauss-Legendre on panels that end at each,
    whose integrals to each point are those of the polynomial through the panel's values. Arrays are (panels, points of each)."""

    def __init__(self, statistics: Statistics, levels: np.ndarray):
        self.statistics, self.last = statistics, float(statistics.lam[-1])
        lams = [lam for lam in levels.tolist() if math.isfinite(lam)]
        inside = [k for k in statistics.lam.tolist() if min(lams, default=k) < k]
        marks, ends = sorted({*lams, *inside, self.last}), []
        for p, q in zip(marks, marks[1:], strict=False):
            count = math.ceil((q - p) / 2)
            ends += [p + (q - p) * i / count for i in range(count)]
        self.ends = np.array([*ends, marks[-1]])
        nodes, weights = gauss()
        half, integrate = np.diff(self.ends)[:, None] / 2, _to_points().T
        self.at, self.weight = self.ends[:-1, None] + half * (nodes + 1), half * weights
        l, s, b = (curve.value(self.at.ravel())[:, 0].reshape(self.at.shape) for curve in statistics.blocks[0])  # noqa: E741
        self.to_l, self.to_s = half * (l @ integrate), half * (s @ integrate)  # from the panel's own start
        self.of_l, self.of_s = (np.concatenate([[0.0], np.cumsum((self.weight * a).sum(1))]) for a in (l, s))  # from the first to each
        rate = np.exp(-self.to_s) * b
        self.to_b, self.of_b = half * (rate @ integrate), (self.weight * rate).sum(1)

    def _panels(self, lam_s: np.ndarray, lam: np.ndarray):
        """(places of λ_s, of λ, panels between them, whether each of these counts) with the places as columns."""
        i, j = (np.searchsorted(self.ends, a)[:, None] for a in (lam_s, lam))
        which = np.minimum(i, j) + np.arange(max(1, int(np.abs(j - i).max())))
        return i, j, np.minimum(which, len(self.at) - 1), which < np.maximum(i, j)

    def drift(self, lam_s: np.ndarray, lam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(∫s, B = ∫ e^{-∫s} b) from each λ_s to each λ."""
        i, j, which, counts = self._panels(lam_s, lam)
        parts = np.where(counts, np.exp(np.where(counts, self.of_s[i] - self.of_s[which], 0.0)) * self.of_b[which], 0.0)
        return self.of_s[j] - self.of_s[i], np.sign(j - i) * parts.sum(1, keepdims=True)

    def points(self, lam_s: np.ndarray, lam: np.ndarray):
        """From each λ_s to each λ: ∫l (ways, 1), and (ways, points) λ, weight, ∫l, ∫s and B to the points."""
        i, j, which, counts = self._panels(lam_s, lam)
        decay = np.exp(np.where(counts, self.of_s[i] - self.of_s[which], 0.0))[:, :, None]
        parts = np.where(counts, decay[:, :, 0] * self.of_b[which], 0.0)
        before = np.cumsum(parts, axis=1) - parts - np.where(j < i, parts.sum(1, keepdims=True), 0.0)
        weight = np.where(counts[:, :, None], self.weight[which], 0.0) * np.sign(j - i)[:, :, None]
        to_l, to_s = (
            own[which] + np.where(counts, of[which] - of[i], 0.0)[:, :, None]
            for own, of in ((self.to_l, self.of_l), (self.to_s, self.of_s))
        )
        found = (self.at[which], weight, to_l, to_s, before[:, :, None] + decay * self.to_b[which])
        return self.of_l[j] - self.of_l[i], *(a.reshape(len(i), -1) for a in found)

    def expected(self, promised: Any) -> np.ndarray:
        """DPM-Solver-v3's steps on g = N_k from y = 1, (claims, cases), of `promised.Promised` claims."""
        lam_s, lam_t, roots = promised.lam_s[:, 0], promised.lam_t[:, 0], promised.roots
        reached = np.where(np.isfinite(lam_t), lam_t, np.maximum(lam_s, self.last))
        whole, at, w, to_l, to_s, drift = self.points(lam_s, reached)
        if (pseudo := promised.where("pseudo")).size:
            roots = roots.copy()
            roots[pseudo] = promised.lam_s[pseudo]
        g = polynomials(at, roots)
        for i in promised.where("dpmsolver").tolist():
            if promised.counts[i] == 2:  # τ at the middle of the step
                g[i, :, 1] = (lam_t[i] - lam_s[i]) / 2 + lam_s[i] - roots[i, 0]
        f = promised.fades[:, None] * g + drift[:, :, None]
        y = np.exp(-whole) - np.einsum("cp,cpk->ck", w * np.exp(to_l - whole + to_s), f)
        if math.isinf(lam_t[0]):  # x0 = (1-l) y - f; or in part the end of y' = -l y - f with l and f ∝ z = e^{-2τ}: dy/dz = (l y + f)/2
            share = np.array([[self.statistics.share(lam)] for lam in lam_s])
            l_s, l_t = (self.statistics.blocks[0][0].value(a) for a in (lam_s, reached))
            grown, b = self.drift(lam_s, reached)
            f = np.exp(grown) * (1 + b)
            points, weights = gauss()
            end = np.exp(-l_t / 2) * y - f / 4 * (weights * np.exp(-l_t * (points + 1) / 4)).sum(1, keepdims=True)
            y = share * (end if self.statistics.tail == "density" else (1 - l_t) * y - f) - (1 - share) * l_s
        return promised.alpha_t * y


def polynomials(at: np.ndarray, roots: np.ndarray) -> np.ndarray:
    """N_0, N_1, … with the roots (claims, degree), at points (claims, n), along a new last axis."""
    found = [np.ones_like(at)]
    for root in roots.T:
        found.append(found[-1] * (at - root[:, None]))
    return np.stack(found, axis=-1)


def bins_to_try(statistics: Statistics) -> list[int]:
    """Those with the least, the middle and the greatest l, the extremes of s, and the greatest b."""
    l, s, b = (a.reshape(len(statistics.lam), -1) for a in (statistics.l, statistics.s, statistics.b))  # noqa: E741
    order = np.argsort(l.mean(0))
    tried = {int(j) for j in order[np.linspace(0, len(order) - 1, BINS).astype(int)]}
    return sorted(tried | {int(a) for a in (s.mean(0).argmin(), s.mean(0).argmax(), np.abs(b).max(0).argmax())})
