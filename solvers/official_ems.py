"""Statistics as the official DPM-Solver-v3 code keeps and uses them: arrays or .npz files without λ, and sums over their grid.

An array (n + 1, C, H, W) is read as values at n + 1 even λ from the start of the run to its end. `OnGrid` then copies what that code
makes of them, for parity: steps snapped to the grid, trapezoid sums between its points. `evenly` gives the same numbers to our own
integrals.
"""

import functools
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from .statistics import Statistics
from .v3 import MOMENTS, Way

ARRAY_LIMIT = 4 << 30  # bytes: 500 nodes of 3·256·256 float64 are 0.8 GB


def load_npz(folder: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(l, s, b) of a folder with `l.npz` (array l) and `sb.npz` (arrays s and b), float64. Only numbers are read, nothing is unpickled, and
    sizes are checked before. ValueError, one sentence that names the file, for anything else."""
    found = []
    for file, names in (("l.npz", ("l",)), ("sb.npz", ("s", "b"))):
        place = os.path.join(os.fspath(folder), file)
        try:
            found += [_read(place, name) for name in names]
        except (OSError, ValueError, EOFError, MemoryError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"statistics_dir: {place} cannot be used ({reason:.200}); give a folder with the official l.npz and sb.npz."
            ) from None
    return found[0], found[1], found[2]


def _read(place: str, name: str) -> np.ndarray:
    with open(place, "rb") as source, zipfile.ZipFile(source) as archive:
        member = next((m for m in archive.infolist() if m.filename == f"{name}.npy"), None)
        if member is None:
            raise ValueError(f"it has no array {name}")
        if member.file_size > ARRAY_LIMIT:
            raise ValueError(f"its array {name} has {member.file_size >> 20} MiB, more than {ARRAY_LIMIT >> 20}")
        with archive.open(member) as data:
            version = np.lib.format.read_magic(data)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
            if read_header is None:
                raise ValueError(f"its array {name} is of an unknown version")
            shape, order, dtype = read_header(data)
            if dtype.kind != "f" or dtype.itemsize > 8:
                raise ValueError(f"its array {name} holds {dtype}, no floating-point numbers")
            count = 1
            for n in shape:
                count *= n
            raw = data.read(member.file_size)
            if count * dtype.itemsize != len(raw):
                raise ValueError(f"its array {name} has {len(raw)} bytes where its header says {count * dtype.itemsize}")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if order else "C").astype(np.float64)


def checked(l: Any, s: Any, b: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three arrays in float64, of one shape (n + 1, ...). ValueError, one sentence, if they are not."""
    arrays = tuple(np.asarray(a.detach().cpu() if hasattr(a, "new_full") else a) for a in (l, s, b))
    if any(a.dtype.kind != "f" for a in arrays):
        raise ValueError(f"statistics_dir: the arrays l, s, b hold {', '.join(str(a.dtype) for a in arrays)}; give floating-point numbers.")
    l, s, b = (a.astype(np.float64) for a in arrays)
    if not l.shape == s.shape == b.shape or l.ndim == 0 or len(l) < 2 or not l.size:
        raise ValueError(f"statistics_dir: l has shape {l.shape}, s {s.shape}, b {b.shape}; give arrays of one shape (n + 1, C, H, W).")
    if not all(np.isfinite(a).all() for a in (l, s, b)):
        raise ValueError("statistics_dir: the statistics hold NaN or infinite values; compute them again.")
    return l, s, b


def _kind(shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """The kind of arrays (n + 1, *shape) and its bins; axes of length 1 spread, as the official sums do."""
    if all(n == 1 for n in shape):
        return "scalar", ()
    if len(shape) > 1 and all(n == 1 for n in shape[1:]):
        return "channel", shape[:1]
    return "element", shape


def evenly(arrays: Sequence[np.ndarray], lam_start: float, lam_end: float, on_grid: bool, constant: bool = False) -> Statistics:
    """The arrays at even λ from lam_start up to lam_end, as `Statistics` or, with `on_grid`, as the official code uses them;
    `constant` says that they are, also beyond."""
    kind, bins = _kind(arrays[0].shape[1:])
    lam = np.linspace(lam_start, lam_end, len(arrays[0]))
    l, s, b = (a.reshape(len(lam), *bins) for a in arrays)
    if on_grid:
        return OnGrid(kind, lam, l, s, b, "official arrays on their grid", tail="constant")
    statistics = Statistics(kind, lam, l, s, b, "official arrays")
    return replace(statistics, tail="constant") if constant else statistics


@dataclass(frozen=True, eq=False)
class OnGrid(Statistics):
    """Statistics known at their knots alone: λ means the nearest knot, an integral the trapezoid sum over the knots between.

    For parity. It has an error floor, and the proof of a tape checks its structure only: its numbers are held by the recorded runs of the
    official code.
    """

    parity: ClassVar[bool] = True

    @functools.cached_property
    def _flat(self) -> tuple[np.ndarray, ...]:
        """l, s, b and the running sums L, S, each (n, bins)."""
        l, s, b = (a.reshape(len(self.lam), -1) for a in (self.l, self.s, self.b))
        return l, s, b, _running(self.lam, l), _running(self.lam, s)

    def knot(self, lam: float) -> int:
        """The index of the knot nearest to λ."""
        return int(np.abs(self.lam - lam).argmin())

    @functools.cached_property
    def blocks(self) -> list[tuple]:
        """l at the nearest knot, which is all that is asked of it."""
        return [(_Snapped(self), None, None)]

    def way(self, lam_s: float, lam_t: float) -> Way:
        """From λ_s to λ_t, in the place of `v3.Ways`' own."""
        first, last = self.knot(lam_s), self.knot(lam_t)
        part = np.arange(first, last + 1) if first <= last else np.arange(first, last - 1, -1)
        lam, tau = self.lam[part], self.lam[part] - self.lam[first]
        _, _, b, L, S = (a[part] for a in self._flat)
        L, S = L - L[0], S - S[0]
        B = _running(lam, np.exp(-S) * b)
        kernel = np.exp(L - L[-1] + S)
        moments = tuple(_running(lam, kernel * tau[:, None] ** k)[-1] for k in range(MOMENTS))
        return Way(np.exp(-L[-1]), S[-1], B[-1], moments, _running(lam, kernel * B)[-1])


class _Snapped:
    def __init__(self, statistics: OnGrid):
        self.statistics = statistics

    def value(self, lam: np.ndarray) -> np.ndarray:
        """l at the knots nearest to λ (m,): (m, bins)."""
        flat = self.statistics.l.reshape(len(self.statistics.lam), -1)
        return flat[[self.statistics.knot(float(v)) for v in lam]]


def _running(lam: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Trapezoid sums of `rate` (n, bins) from the first of the λ (n,) to each."""
    parts = np.diff(lam)[:, None] * (rate[1:] + rate[:-1]) / 2
    return np.concatenate([np.zeros_like(rate[:1]), np.cumsum(parts, axis=0)])
