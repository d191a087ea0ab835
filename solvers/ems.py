"""Moments: what a calibration of DPM-Solver-v3 measures of a model, as sums that add up.

The statistics of arXiv 2310.13268 (eq. 5, 8 and 9) are expectations over the model's own sampling paths, at given λ:

    l = E[diag(σ ∇_x ε)]     s = Cov(f, f')/Var(f)     b = E[f'] - s E[f]     f = u - l y,  u = e^{-λ} ε = y - x0,  y = x/α

f depends on l, so it is not summed: u, y and their products are, and the products of probes, whose ratio is l. Two files of the same
setting then merge by addition. y and u are the same numbers in the variance-exploding, variance-preserving and flow scalings.
No sum with the slope f' is needed: along paths dy/dλ = -u and E[f f'] = (E[f f])'/2, so s is the slope of log √Var(f), see `ems_fit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .ems_pool import Shape, bins_of, usable_kind

# sums of: u and y; their products; the products of a probe z with σ∇ε z and with itself; and how many numbers were summed
NAMES: tuple[str, ...] = ("u", "y", "uu", "uy", "yy", "zj", "zz", "n")


# words on moments that need not be equal where they are added
FREE = ("label", "made_by", "made_at")


@dataclass(eq=False)
class Pending:
    """Samples (seed, number) in the middle of their paths, about to be evaluated at node `node`: states x (batch, *shape), the last
    predictions x0 (0 before the first), and the sums of these samples so far. float64."""

    ids: list[tuple[int, int]]
    node: int
    x: np.ndarray
    x0: np.ndarray
    sums: dict[str, np.ndarray]


@dataclass(eq=False)
class Moments:
    """Sums over samples at nodes `lam` (n,), rising λ, for latents of `shape` (without batch axis): `sums` has each of `NAMES`, float64
    (n, *bins), in the bins of `kind` (see `ems_pool`).

    `ids` are the samples in them, (seed, number) each. `metadata` holds the caller's words on the model and its use; all but those in
    `FREE` must be equal where moments are added (+). `pending` is what an interrupted calibration had begun; it is in no sum.
    """

    kind: str
    shape: Shape
    lam: np.ndarray
    metadata: dict[str, str] = field(default_factory=dict)
    ids: list[tuple[int, int]] = field(default_factory=list)
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    pending: Pending | None = None

    def __post_init__(self):
        self.shape, self.lam = tuple(self.shape), np.array(self.lam, dtype=np.float64)
        self.sums = self.sums or self.zeros()

    def zeros(self) -> dict[str, np.ndarray]:
        """Sums over no sample."""
        return {name: np.zeros((len(self.lam), *bins_of(self.kind, self.shape))) for name in NAMES}

    def __add__(self, other: Moments) -> Moments:
        """The finished moments of both, as new sums. ValueError, one sentence, unless the settings are equal and no sample is in both."""
        self.check_same(other)
        twice = sorted(set(self.ids) & set(other.ids))
        if twice:
            raise ValueError(f"Sample {twice[0][1]} of seed {twice[0][0]} is in both statistics; calibrate one of them with another seed.")
        sums = {name: self.sums[name] + other.sums[name] for name in NAMES}
        return Moments(self.kind, self.shape, self.lam, {**other.metadata, **self.metadata}, sorted([*self.ids, *other.ids]), sums)

    def check_same(self, other: Moments) -> None:
        """ValueError, one sentence that names both values, where a setting differs."""
        mine, theirs = ({"kind": m.kind, "latent size": m.shape, **m.metadata} for m in (self, other))
        for name in dict.fromkeys([*mine, *theirs]):
            if name not in FREE and mine.get(name) != theirs.get(name):
                raise ValueError(
                    f"The statistics differ in {name}: {mine.get(name)} and {theirs.get(name)}; calibrate with equal settings."
                )
        if self.lam.shape != other.lam.shape or np.abs(self.lam - other.lam).max() > 1e-9:
            a, b = (f"{len(m.lam)} from λ {m.lam[0]:.4f} to {m.lam[-1]:.4f}" for m in (self, other))
            raise ValueError(f"The statistics differ in nodes: {a} and {b}; calibrate with equal nodes and sigma range.")

    def as_kind(self, kind: str) -> Moments:
        """The same moments pooled into coarser bins; itself if `kind` is its own. ValueError, one sentence, where that is impossible."""
        kind, _ = usable_kind(kind, self.shape)
        if kind == self.kind:
            return self
        coarser = {"radial": ("channel", "scalar"), "element": ("channel", "scalar"), "channel": ("scalar",), "scalar": ()}[self.kind]
        if kind not in coarser:
            raise ValueError(
                f"kind is {kind}, but the statistics were measured as {self.kind}; choose {' or '.join((self.kind, *coarser))}."
            )
        axes = tuple(range(1 if kind == "scalar" else 2, self.sums["n"].ndim))
        out = dict(self.sums)
        probed = out["zz"] > 0  # each bin's own ratio, weighted by the numbers in it
        out["zj"] = np.divide(out["zj"] * out["n"], out["zz"], out=np.zeros_like(out["zj"]), where=probed)
        out["zz"] = np.where(probed, out["n"], 0.0)
        sums = {name: a.sum(axis=axes) for name, a in out.items()}
        return Moments(kind, self.shape, self.lam, dict(self.metadata), list(self.ids), sums)


def merge(parts: Sequence[Moments]) -> Moments:
    """The sum of one or more moments."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
