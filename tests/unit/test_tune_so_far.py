"""The best so far of a tuning that was cut off: what is claimed of it is true on the samples of the search, and nothing less is given."""

import numpy as np
import pytest
from dpm_solver_ext.solvers.path import VE
from dpm_solver_ext.solvers.schedule import auto, karras, sd_time_map, time_uniform
from dpm_solver_ext.solvers.tune import State, solver_of, tune_schedule
from dpm_solver_ext.solvers.tune_run import label
from dpm_solver_ext.solvers.tune_so_far import so_far
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit.grids import RANGE

ENDS = {"sigma_max": RANGE["ve"][0], "sigma_min": RANGE["ve"][1]}
KNOWN = {
    "karras": karras(5, *RANGE["ve"]),
    "auto": auto(VE, 5, *RANGE["ve"], sd_time_map()),
    "even": time_uniform(5, *RANGE["ve"], sd_time_map()),
}
NAMES, X = ("ddim", "dpmpp_2m"), RANGE["ve"][0] * np.random.default_rng(1).standard_normal((6, 256))
SEEN, UNSEEN = range(4), 2


def model(x, sigma):
    return models.image_like(7.5).denoise(VE, np.asarray(x, np.float64), sigma)


class Stop(Exception):
    """Cancel."""


@pytest.fixture(scope="module")
def stops():
    """[(what `so_far` gives, the state then)], after every call of a tuning."""
    found, state = [], State()

    def report(now):
        found.append((given(now), now.evaluations, dict(now.searches)))

    tune_schedule(
        model, VE, {name: name for name in NAMES}, 5, x=X, known=KNOWN, gains=True, held_out=UNSEEN, reference_steps=20, budget=1500,
        state=state, report=report, **ENDS,
    )  # fmt: skip
    return found, state


def given(state, samples=SEEN, known=KNOWN):
    return so_far(state, VE, NAMES, known, samples=samples, **ENDS)


def errors(solver, sigmas, gains, state):
    """Of the samples of the search, by runs of their own."""
    left = iter(gains)
    end = solver_of(solver, VE)(lambda x, s: next(left, 1.0) * model(x, s), X[: len(SEEN)], sigmas)
    return [float(np.sqrt(np.mean((end[i] - state.reference[i]) ** 2))) for i in SEEN]


def test_nothing_before_a_search_has_found_something(stops):
    """From the first improvement on there is a best so far, and not before: neither in the reference nor among the known schedules."""
    found, state = stops
    first = next(i for i, (tuned, _, _) in enumerate(found) if tuned is not None)
    assert first > 20 and not any(searches for _, _, searches in found[:first]) and all(tuned is not None for tuned, _, _ in found[first:])
    assert given(State()) is None and given(State(state.reference)) is None


def test_what_it_claims_is_so(stops):
    """Sigmas, gains and solver have the errors it names, on the samples of the search; so has the known pair, which has more."""
    found, state = stops
    seen = {id(s): t for t, _, s in found if t is not None}
    with_gains = 0
    for tuned in {tuple(t.sigmas) + t.gains: t for t in seen.values()}.values():
        VE.validate(tuned.sigmas)
        assert errors(tuned.solver, tuned.sigmas, tuned.gains, state) == pytest.approx(tuned.held_out["tuned"], rel=1e-4)
        assert tuned.improved and tuned.error() < tuned.error(tuned.known) == min(tuned.error(n) for n in tuned.held_out if n != "tuned")
        solver, _, schedule = tuned.known.partition(" + ")
        assert errors(solver, KNOWN[schedule], (), state) == pytest.approx(tuned.held_out[tuned.known], rel=1e-4)
        with_gains += any(g != 1 for g in tuned.gains)
    assert with_gains and len(seen) > 3


def test_it_only_gets_better(stops):
    """A later stop never gives less, and the last of all is what the finished search has; evaluations are those spent then."""
    found, state = stops
    errors_now = [tuned.error() for tuned, _, _ in found if tuned is not None]
    assert errors_now == sorted(errors_now, reverse=True) and errors_now[-1] == pytest.approx(state.best[-1][1], rel=1e-9)
    assert all(tuned.evaluations == spent for tuned, spent, _ in found if tuned is not None)


def test_no_better_than_what_is_known_is_nothing():
    """A search that has gained, but from a pair that is far from the best known, gives nothing until it has passed that one."""
    theta = [0.1, 0.0, 0.0, 0.0]
    found = label("ddim + even", np.array(theta))
    for error, good in ((0.2, False), (0.1, False), (0.09, True)):
        sizes = {"dpmpp_2m + karras": 0.1, "ddim + even": 0.3, found: error}
        state = State({}, {f"{name} | {i}": e for name, e in sizes.items() for i in SEEN}, {"ddim + even": (theta, False)}, [], 7)
        tuned = given(state)
        assert (tuned is not None) == good
    assert tuned.solver == "ddim" and tuned.known == "dpmpp_2m + karras" and tuned.gains == ()
    del state.errors[f"{found} | 2"]
    assert given(state) is None


def test_a_state_of_something_else_gives_nothing(stops):
    """Other names, other samples or a search of another length: None, no steps that were never judged."""
    _, state = stops
    assert given(state) is not None
    assert given(state, samples=range(7)) is None and so_far(state, VE, ["heun"], KNOWN, samples=SEEN, **ENDS) is None
    assert given(state, known={"other": KNOWN["karras"]}) is None
    short = {name: (theta[:2], ended) for name, (theta, ended) in state.searches.items()}
    judged = {f"{label(name, np.array(theta))} | {i}": 1e-3 for name, (theta, _) in short.items() for i in SEEN}
    assert given(State(state.reference, state.errors | judged, short)) is None
