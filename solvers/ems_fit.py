"""Fit: from moments to the statistics l, s, b."""

import numpy as np

from .ems import Moments
from .statistics import Statistics

S_RANGE = (-1.0, 0.5)


def fit(moments: Moments, kind: str | None = None, *, smooth: float = 1.0, label: str = "") -> Statistics:
    """Statistics of `kind` (default: the moments' own; coarser kinds as `Moments.as_kind`).

    s is the slope of log √Var(f): along a path E[f f'] = (E[f²])'/2, so nothing need be differenced between neighbouring nodes but a
    curve that is nearly straight. b = (E f)' - s E f.
    """
    m = moments if kind is None else moments.as_kind(kind)
    n = _filled(m, m.sums["n"], m.sums["n"])
    l = np.clip(_filled(m, m.sums["zj"], m.sums["zz"]), 0.0, 1.0)
    l = _smooth(l, smooth)
    mean_u, mean_y, uu, uy, yy = (_filled(m, m.sums[name], m.sums["n"]) for name in ("u", "y", "uu", "uy", "yy"))
    if m.kind == "radial":  # means are those of pixels: Σ over pixels is in ring 0, the number of pixels in all rings
        pixels = m.sums["n"].sum(axis=2)
        mean_u, mean_y = np.zeros_like(n), np.zeros_like(n)
        mean_u[..., 0], mean_y[..., 0] = m.sums["u"][..., 0] / pixels, m.sums["y"][..., 0] / pixels
        area = pixels / m.sums["n"][..., 0]
    mean = mean_u - l * mean_y
    square = mean**2
    if m.kind == "radial":
        square[..., 0] *= area
    second = uu - 2 * l * uy + l * l * yy
    variance = np.maximum(second - square, 1e-6 * (uu + l * l * yy) + 1e-300)
    s = np.clip(np.gradient(_smooth(0.5 * np.log(variance), smooth), m.lam, axis=0), *S_RANGE)
    b = np.gradient(mean, m.lam, axis=0) - s * mean
    return Statistics(m.kind, m.lam, l, s, b, label)


def _filled(m: Moments, total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """total/weight; empty rings take their neighbours' values."""
    out = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    if m.kind == "radial":
        full = ~np.isnan(out[0, 0])
        where = np.arange(out.shape[2])
        for i in np.ndindex(out.shape[:2]):
            out[i] = np.interp(where, where[full], out[i][full])
    return out


def _smooth(a: np.ndarray, width: float) -> np.ndarray:
    """Averages over neighbouring nodes with weights 1/4, 1/2, 1/4, `width` times; the ends stay."""
    for _ in range(round(width)):
        a = np.concatenate([a[:1], (a[:-2] + 2 * a[1:-1] + a[2:]) / 4, a[-1:]])
    return a
