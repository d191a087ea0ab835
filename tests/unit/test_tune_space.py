"""What tuning turns: every θ is a schedule, θ = 0 the start; a tuned schedule keeps its shape at other step counts; the search descends."""

import math

import numpy as np
import pytest
from dpm_solver_ext.solvers.path import FLOW, VE, VP
from dpm_solver_ext.solvers.schedule import INFINITE
from dpm_solver_ext.solvers.tune import known_schedules, plain_clock
from dpm_solver_ext.solvers.tune_space import FARTHEST, Space, start_levels, stretched
from hypothesis import example, given
from hypothesis import strategies as st

RANGES = {
    "ve": (VE, 14.6146, 0.0292),
    "zero terminal SNR": (VE, 4519.0, 0.0292),
    "vp": (VP, 14.6146, 0.0292),
    "vp from pure noise": (VP, math.inf, 0.0292),
    "flow": (FLOW, 1.0, 0.001),
    "flow below 1": (FLOW, 0.99, 0.001),
}


def starts_of(kind, steps):
    path, top, low = RANGES[kind]
    if math.isinf(top):
        return {"by hand": [top, *np.geomspace(8.0, low, steps - 1), 0.0]}
    return known_schedules(path, steps, top, low, plain_clock(path))


def falls(path, sigmas):
    path.validate(sigmas)
    return all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False)) and sigmas[-1] == 0


@pytest.mark.parametrize("kind", RANGES)
def test_zero_is_the_start(kind):
    """θ = 0 gives the schedule that the search starts from, to rounding, for each known schedule and count."""
    path, top, low = RANGES[kind]
    for steps in (3, 4, 5, 8, 20):
        for name, known in starts_of(kind, steps).items():
            space = Space(path, start_levels(known, path, top), low, 2)
            made = space.levels(np.zeros(space.size))
            assert made[0] == top and made[-1] == 0 and len(made) == steps + 1
            assert np.allclose(made[1:], known[1:], rtol=1e-12, atol=0), (name, steps)
            assert space.gain(np.zeros(space.size)) == (1.0, 1.0) and space.size == steps - 1 + 2


@pytest.mark.parametrize("kind", RANGES)
@given(data=st.data())
def test_every_parameter_is_a_schedule(kind, data):
    """Falling from sigma_max to 0, nothing below sigma_min, also in float32, in which hosts keep schedules, as far as a search goes."""
    path, top, low = RANGES[kind]
    steps = data.draw(st.integers(3, 12))
    known = data.draw(st.sampled_from(sorted(starts_of(kind, steps).items())))[1]
    space = Space(path, start_levels(known, path, top), low)
    far = data.draw(st.sampled_from([1.0, 4.0, 50.0]))
    theta = np.array(data.draw(st.lists(st.floats(-far, far), min_size=space.size, max_size=space.size)))
    made = space.levels(theta)
    assert falls(path, made) and len(made) == steps + 1 and made[0] == top
    assert made[-2] >= min(low, known[-2]) * (1 - 1e-12)
    if far <= 4:
        assert (np.diff(np.array(made, dtype=np.float32)) < 0).all()


def test_an_open_start_stays_below_sigma_max():
    """A long second gap, as long as the way to sigma_max or longer, once put the first free level beyond a finite sigma_max."""
    space = Space(VE, start_levels([4519.0, 400.0, 2.0, 0.0], VE, 4519.0), 0.03)
    for theta in (-8.0, -2.0, 0.0, 2.0):
        assert falls(VE, space.levels(np.array([theta, 0.0])))
    moved = [Space(FLOW, (1.0, 0.9, 0.5, 0.0), 0.001).levels(np.array([theta, 0.0]))[1] for theta in (-1.0, 0.0, 1.0)]
    assert moved[1] == pytest.approx(0.9) and moved[0] > moved[1] > moved[2], "the first free level moves both ways"


def test_a_gap_moves_its_level_and_those_after_it():
    """θ_i lengthens gap i alone, by e^θ; what lies before does not move, so that runs with it begin alike. Gains are apart."""
    space = Space(VE, (10.0, 5.0, 2.0, 1.0, 0.0), 0.01, 4)
    made = space.levels(np.array([0.0, 0.3, 0.0, 0.5, 0, 0, 0]))
    lam = -np.log(np.array(made[:-1]))
    start = -np.log(np.array(space.sigmas[:-1]))
    assert made[1] == pytest.approx(5.0, rel=1e-14)
    assert np.allclose(np.diff(lam), np.diff(start) * np.exp([0.0, 0.3, 0.0]))
    assert space.gain(np.array([0.0, 0.3, 0.0, 0.5, 0, 0, -0.1])) == (1.5, 1.0, 1.0, 0.9)
    assert len(space.quotients) == space.size == 7 and (space.quotients != 0).all()


def test_known_schedules_that_are_none():
    for levels in ([1.0, 0.0], [10.0, 1.0, 0.1], [10.0, math.nan, 1.0, 0.0], [10.0, 1.0, 2.0, 0.0], [10.0, 1.0, 1.0, 0.0]):
        with pytest.raises(ValueError) as told:
            start_levels(levels, VE, 10.0)
        assert str(told.value).endswith(".") and "\n" not in str(told.value)
    assert start_levels(np.float32([1, 0.5, 0.25, 0]), FLOW, 1.0) == (1.0, 0.5, 0.25, 0.0)


@pytest.mark.parametrize("kind", RANGES)
@given(data=st.data())
@example(None)
def test_stretched_is_a_schedule_of_any_count(kind, data):
    """Of tuned steps, all that the search can give: falling, from the same start, never below sigma_min, for any count."""
    path, top, low = RANGES[kind]
    if data is None:  # a schedule that ends at sigma_min, at twice its count: once two levels in one place
        tuned, counts = [top, *np.geomspace(min(top, 1.0) * 0.9, low, 4), 0.0], range(1, 61)
    else:
        n = data.draw(st.integers(3, 12))
        known = data.draw(st.sampled_from(sorted(starts_of(kind, n).items())))[1]
        space = Space(path, start_levels(known, path, top), low)
        theta = np.array(data.draw(st.lists(st.floats(-3, 3), min_size=space.size, max_size=space.size)))
        tuned, counts = space.levels(theta), [data.draw(st.integers(1, 60))]
    for count in counts:
        made = stretched(tuned, count, path, low)
        assert len(made) == count + 1 and made[0] == tuned[0] and falls(path, made), count
        assert count == 1 or made[-2] >= min(low, tuned[-2]) * (1 - 1e-12)


@pytest.mark.parametrize("kind", RANGES)
def test_stretched_is_exact_where_it_was_tuned(kind):
    """The same list at its own count; at others the curve goes through the tuned levels where the shares of steps agree."""
    path, top, low = RANGES[kind]
    tuned = [top, *np.geomspace(min(top, 8.0) * 0.9, 0.4 * min(top, 8.0) ** 0.5, 5), 0.0]
    assert stretched(tuned, 6, path, low) == tuned
    assert stretched(tuple(tuned), 6, path, low) == tuned, "a list, whatever came in"
    assert np.allclose(stretched(tuned, 3, path, low)[1:-1], [tuned[2], tuned[4]], rtol=1e-12)
    assert np.allclose(stretched(tuned, 12, path, low)[2:-2:2], tuned[1:-1], rtol=1e-12)


def test_stretched_keeps_even_steps_even():
    """A schedule even in λ stays even: with room beyond the last level it goes on by its own gaps, without room its gaps shrink."""
    tuned = [*np.exp(-np.arange(5.0)), 0.0]
    lam = -np.log(stretched(tuned, 10, VE, 1e-6)[:-1])
    assert np.allclose(lam, np.arange(10) / 2)
    lam = -np.log(stretched(tuned, 10, VE, math.exp(-4))[:-1])
    assert np.allclose(lam, np.linspace(0, 4, 10))


def test_stretched_of_what_has_no_curve():
    with pytest.raises(ValueError, match=r"^steps is 5, but a schedule of 2 steps has no curve"):
        stretched([1.0, 0.5, 0.0], 5, FLOW, 0.001)
    with pytest.raises(ValueError, match=r"^steps is 0; at least one"):
        stretched([1.0, 0.5, 0.25, 0.0], 0, FLOW, 0.001)
    assert INFINITE < -VE.half_logsnr(4519.0) and FARTHEST > 4
