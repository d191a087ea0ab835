"""The statistics l, s, b of DPM-Solver-v3 as functions of λ (arXiv 2310.13268, section 3.1), one set for each bin of a latent.

A bin is a channel, an element, or a ring of spatial frequencies of a channel. With y = x/α and u = e^{-λ} ε the sampling ODE is
dy/dλ = -u. The solver splits u = l y + f, so that f varies little with x, and follows f' = s f + b + (what is left) with a polynomial.
All are the same numbers in the variance-exploding, variance-preserving and flow scalings.
"""

import functools
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

RINGS = 33
BLOCK = 2048
KINDS = {"scalar": 0, "channel": 1, "radial": 2, "element": 3}  # and how many axes their bins have; element: 1 or more


class Curve:
    """A C¹ piecewise cubic through values (n, bins) at rising knots (n,). Below them it goes to `before` like e^{λ}; above them to 0 like
    e^{-2λ} (`after` 0), or is `after` at once (another number). None: it stays where it is.

    C¹ because a piecewise linear l would hold a third-order solver at order 2.
    """

    def __init__(self, knots, values, before: float | None = None, after: float | None = None):
        self.knots, self.values = np.asarray(knots, dtype=np.float64), np.asarray(values, dtype=np.float64)
        width = np.diff(self.knots)
        width = width.reshape(-1, *[1] * (self.values.ndim - 1))
        rise = np.diff(self.values, axis=0) / width
        slopes = np.zeros_like(self.values)
        slopes[1:-1] = (width[1:] * rise[:-1] + width[:-1] * rise[1:]) / (width[1:] + width[:-1])  # of the parabola through three
        self.low = 0 * self.values[0] if before is None else self.values[0] - before
        self.high, self.falls = self.values[-1] if not after else after + 0 * self.values[-1], after == 0
        slopes[0] = self.low if before is not None else slopes[0]
        m0, m1 = slopes[:-1], slopes[1:]
        self.parts = (self.values[:-1], m0, (3 * rise - 2 * m0 - m1) / width, (m0 + m1 - 2 * rise) / width**2)
        whole = sum(c * width ** (k + 1) / (k + 1) for k, c in enumerate(self.parts))
        self.areas = np.concatenate([np.zeros_like(self.values[:1]), np.cumsum(whole, axis=0)])

    def _locate(self, lam):
        inside = np.clip(lam, self.knots[0], self.knots[-1])
        part = np.clip(np.searchsorted(self.knots, inside, side="right") - 1, 0, len(self.knots) - 2)
        return part, self._wide(inside - self.knots[part]), self._wide(lam - inside)

    def _wide(self, a):
        return a.reshape(-1, *[1] * (self.values.ndim - 1))

    def value(self, lam):
        """At λ (m,): (m, bins)."""
        part, t, outside = self._locate(np.asarray(lam, dtype=np.float64))
        c = [p[part] for p in self.parts]
        inside = c[0] + t * (c[1] + t * (c[2] + t * c[3])) + self.low * np.expm1(np.minimum(outside, 0))
        beyond = self.high * np.exp(-2 * np.maximum(outside, 0)) if self.falls else self.high
        return np.where(outside > 0, beyond, inside)

    def primitive(self, lam):
        """The integral from the first knot to λ (m,): (m, bins)."""
        part, t, outside = self._locate(np.asarray(lam, dtype=np.float64))
        c = [p[part] for p in self.parts]
        inner = self.areas[part] + t * (c[0] + t * (c[1] / 2 + t * (c[2] / 3 + t * c[3] / 4)))
        under, over = np.minimum(outside, 0), np.maximum(outside, 0)
        inner = inner + under * (self.values[0] - self.low) + self.low * np.expm1(under)
        return inner + self.high * (-np.expm1(-2 * over) / 2 if self.falls else over)


class _Gaussian:
    """l - shift, with l = 1/(1 + c² e^{2λ}) of Gaussian data of variance c²: a Curve's methods, in closed form, for one bin."""

    def __init__(self, data_std: float, shift: float):
        self.c, self.shift = data_std, shift

    def value(self, lam):
        return (1 / (1 + self.c**2 * np.exp(2 * np.asarray(lam, dtype=np.float64))) - self.shift)[:, None]

    def primitive(self, lam):
        lam = np.asarray(lam, dtype=np.float64)
        return (-0.5 * np.log(self.c**2 + np.exp(-2 * lam)) - self.shift * lam)[:, None]


@dataclass(frozen=True, eq=False)
class Statistics:
    """l, s, b (n, *bins) at rising knots lam (n,), float64.

    `kind` says what the bins are: "scalar" (), "channel" (C,), "radial" (C, RINGS), see `ring_map`, or "element": the latent without its
    batch axis. b of "radial" is the mean of a channel, in ring 0, per pixel. `label` says for people where they come from.

    Below the first knot l → 1, s → 0 and b → 0. Above the last, the lowest noise level the model knows, l and b fall like e^{-2λ} and s is
    -2, as for data with a density. `tail` says what the step to σ = 0 is: "density", towards the end of that ODE (see `v3` and `share`);
    "x0", the prediction alone. "constant" is for l = 1, s = 0 or l = 0, s = -1 everywhere, which make DPM-Solver++ and DPM-Solver.
    ValueError, one sentence, for shapes that do not fit, knots that do not rise or values that are not finite.
    """

    kind: str
    lam: np.ndarray
    l: np.ndarray  # noqa: E741, the paper's letter
    s: np.ndarray
    b: np.ndarray
    label: str = ""
    data_std: float = 0.0
    tail: str = "density"
    metadata: dict[str, str] = field(default_factory=dict)
    parity: ClassVar[bool] = False  # whether `way` is the official code's own, which no proof of a tape can follow

    def __post_init__(self):
        for name in ("lam", "l", "s", "b"):
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64))
        if self.tail not in ("density", "x0", "constant"):
            raise ValueError(f"tail of statistics is {self.tail!r}; choose one of density, x0, constant.")
        if self.kind not in KINDS:
            raise ValueError(f"kind of statistics is {self.kind!r}; choose one of {', '.join(KINDS)}.")
        axes = self.l.ndim - 1
        fits = axes >= 1 if self.kind == "element" else axes == KINDS[self.kind]
        if not fits or self.lam.ndim != 1 or not (self.lam.shape == self.l.shape[:1]) or not (self.l.shape == self.s.shape == self.b.shape):
            raise ValueError(
                f"Statistics of kind {self.kind} have knots {self.lam.shape}, l {self.l.shape}, s {self.s.shape}, b {self.b.shape}."
            )
        if self.kind == "radial" and self.b[:, :, 1:].any():
            raise ValueError("b of radial statistics is the mean of a channel, in ring 0; set its other rings to 0.")
        if len(self.lam) < 2 or not (np.diff(self.lam) > 0).all():
            raise ValueError("The knots of statistics must be two or more rising values of λ.")
        if not all(np.isfinite(a).all() for a in (self.lam, self.l, self.s, self.b)):
            raise ValueError("Statistics hold NaN or infinite values; calibrate again.")

    @staticmethod
    @functools.cache
    def closed_form(data_std: float = 1.0) -> "Statistics":
        """Those of Gaussian data with standard deviation c = `data_std`: l = 1/(1 + c² e^{2λ}), and s = l - 1, with which f falls from
        pure noise on as the state's noise does. For c = 1 that is the form "v" of `step` without its damping."""
        if not 0 < data_std < math.inf:
            raise ValueError(f"data_std is {data_std!r}; type a number above 0, 1 for normalised latents.")
        knots = np.array([-8.0, 8.0])
        l = 1 / (1 + data_std**2 * np.exp(2 * knots))  # noqa: E741
        return Statistics("scalar", knots, l, l - 1, 0 * l, f"closed form, data_std {data_std:g}", data_std, tail="x0")

    @property
    def bins(self) -> tuple[int, ...]:
        """The shape of one set of values."""
        return self.l.shape[1:]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of kind, knots and values."""
        import hashlib

        code = hashlib.sha256(f"{self.kind} {self.l.shape} {self.data_std!r} {self.tail}".encode())
        for a in (self.lam, self.l, self.s, self.b):
            code.update(np.ascontiguousarray(a).tobytes())
        return code.hexdigest()

    def at_bins(self, which) -> "Statistics":
        """Only the bins `which` (flat indices), as kind "element" of that many; the proof of a tape looks at a few."""
        if self.data_std:
            return self
        l, s, b = (a.reshape(len(self.lam), -1)[:, which] for a in (self.l, self.s, self.b))  # noqa: E741
        return Statistics("element", self.lam, l, s, b, tail=self.tail)

    def way(self, lam_s: float, lam_t: float) -> Any:
        """Parity statistics sum up a `v3.Way` by themselves; None: l, s and b are integrated."""
        return None

    @functools.cached_property
    def blocks(self) -> list[tuple]:
        """(l, s, b) as functions of λ over flat bins, some thousand bins at a time: what is integrated of them fits in a cache."""
        flat = [a.reshape(len(self.lam), -1) for a in (self.l, self.s, self.b)]
        out = []
        for first in range(0, flat[0].shape[1], BLOCK):
            ends = ((None, None),) * 3 if self.tail == "constant" else ((1.0, 0.0), (0.0, -2.0), (0.0, 0.0))
            l, s, b = (Curve(self.lam, a[:, first : first + BLOCK], *e) for a, e in zip(flat, ends, strict=True))  # noqa: E741
            out.append((_Gaussian(self.data_std, 0.0), _Gaussian(self.data_std, 1.0), b) if self.data_std else (l, s, b))
        return out

    def share(self, lam_s: float) -> float:
        """How much of its own step to σ = 0 from λ_s the solver takes; the rest is the prediction x0 at λ_s. Nothing from the last knot on,
        where a host's converged run ends with x0, and little over a very long way, of which the statistics know little."""
        if self.tail == "constant":
            return 1.0
        way = max(0.0, float(self.lam[-1]) - lam_s)
        return -math.expm1(-(way**2)) / (1 + (way / 4) ** 8)


@functools.cache
def ring_map(height: int, width: int, rings: int = RINGS) -> np.ndarray:
    """The ring of each frequency of a real FFT over (height, width): (height, width//2 + 1) integers.

    Ring 0 is the mean alone; the others divide the radius √(fx²+fy²), in cycles per pixel and at most √½, evenly, so that the same
    statistics serve every resolution and aspect.
    """
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    ring = 1 + np.minimum((radius / math.sqrt(0.5) * (rings - 1)).astype(int), rings - 2)
    ring[0, 0] = 0
    return ring
