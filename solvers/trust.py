"""Measured slopes: how far a prediction leans on the last slope, by how well the slope before it has held in this very run.

A multistep method of order 2 goes on with the slope between its last two evaluations. Whether that is good depends on the model: on a
network with strong guidance slopes turn back from step to step (τ about -0.5), so that order 1 is better; with little guidance they grow
(τ about 1.4). No plan can know which, but the run shows it: with u the stored evaluations (damped as `step` says) and Δ their differences,

    τ = <Δ_i, Δ_{i-1}>/<Δ_{i-1}, Δ_{i-1}> · h_{i-1}/h_i        the last slope along the one before it

for each item of the batch by itself, where only two are there yet τ = <u_1, u_0>/<u_0, u_0>: what grows or decays by that factor has a
slope that does. All terms of the prediction but the first are scaled by

    r = clip(1 + 3 min(τ, 0), 0, 1) + min(max(τ - 1, 0)/2, 0.3)        and, of two evaluations, 1 + min(3 max(τ - 1, 0), 2)

τ goes to 1 with the steps, but no faster than the step itself, so a prediction of order 2 keeps its order, and one of a higher order would
fall to 2 (3 with a corrector): it is measured at order 2 only. Measuring costs two sums over the state a step, no model call and no look at
the device's values.
The numbers were chosen on mixtures and a trained network with guidance 1 to 7.5, 5 to 20 steps. The corrector is not scaled:
it interpolates.
"""

from collections.abc import Sequence

from .tape import Blend, Coefficient, Measure

SLOPES = {"below": 3.0, "above": 0.5, "most": 0.3}
FIRST = {"below": 0.0, "above": 3.0, "most": 2.0}


def measure(i: int, prefix: str, damped: Sequence[float], lam: Sequence[float], first: bool) -> Measure:
    """The trust of the slope between the evaluations i-1 and i, whose registers are `prefix`i; `damped`: the factors of these two.

    The register of the change before it is read, unless it is the `first`.
    """
    newer, older = f"{prefix}{i}", f"{prefix}{i - 1}"
    terms = ((newer, damped[1]), (older, -damped[0]))
    if first:
        return Measure(f"trust{i}", f"change{i}", terms, older, 1.0, 1 / damped[0], *FIRST.values())
    scale = (lam[i - 1] - lam[i - 2]) / (lam[i] - lam[i - 1])
    return Measure(f"trust{i}", f"change{i}", terms, f"change{i - 1}", 0.0, scale, *SLOPES.values())


def blended(trust: str, base: Sequence[float], full: Sequence[float]) -> list[Coefficient]:
    """The weights that are `base` at trust 0 and `full` at trust 1."""
    return [Blend(b, ((trust, f - b),)) if f != b else b for b, f in zip(base, full, strict=True)]


def plus(a: Coefficient, b: Coefficient) -> Coefficient:
    """a + b; a trust whose factor comes to 0 is left out."""
    if type(a) is float and type(b) is float:  # most are numbers
        return a + b
    (base, parts), (more, others) = _split(a), _split(b)
    found = dict(parts)
    for name, factor in others:
        found[name] = found.get(name, 0.0) + factor
    kept = tuple((name, factor) for name, factor in found.items() if factor != 0)
    return Blend(base + more, kept) if kept else base + more


def times(a: Coefficient, by: float) -> Coefficient:
    """a multiplied by a number."""
    if type(a) is float:
        return by * a
    base, parts = _split(a)
    return Blend(by * base, tuple([(name, by * factor) for name, factor in parts])) if parts else by * base


def size(a: Coefficient) -> float:
    """The largest of a coefficient's numbers, without sign."""
    if type(a) is float:
        return abs(a)
    base, parts = _split(a)
    largest = abs(base)
    for _, factor in parts:
        largest = max(largest, abs(factor))
    return largest


def _split(a: Coefficient) -> tuple[float, tuple[tuple[str, float], ...]]:
    if isinstance(a, Blend):
        return a.base, a.parts
    assert isinstance(a, float | int)  # DPM-Solver-v3's fields have no measured slopes
    return float(a), ()


def pairs(count: int) -> list[list[float]]:
    """Two numbers for each of `count` trusts, none alike and no two trusts as far apart in both: a step that reads another's is wrong in
    one. A step depends on its trust linearly, so what holds at two numbers holds for all."""
    return [[far + (i * turn) % 1 / 2 for i in range(count)] for far, turn in ((0.0, 5**0.5), (1.0, 2**0.5))]
