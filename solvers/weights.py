"""The weights of all steps of a multistep run at once: what `step` says of one step, for arrays of steps.

Arrays are float64, (steps,) or (steps, nodes). A step whose h is infinite has no meaning here; `step` has its limits.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from .phi import phis
from .step import FLOOR, POWER, gauss


class Grid:
    """α, σ and λ (levels,) of the sigmas of a run; of the steps between them h and, see `moments`, what they integrate to."""

    def __init__(self, alpha: Sequence[float], sigma: Sequence[float], lam: Sequence[float], eta: float):
        self.alpha, self.sigma, self.lam = np.array(alpha), np.array(sigma), np.array(lam)
        self.h, self.eta = self.lam[1:] - self.lam[:-1], eta

    @functools.cached_property
    def root(self) -> np.ndarray:
        """G of each level, √(α² + σ²)."""
        return np.hypot(self.alpha, self.sigma)

    @functools.cached_property
    def damping(self) -> np.ndarray:
        """Of each level, as `step.damping`."""
        return ((self.alpha / self.root) ** 2 + FLOOR**2) ** (POWER / 2)

    def state_weights(self, form: str) -> np.ndarray:
        """The factors of x_s, as `step.state_weight`."""
        if form == "x0":
            forget = np.exp(-self.eta * self.h) if self.eta else 1.0
            return self.sigma[1:] / self.sigma[:-1] * forget
        of = self.alpha if form == "eps" else self.root
        return of[1:] / of[:-1]

    def noise_weights(self, form: str) -> np.ndarray:
        """The factors of the unit noise, as `step.noise_weight`."""
        spread = -np.expm1(-2 * self.eta * self.h) if form == "x0" else self.eta * np.expm1(2 * self.h)
        return self.sigma[1:] * np.sqrt(spread)

    def moments(self, form: str, count: int) -> np.ndarray:
        """(steps, count): the integrals of 1, τ, τ², … over each step with the weight of the form."""
        h, rate = self.h, 1 + self.eta
        if form == "v":
            return self._moments_of_v(count)
        powers = _factorials(count) * h[:, None] ** np.arange(1, count + 1) if count > 1 else h[:, None]
        if form == "x0":
            return (rate * self.alpha[1:])[:, None] * powers * phis(count, -rate * h)
        scale = rate * self.alpha[1:] * self.sigma[:-1] / self.alpha[:-1]
        out = -powers * np.exp(-h)[:, None] * phis(count, h)
        if (long := h > 2).any():  # by the complementary sum, which does not overflow
            terms = h[long, None] ** np.arange(count) / _factorials(count)
            out[long] = -_factorials(count) * (1 - np.exp(-h[long])[:, None] * np.cumsum(terms, axis=1))
        return scale[:, None] * out

    def _moments_of_v(self, count: int) -> np.ndarray:
        """-G_t ∫_0^h sinφ cosφ/(cos²φ+δ²)^{a/2} τ^k dτ by Gauss-Legendre on panels of at most 1 in λ (to 1e-13)."""
        out = np.full((len(self.h), count), np.nan)
        panels = np.ceil(np.abs(np.where(np.isfinite(self.h), self.h, np.nan)))
        for many in {*panels[np.isfinite(panels)].tolist()}:
            which = np.flatnonzero(panels == many)
            points, weights = gauss(max(1, int(many)))
            h, lam = self.h[which, None], self.lam[which, None]
            tau = h * points
            cosine = (1 + np.tanh(lam + tau)) / 2 + FLOOR**2  # cos²φ + δ², and sinφ cosφ = 1/(2 cosh λ)
            part = (-self.root[which + 1, None] * h / 2) * weights / np.cosh(lam + tau) * cosine ** (-POWER / 2)
            for k in range(count):
                out[which, k] = part.sum(1)
                part = part * tau
        return out

    def node_weights(
        self, form: str, steps: np.ndarray, raw: np.ndarray, nodes: np.ndarray, counts: np.ndarray, fades: np.ndarray, rules: Sequence[str]
    ) -> np.ndarray:
        """(rows, nodes): the factors of the evaluations at `nodes` (places of levels; the first `counts` of a row count), each term of the
        Newton form scaled by its fade. `raw` are the moments of all steps, `steps` which of them each row takes; rules as in
        `step.newton_moments`."""
        h, width = self.h[steps], nodes.shape[1]
        taken, lam = raw[steps, :width], self.lam[nodes]
        raw = taken if taken.shape[1] == width else np.column_stack([taken, taken])
        if (off := np.arange(width) >= counts[:, None]).any():
            far = self.lam[steps, None] + 1000.0 * (1 + np.arange(width))
            lam, fades = np.where(off, far, lam), np.where(off, 0.0, fades)  # far from all others: what has no weight must not divide by 0
        offsets = self.lam[steps, None] - lam
        for rule in {*rules} if form != "v" and width > 1 else ():
            if rule == "taylor":
                continue
            rows = np.array([r == rule for r in rules])
            if not rule.endswith(("taylor", "pseudo")):
                two = np.flatnonzero(rows & (counts == 2))
                scale = self.alpha[1:] if form == "x0" else -self.sigma[1:]
                raw[two, 1] = scale[steps[two]] * h[two] ** 2 / 2 if rule == "bh1" else raw[two, 0] * h[two] / 2
            if width > 2 and rule.startswith("official"):
                raw[np.flatnonzero(rows & (counts == 3)), 2] /= 2
            if rule == "pseudo":
                offsets[rows] = 0.0  # N_k is τ^k
        out = np.zeros((len(steps), width))
        apart: list[np.ndarray | float] = [1.0] * width
        for k in range(width):  # f[λ_0 … λ_k] = Σ_j f_j / Π_{i≠j} (λ_j - λ_i)
            term = fades[:, k] * raw[:, 0]
            for j in range(k):
                between = lam[:, j] - lam[:, k]
                apart[j], apart[k] = apart[j] * between, apart[k] * -between
                out[:, j] += term / apart[j]
            out[:, k] += term / apart[k]
            if k + 1 < width:
                raw = raw[:, 1:] + offsets[:, k : k + 1] * raw[:, :-1]  # the moments with one more factor (τ + offset)
        return out * self.damping[nodes] if form == "v" else out


@functools.cache
def _factorials(count: int) -> np.ndarray:
    return np.array([math.factorial(k) for k in range(count)], dtype=float)
