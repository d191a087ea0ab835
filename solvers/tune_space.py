"""What tuning turns: the noise levels of a run and, if asked, one gain for each prediction, as numbers without bounds.

A schedule of n steps from sigma_max to 0 has n - 1 free levels. θ_i is the logarithm of the i-th gap in λ over that gap at the start of
the search, so every θ is a falling schedule and θ = 0 is where the search began. Where sigma_max is an infinite end (flow, zero terminal
SNR) the first gap has no length; in its place stands the second one, so that the first free level moves by as much as the next.

A gain multiplies the x0 of one model call; 1 + θ. It stands for what few steps cannot follow: a first prediction, which has no slope yet,
and the contrast that a coarse run with guidance loses or overdoes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .path import Path
from .schedule import INFINITE, check_steps

GAP, GAIN = 0.05, 0.03  # steps of the difference quotients: well above the noise of a half-precision model
FARTHEST = 7.0  # |θ| of a gap beyond this counts as this: levels stay apart in float32, in which hosts keep them


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
        """The sigmas of θ; the least of them is not below sigma_min (nor the start's, where that is lower): all gaps are shortened alike
        if need be."""
        lam = [self.path.half_logsnr(s) for s in self.sigmas[:-1]]
        if lam[0] < -INFINITE:  # an infinite end: in its place one gap before the first free level, but nothing beyond sigma_max
            lam[0] = max(lam[0], lam[1] - (lam[2] - lam[1] if len(lam) > 2 else 1.0))
        gaps = np.diff(lam) * np.exp(np.clip(theta[: self.gaps], -FARTHEST, FARTHEST))
        room = max(self.path.half_logsnr(self.sigma_min), lam[-1]) - lam[0]
        gaps *= min(1.0, room / float(gaps.sum()))
        inner = [self.path.from_half_logsnr(float(value)) for value in lam[0] + np.cumsum(gaps)]
        return [self.sigmas[0], *inner, 0.0]

    def gain(self, theta: np.ndarray) -> tuple[float, ...]:
        """The gains of θ; none where the space has none."""
        return tuple(float(1 + value) for value in theta[self.gaps :])


def stretched(sigmas: Sequence[float], steps: int, path: Path, sigma_min: float) -> list[float]:
    """A tuned schedule for another number of steps: λ as a function of the share of steps done, monotone cubic in between.

    More steps than were tuned ask for shares before and after the tuned ones: there the curve goes on straight. Where it would leave the
    range (sigma_min; sigma_max where that is an infinite end, which stays the first level), the shares are drawn together instead.
    """
    check_steps(steps)
    n = len(sigmas) - 1
    if steps == n or steps == 1:
        return list(sigmas) if steps == n else [sigmas[0], 0.0]
    lam = [path.half_logsnr(s) for s in sigmas[:-1]]
    first = int(lam[0] < -INFINITE)
    at, values = np.arange(first, n) / n, np.array(lam[first:])
    if len(values) < 2:
        raise ValueError(f"steps is {steps}, but a schedule of {n} steps has no curve to read others from; tune for {steps}.")
    slopes = _monotone_slopes(at, values)
    bottom = (lam[0] + values[0]) / 2 if first else values[0]  # -inf where the end is infinite in earnest
    top = max(path.half_logsnr(sigma_min), values[-1])
    begin = max(first / steps, at[0] + (bottom - values[0]) / slopes[0])
    end = min((steps - 1) / steps, at[-1] + (top - values[-1]) / slopes[-1])
    inner = [path.from_half_logsnr(_cubic(at, values, slopes, float(u))) for u in np.linspace(begin, end, steps - first)]
    return [sigmas[0], *inner[1 - first :], 0.0]


def _cubic(x: np.ndarray, y: np.ndarray, slopes: np.ndarray, u: float) -> float:
    """The piecewise cubic with these values and slopes at u, straight outside of x."""
    if not x[0] < u < x[-1]:
        i = 0 if u <= x[0] else -1
        return float(y[i] + slopes[i] * (u - x[i]))
    i = int(np.searchsorted(x, u, side="right")) - 1
    h, t = x[i + 1] - x[i], u - x[i]
    d = (y[i + 1] - y[i]) / h
    c2, c3 = (3 * d - 2 * slopes[i] - slopes[i + 1]) / h, (slopes[i] + slopes[i + 1] - 2 * d) / h**2
    return float(y[i] + t * (slopes[i] + t * (c2 + t * c3)))


def _monotone_slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slopes of the monotone cubic interpolant (Fritsch and Butland 1984: weighted harmonic means; straight ends)."""
    h, d = np.diff(x), np.diff(y) / np.diff(x)
    inner = [
        0.0 if d[i] * d[i + 1] <= 0 else 3 * (h[i] + h[i + 1]) / ((2 * h[i + 1] + h[i]) / d[i] + (h[i + 1] + 2 * h[i]) / d[i + 1])
        for i in range(len(d) - 1)
    ]
    return np.array([d[0], *inner, d[-1]])


def start_levels(sigmas: Sequence[float], path: Path, sigma_max: float) -> tuple[float, ...]:
    """A known schedule as the start of a search: float, its first level set to sigma_max. ValueError, one sentence, where it is none."""
    levels = [sigma_max, *(float(s) for s in sigmas[1:])]
    if len(levels) < 3 or levels[-1] != 0 or not all(map(math.isfinite, levels[1:])):
        raise ValueError(f"A known schedule is {levels}; give falling levels from sigma_max to 0.")
    path.validate(levels)
    return tuple(levels)
