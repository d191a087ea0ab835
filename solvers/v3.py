"""One step of DPM-Solver-v3 (arXiv 2310.13268, eq. 9 and section 3.2): the weights of the state, of stored evaluations, and a bias.

With y = x/α, f = u - l y = (1-l) y - x0 is stored for each evaluation. On the way from s, with L_s(λ) = ∫_s^λ l, S_s(λ) = ∫_s^λ s and
B_s(λ) = ∫_s^λ e^{-S_s} b,

    f(λ) = e^{S_s(λ)} (g(λ) + B_s(λ)),      y_t = e^{-L_s(t)} y_s - ∫_s^t e^{L_s(λ) - L_s(t)} f(λ) dλ

and the solver replaces g by the Newton polynomial through g_j = e^{-S_s(λ_j)} f_j - B_s(λ_j). So a step is affine in x and the f_j.
l = 1, s = b = 0 is DPM-Solver++, l = 0, s = -1, b = 0 is DPM-Solver. The official code snaps the steps to the grid of the statistics
and sums trapezoids, which leaves an error floor; here l, s and b are C¹ between knots, and the integrals Gauss-Legendre.
Arrays are (bins,), or (points, bins).
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from .path import Path
from .statistics import Statistics

POINTS = 10
FAR = 40.0  # e^{-40} is nothing in float64: how far behind the last knot, or behind s, λ = ∞ lies for the integrals


@functools.cache
def gauss(points: int = POINTS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss-Legendre on 0…1: nodes, weights, and the matrix that integrates the polynomial through the nodes' values from 0 to each."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    polynomials = np.polynomial.legendre.legvander(nodes, points - 1)
    primitives = np.stack([np.polynomial.legendre.legval(nodes, np.polynomial.legendre.legint(row, lbnd=-1)) for row in np.eye(points)], 1)
    return (nodes + 1) / 2, weights / 2, primitives @ np.linalg.inv(polynomials) / 2


def panels(statistics: Statistics, a: float, b: float) -> np.ndarray:
    """Ends of panels from a to b (either way): the knots between them, where the third derivatives of l jump, and none longer than 1."""
    low, high = min(a, b), max(a, b)
    inner = statistics.lam[(statistics.lam > low) & (statistics.lam < high)]
    ends = np.concatenate([[low], inner, [high]])
    parts = [np.linspace(p, q, max(1, math.ceil(q - p)) + 1)[:-1] for p, q in zip(ends, ends[1:], strict=False)]
    ends = np.concatenate([*parts, [high]])
    return ends if a <= b else ends[::-1]


class Way:
    """The way from λ_s to λ_t: L_s, S_s and B_s at the points of a quadrature, and at its end."""

    def __init__(self, statistics: Statistics, lam_s: float, lam_t: float):
        l, s, b = statistics.curves  # noqa: E741
        if math.isinf(lam_t):
            lam_t = max(lam_s, statistics.lam[-1]) + FAR
        ends = panels(statistics, lam_s, lam_t)
        nodes, weights, integrate = gauss()
        width = np.diff(ends)[:, None]
        points = (ends[:-1, None] + width * nodes).ravel()
        start = np.array([lam_s])
        self.tau, self.weights = points - lam_s, (width * weights).ravel()[:, None]
        self.L, self.S = l.primitive(points) - l.primitive(start), s.primitive(points) - s.primitive(start)
        end = np.array([lam_t])
        self.L_t, self.S_t = (l.primitive(end) - l.primitive(start))[0], (s.primitive(end) - s.primitive(start))[0]
        self.B, self.B_t = None, 0.0
        if statistics.has_bias:
            rate = (np.exp(-self.S) * b.value(points)).reshape(len(width), len(nodes), -1)
            wholes = width * np.einsum("j,pjb->pb", weights, rate)
            before = np.concatenate([np.zeros_like(wholes[:1]), np.cumsum(wholes, axis=0)])
            self.B = (before[:-1, None] + width[:, :, None] * np.einsum("ij,pjb->pib", integrate, rate)).reshape(len(points), -1)
            self.B_t = before[-1]

    def moments(self, count: int) -> tuple[list[np.ndarray], np.ndarray | float]:
        """∫ e^{L_s - L_s(t) + S_s} τ^k dλ for k < count, and the same of B_s."""
        kernel = self.weights * np.exp(self.L - self.L_t + self.S)
        drift = (kernel * self.B).sum(0) if self.B is not None else 0.0
        return [(kernel * self.tau[:, None] ** k).sum(0) for k in range(count)], drift


def value(statistics: Statistics, path: Path, s: float) -> tuple[np.ndarray, float]:
    """(factor of x, factor of x0) that give f at s."""
    l = statistics.curves[0].value(np.array([path.half_logsnr(s)]))[0]  # noqa: E741
    return (1 - l) / path.alpha(s), -1.0


def state_weight(statistics: Statistics, path: Path, s: float, t: float) -> np.ndarray:
    """The factor of x_s."""
    return path.alpha(t) / path.alpha(s) * np.exp(-_way(statistics, path.half_logsnr(s), path.half_logsnr(t)).L_t)


@functools.lru_cache(maxsize=8)  # a step, its correction, the next step and their histories ask for the same ones
def _way(statistics: Statistics, lam_s: float, lam_t: float) -> Way:
    return Way(statistics, lam_s, lam_t)


def mean_distance(statistics: Statistics, lam_s: float) -> float:
    """The mean of τ under the weight of the step from λ_s to σ = 0, median over bins."""
    (whole, first), _ = _way(statistics, lam_s, math.inf).moments(2)
    return float(np.median(first / whole))


def raw_to_newton(raw: Sequence, offsets: Sequence[float]) -> list:
    """Integrals of N_0, N_1, … = Π (τ + offset_j) from those of 1, τ, τ², …"""
    out, polynomial = [], [1.0]
    for a in [*offsets[: len(raw) - 1], 0.0]:
        out.append(sum(c * m for c, m in zip(polynomial, raw, strict=False)))
        polynomial = [a * low + high for low, high in zip([*polynomial, 0.0], [0.0, *polynomial], strict=True)]
    return out


def node_weights(
    statistics: Statistics, path: Path, s: float, t: float, nodes: Sequence[float], rule: str, fades: Sequence[float]
) -> tuple[list[np.ndarray], np.ndarray | float]:
    """(factors of the stored f at `nodes`, newest first; bias), each term of the Newton form of g scaled by its fade. Rules as in
    `step.newton_moments`; "pseudo" (the paper's pseudo-order method, appendix C) puts τ^k in the place of N_k."""
    lam_s, h = path.half_logsnr(s), path.half_logsnr(t) - path.half_logsnr(s)  # h = ∞ to σ = 0
    lams = [path.half_logsnr(n) for n in nodes]
    raw, drift = _way(statistics, lam_s, lam_s + h).moments(len(nodes))
    if rule == "dpmsolver" and len(nodes) == 2 and h < math.inf:
        raw[1] = raw[0] * h / 2
    moments = raw if rule == "pseudo" else raw_to_newton(raw, [lam_s - lam for lam in lams])
    of_g = [np.zeros_like(raw[0]) for _ in nodes]
    for k, (moment, fade) in enumerate(zip(moments, fades, strict=True)):
        for j in range(k + 1):
            of_g[j] -= path.alpha(t) * fade * moment / math.prod(lams[j] - lams[i] for i in range(k + 1) if i != j)
    bias, weights = -path.alpha(t) * drift, []
    for lam, w in zip(lams, of_g, strict=True):
        way = _way(statistics, lam_s, lam) if lam != lam_s else None
        weights.append(w * np.exp(-way.S_t) if way else w)
        bias = bias - w * way.B_t if way and statistics.has_bias else bias
    return weights, bias
