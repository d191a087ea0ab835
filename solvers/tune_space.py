"""What tuning turns: the noise levels of a run and, if asked, one gain for each prediction, as numbers without bounds.

A schedule of n steps from sigma_max to 0 has n - 1 free levels. θ_i is the logarithm of the i-th gap in λ over that gap at the start of
the search, so every θ is a falling schedule and θ = 0 is where the search began. Where sigma_max is an infinite end (flow, zero terminal
SNR) the first gap is that from λ of the first free level's start: the level moves by the size of the second gap.

A gain multiplies the x0 of one model call; 1 + θ. It stands for what few steps cannot follow: a first prediction, which has no slope yet,
and the contrast that a coarse run with guidance loses or overdoes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .path import Path
from .schedule import INFINITE

GAP, GAIN = 0.05, 0.03  # steps of the difference quotients: well above the noise of a half-precision model
REACH = 0.7  # the most a parameter changes in one step of the search


@dataclass(frozen=True)
class Space:
    """The parameters around a schedule `sigmas` (falling, the last 0) with `gains` of them for the model calls (0: none)."""

    path: Path
    sigmas: tuple[float, ...]
    sigma_min: float
    gains: int = 0

    @property
    def gaps(self) -> int:
        """How many levels are free."""
        return len(self.sigmas) - 2

    @property
    def size(self) -> int:
        """The length of θ."""
        return self.gaps + self.gains

    @property
    def quotients(self) -> np.ndarray:
        """(size,) steps of the difference quotients."""
        return np.array([GAP] * self.gaps + [GAIN] * self.gains)

    def levels(self, theta: np.ndarray) -> list[float]:
        """The sigmas of θ; the least of them is not below sigma_min, to which all gaps are shortened alike if need be."""
        lam = [self.path.half_logsnr(s) for s in self.sigmas[:-1]]
        if lam[0] < -INFINITE:  # an infinite end: in its place one gap before the first free level
            lam[0] = lam[1] - (lam[2] - lam[1] if len(lam) > 2 else 1.0)
        gaps = np.diff(lam) * np.exp(theta[: self.gaps])
        room = max(self.path.half_logsnr(self.sigma_min), lam[-1]) - lam[0]
        gaps *= min(1.0, room / float(gaps.sum()))
        inner = [self.path.from_half_logsnr(float(value)) for value in lam[0] + np.cumsum(gaps)]
        return [self.sigmas[0], *inner, 0.0]

    def gain(self, theta: np.ndarray) -> tuple[float, ...]:
        """The gains of θ; none where the space has none."""
        return tuple(float(1 + value) for value in theta[self.gaps :])


def stretched(sigmas: Sequence[float], steps: int, path: Path, sigma_min: float) -> list[float]:
    """A tuned schedule for another number of steps: λ as a function of the share of steps done, monotone cubic in between.

    Beyond the last level that is not 0 the curve goes on straight, at most to sigma_min. An infinite first level stays the first.
    """
    n = len(sigmas) - 1
    if steps == n:
        return list(sigmas)
    lam = [path.half_logsnr(s) for s in sigmas[:-1]]
    first = int(lam[0] < -INFINITE)
    at, values = np.arange(first, n) / n, np.array(lam[first:])
    if len(values) < 2:
        raise ValueError(f"steps is {steps}, but a schedule of {n} steps has no curve to read others from; tune for {steps}.")
    wanted = np.arange(first, steps) / steps
    # the first free level of an open run is not below the curve's start in noise: shorter shares would ask for λ that was never tuned
    slopes = _monotone_slopes(at, values)
    out = []
    for u in wanted:
        i = int(np.clip(np.searchsorted(at, u, side="right") - 1, 0, len(at) - 2))
        h, t = at[i + 1] - at[i], u - at[i]
        if u > at[-1]:
            out.append(float(values[-1] + slopes[-1] * (u - at[-1])))
        elif u < at[0]:
            out.append(float(values[0] + slopes[0] * (u - at[0])))
        else:
            d = (values[i + 1] - values[i]) / h
            c2, c3 = (3 * d - 2 * slopes[i] - slopes[i + 1]) / h, (slopes[i] + slopes[i + 1] - 2 * d) / h**2
            out.append(float(values[i] + t * (slopes[i] + t * (c2 + t * c3))))
    top = max(path.half_logsnr(sigma_min), float(values[-1]))
    if out[-1] > top:  # squeeze what lies beyond the tuned levels into the room there is
        a = float(values[-1])
        out = [v if v <= a else a + (v - a) * (top - a) / (out[-1] - a) for v in out]
    levels = [path.from_half_logsnr(v) for v in out]
    return [sigmas[0], *levels[1 - first :], 0.0]


def _monotone_slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slopes of the monotone cubic interpolant (Fritsch and Butland 1984: weighted harmonic means; straight ends)."""
    h, d = np.diff(x), np.diff(y) / np.diff(x)
    inner = [
        0.0 if d[i] * d[i + 1] <= 0 else 3 * (h[i] + h[i + 1]) / ((2 * h[i + 1] + h[i]) / d[i] + (h[i + 1] + 2 * h[i]) / d[i + 1])
        for i in range(len(d) - 1)
    ]
    return np.array([d[0], *inner, d[-1]])


def start_levels(sigmas: Sequence[float], path: Path, sigma_max: float) -> tuple[float, ...]:
    """A known schedule as the start of a search: float, from sigma_max to 0. ValueError, one sentence, where it is none."""
    levels = [float(s) for s in sigmas]
    if len(levels) < 3 or levels[-1] != 0 or not all(map(math.isfinite, levels)):
        raise ValueError(f"A known schedule is {levels}; give falling levels from sigma_max to 0.")
    levels[0] = sigma_max
    path.validate(levels)
    return tuple(levels)
