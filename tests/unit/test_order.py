"""The measured order of convergence: a line through log error against log steps, on a Gaussian (closed form) and a mixture (fine run).

Measured with these grids (Gaussian, mixture), 48 to 192 steps, λ from -0.5 to 2.5, steps unequal by up to 1.8:

    x0 form   order 2: 2.03 1.92   order 3: 3.13 3.03   official start: 2.06 2.01   official third-order weights: 1.90 1.96
    ε form    order 2: 1.84 1.92   order 3: 3.02 2.93   official start: 2.09 2.01   official third-order weights: 1.96 2.13
    v form    order 2: 1.98 1.92   order 3: 2.91 3.01   official start: 1.98 2.00

With an infinite end (σ = 0, flow 1), 57 to 226 steps: order 2 gives 1.8-2.0, order 3 1.9-2.0.
"""

import functools
import math

import numpy as np
import pytest
from dpm_solver_ext.solvers.path import FLOW, PATHS, VE, VP
from dpm_solver_ext.solvers.step import CHOICES
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit.grids import fine_end, run

A, B = -0.5, 2.5
COUNTS = (48, 68, 96, 136, 192)
FORMS = pytest.mark.parametrize("algorithm", CHOICES["algorithm"])
PAPERS = pytest.mark.parametrize("algorithm", ["dpmsolver++", "dpmsolver"])
# The paths differ by a scale and a change of variable only: each is here once.
PROBLEMS = pytest.mark.parametrize("name, path", [("gaussian", VE), ("gaussian", FLOW), ("mixture", VP)])


def grid(path, n: int, ratio: float = 1.8) -> list[float]:
    """n uneven λ steps from A to B: neighbours differ by up to about `ratio`, whatever n, and the largest goes to 0 as n grows."""
    u = np.linspace(0, 1, n + 1)
    lam = A + (B - A) * (u + 0.05 * np.sin(2 * np.pi * u))
    lam[1:-1:2] += (B - A) / n * 0.5 * (ratio - 1) / (ratio + 1)
    return [path.from_half_logsnr(float(v)) for v in lam]


@functools.cache
def problem(name: str, path_name: str):
    """(model, start states at λ = A, exact ends at λ = B)."""
    path = PATHS[path_name]
    s, t = path.from_half_logsnr(A), path.from_half_logsnr(B)
    n = np.random.default_rng(1).standard_normal((16, 8))
    if name == "gaussian":
        model = models.Gaussian(0.4, 0.25)
        x = path.alpha(s) * 0.4 + math.sqrt(path.alpha(s) ** 2 * 0.25 + path.sigma(s) ** 2) * n
        return model, x, model.solution(path, x, s, t)
    model, x = models.toy(), path.sigma(s) * n
    return model, x, fine_end(path, model, x, s, t, 800)


def geometric(ends, right) -> float:
    """Geometric mean over states of the rms error: a slope of it is the mean of the states' slopes, so no single state decides."""
    return float(np.exp(np.mean(np.log(np.sqrt(np.mean((ends - right) ** 2, axis=1))))))


def slope(counts, values) -> float:
    return -float(np.polyfit(np.log(counts), np.log(values), 1)[0])


def measured(path, name: str, counts=COUNTS, make=grid, **options) -> float:
    model, x, right = problem(name, path.name)
    return slope(counts, [geometric(run(path, model, make(path, n), x, **options), right) for n in counts])


@FORMS
@PROBLEMS
def test_multistep_orders(path, algorithm, name):
    """Multistep order 1, 2 and 3 converge at 1, 2 and 3 (≥ 2.85) on uneven grids; a wrong history weight or start costs an order."""
    assert 0.9 < measured(path, name, algorithm=algorithm, order=1) < 1.15
    for solver_type in ("dpmsolver", "taylor"):
        assert 1.8 < measured(path, name, algorithm=algorithm, order=2, solver_type=solver_type) < 2.4
    assert 2.85 <= measured(path, name, algorithm=algorithm, order=3) < 3.5


@FORMS
@PROBLEMS
def test_singlestep_orders(path, algorithm, name):
    """Singlestep order 2 and 3 converge at 2 and 3, both ways of ending the step."""
    for solver_type in ("dpmsolver", "taylor"):
        counts = (24, 34, 48, 68, 96)
        assert 1.85 < measured(path, name, counts, algorithm=algorithm, order=2, method="singlestep", solver_type=solver_type) < 2.4
        assert 2.7 < measured(path, name, counts, algorithm=algorithm, order=3, method="singlestep", solver_type=solver_type) < 3.6


@FORMS
def test_the_official_start_costs_an_order(algorithm):
    """Order 3 from the official first-order start is order 2 (measured 1.98-2.09), from the corrected one 3: what it is for."""
    for name in ("gaussian", "mixture"):
        official = measured(VE, name, algorithm=algorithm, order=3, start="official")
        corrected = measured(VE, name, algorithm=algorithm, order=3)
        assert 1.8 < official < 2.25 and corrected - official > 0.6, (official, corrected)


@PAPERS
def test_the_official_third_order_weights_are_second_order(algorithm):
    """The official code halves the second derivative: order 2 (measured 1.90-2.13) even with the corrected start; ours is exact."""
    for name in ("gaussian", "mixture"):
        official = measured(VE, name, algorithm=algorithm, order=3, solver_type="official")
        assert 1.8 < official < 2.3, official


@FORMS
def test_order_three_on_rough_grids(algorithm):
    """Steps that alternate by a factor of 3 for ever: the order is kept as the largest step goes to 0, with the smooth rule too."""
    rough = functools.partial(grid, ratio=3.4)
    for final_rule in ("none", "smooth"):
        order = measured(VE, "mixture", make=rough, algorithm=algorithm, order=3, final_rule=final_rule)
        assert order >= 2.8, (final_rule, order)


@FORMS
def test_the_smooth_rule_keeps_the_order(algorithm):
    """The three final rules agree in order on finite ends: none of them may cost one."""
    for final_rule in ("smooth", "official", "none"):
        assert 2.85 <= measured(VE, "mixture", algorithm=algorithm, order=3, final_rule=final_rule) < 3.5


def open_grid(path, n: int, power: float) -> list[float]:
    """From flow 1 (ve 80, the same λ after it) to σ = 0, even in flow time^(1/power)."""
    t = np.linspace(1, 0, n + 1) ** power
    if path is FLOW:
        return [float(v) for v in t]
    return [float(v / (1 - v)) for v in t * (80 / 81)]


def open_order(path, order: int, power: float, algorithm: str) -> float:
    model, counts = models.Gaussian(0.4, 0.25), (57, 80, 113, 160, 226)
    s = open_grid(path, 2, power)[0]
    x = path.sigma(s) * np.random.default_rng(2).standard_normal((16, 8)) + path.alpha(s) * 0.4
    right = model.solution(path, x, s, 0.0)
    grids = [open_grid(path, n, power) for n in counts]
    return slope(counts, [geometric(run(path, model, grid, x, order=order, algorithm=algorithm), right) for grid in grids])


@FORMS
@pytest.mark.parametrize("path", [VE, FLOW], ids=lambda p: p.name)
def test_infinite_ends(path, algorithm):
    """With σ = 0 at the end, and λ = -∞ at the start where the path has it, orders 2 and 3 measure about 2 (1.6 to 2.4).

    Measured: x0 form 2.0 and 2.0, ε form 1.8 and 1.9; v form 1.3 at order 2 from λ = -∞ (its damping changes by a fixed factor over the
    first λ steps, however many there are), 1.7 at order 3, which the preset auto uses.
    """
    for order, power in ((2, 1.25), (3, 1.0)):
        found = open_order(path, order, power, algorithm)
        least = 1.2 if (path, algorithm, order) == (FLOW, "dpmsolver-v", 2) else 1.6
        assert least < found < 2.4, (order, found)
