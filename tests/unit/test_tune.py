"""Tuned steps: better where it can be, never worse than what is known; every model call is counted, none is paid twice."""

import functools

import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers import tune, tune_run
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.path import FLOW, VE
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.schedule import exponential, karras
from dpm_solver_ext.solvers.tune import State, known_schedules, lowest_budget, plain_clock, solver_of, tune_schedule
from dpm_solver_ext.solvers.tune_fit import descend
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit.grids import RANGE

PRESET = {"algorithm": "dpmsolver++", "order": 2, "start": "official"}
ENDS = {"sigma_max": RANGE["ve"][0], "sigma_min": RANGE["ve"][1]}


class Counted:
    """The image-like mixture with classifier-free guidance, on NumPy or torch: it counts, and checks that samples are told before calls."""

    def __init__(self, guidance=7.5, path=VE, torch_too=False):
        self.model, self.path, self.torch = models.image_like(guidance), path, torch_too
        self.evaluations, self.numbers, self.begun, self.batches = 0, None, [], []

    def begin(self, numbers):
        assert numbers != self.numbers, "told the same samples twice in a row"
        self.numbers = list(numbers)
        self.begun.append(self.numbers)

    def __call__(self, x, sigma):
        self.evaluations += len(x)
        self.batches.append(len(x))
        assert self.numbers is None or len(x) == len(self.numbers)
        out = self.model.denoise(self.path, np.asarray(x, dtype=np.float64), sigma)
        return torch.from_numpy(out).to(x) if self.torch else out


def noise(samples, sigma=RANGE["ve"][0], seed=1):
    return sigma * np.random.default_rng(seed).standard_normal((samples, 256))


def tuned(model, solver="dpmpp_2m", steps=5, samples=8, **options):
    options = {"x": noise(samples), "budget": 20_000, **ENDS, **options}
    if isinstance(model, Counted):
        options.setdefault("begin", model.begin)
    return tune_schedule(model, options.pop("path", VE), solver, steps, **options)


@functools.cache
def plain(**options):
    """A run that others are compared with, once."""
    model = Counted()
    return tuned(model, **options), model


def check(outcome, model, path=VE):
    """What every outcome keeps."""
    path.validate(outcome.sigmas)
    assert outcome.evaluations == model.evaluations, "every call is counted, and none that was not made"
    assert outcome.error() <= outcome.error(outcome.known) == min(outcome.error(name) for name in outcome.held_out if name != "tuned")
    assert outcome.improved == (outcome.error() < outcome.error(outcome.known))
    losses = [loss for _, loss in outcome.best]
    assert losses == sorted(losses, reverse=True) and len(set(losses)) == len(losses)


def test_a_tuned_schedule_is_far_better():
    """2M at 5 steps, guidance 7.5: 16 samples take the held-out error to about half of the best of four known schedules (0.45 to 0.6)."""
    outcome, model = plain(samples=32)
    check(outcome, model)
    assert outcome.improved and outcome.error() < 0.65 * outcome.error(outcome.known)
    assert outcome.sigmas[0] == ENDS["sigma_max"] and len(outcome.sigmas) == 6 and outcome.gains == ()
    fresh = noise(16, seed=9)  # and so on noise that no part of it has seen, by the solver as users run it
    end = execute(plan(VE, karras(200, *RANGE["ve"]), order=3), lambda x, s: model.model.denoise(VE, x, s), fresh)
    known = known_schedules(VE, 5, *RANGE["ve"], plain_clock(VE))[outcome.known.split(" + ")[1]]
    error = [
        np.sqrt(((solver_of("dpmpp_2m", VE)(lambda x, s: model.model.denoise(VE, x, s), fresh, sigmas) - end) ** 2).mean(1)).mean()
        for sigmas in (outcome.sigmas, known)
    ]
    assert error[0] < 0.75 * error[1], error


def test_gains_help():
    """A factor for each prediction: one a model call, and less error than the schedule alone on the held-out samples."""
    model = Counted()
    outcome = tuned(model, samples=32, gains=True)
    check(outcome, model)
    assert len(outcome.gains) == 5 and outcome.error() < 0.95 * plain(samples=32)[0].error()
    step = iter(outcome.gains)
    end = solver_of("dpmpp_2m", VE)(lambda x, s: model.model.denoise(VE, x, s) * next(step), noise(32)[16:], outcome.sigmas)
    fine = solver_of("auto", VE)(lambda x, s: model.model.denoise(VE, x, s), noise(32)[16:], karras(400, *RANGE["ve"]))
    assert np.sqrt(((end - fine) ** 2).mean(1)).mean() == pytest.approx(outcome.error(), rel=0.05), "what is promised is what users get"


def test_gains_of_a_solver_with_more_calls_than_steps():
    """One gain a model call, not a step."""
    model = Counted(1.0)
    outcome = tuned(model, {"order": 2, "method": "singlestep_fixed"}, 3, gains=True, samples=12)
    check(outcome, model)
    assert outcome.solver == "solver" and outcome.improved and len(outcome.gains) == 6 - 1  # the last step is of one call


def test_the_best_of_several_solvers():
    """Names, options and functions side by side; names with plus signs stay whole."""

    def euler(denoise, x, sigmas):
        for a, b in zip(sigmas, sigmas[1:], strict=False):
            x0 = denoise(x, a)
            x = x0 + b / a * (x - x0)
        return x

    model = Counted(3.0)
    outcome = tuned(model, {"euler": euler, "2M + a": PRESET, "2M + b": "dpmpp_2m", "auto": {"order": 2, "corrector": "unipc"}}, samples=12)
    check(outcome, model)
    assert outcome.solver in ("2M + a", "2M + b", "auto") and outcome.known.rpartition(" + ")[0] in ("2M + a", "2M + b", "auto")
    assert tuned(Counted(3.0), euler).sigmas == pytest.approx(tuned(Counted(3.0), "ddim").sigmas, rel=1e-6), "a function is like its name"


def test_never_worse_than_the_known():
    """Two samples are soon learnt by heart, on gains above all: where the held-out samples say so, the known schedule comes back."""
    kept = 0
    for seed in (3, 4):
        model = Counted()
        outcome = tuned(model, "auto", 4, x=noise(10, seed=seed), held_out=8, gains=True)
        check(outcome, model)
        if not outcome.improved:
            kept += 1
            name = outcome.known.split(" + ")[1]
            assert outcome.sigmas == pytest.approx(known_schedules(VE, 4, *RANGE["ve"], plain_clock(VE))[name], rel=1e-12)
            assert outcome.gains == () and outcome.held_out["tuned"] == outcome.held_out[outcome.known]
            assert outcome.best[-1][1] < 0.8 * outcome.best[0][1], "on its own samples the search did win"
    assert kept, "none of these seeds tests anything"


@pytest.mark.parametrize("gains", [False, True])
def test_the_budget_is_a_bound(gains):
    """From the least that is accepted on, never more is paid than allowed; more budget gives no more error on the samples of the search."""
    least = lowest_budget(8, 4, 4, 5, 50, gains)
    reached = []
    for budget in (least, least + 37, 20_000):
        model = Counted()
        outcome = tuned(model, gains=gains, budget=budget)
        check(outcome, model)
        assert model.evaluations <= budget
        reached.append(outcome.best[-1][1])
    assert reached == sorted(reached, reverse=True) and reached[-1] < 0.8 * outcome.best[0][1]


@pytest.mark.parametrize(
    ("path", "sigma_max", "sigma_min"), [(FLOW, 1.0, 0.001), (VE, 4519.0, RANGE["ve"][1])], ids=["flow", "zero terminal SNR"]
)
def test_open_ends(path, sigma_max, sigma_min):
    """From pure noise, where the first step has no length in λ."""
    model = Counted(path=path)
    outcome = tuned(model, path=path, x=noise(24, sigma_max), sigma_max=sigma_max, sigma_min=sigma_min)
    check(outcome, model, path)
    assert outcome.improved and outcome.error() < 0.9 * outcome.error(outcome.known)
    assert outcome.sigmas[0] == sigma_max and outcome.sigmas[-2] >= sigma_min * (1 - 1e-12)


def test_samples_are_told_before_they_are_called():
    """begin(numbers) for each change, never twice in a row; each call is for those numbers' states, in batches of at most `batch`."""

    class Prompted(Counted):
        def __call__(self, x, sigma):
            if sigma == ENDS["sigma_max"]:
                assert np.array_equal(x, noise(7)[self.numbers])
            return super().__call__(x, sigma)

    model = Prompted()
    check(tuned(model, x=noise(7), batch=3), model)
    assert max(model.batches) == 3 and {tuple(n) for n in model.begun} == {(0, 1, 2), (3, 4, 5), (6,), (3,), (4, 5, 6)}


def test_any_batch_gives_the_same():
    """Batches are for memory only."""
    one = plain()[0]
    for batch in (3, 100):
        other = tuned(Counted(), batch=batch)
        assert other.sigmas == pytest.approx(one.sigmas, rel=1e-6) and other.known == one.known
        assert other.error() == pytest.approx(one.error(), rel=1e-6) and other.evaluations == one.evaluations


def test_calls_that_are_known_are_not_made_and_change_nothing(monkeypatch):
    """The runs around a point begin alike: without their memory the outcome is the same, bit for bit, and dearer."""
    saved = tuned(Counted(), gains=True)
    go = tune_run.Runs.go
    monkeypatch.setattr(tune_run.Runs, "go", lambda self, solver, sigmas, ids, gains=(), near=None: go(self, solver, sigmas, ids, gains))
    paid = tuned(Counted(), gains=True)
    assert paid.sigmas == saved.sigmas and paid.held_out == saved.held_out and paid.gains == saved.gains
    assert paid.evaluations > 1.2 * saved.evaluations


def test_a_memory_of_another_run_is_not_used():
    """`near` is asked by state and sigma: from the first call that differs, all are made."""
    model = Counted()
    run = tune_run.Runs(model, noise(3), 2, None, State(), None)
    solver, sigmas = solver_of("dpmpp_2m", VE), karras(5, *RANGE["ve"])
    end, log = run.go(solver, sigmas, [0, 1, 2], near=[])
    for other, gains, made in ((sigmas, (), 0), ([*sigmas[:3], 1.0, *sigmas[4:]], (), 2), (sigmas, (1.0, 0.9), 3), (sigmas, (), 0)):
        before = model.evaluations
        again, _ = run.go(solver, other, [0, 1, 2], gains, log)
        assert model.evaluations - before == 3 * made, (other, gains)
        assert np.array_equal(again, run.go(solver, other, [0, 1, 2], gains)[0])
    before = model.evaluations
    run.x = noise(3, seed=2)
    run.go(solver, sigmas, [0, 1, 2], (), log)
    assert model.evaluations - before == 15
    assert np.array_equal(end, run.go(solver, sigmas, [0, 1, 2], (), log)[0]) is False


@pytest.mark.parametrize("stop", [1, 7, 33, 49, 50, 66, 80, 95, 101, 117, 130, 140])
def test_interrupted_anywhere_it_goes_on(stop):
    """With the state of the run that report() ended: references, errors and finished searches are not paid again, the rest is a round."""
    whole, _ = plain()
    model, state, calls = Counted(), State(), 0

    def report(told):
        nonlocal calls
        calls += 1
        assert told is state and told.evaluations == model.evaluations
        if calls == stop:
            raise InterruptedError

    try:
        tuned(model, state=state, report=report)
        assert calls < stop
    except InterruptedError:
        assert calls == stop
    kept = {i: a.copy() for i, a in state.reference.items()}, dict(state.errors)
    model.numbers = None
    again = tuned(model, state=state)
    check(again, model)
    assert all(np.array_equal(state.reference[i], a) for i, a in kept[0].items()) and kept[1].items() <= state.errors.items()
    assert again.held_out.keys() == whole.held_out.keys() and again.known == whole.known
    assert again.held_out[whole.known] == whole.held_out[whole.known]
    lost = max(8 * 50, 4 * 5 * (2 + 2))  # the reference of one batch, or a fresh Jacobian and the runs around it
    assert again.evaluations <= whole.evaluations + 2 * lost
    assert again.best[-1][1] < 1.1 * whole.best[-1][1], "as good as in one go, though by other steps"


def test_a_finished_tuning_is_free():
    """The same call with its state makes no model call and returns the same."""
    model, state = Counted(), State()
    first = tuned(model, gains=True, state=state)
    made = model.evaluations
    again = tuned(model, gains=True, state=state)
    assert model.evaluations == made and again == first


def test_a_state_of_another_size_is_refused():
    state = State(reference={0: np.zeros(7, np.float32)})
    with pytest.raises(ValueError, match="^state is of samples of another size"):
        tuned(Counted(), state=state)


@pytest.mark.parametrize(("noisy", "still"), [("dpmpp_2m_sde", "dpmpp_2m"), ("dpmpp_sde", {"method": "singlestep_fixed", "order": 2})])
def test_sde_forms_are_tuned_by_their_ode(noisy, still):
    a, b = (tuned(Counted(), solver, 3) for solver in (noisy, still))
    assert a.sigmas == b.sigmas and list(a.held_out.values()) == list(b.held_out.values())


def test_torch_tensors():
    """float64 gives NumPy's own numbers; half precision is tuned in float32; nothing of autograd is recorded; x stays as it was."""
    x = torch.from_numpy(noise(8))
    outcome = tuned(Counted(torch_too=True), x=x)
    assert outcome.sigmas == pytest.approx(plain()[0].sigmas, rel=1e-6) and torch.equal(x, torch.from_numpy(noise(8)))
    kinds, weight = set(), torch.ones((), requires_grad=True)

    def learnt(state, sigma, model=Counted(torch_too=True)):  # noqa: B008
        x0 = model(state, sigma) * weight
        kinds.add((state.dtype, x0.requires_grad))
        return x0

    half = tuned(learnt, x=x.half())
    assert kinds == {(torch.float32, False)} and half.error() == pytest.approx(outcome.error(), rel=0.1)


def test_a_solver_that_works_in_place():
    """x is the caller's: a function may write into what it gets."""

    def euler(denoise, x, sigmas):
        for a, b in zip(sigmas, sigmas[1:], strict=False):
            x0 = denoise(x.copy(), a)
            x -= x0
            x *= b / a
            x += x0
            x0 *= 0.5  # nor is the prediction looked at again by others
        return x

    def pure(denoise, x, sigmas):
        for a, b in zip(sigmas, sigmas[1:], strict=False):
            x0 = denoise(x, a)
            x = x0 + (x - x0) * (b / a)
        return x

    x = noise(6)
    mine = tuned(Counted(), euler, 4, x=x)
    assert np.array_equal(x, noise(6))
    assert mine.sigmas == pytest.approx(tuned(Counted(), pure, 4, samples=6).sigmas, rel=1e-4)


def test_a_start_at_the_least_noise_is_not_a_dead_end():
    """karras ends at sigma_min: a longer gap must shorten the others there, which the search has to follow, not to stop at."""

    def denoise(x, sigma):
        return np.tanh(x / (0.2 + sigma**2)) / 2

    x = 14.6 * np.random.default_rng(0).standard_normal((8, 768))
    start = {"karras": [*exponential(5, 14.6, 0.03)]}
    assert start["karras"][-2] == pytest.approx(0.03)
    outcome = tune_schedule(denoise, VE, "dpmpp_2m", 5, x=x, sigma_max=14.6, sigma_min=0.03, known=start)
    assert outcome.error() < 0.9 * outcome.error(outcome.known)


def test_gains_never_cost_what_the_schedule_alone_had():
    """They are searched after the schedule: together from the start they could lead away from what the schedule alone reaches."""

    def denoise(x, sigma):
        return np.tanh(x / (0.2 + sigma**2)) / 2

    x = 14.6 * np.random.default_rng(0).standard_normal((8, 768))
    for solver in ("auto", "ddim", "dpmpp_2m"):
        plain, gained = (
            tune_schedule(denoise, VE, solver, 5, x=x, sigma_max=14.6, sigma_min=0.03, gains=gains, budget=9000) for gains in (False, True)
        )
        assert gained.best[-1][1] <= plain.best[-1][1] * (1 + 1e-6), solver


def test_more_budget_never_loses_what_was_found():
    """A later call with the same state chooses among all that was searched, by the samples of the search; known schedules of other names
    do not make it forget."""
    model, state = Counted(), State()
    first = tuned(model, "dpmpp_2m", 5, samples=12, gains=True, state=state, budget=2500)
    assert first.improved
    loss = min(e for _, e in state.best)
    again = tuned(model, "dpmpp_2m", 5, samples=12, gains=True, state=state, budget=2600)
    assert min(e for _, e in again.best) <= loss and again.error() <= first.error() * 1.05


def test_a_higher_budget_pays_for_the_search():
    """What the check has measured is not set aside again: all that a budget is raised by goes into the search."""
    model, state = Counted(), State()
    tuned(model, "dpmpp_2m", 5, samples=12, gains=True, state=state, budget=1700)
    before = model.evaluations
    checked = sum(" tuned " in name for name in state.errors)
    tuned(model, "dpmpp_2m", 5, samples=12, gains=True, state=state, budget=1700 + 200)
    assert model.evaluations - before > 100 and sum(" tuned " in name for name in state.errors) > checked


def test_the_held_out_samples_choose_between_the_searches():
    """Of two searches the one that is better on samples it has not seen, whichever learnt its own better; and neither where a known pair
    is. The errors are the state's, so that nothing is measured anew."""
    model, state, both = Counted(), State(), {"dpmpp_3m": "dpmpp_3m", "dpmpp_2m": "dpmpp_2m"}

    def again():
        made = model.evaluations
        outcome = tuned(model, both, 5, samples=12, state=state, budget=None)
        assert outcome.evaluations == made == model.evaluations
        return outcome

    first = tuned(model, both, 5, samples=12, state=state, budget=None)
    assert first.improved and len(state.searches) == 2 and all(ended for _, ended in state.searches.values())
    other = (set(both) - {first.solver}).pop()
    kept = dict(state.errors)
    for name in kept:
        if name.startswith(f"{first.solver} + ") and " tuned " in name and int(name.rpartition(" ")[2]) >= 6:
            state.errors[name] = 1e3
    for name in kept:
        if " tuned " not in name and int(name.rpartition(" ")[2]) >= 6:
            state.errors[name] = 1e2
    second = again()
    assert second.improved and second.solver == other and second.held_out["tuned"] != first.held_out["tuned"]
    for name in kept:
        if " tuned " in name and int(name.rpartition(" ")[2]) >= 6:
            state.errors[name] = 1e3
    assert not again().improved


def test_without_a_budget_it_takes_what_a_thorough_search_needs():
    outcome = tuned(Counted(), "dpmpp_2m", 4, budget=None)
    assert outcome.improved and outcome.evaluations <= tune.lowest_budget(8, 4, 4, 4, 50, False, 1, tune.ROUNDS)


def test_large_latents_are_seen_in_part(monkeypatch):
    """Beyond PICKS values the fit sees some of each sample, the same of all; the outcome is nearly that of all."""
    monkeypatch.setattr(tune_run, "PICKS", 64)
    state = State()
    outcome = tuned(Counted(), state=state, samples=24)
    assert {a.shape for a in state.reference.values()} == {(64,)} and outcome.improved
    assert outcome.error() < 0.75 * outcome.error(outcome.known)


def blown_up(x, sigma):
    return x * np.nan


def never(x, sigma):
    raise AssertionError("the model was called")


@pytest.mark.parametrize(
    ("options", "begins"),
    [
        ({"steps": 2}, "steps is 2; give a whole number from 3 up"),
        ({"steps": 5.0}, "steps is 5.0;"),
        ({"held_out": 0}, "held_out is 0;"),
        ({"batch": 0}, "batch is 0;"),
        ({"budget": 500}, "budget is 500; 8 samples at 5 steps need at least "),
        ({"reference_steps": 5}, "reference_steps is 5;"),
        ({"x": noise(2)}, "x holds 2 samples, of which 1 are held out;"),
        ({"held_out": 7}, "x holds 8 samples, of which 7 are held out;"),
        ({"x": [[1.0]]}, "x is a list; give a torch tensor"),
        ({"x": np.ones((8, 4), int)}, "x holds int64;"),
        ({"sigma_min": 20.0}, "sigma_max is 14.6146 and sigma_min 20;"),
        ({"sigma_min": 0.0}, "sigma_max is 14.6146 and sigma_min 0;"),
        ({"known": {"mine": [14.6, 5.0, 1.0, 0.0]}}, "known has schedules of [3] steps;"),
        ({"known": {}}, "known has schedules of [] steps;"),
        ({"known": {"mine": [14.6, 5.0, 6.0, 1.0, 0.5, 0.0]}}, "sigmas: they rise from 5 to 6"),
        ({"known": {"mine": [14.6, 5.0, 2.0, 1.0, 0.5, 0.1]}}, "A known schedule is [14.6"),
        ({"solver": "euler_b"}, "solver is 'euler_b'; give one of auto, dpmpp_2m,"),
        ({"solver": "dpm_adaptive"}, "method is adaptive, which chooses its own steps"),
        ({"solver": {"a": "auto", "b": "dpm_adaptive"}}, "method is adaptive,"),
        ({"solver": {"a": "auto", "b": 7}}, "solver is 7;"),
        ({"solver": {"order": 9}}, "order is 9;"),
        ({"solver": {"order": 2, "steps": 3}}, "steps is no option;"),
        ({"solver": {"method": "singlestep", "corrector": "unipc"}}, "corrector is unipc, which method singlestep does not have;"),
    ],
)
def test_bad_input_is_one_sentence_before_any_call(options, begins):
    options = {"solver": "dpmpp_2m", "steps": 5, **options}
    with pytest.raises(ValueError) as told:
        tuned(never, options.pop("solver"), options.pop("steps"), **options)
    message = str(told.value)
    assert message.startswith(begins) and message.endswith(".") and "\n" not in message


def test_a_model_that_returns_nan():
    """Seen in the reference, before the search is paid; a candidate that blows up alone is only far away."""
    calls = []
    with pytest.raises(ValueError, match=r"^The reference run came out with NaN"):
        tuned(lambda x, s: calls.append(s) or x * np.nan, samples=4)
    assert len(calls) == 50
    model = Counted()
    level = known_schedules(VE, 5, *RANGE["ve"], plain_clock(VE))["karras"][3]
    outcome = tuned(lambda x, s: model(x, s) * (np.nan if s == level else 1.0), begin=model.begin)
    check(outcome, model)
    assert outcome.improved and all(np.isfinite(e).all() for e in outcome.held_out.values())


def quiet(runs):
    return True


def test_descend_solves_linear_and_curved_problems():
    """Residuals linear in θ: the minimum of the sum of distances in a few steps; Rosenbrock's: to its end, down the valley."""
    rng = np.random.default_rng(0)
    matrix, right = rng.standard_normal((4, 30, 3)), np.array([0.3, -0.2, 0.1])
    losses = []
    theta, ended = descend(
        lambda at, near: (matrix @ (at - right), None),
        np.zeros(3),
        np.full(3, 0.05),
        afford=quiet,
        accepted=lambda at, loss: losses.append(loss),
    )
    assert ended and np.allclose(theta, right, atol=1e-3) and losses == sorted(losses, reverse=True)

    def rosenbrock(at, near):
        return np.array([[10 * (at[1] - at[0] ** 2), 1 - at[0]]]), None

    theta, ended = descend(rosenbrock, np.array([-0.5, 0.5]), np.full(2, 1e-4) * 1000, afford=quiet, accepted=lambda *_: None)
    assert ended and np.allclose(theta, 1, atol=0.05)


def test_descend_heeds_most_samples():
    """One picture in nine that asks for something else altogether, ten times as loudly, does not decide."""
    wanted = np.full(9, 0.2)
    wanted[4] = -2.0
    loud = np.ones(9)
    loud[4] = 10
    theta, _ = descend(
        lambda at, near: ((loud * (at[0] - wanted))[:, None] + np.zeros((9, 2)) + [[0, 0.05]], None),
        np.zeros(1), np.full(1, 0.05), afford=quiet, accepted=lambda *_: None,
    )  # fmt: skip
    assert abs(theta[0] - (wanted * loud**2).sum() / (loud**2).sum()) > 1, "where plain least squares would go"


@pytest.mark.parametrize("kind", ["flat", "solved", "one parameter idle", "one quotient blows up"])
def test_descend_meets_degenerate_problems(kind):
    """No step, no NaN and no endless search where there is nothing to gain; a parameter without effect keeps still."""
    asked = []

    def residuals(at, near):
        asked.append(at.copy())
        if kind == "flat":
            return np.ones((2, 3), np.float32), None
        r = np.outer([1.0, 0.5], [at[0] - 0.3, 0.1, 0.0])
        if kind == "solved":
            r = 0 * r
        if kind == "one quotient blows up" and at[1] > 0.04:
            r = np.full_like(r, 1e6)
        return r.astype(np.float32), None

    theta, ended = descend(residuals, np.zeros(2), np.full(2, 0.05), afford=quiet, accepted=lambda *_: None)
    assert ended and np.isfinite(theta).all() and np.isfinite(asked).all() and len(asked) < 40
    assert theta[0] == pytest.approx(0.3 if "one" in kind else 0.0, abs=0.05) and (theta[1] == 0 or kind == "one quotient blows up")
    told = []
    assert descend(residuals, np.zeros(2), np.full(2, 0.05), afford=lambda runs: told.append(runs), accepted=lambda *_: None)[1] is (
        kind == "solved"
    )
