"""The exact ends σ = 0 and λ = -∞ are the limits of runs that come close to them; nothing is NaN."""

import math

import numpy as np
import pytest
from dpm_solver_ext.solvers.path import FLOW, VE, VP
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit.grids import SINGLESTEP, TAPES, VARIANTS, run

MIDDLE = {"ve": [6.0, 2.5, 1.1, 0.4, 0.15], "flow": [0.92, 0.8, 0.6, 0.35, 0.1], "vp": [20.0, 6.0, 2.0, 0.7, 0.2]}
TOP = {"ve": 14.6, "flow": 1.0, "vp": math.inf}
# (DPM-Solver-v3 has its own limit at σ = 0: test_v3.py)
OPTIONS = [dict(o) for o in (*TAPES.values(), *VARIANTS) if o["algorithm"] != "dpmsolver-v3"]
IDS = [" ".join(map(str, o.values())) for o in OPTIONS]
EVERY = pytest.mark.parametrize("options", OPTIONS, ids=IDS)


def states(path, s):
    return path.sigma(s) * np.random.default_rng(3).standard_normal((8, 8))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "dpmsolver"])
@pytest.mark.parametrize("path", [VE, FLOW, VP], ids=lambda p: p.name)
def test_last_sigma_zero_is_the_limit(path, algorithm, order):
    """As σ_last → 0 the final state tends to the σ = 0 result: that end is a limit of the same solver, not a special case beside it.

    Order 1 is there at 1e-9 to 1e-8. The smooth rule fades the history with the step's λ length (8 λ at 1e-3, 20 at 1e-9), so
    orders 2 and 3 tend to it too; without fading they would not. (The "v" form takes its last step on x0 by definition.)
    """
    model = models.toy()
    sigmas = [3.0 if path is not FLOW else 0.95, *MIDDLE[path.name][2:]]
    x = states(path, sigmas[0])
    options = {"algorithm": algorithm, "order": order}
    zero = run(path, model, [*sigmas, 0.0], x, **options)
    gaps = [np.abs(run(path, model, [*sigmas, last], x, **options) - zero).max() for last in (1e-3, 1e-9, 1e-30, 1e-100)]
    assert np.isfinite(zero).all() and np.isfinite(gaps).all()
    assert gaps[1] < (1e-7 if order == 1 else 0.2 * gaps[0]), gaps
    assert gaps[2] <= 0.2 * gaps[1] + 1e-12 and gaps[3] < 1e-12, gaps


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("path", [FLOW, VP], ids=lambda p: p.name)
def test_first_sigma_at_the_open_end_is_the_limit(path, order):
    """As the first sigma tends to flow 1 (vp ∞) the states tend to those from the end itself, at which the model is asked exactly.

    Order 1 differs by the distance; beyond, the first evaluation is a far node of the next steps' polynomial: its weight falls as
    1/|λ|. (Order 2 by its moments, so that the number of nodes does not change the rule; the official start.)
    """
    model, top = models.toy(), TOP[path.name]
    sigmas = [*MIDDLE[path.name], 0.0]
    x = states(path, top)
    asked = []

    class Watch:
        def denoise(self, path, y, s):
            asked.append(s)
            return model.denoise(path, y, s)

    options = {"order": order, "start": "official", "solver_type": "taylor"}
    exact = run(path, Watch(), [top, *sigmas], x, **options)
    assert asked[0] == top and np.isfinite(exact).all()
    gaps = []
    for distance in (1e-3, 1e-6, 1e-12):
        near = 1 - distance if path is FLOW else 1 / distance
        gaps.append(np.median(np.abs(run(path, model, [near, *sigmas], x, **options) - exact)))
    if order == 1:
        assert gaps[0] < 1e-2 and gaps[2] < 1e-10, gaps
    else:  # λ doubles, and doubles again
        assert gaps[1] < 0.75 * gaps[0] and gaps[2] < 0.7 * gaps[1] and gaps[2] < 5e-3, gaps


def test_the_corrected_start_from_the_open_end_is_a_limit():
    """The start correction from λ = -∞ is a trapezoid in α/σ: it brings the run nearer the exact end than without."""
    model = models.Gaussian(0.4, 0.25)
    x = states(FLOW, 1.0)
    exact = run(FLOW, model, [1.0, 0.9, 0.5, 0.0], x, order=2)
    right = model.solution(FLOW, x, 1.0, 0.0)
    plain = run(FLOW, model, [1.0, 0.9, 0.5, 0.0], x, order=2, start="official")
    assert np.abs(exact - right).max() < np.abs(plain - right).max()


@EVERY
@pytest.mark.parametrize("path", [VE, FLOW, VP], ids=lambda p: p.name)
def test_one_step_from_end_to_end(path, options):
    """A single step over everything returns the model's first prediction (x0 at σ = 0): no NaN, no 0·∞."""
    model = models.toy()
    s = TOP[path.name]
    x = states(path, s) if path is not VE else 14.6 * np.random.default_rng(3).standard_normal((8, 8))
    out = run(path, model, [s, 0.0], x, **options)
    want = model.denoise(path, x, s)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out, want, atol=1e-12)


def test_singlestep_end():
    """The last singlestep step to σ = 0 is the prediction of the state there, and the first from flow 1 is the first-order step."""
    model = models.toy()
    x = states(FLOW, 1.0)
    for algorithm in SINGLESTEP:
        for order in (2, 3):
            options = {"algorithm": algorithm, "order": order, "method": "singlestep_fixed"}
            until = run(FLOW, model, [1.0, 0.7, 0.2], x, **options)
            end = run(FLOW, model, [1.0, 0.7, 0.2, 0.0], x, **options)
            np.testing.assert_allclose(end, model.denoise(FLOW, until, 0.2), atol=1e-12)
            first = run(FLOW, model, [1.0, 0.7], x, **options)
            np.testing.assert_allclose(first, 0.7 * x + 0.3 * model.denoise(FLOW, x, 1.0), atol=1e-12)


def test_zero_terminal_snr_is_taken_as_given():
    """Hosts give zero terminal SNR as σ = 4519: a finite number, evaluated at exactly that, and close to what the vp end at ∞ gives."""
    model = models.toy()
    n = np.random.default_rng(4).standard_normal((16, 8))
    grid = [10.0, 4.0, 1.8, 0.8, 0.3, 0.1, 0.0]
    out = run(VE, model, [4519.0, *grid], 4519.0 * n, order=2)
    end = run(VP, model, [math.inf, *grid], n, order=2)
    assert np.isfinite(out).all() and np.abs(out - end).max() < 0.2
