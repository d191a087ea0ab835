"""Fit: from moments to the statistics l, s, b of DPM-Solver-v3 (arXiv 2310.13268, eq. 5, 8, 9), in milliseconds.

With f = u - l y, any finite set of sampling paths has E[f f'] = (E[f²])'/2 and E[f'] = (E f)', so

    s = Cov(f, f')/Var(f) = (log √Var f)'      b = (E f)' - s E f

and no slope of a model's output along a path is ever needed: u, differenced between neighbouring nodes, is noisy where log Var f is
nearly straight. e^{∫s} is the spread of f, so g = e^{-∫s} f, which the solver extrapolates, has the same spread everywhere.
"""

import dataclasses

import numpy as np

from .ems import Moments
from .statistics import Statistics

# Of curves in λ. Measured on the demo's network against 64 samples at 96 nodes: 10 times more or less is worse, for 16 to 32 samples.
SMOOTH_L, SMOOTH_S = 0.001, 0.03
L_RANGE, S_RANGE = (-0.25, 1.25), (-2.5, 1.0)  # guidance makes l leave 0…1 (1.14 measured); outside of these is noise
TRUST, TIE = 3.0, 1e-3


def fit(moments: Moments, kind: str | None = None, *, bias: bool = True, label: str = "") -> Statistics:
    """Statistics of `kind` (default: the moments' own; coarser ones as `Moments.as_kind`), with the moments' metadata.

    Rings that latents of the calibration's size do not have take their neighbours' values. Where f hardly varies, so that its spread is
    that of the error of l (data that are Gaussian there), s goes on from where it is known, or else is -(1-l): 0 at much noise, -1 at
    little. `bias` False: b = 0 and moments of f about 0, in place of about its mean.
    ValueError, one sentence, for moments of no samples, without probes, or of another kind.
    """
    m = moments if kind is None else moments.as_kind(kind)
    if not m.ids or not m.sums["zz"].any():
        raise ValueError(f"The statistics are of {len(m.ids)} samples, with probes of none; calibrate with samples and probes above 0.")
    raw = _ratio(m, "zj", "zz")
    l = np.clip(_smooth(raw, np.ones_like(raw), m.lam, 3, SMOOTH_L), *L_RANGE)
    uu, uy, yy = (_ratio(m, name, "n") for name in ("uu", "uy", "yy"))
    mean_u, mean_y, area = _means(m)
    mean = (mean_u - l * mean_y) * bias
    variance = np.maximum(uu - 2 * l * uy + l * l * yy - area * mean * mean, 1e-12 * yy + 1e-100)
    error = (_around((raw - l) ** 2) + 1e-10) * yy  # what the error of l may add to the variance of f
    trust = np.clip(1 - TRUST * error / variance, 0, 1) ** 2
    spread = _smooth(0.5 * np.log(variance), trust, m.lam, 2, SMOOTH_S, l - 1)
    s = np.clip(np.gradient(spread, m.lam, axis=0), *S_RANGE)
    b = np.gradient(mean, m.lam, axis=0) - s * mean
    return Statistics(m.kind, m.lam, l, s, b, label or m.metadata.get("label", ""), metadata=dict(m.metadata))


def statistics_of(moments: Moments, file: str) -> Statistics:
    """`fit` of measured moments, with all that is known of them as metadata, as people may see it; `file` is their name for people."""
    said = {_printable(k): _printable(v) for k, v in moments.metadata.items()}
    said |= {"samples": str(len(moments.ids)), "size": "×".join(map(str, moments.shape)), "shape": moments.kind, "file": file}
    return dataclasses.replace(fit(moments), label=file, metadata=said)


def _printable(text: str) -> str:
    """Text of a file that anybody may have made, fit for a log, a terminal and a picture."""
    return "".join(c if c.isprintable() else " " for c in text[:1000])


def _means(m: Moments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E u, E y, and what their squares are multiplied by in second moments. For rings, all is in ring 0: a mean per pixel is 1/√area of
    its coefficient, area the pixels of the last two axes."""
    if m.kind != "radial":
        return _ratio(m, "u", "n"), _ratio(m, "y", "n"), np.ones_like(m.sums["n"])
    pixels = m.sums["n"].sum(axis=2)
    out = np.zeros((3, *m.sums["n"].shape))
    out[..., 0] = m.sums["u"][..., 0] / pixels, m.sums["y"][..., 0] / pixels, pixels / m.sums["n"][..., 0]
    return out[0], out[1], out[2]


def _ratio(m: Moments, total: str, weight: str) -> np.ndarray:
    """A quotient of sums; for rings without any, interpolated between others, ring 0, the mean, apart."""
    a, w = m.sums[total], m.sums[weight]
    out = np.divide(a, w, out=np.zeros_like(a), where=w > 0)
    if m.kind == "radial":
        full = (w[0, 0] > 0) & (np.arange(a.shape[2]) > 0)
        place = np.arange(a.shape[2])
        for i in np.ndindex(a.shape[:2]):
            out[i][1:] = np.interp(place[1:], place[full], out[i][full])
    return out


def _around(a: np.ndarray) -> np.ndarray:
    """The largest of each value and its two neighbours on both sides, along the nodes."""
    wide = np.concatenate([a[:1], a[:1], a, a[-1:], a[-1:]])
    return np.stack([wide[i : i + len(a)] for i in range(5)]).max(axis=0)


def _smooth(z: np.ndarray, weight: np.ndarray, lam: np.ndarray, order: int, strength: float, slope: np.ndarray | None = None) -> np.ndarray:
    """The curves g (n, *bins) at `lam` that minimise ∫ weight (z - g)² + strength (d^order g/dλ^order)² [+ TIE (g' - slope)²]: Whittaker's
    smoother. Polynomials below `order` stay as they are, and go on where the weight is 0."""
    n, cell = len(lam), np.gradient(lam)
    operator = np.eye(n)
    for k in range(order):
        operator = np.diff(operator, axis=0) / np.diff(np.convolve(lam, np.full(k + 1, 1 / (k + 1)), "valid"))[:, None]
    step = (lam[-1] - lam[0]) / (n - 1)
    weight = weight.reshape(n, -1) * cell[:, None]
    system = np.einsum("nb,nm->bnm", weight, np.eye(n)) + strength * step * operator.T @ operator
    right = weight * z.reshape(n, -1)
    if slope is not None:
        first = np.diff(np.eye(n), axis=0)
        width = np.diff(lam)[:, None]
        middle = (slope.reshape(n, -1)[1:] + slope.reshape(n, -1)[:-1]) / 2
        system = system + TIE * first.T @ (first / width)
        right = right + TIE * first.T @ middle
        system[:, 0, 0] += 1e-9  # only slopes are wanted: without any weight the level is free
    return np.linalg.solve(system, right.T[..., None])[..., 0].T.reshape(z.shape)
