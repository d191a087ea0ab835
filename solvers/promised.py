"""What claims promise: the end of the exact step on prescribed data, for many claims at once, by a quadrature of its own.

Arrays are (claims, 1), or with the cases (claims, cases); case k is the data N_k. A claim of fewer nodes than others has fewer cases; what
stands in the rest (`valid` false) means nothing.
"""

import functools
import math
from itertools import chain

import numpy as np

from .path import Path
from .proof_v3 import Along, gauss, polynomials
from .step import FLOOR, POWER
from .trace import Trace

C, N = 0.7, -1.3  # the one-point data and the noise that travels with it
ROUNDING = 1e-14  # relative, of one operation: some units in the last place
EXACT = ("taylor", "official_taylor", "pseudo", "ratio", "vary_official", "renoise")  # rules that take no slope half-way


class Book:
    """The numbers of all claims of a tape: `levels` (3, sigmas) has α, σ and λ, `start`, `end` and `nodes` the places in it."""

    def __init__(self, trace: Trace, path: Path):
        number, nodes = trace.levels, trace.nodes
        self.levels = np.array([(path.alpha(s), path.sigma(s), path.half_logsnr(s)) for s in number]).reshape(-1, 3).T
        self.start, self.end = np.array([number[s] for s in trace.starts], dtype=int), np.array([number[s] for s in trace.ends], dtype=int)
        self.counts = np.array([len(own) for own in nodes], dtype=int)
        there = np.arange(self.counts.max(initial=1)) < self.counts[:, None]
        self.nodes, self.fades = (
            np.where(there, 0, self.start[:, None]),
            np.where(self.counts[:, None] > 0, 0.0, 1.0) + np.zeros(there.shape),
        )
        self.nodes[there] = [number[s] for s in chain.from_iterable(nodes)]
        self.fades[there] = [*chain.from_iterable(trace.fades)]
        self.eta, self.rules, self.trusted = np.array(trace.etas, dtype=float), trace.rules, trace.trusted
        self.starts, self.ends = trace.starts, trace.ends


@functools.cache
def _panels(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(points, weights) of Gauss-Legendre on `count` panels of 0…1."""
    nodes, weights = gauss()
    return ((np.arange(count)[:, None] + (nodes + 1) / 2) / count).ravel(), np.tile(weights, count) / (2 * count)


class Promised:
    """The claims `rows` of a book, of one form, with noise or without; `fades` (claims, cases) are their own."""

    def __init__(self, book: Book, rows: np.ndarray, form: str, fades: np.ndarray, along: Along | None):
        self.book, self.rows, self.form, self.along = book, rows, form, along
        self.alpha_s, self.sigma_s, self.lam_s = book.levels[:, book.start[rows], None]
        self.alpha_t, self.sigma_t, self.lam_t = book.levels[:, book.end[rows], None]
        self.counts, self.eta = book.counts[rows], book.eta[rows, None]
        self.cases = max(1, int(self.counts.max()))
        self.valid = np.arange(self.cases) < np.maximum(self.counts, 1)[:, None]
        self.fades, self.nodes = fades[:, : self.cases], book.nodes[rows, : self.cases]
        self.roots = book.levels[2][self.nodes[:, :-1]]
        self.noisy = bool(self.eta[0, 0] > 0)
        self.noise_alone = form == "eps" and self.noisy  # the data of case 0: ε = n, not data at one point
        self.named = {book.rules[row] for row in rows.tolist()}
        self.ratio = self.where("ratio")
        if self.ratio.size:
            alpha, sigma, _ = book.levels[:, self.nodes[self.ratio, :-1]]
            self.roots[self.ratio] = alpha / sigma

    def where(self, *rules: str) -> np.ndarray:
        """Which of the claims have one of these rules."""
        if not self.named.intersection(rules):
            return np.zeros(0, dtype=int)
        named = self.book.rules
        return np.array([i for i, row in enumerate(self.rows.tolist()) if named[row] in rules], dtype=int)

    def expected(self) -> np.ndarray:
        """The states at the ends (from α c + σ n for k = 0; from 0 for k > 0; from G_s in form "v", from α_s in "f")."""
        if self.form == "f":
            assert self.along is not None
            return self.along.expected(self)
        if self.form == "v":
            return np.hypot(self.alpha_t, self.sigma_t) + self.fades * self.integrated(self.roots)
        out = np.empty((len(self.rows), self.cases))
        if self.cases > 1 or self.noise_alone:
            out[:] = self.of_rule() * (self.fades if self.book.rules[self.rows[0]] != "vary_official" else 1.0)
        if self.noise_alone:  # ε = n all along
            moved = self.integrated(self.roots[:, :0])
            out[:, :1] = self.alpha_t / self.alpha_s * (self.alpha_s * C + self.sigma_s * N) + N * moved
        else:
            out[:, :1] = self.alpha_t * C + self.kept() * N
        return out

    def kept(self) -> np.ndarray:
        """The part of the states' noise that the steps keep as the host's σ."""
        renoised = self.where("renoise")
        if not self.noisy and not renoised.size:
            return self.sigma_t
        out = self.sigma_t.copy()
        if self.noisy:
            out = np.where(self.sigma_t > 0, self.sigma_t * np.exp(-self.eta * (self.lam_t - self.lam_s)), 0.0)
        out[renoised] = (self.alpha_t[renoised] / self.alpha_s[renoised]) * self.sigma_s[renoised]
        return out

    def of_rule(self) -> np.ndarray:
        """What the integrals over N_1, N_2, … have to be by the claims' rule; column 0 is not used."""
        rules = self.named
        if self.form == "eps" and self.sigma_t[0, 0] == 0:
            return self.to_the_data()
        if "vary_official" in rules:
            return self.vary_official()
        roots = self.roots
        if "pseudo" in rules:
            roots = roots.copy()
            roots[those] = self.lam_s[those := self.where("pseudo")]
        found = self.integrated(roots)
        two = self.where(*(rules - {*EXACT}))
        two = two[self.counts[two] == 2]
        if two.size:  # the integral of the slope's τ by B(h) h/2; N_1 = τ + λ_s - λ_0
            h, whole = (self.lam_t - self.lam_s)[two, 0], found[two, 0]
            size = found[:, 0].copy()
            if (other := self.where("bh1")).size:
                size[other] = ((self.lam_t - self.lam_s) * (self.alpha_t if self.form == "x0" else -self.sigma_t))[other, 0]
            found[two, 1] = size[two] * h / 2 + whole * (self.lam_s[two, 0] - self.roots[two, 0])
        if rules & {"official", "official_taylor"} and self.cases > 2:  # (λ-λ_s)² at half its integral
            three = [i for i in self.where("official", "official_taylor").tolist() if self.counts[i] == 3]
            found[three, 2] -= 0.5 * self.integrated(np.repeat(self.lam_s, 2, axis=1))[three, 2]
        if self.ratio.size:  # x_t/σ_t - x_s/σ_s = ∫ x0 du with u = α/σ and N_1 = u - u_s
            alpha_s, sigma_s, alpha_t, sigma_t = (a[self.ratio, 0] for a in (self.alpha_s, self.sigma_s, self.alpha_t, self.sigma_t))
            found[self.ratio, 1] = sigma_t * (alpha_t / sigma_t - alpha_s / sigma_s) ** 2 / 2
        return found

    def to_the_data(self) -> np.ndarray:
        """∫_0^∞ e^{-τ} Π(τ + a_j) dτ over elementary symmetric sums, form "eps"."""
        out = []
        for lam_s, nodes in zip(self.lam_s[:, 0], self.book.levels[2][self.nodes], strict=True):
            sums = [np.atleast_1d(np.poly(nodes[:k] - lam_s))[::-1] for k in range(self.cases)]
            out.append([sum(w * math.factorial(j) for j, w in enumerate(row)) for row in sums])
        return -self.alpha_t * self.sigma_s / self.alpha_s * np.array(out)

    @functools.cached_property
    def quadrature(self) -> tuple[np.ndarray, np.ndarray]:
        """(λ of the points, weights), (claims, points), of Gauss-Legendre over the steps with the weight of the form; NaN where a step is
        infinite."""
        h, lam_s = self.lam_t - self.lam_s, self.lam_s
        if not (finite := np.isfinite(h)).all():
            h, lam_s = np.where(finite, h, 0.0), np.where(finite, lam_s, np.nan)
        points, weights = _panels(max(1, math.ceil(float(np.abs(h).max()) / 3)))
        tau = h * points
        if self.form == "x0":
            rate = 1 + self.eta
            w = self.alpha_t * rate * h * weights * np.exp(rate * (tau - h))
        elif self.form == "v":  # in u = e^{-λ} = tanφ: dφ = du/(1+u²)
            u = np.exp(-(lam_s + tau))
            cosine = 1 / (1 + u * u)
            w = -np.hypot(self.alpha_t, self.sigma_t) * h * weights * u * cosine / (cosine + FLOOR**2) ** (POWER / 2)
        else:
            w = -(1 + self.eta) * self.alpha_t * self.sigma_s / self.alpha_s * h * weights * np.exp(-tau)
        return lam_s + tau, w

    def integrated(self, roots: np.ndarray) -> np.ndarray:
        """The integrals over the steps of 1, λ - r_0, (λ - r_0)(λ - r_1), … with the weight of the form."""
        lam, w = self.quadrature
        out = np.empty((len(w), roots.shape[1] + 1))
        out[:, 0] = w.sum(1)
        for k in range(roots.shape[1]):
            w = w * (lam - roots[:, k : k + 1])
            out[:, k + 1] = w.sum(1)
        return out

    def vary_official(self) -> np.ndarray:
        """What the official vary_coeff corrector makes of N_k: Taylor coefficients by solving its system, its sum written as it is."""
        h, order = self.lam_t - self.lam_s, self.cases - 1
        own = np.concatenate([self.lam_s, self.book.levels[2][self.nodes[:, 2:]], self.lam_t], axis=1)
        f = polynomials(own, self.roots)  # (claims, order + 1, cases)
        r = (own[:, 1:] - self.lam_s) / h
        d = (f[:, 1:] - f[:, :1]) / r[:, :, None]
        system = np.stack([r ** (j - 1) / math.factorial(j) for j in range(1, order + 1)], axis=2)
        newest = np.arange(order)[:, None] == order - 1
        of_history, of_newest = np.linalg.solve(system, d * ~newest), np.linalg.solve(system, d * newest)
        powers = self.integrated(np.repeat(self.lam_s, order, axis=1))
        moment = np.stack([powers[:, j : j + 1] / h**j / math.factorial(j) for j in range(1, order + 1)], axis=1)  # (claims, order, 1)
        last = of_newest[:, max(order - 2, 0)] * moment[:, -1]
        return f[:, 0] * powers[:, :1] + (of_history[:, :-1] * moment[:, :-1]).sum(1) + last
