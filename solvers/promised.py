"""What claims promise: the end of the exact step on prescribed data, for many claims at once, by a quadrature of its own.

Arrays are (claims, 1), or with the cases (claims, cases); case k is the data N_k.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from .path import Path
from .proof_v3 import Along, gauss, polynomials
from .step import FLOOR, POWER
from .structure import kept
from .tape import Claim

C, N = 0.7, -1.3  # the one-point data and the noise that travels with it


class Levels(dict[float, tuple[float, float, float]]):
    """(α, σ, λ) of each sigma of a tape."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def __missing__(self, s: float) -> tuple[float, float, float]:
        self[s] = found = self.path.alpha(s), self.path.sigma(s), self.path.half_logsnr(s)
        return found

    def of(self, sigmas: Sequence[float]) -> np.ndarray:
        """(3, sigmas, 1)"""
        return np.array([self[s] for s in sigmas]).T[:, :, None]


@functools.cache
def _panels(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(points, weights) of Gauss-Legendre on `count` panels of 0…1."""
    nodes, weights = gauss()
    return ((np.arange(count)[:, None] + (nodes + 1) / 2) / count).ravel(), np.tile(weights, count) / (2 * count)


class Promised:
    """Claims of one form, rule, number of nodes and kind of end."""

    def __init__(self, levels: Levels, claims: Sequence[Claim], along: Along | None):
        first = claims[0]
        self.levels, self.claims, self.along = levels, claims, along
        self.form, self.rule, self.noisy, self.cases = first.form, first.rule, first.eta > 0, max(1, len(first.nodes))
        self.alpha_s, self.sigma_s, self.lam_s = levels.of([c.sigma_from for c in claims])
        self.alpha_t, self.sigma_t, self.lam_t = levels.of([c.sigma_to for c in claims])
        self.fades = np.array([c.fades or (1.0,) for c in claims])
        self.eta = np.array([[c.eta] for c in claims])
        nodes = [levels.of([c.nodes[k] for c in claims]) for k in range(len(first.nodes))]
        self.roots = [alpha / sigma if self.rule == "ratio" else lam for alpha, sigma, lam in nodes[: self.cases - 1]]
        self.noise_alone = self.form == "eps" and self.noisy  # the data of case 0: ε = n, not data at one point

    def expected(self) -> np.ndarray:
        """The states at the ends (from α c + σ n for k = 0; from 0 for k > 0; from G_s in form "v", from α_s in "f")."""
        if self.form == "f":
            assert self.along is not None
            return self.along.expected(self.claims, self.levels.path)
        if self.form == "v":
            return np.hypot(self.alpha_t, self.sigma_t) + self.fades * self.integrated(self.roots)
        moved = self.of_rule() if self.cases > 1 or self.noise_alone else np.zeros((len(self.claims), 1))
        if self.noise_alone:  # ε = n all along
            moved[:, :1] = self.alpha_t / self.alpha_s * (self.alpha_s * C + self.sigma_s * N) + N * self.integrated([])
        else:
            changes = self.noisy or self.rule == "renoise"
            rest = np.array([[kept(self.levels.path, c)] for c in self.claims]) if changes else self.sigma_t
            moved[:, :1] = self.alpha_t * C + rest * N
        return np.concatenate([moved[:, :1], moved[:, 1:] * (self.fades[:, 1:] if self.rule != "vary_official" else 1.0)], axis=1)

    def of_rule(self) -> np.ndarray:
        """What the integrals over N_1, N_2, … have to be by the claims' rule; column 0 is not used."""
        if self.rule == "ratio":  # x_t/σ_t - x_s/σ_s = ∫ x0 du with u = α/σ and N_1 = u - u_s
            far = self.sigma_t * (self.alpha_t / self.sigma_t - self.alpha_s / self.sigma_s) ** 2 / 2
            return np.concatenate([far, far], axis=1)
        if self.form == "eps" and self.sigma_t[0, 0] == 0:
            return self.to_the_data()
        if self.rule == "vary_official":
            return self.vary_official()
        found = self.integrated(self.roots if self.rule != "pseudo" else [self.lam_s] * (self.cases - 1))
        h = self.lam_t - self.lam_s
        # the integral of the slope's τ by B(h) h/2; N_1 = τ + λ_s - λ_0
        if self.rule not in ("taylor", "official_taylor", "pseudo") and self.cases == 2:
            whole = found[:, :1]
            size = whole if self.rule != "bh1" else h * (self.alpha_t if self.form == "x0" else -self.sigma_t)
            found[:, 1:] = size * h / 2 + whole * (self.lam_s - self.roots[0])
        if self.rule in ("official", "official_taylor") and self.cases == 3:  # (λ-λ_s)² at half its integral
            found[:, 2:] -= 0.5 * self.integrated([self.lam_s] * 2)[:, 2:]
        return found

    def to_the_data(self) -> np.ndarray:
        """∫_0^∞ e^{-τ} Π(τ + a_j) dτ over elementary symmetric sums, form "eps"."""
        out = []
        for c, lam_s in zip(self.claims, self.lam_s[:, 0], strict=True):
            away = [self.levels[n][2] - lam_s for n in c.nodes]
            sums = [np.atleast_1d(np.poly(away[:k]))[::-1] for k in range(self.cases)]
            out.append([sum(w * math.factorial(j) for j, w in enumerate(row)) for row in sums])
        return -self.alpha_t * self.sigma_s / self.alpha_s * np.array(out)

    @functools.cached_property
    def quadrature(self) -> tuple[np.ndarray, np.ndarray]:
        """(λ of the points, weights), (claims, points), of Gauss-Legendre over the steps with the weight of the form; finite ends only."""
        h, rate = self.lam_t - self.lam_s, 1 + self.eta
        points, weights = _panels(max(1, math.ceil(float(np.abs(h).max()) / 3)))
        tau, w = h * points, h * weights
        if self.form == "x0":
            w = self.alpha_t * rate * w * np.exp(rate * (tau - h))
        elif self.form == "v":  # in u = e^{-λ} = tanφ: dφ = du/(1+u²)
            u = np.exp(-(self.lam_s + tau))
            w = -np.hypot(self.alpha_t, self.sigma_t) * w * u / (1 + u * u) / (1 / (1 + u * u) + FLOOR**2) ** (POWER / 2)
        else:
            w = -rate * self.alpha_t * self.sigma_s / self.alpha_s * w * np.exp(-tau)
        return self.lam_s + tau, w

    def integrated(self, roots: Sequence[np.ndarray]) -> np.ndarray:
        """The integrals over the steps of 1, λ - r_0, (λ - r_0)(λ - r_1), … with the weight of the form."""
        lam, w = self.quadrature
        return np.einsum("cp,cpk->ck", w, polynomials(lam, roots))

    def vary_official(self) -> np.ndarray:
        """What the official vary_coeff corrector makes of N_k: Taylor coefficients by solving its system, its sum written as it is."""
        h, order = self.lam_t - self.lam_s, self.cases - 1
        others = [self.levels.of([c.nodes[j] for c in self.claims])[2] for j in range(2, self.cases)]
        own = np.concatenate([self.lam_s, *others, self.lam_t], axis=1)
        f = polynomials(own, self.roots)  # (claims, order + 1, cases)
        r = (own[:, 1:] - self.lam_s) / h
        d = (f[:, 1:] - f[:, :1]) / r[:, :, None]
        system = np.stack([r ** (j - 1) / math.factorial(j) for j in range(1, order + 1)], axis=2)
        newest = np.arange(order)[:, None] == order - 1
        of_history, of_newest = np.linalg.solve(system, d * ~newest), np.linalg.solve(system, d * newest)
        powers = self.integrated([self.lam_s] * order)
        moment = np.stack([powers[:, j : j + 1] / h**j / math.factorial(j) for j in range(1, order + 1)], axis=1)  # (claims, order, 1)
        last = of_newest[:, max(order - 2, 0)] * moment[:, -1]
        return f[:, 0] * powers[:, :1] + (of_history[:, :-1] * moment[:, :-1]).sum(1) + last
