"""Pixels and their orthonormal DCT coefficients, in which the image-like golden model is given."""

import functools
import math

import numpy as np


@functools.cache
def _matrix() -> np.ndarray:
    """Orthonormal DCT-II of length 8, rows are frequencies."""
    k, n = np.arange(8)[:, None], np.arange(8)[None, :]
    m = np.cos(math.pi * (n + 0.5) * k / 8) * math.sqrt(2 / 8)
    m[0] /= math.sqrt(2)
    return m


def dct(x):
    """(batch, 4, 8, 8) pixels to coefficients."""
    return _matrix() @ x @ _matrix().T


def idct(c):
    """(batch, 256) coefficients to (batch, 4, 8, 8) pixels."""
    return _matrix().T @ np.reshape(c, (-1, 4, 8, 8)) @ _matrix()
