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
from dataclasses import dataclass
from typing import Any

import numpy as np

from .path import Path
from .statistics import Statistics

POINTS, MOMENTS = 10, 5  # of a panel's quadrature; order 4 with its corrector has five nodes


@functools.cache
def gauss(points: int = POINTS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss-Legendre on 0…1: nodes, weights, and the matrix that integrates the polynomial through the nodes' values from 0 to each."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    polynomials = np.polynomial.legendre.legvander(nodes, points - 1)
    primitives = np.stack([np.polynomial.legendre.legval(nodes, np.polynomial.legendre.legint(row, lbnd=-1)) for row in np.eye(points)], 1)
    return (nodes + 1) / 2, weights / 2, primitives @ np.linalg.inv(polynomials) / 2


def panels(knots: np.ndarray, a: float, b: float) -> np.ndarray:
    """Ends of panels from a to b (either way): the knots between them, where the third derivatives of l jump, and none longer than 1."""
    low, high = min(a, b), max(a, b)
    ends = np.concatenate([[low], knots[(knots > low) & (knots < high)], [high]])
    parts = [np.linspace(p, q, max(1, math.ceil(q - p)) + 1)[:-1] for p, q in zip(ends, ends[1:], strict=False)]
    ends = np.concatenate([*parts, [high]])
    return ends if a <= b else ends[::-1]


Values = np.ndarray | float


@dataclass(frozen=True)
class Way:
    """From λ_s to λ_t: e^{-∫l}, ∫s and B_s there, ∫ e^{L_s - L_s(t) + S_s} τ^k dλ for k < 5, and the same of B_s; each (bins,), or plain
    numbers where there is one bin.

    To σ = 0: of y_end what falls to y_s, to g = 1 (of one node) and to B_s; see `Statistics.share`.
    """

    keep: Values
    S: Values
    B: Values
    moments: tuple[Values, ...]
    drift: Values


class Ways:
    """The ways of one plan, each integrated once: a step, its correction and the next step share theirs."""

    def __init__(self, statistics: Statistics):
        self.statistics = statistics
        self._known: dict[tuple[float, float], Way] = {}
        self._grown: dict[float, Values] = {}  # ∫s from the first knot
        self._drifts = statistics.parity or bool(statistics.b.any())

    def __call__(self, lam_s: float, lam_t: float) -> Way:
        if (lam_s, lam_t) not in self._known:
            self._known[lam_s, lam_t] = self.statistics.way(lam_s, lam_t) or self._integrated(lam_s, lam_t)
        return self._known[lam_s, lam_t]

    def between(self, lam_s: float, lam: float) -> tuple[Values, Values]:
        """(∫s, B_s) from λ_s to λ, without the rest of a way if need be."""
        if self._drifts or (lam_s, lam) in self._known:
            way = self(lam_s, lam)
            return way.S, way.B
        for at in (lam_s, lam):
            if at not in self._grown:
                self._grown[at] = _plain(np.concatenate([s.primitive(np.array([at]))[0] for _, s, _ in self.statistics.blocks]))
        return self._grown[lam] - self._grown[lam_s], 0.0

    def _integrated(self, lam_s: float, lam_t: float) -> Way:
        share, density = self.statistics.share(lam_s), self.statistics.tail == "density"
        parts = [_integrate(part, lam_s, lam_t, share, density) for part in self.statistics.blocks]
        joined = [_plain(np.concatenate(a)) for a in zip(*parts, strict=True)]
        return Way(joined[0], joined[1], joined[2], tuple(joined[4:]), joined[3])


def _plain(values: np.ndarray) -> Values:
    return float(values[0]) if values.size == 1 else values


def _integrate(curves, lam_s: float, lam_t: float, share: float, density: bool) -> list[np.ndarray]:
    """[e^{-∫l}, ∫s, B, drift, moments …] of a way.

    Where the data have a density, ε = -σ ∇log p at the end, so u = e^{-λ} ε falls like e^{-2λ}: behind the last knot λ_T l is l_T e^{-2τ}
    and s is -2, which gives y_end = e^{-l_T/2} y_T - (1 - e^{-l_T/2})/l_T f_T. With constant statistics it is x0 = (1-l) y - f.
    """
    l, s, b = curves  # noqa: E741
    ending = math.isinf(lam_t)
    if ending:
        lam_t = max(lam_s, b.knots[-1])
    ends = panels(b.knots, lam_s, lam_t)
    nodes, weights, integrate = gauss()
    width = np.diff(ends)[:, None]
    points = (ends[:-1, None] + width * nodes).ravel()
    (to_l, end_l), (to_s, end_s) = (np.split(c.primitive(np.append(points, lam_t)) - c.primitive(np.array([lam_s])), [-1]) for c in (l, s))
    kernel = (width * weights).reshape(-1, 1) * np.exp(to_l - end_l + to_s)
    end_b = drift = np.zeros_like(end_s[0])
    if b.values.any():
        rate = (np.exp(-to_s) * b.value(points)).reshape(len(width), len(nodes), -1)
        wholes = width * np.einsum("j,pjb->pb", weights, rate)
        before = np.cumsum(wholes, axis=0) - wholes
        inner = before[:, None] + width[:, :, None] * np.einsum("ij,pjb->pib", integrate, rate)
        end_b, drift = wholes.sum(0), (kernel * inner.reshape(len(points), -1)).sum(0)
    powers = np.arange(MOMENTS)[:, None]
    keep, moments = np.exp(-end_l[0]), (points - lam_s) ** powers @ kernel
    if ending:
        last = l.value(np.array([lam_t]))[0]
        flat = np.where(last == 0, 1e-30, last)
        rest, fall = (np.exp(-last / 2), -np.expm1(-flat / 2) / flat) if density else (1 - last, 1.0)
        grown = np.exp(end_s[0]) * fall
        keep, drift, moments = rest * keep, rest * drift + grown * end_b, rest * moments + grown * (lam_t - lam_s) ** powers
        keep = share * keep + (1 - share) * (1 - l.value(np.array([lam_s]))[0])  # in part the prediction at s
        drift, moments = share * drift, share * moments + (1 - share) * (powers == 0)
    return [np.broadcast_to(keep, end_s[0].shape), end_s[0], end_b, drift, *moments]


def values(statistics: Statistics, path: Path, sigmas: Sequence[float]) -> list[Values]:
    """The factors of x that, with -1 for x0, give f at the sigmas, whose λ are finite."""
    lams = np.array([path.half_logsnr(s) for s in sigmas])
    l = np.concatenate([curves[0].value(lams) for curves in statistics.blocks], axis=1)  # noqa: E741
    return [_plain((1 - row) / path.alpha(s)) for row, s in zip(l, sigmas, strict=True)]


def state_weight(ways: Ways, path: Path, s: float, t: float) -> Values:
    """The factor of x_s."""
    return path.alpha(t) / path.alpha(s) * ways(path.half_logsnr(s), path.half_logsnr(t)).keep


def raw_to_newton(raw: Sequence, offsets: Sequence[float]) -> list:
    """Integrals of N_0, N_1, … = Π (τ + offset_j) from those of 1, τ, τ², …"""
    out = []
    for a in offsets[: len(raw) - 1]:
        out.append(raw[0])
        raw = [high + a * low for low, high in zip(raw, raw[1:], strict=False)]  # the same with one more factor (τ + a)
    return [*out, raw[0]]


def node_weights(
    ways: Ways, path: Path, s: float, t: float, nodes: Sequence[float], rule: str, fades: Sequence[float]
) -> tuple[list[Values], Values]:
    """(factors of the stored f at `nodes`, newest first; bias), each term of the Newton form of g scaled by its fade. Rules as in
    `step.newton_moments`; "pseudo" (the paper's pseudo-order method, appendix C) puts τ^k in the place of N_k."""
    lam_s, h = path.half_logsnr(s), path.half_logsnr(t) - path.half_logsnr(s)  # h = ∞ to σ = 0
    lams, step = [path.half_logsnr(n) for n in nodes], ways(lam_s, lam_s + h)
    raw = list(step.moments[: len(nodes)])
    if rule == "dpmsolver" and len(nodes) == 2 and h < math.inf:
        raw[1] = raw[0] * h / 2
    moments = raw if rule == "pseudo" else raw_to_newton(raw, [lam_s - lam for lam in lams])
    of_g: list[Any] = [0.0] * len(nodes)
    for k, (moment, fade) in enumerate(zip(moments, fades, strict=True)):
        for j in range(k + 1):
            apart = math.prod([lams[j] - lams[i] for i in range(k + 1) if i != j])
            of_g[j] = of_g[j] - path.alpha(t) * fade * moment / apart
    bias, weights = -path.alpha(t) * step.drift, []
    for lam, w in zip(lams, of_g, strict=True):
        grown, drift = ways.between(lam_s, lam) if lam != lam_s else (0.0, 0.0)
        weights.append(w * np.exp(-grown) if lam != lam_s else w)
        bias = bias - w * drift
    return weights, bias
