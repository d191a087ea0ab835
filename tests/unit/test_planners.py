"""Planners over arbitrary falling schedules and all options: they plan, prove themselves, cost what they say and are exact."""

import itertools
import math

import numpy as np
import pytest
from dpm_solver_ext.solvers import proof
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.path import FLOW, PATHS, VE, VP
from dpm_solver_ext.solvers.presets import PRESETS, plan
from dpm_solver_ext.solvers.step import CHOICES, check_options
from dpm_solver_ext.solvers.tape import Affine, Eval, Mark
from hypothesis import given, settings
from hypothesis import strategies as st

OPTIONS = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in CHOICES.items()})


@st.composite
def schedules(draw):
    """(path, sigmas): 1 to 12 strictly falling sigmas whose λ gaps are log-uniform from 1e-3 to 5; each end infinite or not."""
    path = draw(st.sampled_from([VE, FLOW, VP]))
    gaps = [10 ** draw(st.floats(-3, 0.7)) for _ in range(draw(st.integers(1, 11)))]
    start = draw(st.floats(-9, 1))
    lams = [start + sum(gaps[:i]) for i in range(len(gaps) + 1)]
    sigmas = [path.from_half_logsnr(v) for v in lams]
    if path is not VE and draw(st.booleans()):
        sigmas.insert(0, path.from_half_logsnr(-math.inf))
    if draw(st.booleans()):
        sigmas.append(0.0)
    return path, sigmas


@settings(max_examples=250)
@given(schedules(), OPTIONS)
def test_every_schedule_and_option_plans(schedule, options):
    """Whatever strictly falls is planned, proves itself, costs what it should, in finite Python floats."""
    path, sigmas = schedule
    tape = plan(path, sigmas, **options)
    assert proof.check(tape) is tape
    steps = len(sigmas) - 1
    finite = sum(math.isfinite(path.half_logsnr(s) - path.half_logsnr(t)) for s, t in itertools.pairwise(sigmas))
    expected = steps + (options["order"] - 1) * finite if options["method"] == "singlestep" else steps
    assert tape.evaluations == expected
    assert tape.sigmas == tuple(sigmas)
    assert [r.step for r in tape.records if isinstance(r, Mark)] == list(range(steps))
    for record in tape.records:
        if isinstance(record, Affine):
            assert len({name for name, _ in record.terms}) == len(record.terms) > 0
            assert all(type(w) is float and math.isfinite(w) for _, w in record.terms), record
        if isinstance(record, Eval):
            assert type(record.sigma) is float
    evaluated = [r.sigma for r in tape.records if isinstance(r, Eval)]
    assert all(s in evaluated for s in sigmas[:-1]), "a host's sigma was changed"
    assert evaluated == sorted(evaluated, reverse=True)


@given(schedules(), st.sampled_from(sorted(PRESETS)))
def test_multistep_presets_stay_on_the_hosts_sigmas(schedule, preset):
    """Presets evaluate at the host's sigmas, each once and in order: hosts look them up by equality."""
    path, sigmas = schedule
    tape = plan(path, sigmas, **PRESETS[preset])
    assert [r.sigma for r in tape.records if isinstance(r, Eval)] == sigmas[:-1]


def test_sigmas_as_numpy_scalars_become_floats():
    """A host's float32 array gives the tape of the same numbers in Python floats: numpy scalars would promote half-precision arrays."""
    sigmas = np.array([14.6, 3.0, 0.5, 0.0], np.float32)
    tape = plan(VE, sigmas, order=3)
    assert tape.digest == plan(VE, [float(s) for s in sigmas], order=3).digest
    assert all(type(s) is float for s in tape.sigmas)


def test_nothing_to_do():
    """No sigma or one: no records, and the state comes back, as built-in samplers do."""
    for sigmas in ([], [3.0]):
        for method in CHOICES["method"]:
            tape = plan(VE, sigmas, method=method)
            assert tape.evaluations == 0 and tape.records == ()
            x = np.ones(3)
            assert np.array_equal(execute(tape, lambda x, s: 1 / 0, x), x)


@pytest.mark.parametrize("algorithm", CHOICES["algorithm"])
def test_the_proof_does_not_cry_wolf(algorithm):
    """Valid input whose coefficients are large (λ steps of 1e-5, a first flow sigma of 1 - 6e-8 as float32 rounds it, σ = 1e7) is planned.

    Rounding grows with the coefficients; a proof of fixed tolerance would refuse the user's sigmas as a defect of the planner.
    """
    for order in (1, 2, 3):
        for step in (1e-3, 1e-4, 1e-5):
            lams = [-2.0, -2.0 + step, -2.0 + 3 * step, -1.2, -1.2 + step, -1.2 + 2 * step, 0.5, 1.0]
            for path in (VE, FLOW, VP):
                plan(path, [path.from_half_logsnr(v) for v in lams], algorithm=algorithm, order=order, final_rule="none")
        for method in CHOICES["method"]:
            plan(FLOW, [1 - 2**-24, 0.9, 0.5, 0.1, 0.0], algorithm=algorithm, order=order, method=method)
            plan(VP, [1e7, 20.0, 1.0, 0.1, 0.0], algorithm=algorithm, order=order, method=method)
            plan(VE, [1e7, 20.0, 1.0, 0.1, 0.0], algorithm=algorithm, order=order, method=method)


# --- exact where claimed, by running the tape -----------------------------------------------------------------------------------------

NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)


def exact_end(path, sigmas, form, polynomial, start):
    """The ODE's end where x0(λ) (or ε(λ)) is `polynomial`: the variation-of-constants integral over the whole run by Gauss-Legendre."""
    a, b = path.half_logsnr(sigmas[0]), path.half_logsnr(sigmas[-1])
    edges = np.linspace(a, b, 41)
    lam = (edges[:-1, None] + np.diff(edges)[:, None] * (NODES + 1) / 2).ravel()
    w = (np.diff(edges)[:, None] / 2 * WEIGHTS).ravel()
    s, t = sigmas[0], sigmas[-1]
    if form == "x0":  # d(x/σ) = x0 d(α/σ) = x0 e^λ dλ
        return path.sigma(t) * (start / path.sigma(s) + w @ (np.exp(lam) * polynomial(lam)))
    return path.alpha(t) * (start / path.alpha(s) - w @ (np.exp(-lam) * polynomial(lam)))  # d(x/α) = ε d(σ/α)


@pytest.mark.parametrize("method", ["multistep", "singlestep"])
@pytest.mark.parametrize("algorithm, form", [("dpmsolver++", "x0"), ("dpmsolver", "eps")])
@pytest.mark.parametrize("name", ["ve", "flow", "vp"])
def test_polynomials_are_integrated_exactly(name, algorithm, form, method):
    """Order p with exact moments gives the exact state for x0 (or ε) = (λ-λ_s)^k, k < p, and not for k = p.

    Run through the executor on prescribed evaluations, with an integral of the test's own: guards planner and proof together.
    The very first step is of order 1; its two-point correction is exact for k = 1 once its fade is 1, so the first step is tiny here.
    """
    path = PATHS[name]
    lams = [-2.0, -1.999, -1.997, -1.2, -0.9, 0.3, 1.0, 1.2, 2.5]
    sigmas = [path.from_half_logsnr(v) for v in lams]
    for order in (1, 2, 3):
        tape = plan(path, sigmas, algorithm=algorithm, order=order, method=method, solver_type="taylor", final_rule="none")
        for k in range(order + 1):
            polynomial = lambda lam, k=k: (lam - lams[0]) ** k  # noqa: E731

            def denoise(x, s, polynomial=polynomial):
                value = polynomial(path.half_logsnr(s))
                return np.full_like(x, value) if form == "x0" else (x - path.sigma(s) * value) / path.alpha(s)

            start = np.array([0.3, -2.0])
            got = execute(tape, denoise, start)
            want = exact_end(path, sigmas, form, polynomial, start)
            scale = max(path.sigma(sigmas[0]), 1.0) * 10
            if k < order:
                assert np.abs(got - want).max() < 2e-7 * scale, (order, k)
            else:
                assert np.abs(got - want).max() > 1e-4, "order too high to be true"


# --- bad options ----------------------------------------------------------------------------------------------------------------------

BAD = [
    ("algorithm", "dpmsolver+"),
    ("algorithm", None),
    ("order", 0),
    ("order", 4),
    ("order", 1.5),
    ("order", "2"),
    ("order", math.nan),
    ("method", "adaptive"),
    ("solver_type", "midpoint"),
    ("start", "warm"),
    ("final_rule", True),
]


@pytest.mark.parametrize("name, value", BAD, ids=lambda v: repr(v))
def test_bad_options_get_one_sentence(name, value):
    """An option out of range is one sentence that names it, its value and every choice, before anything is planned."""
    with pytest.raises(ValueError) as caught:
        plan(VE, [14.6, 1.0, 0.0], **{name: value})
    text = str(caught.value)
    assert text.startswith(f"{name} is {value!r}; choose one of ") and text.endswith(".") and "\n" not in text
    for choice in CHOICES[name]:
        assert str(choice) in text


def test_singlestep_checks_the_options_it_does_not_use():
    """A misspelt start or final rule is an error with either method: silence would hide it until the method is changed."""
    for name in ("start", "final_rule"):
        with pytest.raises(ValueError, match=name):
            plan(VE, [14.6, 1.0, 0.0], method="singlestep", **{name: "oficial"})


def test_unknown_options_are_named():
    """check_options on an unknown name lists the options."""
    with pytest.raises(ValueError, match="eta is no option; the options are algorithm, order"):
        check_options(eta=0.5)


def test_every_preset_is_made_of_options():
    """Presets name options and values that exist, and the first is "auto": hosts show them in this order."""
    assert list(PRESETS)[0] == "auto"
    for options in PRESETS.values():
        check_options(**options)


@pytest.mark.parametrize("method", ["multistep", "singlestep"])
def test_bad_sigmas_are_refused_by_the_planners(method):
    """Planners validate: nothing is planned for rising, NaN or flow sigmas above 1."""
    for path, sigmas in ((VE, [1.0, 2.0, 0.0]), (VE, [1.0, math.nan, 0.0]), (FLOW, [1.5, 0.5, 0.0]), (VE, [1.0, 1.0])):
        with pytest.raises(ValueError, match="sigmas"):
            plan(path, sigmas, method=method)
