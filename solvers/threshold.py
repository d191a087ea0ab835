"""Dynamic thresholding of the data prediction (Imagen, arXiv 2205.11487, section 2.3), for models of pixels.

With strong guidance a prediction leaves the range -1…1 of pixels and saturates. Per batch item, s is the `ratio` quantile of |x0|, at
least `max_value`; the item is clipped to ±s and divided by s. A latent has no such range: there it only does harm.

The quantile is taken over everything but the first axis, so that images, video (5-D) and packed latents (batch, 1, n) are all the
same. It is exact for any size: `torch.quantile` refuses more than 2**24 elements and rounds the rank to the array's precision.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np


def dynamic_threshold(x0: Any, ratio: float = 0.995, max_value: float = 1.0, ceiling: float = math.inf) -> Any:
    """The thresholded prediction, same shape (batch, ...), dtype, device and kind (torch, NumPy, JAX); nothing is read from the device.

    `ratio` in (0, 1]; `max_value` > 0 is the least s, the official `thresholding_max_val`: below it nothing is clipped. The result is
    divided by s, so it lies in -1…1 whatever `max_value` is, and 0.5 doubles a quiet prediction. `ceiling` ≥ max_value is the largest
    s (diffusers' `sample_max_value`, whose default 1 makes it plain clipping). ValueError, one sentence, for values out of range.
    """
    check_threshold(ratio, max_value, ceiling)
    if 0 in x0.shape:
        return x0
    half = str(x0.dtype).endswith("float16")  # float16 and bfloat16 of all three libraries
    if hasattr(x0, "lerp"):
        values = x0.float() if half else x0
        s = _quantile_torch(values.abs().reshape(x0.shape[0], -1), ratio).clamp(max_value, ceiling)
        s = s.reshape(-1, *[1] * (x0.ndim - 1))
        return (values.clamp(-s, s) / s).to(x0.dtype)
    lib: Any = np if isinstance(x0, np.ndarray) else x0.__array_namespace__()
    values = x0.astype("float32") if half else x0
    low, weight = _place(ratio, math.prod(x0.shape[1:]))
    ranked = lib.sort(abs(values).reshape(x0.shape[0], -1), axis=1)[:, low : low + 2]
    s = lib.clip(ranked[:, 0] + weight * (ranked[:, -1] - ranked[:, 0]), max_value, ceiling)
    s = s.reshape(-1, *[1] * (x0.ndim - 1))
    return (lib.clip(values, -s, s) / s).astype(x0.dtype)


def make_project(ratio: float = 0.995, max_value: float = 1.0, ceiling: float = math.inf) -> Callable[[Any, float], Any]:
    """The hook `project(x0, sigma)` of `execute` that thresholds; bad values raise here, before the first evaluation."""
    check_threshold(ratio, max_value, ceiling)
    return lambda x0, sigma: dynamic_threshold(x0, ratio, max_value, ceiling)


def check_threshold(ratio: float, max_value: float, ceiling: float = math.inf) -> None:
    """One ValueError sentence unless 0 < ratio ≤ 1 and 0 < max_value ≤ ceiling, max_value finite."""
    if not 0 < ratio <= 1:
        raise ValueError(f"threshold ratio is {ratio:g}; it is a share of the pixels above 0 and up to 1, 0.995 as a rule.")
    if not 0 < max_value < math.inf:
        raise ValueError(f"threshold max_value is {max_value:g}; give a positive number, 1 for pixels in -1…1.")
    if not ceiling >= max_value:
        raise ValueError(f"threshold ceiling is {ceiling:g}, less than max_value {max_value:g}; raise it, or leave it out.")


def _place(ratio: float, n: int) -> tuple[int, float]:
    """(rank of the order statistic below the quantile, share of the way to the next one): linear interpolation, as NumPy and torch."""
    place = ratio * (n - 1)
    low = min(int(place), n - 1)
    return low, place - low


def _quantile_torch(values: Any, ratio: float) -> Any:
    """The quantile of each row (batch, n), from the largest values only: for usual ratios a small part of a sort's memory."""
    n = values.shape[1]
    low, weight = _place(ratio, n)
    top = values.topk(n - low, dim=1).values
    return top[:, -1].lerp(top[:, max(n - low - 2, 0)], weight)
