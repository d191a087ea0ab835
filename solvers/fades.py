"""The smooth rule: how far the terms of a multistep method are trusted, from the sizes of the λ steps alone.

Every factor goes to 1 with the step, which leaves the order. All were chosen on mixtures and a trained network with guidance 1 to 7.5,
5 to 30 steps; tests/unit/test_step_counts.py holds the smoothness in the number of steps.
"""

from collections.abc import Sequence


def fades(h: float, before: Sequence[float], order: int, damped: bool = True) -> list[float]:
    """The smooth rule: factors of the terms of orders 1, 2, 3 … for a λ step h after the steps `before` (newest first).

    A slope taken over the last step h₁ is trusted over twice its length; beyond, its term falls by 1 + h²/2 ((h/2h₁)² - 1). That is
    nearly order 1 for a last finite step far longer than the one before it, where extrapolation does the harm, and exactly order 2
    on karras (from 4 steps). The higher derivatives need small steps besides, 1 + h², and fall with the steps before in the
    same way: differences between two points that nearly coincide would amplify the rounding of a half-precision model. The
    order stays, up to 3; a start that is made for more goes without the 1 + h² (`damped`).
    """
    factors = [1.0]
    for j, earlier in enumerate(before[: order - 1]):
        factors.append(factors[-1] / (1 + h * h / 2 * max(0.0, (h / (2 * earlier)) ** 2 - 1)) / (1 + (h * h if j and damped else 0.0)))
    return factors


def careful(factors: Sequence[float], h: float) -> list[float]:
    """The factors of a prediction that will be corrected: the corrector makes good what a careful one leaves (-6 % error over six
    problems, -20 % at 5 steps)."""
    return [1.0, *(f / (1 + f * min(h**4 / 4, 1.25)) for f in factors[1:])]


def correction_fades(h: float, before: Sequence[float], first: bool, extra: bool) -> tuple[float, ...]:
    """The factors of a correction's terms over a step h after the steps `before`: value, slope over the step itself, higher differences.

    A long step is not corrected by more than its evaluations can tell: the slope's 1/(1 + h²/2), for the first step 1/(1 + 2h²); with the
    extra start it is whole.
    """
    slope = 1.0 if extra else 1 / (1 + h * h * (2.0 if first else 0.5))
    return (1.0, *(slope * f for f in fades(h, before, len(before) + 1, not extra)))
