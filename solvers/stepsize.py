"""Step size control of the adaptive solvers: what the error of a step is, and how far the next one goes.

"official" is algorithm 3 of the DPM-Solver paper (arXiv 2206.00927), after Jolicoeur-Martineau et al., "Gotta go fast" (arXiv
2105.14080); "pid" is k-diffusion's controller (Söderlind's digital filters, ACM TOMS 2003, with its own limiter).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

CONTROLS = {"official": (0.7, 2.5), "pid": (0.81, math.inf)}  # and each one's defaults of `safety` and `growth`
NORMS = ("item", "batch")
Controller = Callable[[float, float], tuple[bool, float]]  # (error, step size) -> (accepted, next step size)


def error_of(low: Any, high: Any, before: Any, atol: float, rtol: float, norm: str, scales: tuple[float, float] = (1.0, 1.0)) -> float:
    """rms of (high - low) / max(atol, rtol·max(|low|, |before|)): of the worst item ("item"; axis 0 counts items), or over all ("batch").

    `before` is divided by the first of `scales`, the ends by the second, before anything else.

    The arrays have one shape and type (torch, NumPy, JAX). Reads one number from the device: an attempt's only synchronisation.
    TypeError, one sentence, under jax.jit, where no number can be read.
    """
    at, to = scales
    size = abs(before) * (to / at)
    size = size + (abs(low) - size).clip(min=0)  # the larger of both, by methods that every array type has
    ratio = (high - low) / (size * rtol).clip(min=atol * to)
    items = ratio.shape[0] if norm == "item" and ratio.ndim else 1
    worst = (ratio * ratio).reshape(items, -1).mean(1).max()
    try:
        return math.sqrt(float(worst))
    except TypeError as problem:
        raise TypeError(
            "adaptive: its number of steps depends on the values, so it cannot run inside jax.jit; call it outside, or take a fixed method."
        ) from problem


def controller(
    order: int, control: str, safety: float | None = None, growth: float | None = None, gains: tuple[float, float, float] | None = None
) -> Controller:
    """The controller of a pair of orders `order`-1 and `order`; ValueError, one sentence, if an option is out of range.

    `safety` for "official" is what each proposed step is multiplied by (0.7; in the official code 0.9), for "pid" the least factor with
    which a step is accepted (0.81). `growth` is the most that a step may grow over the last: 2.5 for "official", whose own code has no
    bound, so that an error that is small by chance takes it anywhere; "pid" has its limiter. `gains` (proportional, integral,
    derivative) are for "pid" only; (0, 1, 0) unless given.
    """
    if control not in CONTROLS:
        raise ValueError(f"control is {control!r}; choose one of {', '.join(CONTROLS)}.")
    usual = CONTROLS[control]
    safety, growth = usual[0] if safety is None else safety, usual[1] if growth is None else growth
    if not 0 < safety < 1:
        raise ValueError(f"safety is {safety!r}; choose a number between 0 and 1, such as {usual[0]}.")
    if not growth > 1:
        raise ValueError(f"growth is {growth!r}; choose a number above 1, such as 2.5.")
    if control == "official":
        if gains is not None:
            raise ValueError(f"gains is {gains!r}, but control is official, which has none; leave gains out, or set control to pid.")
        return _official(order, safety, growth)
    gains = (0.0, 1.0, 0.0) if gains is None else gains
    if len(gains) != 3 or not all(math.isfinite(g) for g in gains) or sum(gains) <= 0:
        raise ValueError(f"gains is {gains!r}; give three finite numbers (proportional, integral, derivative) with a sum above 0.")
    return _pid(order, safety, growth, gains)


def _official(order: int, safety: float, growth: float) -> Controller:
    """Accepts an error up to 1. The official code rounds the root to float32, and so is it here: a relative 6e-8 of the step."""
    return lambda error, h: (error <= 1, h * min(safety * float(np.float32(max(error, 1e-60) ** (-1 / order))), growth))


def _pid(order: int, safety: float, growth: float, gains: tuple[float, float, float]) -> Controller:
    """As k-diffusion: a last step, shortened to the end and rejected, is tried again until the proposed step is shorter than it was.

    The factor is made of this attempt's inverse error and those of the last two accepted ones, and limited to 0.21 … 2.57.
    """
    p, i, d = gains
    powers = ((p + i + d) / order, -(p + 2 * d) / order, d / order)
    inverse: list[float] = []

    def propose(error: float, h: float) -> tuple[bool, float]:
        newest = 1 / (error + 1e-8)
        inverse[:] = [newest, *(inverse[1:] or (newest, newest))]
        factor = 1 + math.atan(math.prod(e**b for e, b in zip(inverse, powers, strict=True)) - 1)
        if factor >= safety:
            inverse[1:] = inverse[:2]
        return factor >= safety, h * min(factor, growth)

    return propose
