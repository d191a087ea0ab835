"""Adaptive DPM-Solver-12 and -23: equal to the official code and k-diffusion, and what those lack: ends, bounds, inverse, errors."""

import dataclasses
import functools
import itertools
import json
import math
import tracemalloc

import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers.adaptive import adaptive, walk_adaptive
from dpm_solver_ext.solvers.execute import walk
from dpm_solver_ext.solvers.pair import plan_pair
from dpm_solver_ext.solvers.path import FLOW, PATHS, VE, VP
from dpm_solver_ext.solvers.proof import check
from dpm_solver_ext.solvers.stepsize import controller, error_of
from dpm_solver_ext.solvers.tape import Affine, TapeError
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit.grids import errors, fine_end
from dpm_solver_ext.tests.unit.test_peers import as_kdiffusion, kdiffusion  # noqa: F401  a fixture is found by its name
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

OFFICIAL = {"h_init": 0.05, "safety": 0.9, "growth": math.inf, "h_max": math.inf, "reuse": False}
KDIFFUSION = {
    "h_init": 0.05,
    "control": "pid",
    "norm": "batch",
    "algorithm": "dpmsolver",
    "reuse": False,
    "scaled": False,
    "h_max": math.inf,
}
FORMS = list(itertools.product(("dpmsolver++", "dpmsolver", "dpmsolver-v"), (2, 3), ("dpmsolver", "taylor")))
FINITE = {"ve": (14.6, 0.03), "flow": (0.98, 0.01), "vp": (14.6, 0.03)}


def of(path, model):
    return lambda x, s: model.denoise(path, x, s)


def start(path, s, batch=4, width=8):
    return np.random.default_rng(3).standard_normal((batch, width)) * path.sigma(s)


def sentence(problem, *words):
    """One sentence that holds all the words."""
    text = str(problem.value)
    assert text.endswith(".") and ". " not in text and "\n" not in text, text
    assert all(word in text for word in words), (words, text)


# --- the same as others ---------------------------------------------------------------------------------------------------------------


@functools.cache
def golden_keys() -> dict:
    records = json.loads((models.DATA / "golden.json").read_text())
    return {r["key"]: r for r in records if r.get("method") == "adaptive"}


def official_sigma(n: int) -> float:
    """σ/α after n of the golden table's 1000 betas."""
    betas = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
    return math.sqrt(math.expm1(-np.log(1 - betas[:n]).sum()))


@pytest.mark.parametrize("key", golden_keys())
def test_golden_vectors(key):
    """With the official settings: what the official float64 code returned, to 1e-9, in as many evaluations at the same noise levels.

    Keeping a rejected attempt's first evaluation saves exactly one a rejection, and gives the same state to the last bit.
    """
    r, data, called = golden_keys()[key], models.golden(), []

    def denoise(x, s):
        called.append(s)
        return models.toy().denoise(VP, x, s)

    run = functools.partial(
        adaptive, VP, denoise, data["toy.noise"].reshape(4, 8), official_sigma(1000), official_sigma(1), algorithm=r["algo"],
        order=r["order"], solver_type=r.get("solver_type", "dpmsolver"), atol=r["atol"], rtol=r["rtol"], **OFFICIAL,
    )  # fmt: skip
    x, info = run()
    np.testing.assert_allclose(x.reshape(data[key + ".out"].shape), data[key + ".out"], rtol=0, atol=1e-9)
    assert len(called) == info.evaluations == r["nfe"] == r["order"] * (info.accepted + info.rejected)
    table = np.array([official_sigma(n) for n in range(1, 1001)])
    places = np.interp(np.log(called), np.log(table), np.arange(1000))
    np.testing.assert_allclose(places, data[key + ".t"].ravel(), atol=0.1)  # between entries the official code is linear in log α
    assert info.rejected > 3
    again, cheaper = run(reuse=True)
    assert np.array_equal(again, x) and cheaper.evaluations == r["nfe"] - info.rejected and cheaper.sigmas == info.sigmas


def test_every_adaptive_golden_vector_is_matched():
    """The list above cannot shrink unseen."""
    assert len(golden_keys()) == 5


@pytest.fixture
def float64():
    """k-diffusion makes float32 of its tolerances and noise levels unless that is torch's default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


PIDS = [{}, {"pcoeff": 0.2, "icoeff": 0.7, "dcoeff": 0.05}, {"accept_safety": 0.95, "h_init": 0.5}]


@pytest.mark.parametrize("pid", PIDS, ids=["plain", "gains", "safety"])
@pytest.mark.parametrize("order,guidance,rtol", [(2, 1.0, 0.05), (3, 1.0, 0.05), (3, 7.5, 0.01), (2, 7.5, 0.2), (3, 4.0, 0.4)])
def test_kdiffusions_dpm_adaptive(kdiffusion, float64, order, guidance, rtol, pid):  # noqa: F811
    """sample_dpm_adaptive in float64 at the same tolerances: the same state to 1e-10, evaluations, accepted and rejected attempts."""
    model, x = models.toy(guidance), start(VE, 14.6)
    called, ours = [], []
    want, theirs = kdiffusion.sample_dpm_adaptive(
        as_kdiffusion(model, called), torch.from_numpy(x), 0.03, 14.6, disable=True, order=order, rtol=rtol, atol=rtol / 6,
        return_info=True, **pid,
    )  # fmt: skip

    def denoise(y, s):
        ours.append(s)
        return model.denoise(VE, y, s)

    options = dict(KDIFFUSION)
    if "pcoeff" in pid:
        options["gains"] = (pid["pcoeff"], pid["icoeff"], pid["dcoeff"])
    if "h_init" in pid:
        options |= {"h_init": pid["h_init"], "safety": pid["accept_safety"]}
    got, info = adaptive(VE, denoise, x, 14.6, 0.03, order=order, rtol=rtol, atol=rtol / 6, **options)
    np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(ours, called, rtol=1e-9)
    assert (info.evaluations, info.accepted, info.rejected) == (theirs["nfe"], theirs["n_accept"], theirs["n_reject"])


# --- right ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm,order,solver_type", FORMS)
@pytest.mark.parametrize("name", ["ve", "flow"])
def test_the_error_falls_with_the_tolerance(name, algorithm, order, solver_type):
    """On Gaussian data, whose ODE has a closed solution, down and up: the error stays near the tolerance, 0.1 or
    0.001 of the state, and falls with it."""
    path, model = PATHS[name], models.Gaussian()
    for a, b in (FINITE[name], FINITE[name][::-1]):
        x = start(path, FINITE[name][0]) if a > b else model.mean + 0.5 * start(path, FINITE[name][0]) / path.sigma(FINITE[name][0])
        right = model.solution(path, x, a, b)
        got = []
        for tol in (1e-1, 1e-3):
            y, info = adaptive(
                path, of(path, model), x, a, b, algorithm=algorithm, order=order, solver_type=solver_type, atol=tol, rtol=tol
            )
            got.append(math.sqrt(np.mean((y - right) ** 2)))
            assert info.sigmas[0] == a and info.sigmas[-1] == b and len(info.sigmas) == info.accepted + 1
            assert got[-1] < 15 * tol * max(1.0, math.sqrt(np.mean(right**2)))
        assert got[1] < 0.4 * got[0], got


@pytest.mark.parametrize(
    "name,a,b", [("flow", 1.0, 0.0), ("vp", math.inf, 0.0), ("ve", 80.0, 0.0), ("flow", 1.0, 0.2), ("vp", math.inf, 0.3)]
)
def test_infinite_ends(name, a, b):
    """From λ = -∞ and to σ = 0: a single evaluation at each such end, the rest between the stated sigmas; atol moves them, so that the
    error of the whole falls with it."""
    path, model, found = PATHS[name], models.toy(), []
    x = start(path, a)
    right = fine_end(path, model, x, a, b, 300)
    for tol in (0.05, 0.005, 0.0005):
        called = []

        def denoise(y, s, called=called):
            called.append(s)
            return model.denoise(path, y, s)

        y, info = adaptive(path, denoise, x, a, b, atol=tol / 6, rtol=tol)
        assert len(called) == info.evaluations and all(np.diff(info.sigmas) < 0)
        away = 4.5 + math.log(0.0078 / (tol / 6)) / 2
        if not math.isfinite(path.half_logsnr(a)):
            assert called[0] == a and path.half_logsnr(info.sigmas[1]) == pytest.approx(-away, abs=1e-9)
        if b == 0:
            assert info.sigmas[-1] == 0 and called[-1] == info.sigmas[-2] and path.half_logsnr(called[-1]) == pytest.approx(away, abs=1e-9)
        found.append(errors(y, right))
    assert found[0] < 0.02 and found[2] < found[0] / 10, found


def test_the_finite_sigmas_can_be_chosen():
    """sigma_first and sigma_last are where the steps at infinite ends lead to and from; a run beyond the defaults is one step."""
    model, x = models.toy(), start(FLOW, 1.0)
    _, info = adaptive(FLOW, of(FLOW, model), x, 1.0, 0.0, sigma_first=0.9, sigma_last=0.05)
    assert info.sigmas[1] == 0.9 and info.sigmas[-2] == 0.05
    for a, b in ((1.0, 0.999), (0.001, 0.0), (0.999, 1.0)):
        y, info = adaptive(FLOW, of(FLOW, model), x, a, b)
        assert info.sigmas == (a, b) and info.evaluations == 1 and (info.accepted, info.rejected) == (0, 0)
        assert np.all(np.isfinite(y))


@pytest.mark.parametrize("algorithm", ["dpmsolver++", "dpmsolver", "dpmsolver-v"])
@pytest.mark.parametrize("name", ["flow", "vp"])
def test_one_point_data_is_exact_from_end_to_end(name, algorithm):
    """Data at the one point c: noise comes to c, and α c + σ n to n, whatever the steps (to 1e-9)."""
    path, c = PATHS[name], 0.7
    far = 1.0 if name == "flow" else math.inf
    n = start(path, far)
    options = {"algorithm": algorithm}
    y, _ = adaptive(path, lambda x, s: np.full_like(x, c), n, far, 0.0, **options)
    np.testing.assert_allclose(y, c, atol=1e-12)
    if algorithm != "dpmsolver-v":  # v is not constant on such data: right to the tolerance only
        y, info = adaptive(path, lambda x, s: np.full_like(x, c), path.alpha(0.05) * c + path.sigma(0.05) * n, 0.05, far, **options)
        np.testing.assert_allclose(y, n, atol=1e-9)
        assert info.sigmas[-1] == far


@pytest.mark.parametrize("name,far", [("ve", 14.6), ("flow", 1.0), ("vp", math.inf), ("vp", 14.6)])
def test_inverse(name, far):
    """Up and down again comes back, the nearer the smaller the tolerance: to a finite end and to λ = -∞. The official inverse hangs."""
    path, model, found = PATHS[name], models.toy(), []
    x = fine_end(path, model, start(path, min(far, 0.98 if name == "flow" else 14.6)), min(far, 0.98 if name == "flow" else 14.6), 0.05)
    for tol in (0.02, 0.0002):
        noise, up = adaptive(path, of(path, model), x, 0.05, far, atol=tol / 6, rtol=tol)
        back, down = adaptive(path, of(path, model), noise, far, 0.05, atol=tol / 6, rtol=tol)
        assert all(np.diff(up.sigmas) > 0) and up.sigmas[-1] == far and down.sigmas[-1] == 0.05
        found.append(errors(back, x))
    assert found[0] < 0.1 and found[1] < found[0] / 5, found


def test_image_to_noise_of_a_mixture():
    """The inverse of a finely computed end is the noise it came from, to ten times the tolerance."""
    model, x = models.toy(), start(VE, 14.6)
    image = fine_end(VE, model, x, 14.6, 0.03, 300)
    noise, _ = adaptive(VE, of(VE, model), image, 0.03, 14.6, atol=1e-4, rtol=1e-4)
    assert errors(noise / 14.6, x / 14.6) < 1e-3


def test_rejections_are_right():
    """A model with a jump between its sides of σ = 1: attempts across it fail and are repeated shorter, from the state before. Marks and
    arrivals are those of accepted steps only, each once and in order; the steps taken are exactly the pairs' results."""
    marks, arrivals, reports, seen = [], [], [], []

    def denoise(x, s):
        seen.append(s)
        return 0.2 * x / (0.2 + s * s) + (2.0 if s < 1 else 0.0)

    x, info = adaptive(
        VE, denoise, start(VE, 14.6), 14.6, 0.03, atol=0.001, rtol=0.001, mark=lambda i, x, x0: marks.append((i, x, x0)),
        arrive=lambda x, s, i: arrivals.append((i, s, x)), report=lambda f, i: reports.append((f, i)),
    )  # fmt: skip
    assert info.rejected > 1 and info.evaluations == len(seen) == 3 * (info.accepted + info.rejected) - info.rejected
    assert [i for i, *_ in marks] == list(range(info.accepted))
    assert [(i, s) for i, s, _ in arrivals] == list(enumerate(info.sigmas))
    for i, (s, t) in enumerate(itertools.pairwise(info.sigmas)):
        assert marks[i][1] is arrivals[i][2] and np.array_equal(marks[i][2], denoise(marks[i][1], s))
        pair = plan_pair(VE, s, t, algorithm="dpmsolver++", order=3, solver_type="dpmsolver")
        run = walk(pair, marks[i][1])
        try:
            ask = next(run)
            while True:
                ask = run.send(denoise(*ask))
        except StopIteration as end:
            assert np.array_equal(end.value, arrivals[i + 1][2])
    assert x is arrivals[-1][2]
    fractions = [f for f, _ in reports]
    assert fractions == sorted(fractions) and fractions[-1] == 1 and len(reports) == info.accepted + info.rejected
    assert reports[-1][1] == info and all(0 <= f <= 1 for f in fractions)
    assert all((i.error <= 1) == (i.accepted > b.accepted) for (_, b), (_, i) in itertools.pairwise(reports))


def test_error_of():
    """error_of by hand: rms over max(atol, rtol·larger), of the worst item or over all; on torch, NumPy and a state of no axes."""
    low, high, before = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[1.5, 2.0], [0.0, 0.1]]), np.array([[-4.0, 0.0], [0.0, 0.0]])
    items = [math.sqrt((0.5 / 0.4) ** 2 / 2), math.sqrt((0.1 / 0.05) ** 2 / 2)]
    assert error_of(low, high, before, 0.05, 0.1, "item") == pytest.approx(max(items))
    whole = math.sqrt((items[0] ** 2 + items[1] ** 2) / 2)
    assert error_of(low, high, before, 0.05, 0.1, "batch") == pytest.approx(whole)
    tensors = [torch.from_numpy(a) for a in (low, high, before)]
    assert error_of(*tensors, 0.05, 0.1, "item") == pytest.approx(max(items))
    assert error_of(*[torch.tensor(v) for v in (1.0, 1.5, -4.0)], 0.05, 0.1, "item") == pytest.approx(1.25)


def test_growth():
    """An error of 0 is no division by zero: the step grows by its bound or to the end (official), or by the limiter (pid)."""
    assert controller(3, "official")(0.0, 1.0) == (True, 2.5)
    assert controller(3, "official", growth=math.inf)(0.0, 1.0)[1] > 1e10
    assert controller(3, "pid")(0.0, 1.0) == (True, pytest.approx(1 + math.atan(1e8 ** (1 / 3) - 1)))
    assert controller(3, "pid", growth=1.5)(0.0, 1.0) == (True, 1.5)
    y, info = adaptive(VE, lambda x, s: np.zeros_like(x), start(VE, 14.6), 14.6, 0.03)
    assert info.accepted == 4 and abs(y - start(VE, 14.6) * 0.03 / 14.6).max() < 1e-12


def test_the_batch_is_coupled_by_its_worst_item():
    """Norm "item": an item beside an easy one (always exact) takes the steps it takes alone; "batch" averages, and takes fewer."""
    model = models.Gaussian()
    hard = start(VE, 14.6, batch=1)
    both = np.concatenate([hard, np.full_like(hard, model.mean)])
    runs = {}
    for norm in ("item", "batch"):
        alone, beside = (adaptive(VE, of(VE, model), x, 14.6, 0.03, norm=norm, atol=1e-3, rtol=1e-3) for x in (hard, both))
        runs[norm] = alone[1].sigmas, beside[1].sigmas
        if norm == "item":
            np.testing.assert_allclose(beside[0][0], alone[0][0], rtol=0, atol=1e-13)
    assert runs["item"][0] == runs["batch"][0] == runs["item"][1]
    assert len(runs["batch"][1]) < len(runs["item"][1])


def test_the_defaults_beat_the_official_settings():
    """Mixtures at guidance 7.5 on VE and flow: at 35 evaluations the error is less than 0.75 of that with the official settings (0.45 over
    more models and states)."""
    ratios = []
    for path, model in itertools.product((VE, FLOW), (models.toy(7.5), models.image_like(7.5))):
        a, b = FINITE[path.name]
        x = start(path, a, width=model.mu.shape[1])
        right = fine_end(path, model, x, a, b, 300)
        at = []
        for options in ({}, OFFICIAL):
            runs = [adaptive(path, of(path, model), x, a, b, atol=k * 0.0078, rtol=k * 0.05, **options) for k in (4, 2, 1, 0.5, 0.25)]
            calls = [math.log(info.evaluations) for _, info in runs]
            at.append(np.interp(math.log(35), calls, [math.log(errors(y, right)) for y, _ in runs]))
            assert calls == sorted(calls) and calls[0] < math.log(35) < calls[-1]
        ratios.append(at[0] - at[1])
    assert math.exp(np.mean(ratios)) < 0.75, np.exp(ratios)


# --- every end is an end --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [3, 10, 25])
@pytest.mark.parametrize("a,b", [(14.6, 0.03), (0.03, 14.6), (14.6, 0.0)])
def test_evaluations_are_bounded(a, b, limit):
    """Never more calls than max_evaluations; then one sentence that names the bound, the tolerances and the mend."""
    called = []

    def denoise(x, s):
        called.append(s)
        return models.toy().denoise(VE, x, s)

    with pytest.raises(RuntimeError) as problem:
        adaptive(VE, denoise, start(VE, 1.0), a, b, atol=1e-4, rtol=1e-4, max_evaluations=limit)
    sentence(problem, "max_evaluations", str(limit), "atol (0.0001)", "rtol (0.0001)", "raise")
    assert len(called) <= limit
    _, info = adaptive(VE, of(VE, models.toy()), start(VE, 1.0), a, b)
    assert adaptive(VE, of(VE, models.toy()), start(VE, 1.0), a, b, max_evaluations=info.evaluations)[1] == info


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("control", ["official", "pid"])
def test_values_that_are_not_finite_end_the_run_at_once(control, bad):
    """One NaN or infinity in the prediction: an error after that very attempt, not an endless loop of ever shorter ones."""
    called = []

    def denoise(x, s):
        called.append(s)
        out = models.toy().denoise(VE, x, s)
        if len(called) == 8:
            out[1, 2] = bad
        return out

    with np.errstate(invalid="ignore"), pytest.raises(RuntimeError) as problem:
        adaptive(VE, denoise, start(VE, 14.6), 14.6, 0.03, control=control)
    sentence(problem, "not finite", "atol and rtol")
    assert len(called) <= 8 + 3


@pytest.mark.parametrize("control", ["official", "pid"])
def test_a_tolerance_that_cannot_be_met_ends(control):
    """No step satisfies a model that answers at random, nor float32 a tolerance of 1e-12: one sentence, no endless loop."""
    rng = np.random.default_rng(0)
    noisy = lambda x, s: 1e3 * rng.standard_normal(x.shape) * s  # noqa: E731
    with pytest.raises(RuntimeError) as problem:
        adaptive(VE, noisy, start(VE, 14.6), 14.6, 0.03, atol=1e-9, rtol=1e-9, control=control)
    sentence(problem, "no step is short enough", "atol (1e-09)", "rtol (1e-09)")
    with pytest.raises(RuntimeError) as problem:
        adaptive(VE, plain, start(VE, 14.6).astype(np.float32), 14.6, 0.03, atol=1e-12, rtol=1e-12, control=control, max_evaluations=300)
    sentence(problem, "atol (1e-12)", "rtol (1e-12)")


def test_hooks_may_interrupt():
    """A BaseException from mark, arrive, report, project or the model leaves the run at once."""

    class Interrupt(BaseException):
        pass

    def stop(*_):
        raise Interrupt

    for hook in ("mark", "arrive", "report", "project"):
        with pytest.raises(Interrupt):
            adaptive(VE, of(VE, models.toy()), start(VE, 14.6), 14.6, 0.03, **{hook: stop})
    with pytest.raises(Interrupt):
        adaptive(VE, stop, start(VE, 14.6), 14.6, 0.03)


def test_hooks_act():
    """project changes every prediction, arrive may replace a state; done ends the control early, at the state it was asked about."""
    model, x, projected = models.toy(), start(FLOW, 1.0), []

    def project(d, s):
        projected.append(s)
        return np.clip(d, -0.5, 0.5)

    y, info = adaptive(FLOW, of(FLOW, model), x, 1.0, 0.0, project=project)
    assert abs(y).max() <= 0.5 and len(projected) == info.evaluations + info.rejected  # a kept prediction is projected once more
    y, info = adaptive(FLOW, of(FLOW, model), x, 1.0, 0.0, arrive=lambda y, s, i: np.full_like(y, 7.0) if s == 0 else None)
    assert np.all(y == 7)
    y, info = adaptive(FLOW, of(FLOW, model), x, 0.9, 0.1, done=lambda s: s < 0.5)
    assert 0.1 < info.sigmas[-1] < 0.5 <= info.sigmas[-2]
    y, info = adaptive(FLOW, of(FLOW, model), x, 0.9, 0.0, done=lambda s: s < 0.5)
    assert info.sigmas[-1] == 0 and info.sigmas[-2] < 0.5 <= info.sigmas[-3]


RUN = {"path": VE, "sigma_from": 14.6, "sigma_to": 0.03}
BAD = [
    ({"order": 1}, "order is 1"), ({"order": 4}, "order is 4"), ({"order": True}, "order"), ({"order": 2.0}, "order is 2.0"),
    ({"algorithm": "unipc"}, "algorithm is 'unipc'"), ({"solver_type": "heun"}, "solver_type is 'heun'"),
    ({"solver_type": "bh1"}, "solver_type is bh1"), ({"atol": 0}, "atol is 0"), ({"atol": math.nan}, "atol is nan"),
    ({"rtol": -0.1}, "rtol is -0.1"), ({"rtol": math.inf}, "rtol is inf"), ({"h_init": 0.0}, "h_init is 0.0"),
    ({"h_init": -0.05}, "h_init"), ({"safety": 1.0}, "safety is 1.0"), ({"safety": 0}, "safety is 0"),
    ({"control": "pi"}, "control is 'pi'"),
    ({"growth": 1}, "growth is 1"), ({"growth": math.nan}, "growth is nan"),
    ({"gains": (0, 1, 0)}, "gains is (0, 1, 0)"), ({"control": "pid", "gains": (0, 1)}, "gains is (0, 1)"),
    ({"control": "pid", "gains": (0, -1, 0)}, "gains"), ({"control": "pid", "gains": (0, math.nan, 0)}, "gains"),
    ({"norm": "max"}, "norm is 'max'"), ({"max_evaluations": 2}, "max_evaluations is 2"), ({"max_evaluations": 1e3}, "max_evaluations"),
    ({"sigma_to": 14.6}, "both 14.6"), ({"sigma_from": 0.0, "sigma_to": 1.0}, "sigma_from is 0"), ({"sigma_to": -1.0}, "sigma_to is -1.0"),
    ({"sigma_from": math.inf}, "sigma_from is inf"), ({"sigma_from": math.nan}, "sigma_from is nan"),
    ({"path": FLOW}, "sigma_from is 14.6"), ({"sigma_first": 10.0}, "sigma_first is 10.0"), ({"sigma_last": 0.1}, "sigma_last is 0.1"),
    ({"sigma_to": 0.0, "sigma_last": 20.0}, "sigma_last is 20.0"), ({"sigma_to": 0.0, "sigma_last": 0.0}, "sigma_last is 0.0"),
    ({"path": FLOW, "sigma_from": 1.0, "sigma_to": 0.0, "sigma_first": 0.2, "sigma_last": 0.3}, "sigma_first 0.2"),
]  # fmt: skip


@pytest.mark.parametrize("change,words", BAD, ids=lambda v: str(v) if isinstance(v, dict) else "")
def test_bad_options_are_one_sentence(change, words):
    """A ValueError of one sentence with the option and its value, before the model is called."""
    options = RUN | change
    path, a, b = options.pop("path"), options.pop("sigma_from"), options.pop("sigma_to")
    with pytest.raises(ValueError) as problem:
        adaptive(path, lambda x, s: pytest.fail("called"), start(VE, 1.0), a, b, **options)
    sentence(problem, words)


# --- arrays and cost ------------------------------------------------------------------------------------------------------------------


class Reads(TorchDispatchMode):
    """Counts the values read back from the device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "_local_scalar_dense" in func._schema.name or func._schema.name in (
            "aten::is_nonzero",
            "aten::equal",
            "aten::nonzero",
        )
        return func(*args, **(kwargs or {}))


def plain(x, s):
    """A denoiser of plain arithmetic, for every array type."""
    return 0.4 + 0.25 * (x - 0.4) / (0.25 + s * s)


def test_one_synchronisation_an_attempt():
    """On torch the host reads one number an attempt, none at infinite ends."""
    x = torch.from_numpy(start(VE, 14.6))
    for control, end in (("official", 0.03), ("pid", 0.0)):
        with Reads() as reads:
            _, info = adaptive(VE, plain, x, 14.6, end, control=control)
        assert reads.count == info.accepted + info.rejected > 2


def test_arrays():
    """torch float64 and NumPy agree to 1e-12, float32 to 1e-5 in its own precision; bfloat16 runs in float32 and comes back; the caller's
    array is not written to."""
    x = start(VE, 14.6)
    want, info = adaptive(VE, plain, x, 14.6, 0.03)
    t = torch.from_numpy(x)
    got, same = adaptive(VE, plain, t, 14.6, 0.03)
    np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-12)
    np.testing.assert_allclose(same.sigmas, info.sigmas, rtol=1e-12)
    assert t._version == 0 and np.array_equal(x, start(VE, 14.6))
    for single in (x.astype(np.float32), t.float()):
        got, _ = adaptive(VE, plain, single, 14.6, 0.03)
        assert got.dtype == single.dtype
        np.testing.assert_allclose(np.asarray(got), want, rtol=0, atol=1e-5)
    dtypes = []

    def half(y, s):
        dtypes.append(y.dtype)
        return plain(y, s).bfloat16()

    got, _ = adaptive(VE, half, t.bfloat16(), 14.6, 0.03)
    assert got.dtype == torch.bfloat16 and set(dtypes) == {torch.float32}
    assert abs(got.float().numpy() - want).max() < 0.06
    shaped, _ = adaptive(VE, plain, t.reshape(4, 2, 2, 2), 14.6, 0.03)
    assert torch.equal(shaped.reshape(4, 8), adaptive(VE, plain, t, 14.6, 0.03)[0])


@pytest.mark.parametrize("end", [0.03, 0.0])
@pytest.mark.parametrize(
    "library,dtype", [("torch", "float16"), ("torch", "bfloat16"), ("numpy", "float16"), ("jax", "float16"), ("jax", "bfloat16")]
)
def test_half_precision(library, dtype, end):
    """A half-precision state of any library is float32 in between and comes back as it was given: the float32 run, rounded once."""
    x = start(VE, 14.6).astype(np.float32)
    if library == "torch":
        x, half, single = torch.from_numpy(x).to(getattr(torch, dtype)), getattr(torch, dtype), torch.float32
        narrow = lambda y, d: y.to(d)  # noqa: E731
    else:
        xp = np if library == "numpy" else pytest.importorskip("jax").numpy
        x, half, single = xp.asarray(x, dtype=dtype), xp.dtype(dtype), xp.dtype("float32")
        narrow = lambda y, d: y.astype(d)  # noqa: E731
    seen = set()

    def model(y, s):
        seen.add(y.dtype)
        return narrow(plain(y, s), half)

    got, info = adaptive(VE, model, x, 14.6, end)
    want, same = adaptive(VE, lambda y, s: narrow(model(y, s), single), narrow(x, single), 14.6, end)
    assert seen == {single} and got.dtype == half and info.sigmas == same.sigmas
    assert bool((got == narrow(want, half)).all())


def test_jax():
    """JAX arrays run eagerly, to 1e-5 of NumPy's float64; under jax.jit one TypeError sentence says what to do."""
    jax = pytest.importorskip("jax")
    x = start(VE, 14.6)
    got, _ = adaptive(VE, plain, jax.numpy.asarray(x, dtype="float32"), 14.6, 0.03)
    assert isinstance(got, jax.Array) and got.dtype == "float32"
    np.testing.assert_allclose(np.asarray(got), adaptive(VE, plain, x, 14.6, 0.03)[0], rtol=0, atol=1e-5)
    with pytest.raises(TypeError) as problem:
        jax.jit(lambda y: adaptive(VE, plain, y, 14.6, 0.03)[0])(x)
    sentence(problem, "jax.jit", "outside")


def test_predictions_are_sent_singly_or_in_a_list():
    """The generator takes a prediction, or a list of it that it empties, so that its sender keeps no reference."""
    ends = []
    for wrap in (lambda d: d, lambda d: [d]):
        run, answer = walk_adaptive(VE, start(VE, 14.6), 14.6, 0.0), None
        try:
            while True:
                state, sigma = run.send(answer)
                assert not isinstance(answer, list) or not answer
                answer = wrap(plain(state, sigma))
        except StopIteration as end:
            ends.append(end.value)
    assert np.array_equal(ends[0][0], ends[1][0]) and ends[0][1] == ends[1][1]


@pytest.mark.parametrize("order", [2, 3])
def test_memory(order):
    """What adaptive.py states of its peak memory: 10 states, the caller's and the prediction included."""
    x = start(VE, 14.6, batch=8, width=1 << 15)
    adaptive(VE, plain, x[:, :8], 14.6, 0.03)  # caches
    tracemalloc.start()
    adaptive(VE, lambda y, s: y * 0.1, x, 14.6, 0.03, order=order, atol=0.1, rtol=0.5)
    peak = tracemalloc.get_traced_memory()[1] / x.nbytes + 1
    tracemalloc.stop()
    assert 8 < peak < 10.1, peak


# --- the pair -------------------------------------------------------------------------------------------------------------------------


@given(
    name=st.sampled_from(sorted(PATHS)), lam=st.floats(-8, 8), h=st.floats(1e-6, 8), up=st.booleans(), form=st.sampled_from(FORMS),
)  # fmt: skip
def test_every_pair_proves_itself(name, lam, h, up, form):
    """Any step on any path, up or down, with any options is planned and checked, and costs its order's evaluations."""
    path = PATHS[name]
    s, t = path.from_half_logsnr(lam), path.from_half_logsnr(lam - h if up else lam + h)
    algorithm, order, solver_type = form
    pair = plan_pair(path, s, t, algorithm=algorithm, order=order, solver_type=solver_type)
    assert pair.evaluations == order and [c.register for c in pair.claims][-2:] == ["low", "x"]
    assert [c.order for c in pair.claims][-2:] in ([order - 1, order], [2, 2])  # a line through far ends: two nodes of order 3


@pytest.mark.parametrize("algorithm,order,solver_type", FORMS)
def test_a_wrong_weight_is_caught(algorithm, order, solver_type):
    """Each weight of each record, changed by 1e-6, makes the proof fail: the lower order's too."""
    pair = plan_pair(VE, 3.0, 1.7, algorithm=algorithm, order=order, solver_type=solver_type)
    changed = 0
    for i, record in enumerate(pair.records):
        if not isinstance(record, Affine):
            continue
        for j, (name, weight) in enumerate(record.terms):
            terms = (*record.terms[:j], (name, weight * (1 + 1e-6)), *record.terms[j + 1 :])
            records = (*pair.records[:i], dataclasses.replace(record, terms=terms), *pair.records[i + 1 :])
            with pytest.raises(TapeError):
                check(dataclasses.replace(pair, records=records))
            changed += 1
    assert changed >= 2 + 3


def test_all_paths_take_the_same_steps():
    """The error is judged in the scaling α² + σ² = 1: from σ/α = 120 the VE and the VP run of one problem visit the same levels. In the VE
    scaling a state of size 120 hides the error of what follows, so the unscaled run is shorter and worse."""
    model = models.Gaussian(0.4, 0.25)
    x = 120 * np.random.default_rng(5).standard_normal((4, 32))
    runs = {}
    for path, start in ((VE, x), (VP, x / math.hypot(1, 120.0))):
        for scaled in (True, False):
            end, info = adaptive(path, of(path, model), start, 120.0, 0.002, scaled=scaled, h_max=math.inf)
            runs[path.name, scaled] = np.abs(end - model.solution(path, start, 120.0, 0.002)).max(), info
    assert np.allclose(runs["ve", True][1].sigmas, runs["vp", True][1].sigmas, rtol=1e-6)
    assert runs["ve", False][1].evaluations < runs["ve", True][1].evaluations
    assert runs["ve", False][0] > 5 * runs["ve", True][0]
