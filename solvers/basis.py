"""Where the registers of a tape with statistics live: on the latent's own elements, or on its spatial frequencies.

With radial statistics a run keeps its state and all it stores as real FFTs over the last two axes, and only an evaluation goes back
and forth; any resolution and any number of axes between the channels and those two. The coefficients of all steps go to the device in
one transfer before the first step, and each is spread over the frequencies where it is used.
"""

import math
from typing import Any

import numpy as np

from .arrays import cast, full, namespace
from .statistics import ring_map
from .tape import Affine, Coefficient, Field, Tape


def basis_of(tape: Tape, x: Any) -> "Basis | None":
    """The basis for running `tape` from the state x, or None: all coefficients are numbers. ValueError if x does not fit the statistics."""
    if tape.statistics is not None and tape.statistics.kind != "scalar":
        _check(tape.statistics.kind, tape.statistics.bins, tuple(x.shape))
    fields = [w for r in tape.records if isinstance(r, Affine) for w in (*(w for _, w in r.terms), r.bias) if isinstance(w, Field)]
    return Basis(tape, x, fields) if fields else None


def _check(kind: str, bins: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if kind == "radial" and (len(shape) < 4 or min(shape[-2:]) < 2):
        raise ValueError(f"Radial statistics need a latent with two spatial axes, but this one is {shape}; calibrate with shape channel.")
    if len(shape) < 2 or bins[0] != shape[1] or (kind == "element" and bins != shape[1:]):
        what = f"{bins[0]} channels" if kind != "element" else f"the size {bins}"
        raise ValueError(f"The statistics are for latents of {what}, but this latent is {shape}; calibrate on latents like this one.")


class Basis:
    """Transforms for states like x (batch, channels, …), and coefficients spread over them."""

    def __init__(self, tape: Tape, x: Any, fields: list[Field]):
        statistics = tape.statistics
        assert statistics is not None
        self.kind, bins, shape = statistics.kind, statistics.bins, tuple(x.shape)
        self.torch, self.size, self.dtype = hasattr(x, "new_full"), shape[-2:], full(x, (), 0.0).dtype
        between = len(shape) - 1 - len(bins) - (self.kind == "radial")
        table = np.stack([w.values for w in fields]).reshape(len(fields), bins[0], *[1] * between, *bins[1:])
        rings = ring_map(*self.size, bins[1]) if self.kind == "radial" else None
        if self.torch:
            self.table = x.new_tensor(table, dtype=self.dtype)
            self.rings = None if rings is None else x.new_tensor(rings, dtype=namespace(x).int64)
        else:
            self.table, self.rings = namespace(x).asarray(table, dtype=self.dtype), rings
        self.place = {id(w): i for i, w in enumerate(fields)}

    def forward(self, x: Any) -> Any:
        """x as the tape's registers hold it."""
        if self.rings is None:
            return x
        z = namespace(x).fft.rfft2(x, norm="ortho")
        return namespace(x).view_as_real(z) if self.torch else z  # torch: pairs of reals, which every device and kernel knows

    def inverse(self, z: Any) -> Any:
        """The state that `z` stands for."""
        if self.rings is None:
            return z
        xp = namespace(z)
        return cast(xp.fft.irfft2(xp.view_as_complex(z) if self.torch else z, s=self.size, norm="ortho"), self.dtype)

    def coefficient(self, w: Coefficient) -> Any:
        """`w` as registers are multiplied by it."""
        if not isinstance(w, Field):
            return w
        values = self._spread(w)
        return values.unsqueeze(-1) if self.torch and self.rings is not None else values

    def bias(self, w: Coefficient) -> Any:
        """`w` as it is added to registers: of radial statistics it is a channel's mean, so √(height·width) times that at frequency 0."""
        if not isinstance(w, Field):
            return w
        values = self._spread(w)
        if self.rings is None:
            return values
        values = values * math.sqrt(math.prod(self.size))
        return namespace(values).stack([values, 0 * values], -1) if self.torch else values

    def _spread(self, w: Field) -> Any:
        values = self.table[self.place[id(w)]]
        return values if self.rings is None else values[..., self.rings]
