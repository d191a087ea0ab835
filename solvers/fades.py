"""The smooth rule: how far the terms of a multistep method are trusted, from the sizes of the λ steps alone.

Every factor goes to 1 with the step, which leaves the order. All were chosen on mixtures and a trained network with guidance 1 to 7.5,
5 to 30 steps; tests/unit/test_step_counts.py holds the smoothness in the number of steps.
"""

from typing import Any

import numpy as np


def fades(h: Any, before: Any, order: int, damped: bool = True) -> list[Any]:
    """The smooth rule: factors of the terms of orders 1, 2, 3 … for a λ step h after the steps `before` (newest first); numbers, or
    arrays of one for each of some steps.

    A slope taken over the last step h₁ is trusted over twice its length; beyond, its term falls by 1 + h²/2 ((h/2h₁)² - 1). That is
    nearly order 1 for a last finite step far longer than the one before it, where extrapolation does the harm, and exactly order 2
    on karras (from 4 steps). The higher derivatives need small steps besides, 1 + h², and fall with the steps before in the
    same way: differences between two points that nearly coincide would amplify the rounding of a half-precision model. The
    order stays, up to 3; a start that is made for more goes without the 1 + h² (`damped`).
    """
    factors: list[Any] = [1.0 if isinstance(h, float) else np.ones_like(h)]
    for j, earlier in enumerate(before[: order - 1]):
        beyond = (h / (2 * earlier)) ** 2 - 1
        factors.append(factors[-1] / (1 + h * h / 2 * (beyond * (beyond > 0))) / (1 + (h * h if j and damped else 0.0)))
    return factors


def careful(factors: list[np.ndarray], h: np.ndarray) -> list[np.ndarray]:
    """The factors (steps,) of a prediction that will be corrected: the corrector makes good what a careful one leaves (-6 % error over six
    problems, -20 % at 5 steps)."""
    return [factors[0], *(f / (1 + f * np.minimum(h**4 / 4, 1.25)) for f in factors[1:])]


def correction_fades(h: np.ndarray, before: list[np.ndarray], extra: bool) -> list[np.ndarray]:
    """The factors of a correction's terms over steps h (steps,), of which the first is the run's, after the steps `before`: value, slope
    over the step itself, higher differences.

    A long step is not corrected by more than its evaluations can tell: the slope's 1/(1 + h²/2), for the first step 1/(1 + 2h²); with the
    extra start it is whole.
    """
    first = np.where(np.arange(len(h)) == 0, 2.0, 0.5)
    slope = 1.0 if extra else 1 / (1 + h * h * first)
    return [np.ones_like(h), *(slope * f for f in fades(h, before, len(before) + 1, not extra))]
