"""Planners over arbitrary falling schedules and all options: they plan, prove themselves, cost what they say and are exact."""

import itertools
import math

import numpy as np
import pytest
from dpm_solver_ext.solvers import proof
from dpm_solver_ext.solvers.choices import CHOICES, PRESETS, check_options
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.path import FLOW, PATHS, VE, VP
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.singlestep import fast_orders
from dpm_solver_ext.solvers.tape import Affine, Arrive, Eval, Mark, Noise
from dpm_solver_ext.tests.unit.grids import SINGLESTEP, TAPES
from hypothesis import given, settings
from hypothesis import strategies as st

OPTIONS = st.fixed_dictionaries(
    {name: st.sampled_from(values) for name, values in CHOICES.items()}
    | {
        "corrector": st.sampled_from(("none", "none", *CHOICES["corrector"][1:])),
        "eta": st.sampled_from((0.0, 0.0, 0.3, 1.0, 1.5)),
        "s_noise": st.sampled_from((1.0, 0.9)),
        "noise_rule": st.sampled_from(("sde", "sde", *CHOICES["noise_rule"])),
        "r1": st.sampled_from((None, None, 0.2, 0.5)),
        "r2": st.sampled_from((None, None, 0.45, 0.8)),
    }
)


FALLING = st.just(False)


@st.composite
def schedules(draw, rising=FALLING):
    """(path, sigmas): 1 to 12 strictly falling or rising sigmas whose λ gaps are log-uniform from 1e-3 to 5; each end infinite or not."""
    path = draw(st.sampled_from([VE, FLOW, VP]))
    gaps = [10 ** draw(st.floats(-3, 0.7)) for _ in range(draw(st.integers(1, 11)))]
    start = draw(st.floats(-9, 1))
    lams = [start + sum(gaps[:i]) for i in range(len(gaps) + 1)]
    sigmas = [path.from_half_logsnr(v) for v in lams]
    if path is not VE and draw(st.booleans()):
        sigmas.insert(0, path.from_half_logsnr(-math.inf))
    if draw(rising):
        return path, sigmas[::-1]
    if draw(st.booleans()):
        sigmas.append(0.0)
    return path, sigmas


def impossible(sigmas, o) -> set[str]:
    """The options of `plan` that exclude each other, written down anew: each combination must be an error that names one of these."""
    wrong, noisy = set(), o["eta"] > 0
    if o["method"] == "multistep":
        wrong |= {name for name, plain in (("noise_rule", "sde"), ("r1", None), ("r2", None)) if o[name] != plain}
        wrong |= {"corrector"} if noisy and o["corrector"] != "none" else set()
        wrong |= {"slopes"} if o["slopes"] == "measured" and (noisy or o["algorithm"] == "dpmsolver-v3") else set()
    else:
        wrong |= {name for name, plain in (("corrector", "none"), ("slopes", "planned")) if o[name] != plain}
        wrong |= {"order"} if o["order"] == 4 else set()
        wrong |= {"solver_type"} if o["solver_type"] in ("bh1", "pseudo") else set()
        wrong |= {"algorithm"} if o["algorithm"] == "dpmsolver-v3" else set()
        stages = o["r1"] is not None or o["r2"] is not None
        wrong |= (
            {"r1"}
            if stages and (o["method"] == "singlestep" or (o["order"] == 3 and not (o["r1"] or 1 / 3) < (o["r2"] or 2 / 3)))
            else set()
        )
        wrong |= {"order"} if noisy and o["order"] == 3 and not o["noise_rule"].startswith("renoise") else set()
        wrong |= {"eta"} if o["eta"] > 1 and o["noise_rule"] != "sde" else set()
    if o["method"] == "multistep" and o["algorithm"] == "dpmsolver-v3":
        wrong |= {"solver_type"} if o["solver_type"] in ("bh1", "official", "official_taylor") else set()
        wrong |= {"corrector"} if o["corrector"] == "official" else set()
    wrong |= {"eta"} if noisy and (o["algorithm"].startswith("dpmsolver-v") or sigmas[1] > sigmas[0]) else set()
    return wrong


def one_sentence(error: ValueError, names) -> bool:
    text = str(error)
    return any(text.startswith(name) for name in names) and text.endswith(".") and text.count(". ") == 0 and "\n" not in text


def cost(path, sigmas, o, notes) -> int:
    """The evaluations that a run should take."""
    steps = len(sigmas) - 1
    if o["method"] == "singlestep":
        return steps
    if o["method"] == "singlestep_fixed":
        finite = sum(math.isfinite(path.half_logsnr(s) - path.half_logsnr(t)) for s, t in itertools.pairwise(sigmas))
        return steps + (o["order"] - 1) * finite
    extra = o["start"] == "extra" and not any(note.startswith("start") for note in notes)
    return steps + extra * (o["order"] - 1) * (o["order"] - 2)


@settings(max_examples=700)
@given(schedules(st.booleans()), OPTIONS)
def test_every_schedule_and_option_plans(schedule, options):
    """Whatever strictly falls or rises, with any options: it plans, proves itself and costs what it should, in finite Python floats; or it
    is one of the combinations that exclude each other, and one sentence names an option of it."""
    path, sigmas = schedule
    wrong = impossible(sigmas, options)
    if wrong:
        with pytest.raises(ValueError) as caught:
            plan(path, sigmas, **options)
        assert one_sentence(caught.value, wrong), (wrong, caught.value)
        return
    tape = plan(path, sigmas, **options)
    assert proof.check(tape) is tape and plan(path, sigmas, **options).digest == tape.digest
    steps = len(sigmas) - 1
    assert tape.evaluations == cost(path, sigmas, options, tape.notes)
    assert tape.sigmas == tuple(sigmas)
    marks = [r.step for r in tape.records if isinstance(r, Mark)]
    assert marks == list(range(steps))
    arrivals = [r.step for r in tape.records if isinstance(r, Arrive)]
    assert arrivals == sorted(set(arrivals)) and arrivals[0] == 0 and arrivals[-1] == steps
    assert options["method"] == "singlestep" or arrivals == list(range(steps + 1))
    assert all(math.isfinite(r.coefficient) and type(r.coefficient) is float for r in tape.records if isinstance(r, Noise))
    assert options["eta"] > 0 or not any(isinstance(r, Noise) for r in tape.records)
    for record in tape.records:
        if isinstance(record, Affine):
            assert len({name for name, _ in record.terms}) == len(record.terms) > 0
            assert all(type(w) is float and math.isfinite(w) for _, w in record.terms), record
        if isinstance(record, Eval):
            assert type(record.sigma) is float
    evaluated = [r.sigma for r in tape.records if isinstance(r, Eval)]
    if not (
        options["eta"] and options["noise_rule"] != "sde" and options["method"] == "singlestep"
    ):  # there the stages make way for the noise
        assert all(s in evaluated for s in sigmas[:-1]), "a host's sigma was changed"
    if len(evaluated) == steps:
        assert evaluated == sorted(evaluated, reverse=sigmas[0] > sigmas[-1])


@given(schedules(), st.sampled_from(sorted(TAPES)))
def test_presets_stay_on_the_hosts_sigmas(schedule, preset):
    """Presets that take one evaluation a step do so at the host's sigmas, each once and in order: hosts look them up by equality."""
    path, sigmas = schedule
    tape = plan(path, sigmas, **TAPES[preset])
    evaluated = [r.sigma for r in tape.records if isinstance(r, Eval)]
    if preset == "dpmpp_sde":  # two a step
        evaluated = [s for s in evaluated if s in sigmas]
    assert evaluated == sigmas[:-1]


@given(st.integers(0, 40), st.sampled_from((1, 2, 3)))
def test_fast_orders_spend_exactly_the_evaluations(evaluations, order):
    """The papers' groups: as many of the highest order as fit, never above it, the sum exact; for 3 the official list."""
    orders = fast_orders(evaluations, order)
    assert sum(orders) == evaluations and all(1 <= p <= order for p in orders) and orders == sorted(orders, reverse=True)
    if order == 3 and evaluations:
        assert len(orders) == evaluations // 3 + 1  # k-diffusion's and the official number of steps


@given(schedules(), st.integers(2, 3))
def test_no_fast_step_has_stages_that_coincide(schedule, order):
    """In DPM-Solver-fast on a host's own sigmas the evaluations enter with weights of at most 30, however near two sigmas lie."""
    path, sigmas = schedule
    for record in plan(path, sigmas, order=order, method="singlestep").records:
        if isinstance(record, Affine):
            assert sum(abs(w) for name, w in record.terms if name != "x") <= 30 * path.alpha(sigmas[-1])


def test_sigmas_as_numpy_scalars_become_floats():
    """A host's float32 array gives the tape of the same numbers in Python floats: numpy scalars would promote half-precision arrays."""
    sigmas = np.array([14.6, 3.0, 0.5, 0.0], np.float32)
    tape = plan(VE, sigmas, order=3)
    assert tape.digest == plan(VE, [float(s) for s in sigmas], order=3).digest
    assert all(type(s) is float for s in tape.sigmas)


@pytest.mark.parametrize("sigmas", [[1.0, 0.9453, 0.8936, 0.5862, 0.2156], [1.0, 0.945, 0.893, 0.2, 0.05]])
def test_a_part_far_longer_than_its_neighbour_is_a_step_of_its_own(sigmas):
    """Two short parts and a long one would make one step of order 3 with weights of 20 and more."""
    assert max(c.order for c in plan(VE, sigmas, order=3, method="singlestep").claims) <= 2


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
                sigmas = [path.from_half_logsnr(v) for v in lams]
                plan(path, sigmas, algorithm=algorithm, order=order, final_rule="none")
                plan(path, sigmas, algorithm=algorithm, order=order, final_rule="none", corrector="unipc")
                if not algorithm.startswith("dpmsolver-v"):
                    plan(path, sigmas, algorithm=algorithm, order=order, eta=0.001)
                    plan(path, sigmas, algorithm=algorithm, order=order, eta=0.001, method="singlestep_fixed", noise_rule="renoise")
        for method in CHOICES["method"] if algorithm in SINGLESTEP else ("multistep",):
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


@pytest.mark.parametrize("method", ["multistep", "singlestep_fixed", "unipc", "inverse"])
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
    if method == "inverse":
        sigmas = [path.from_half_logsnr(v) for v in (2.5, 2.499, 2.497, 1.2, 1.0, 0.3, -0.9, -1.2, -2.0)]
    options = {"unipc": {"corrector": "unipc"}, "singlestep_fixed": {"method": method}}.get(method, {})
    for order in (1, 2, 3):
        tape = plan(path, sigmas, algorithm=algorithm, order=order, solver_type="taylor", final_rule="none", **options)
        for k in range(order + 1):
            polynomial = lambda lam, k=k: (lam - path.half_logsnr(sigmas[0])) ** k  # noqa: E731

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
    ("order", 5),
    ("corrector", "unic"),
    ("noise_rule", "brownian"),
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


NUMBERS = [("eta", -0.5), ("eta", math.nan), ("eta", math.inf), ("eta", "1"), ("eta", True), ("s_noise", -1.0), ("s_noise", None)] + [
    (name, value) for name in ("r1", "r2") for value in (0.0, 1.0, -0.1, math.nan, "0.5", True)
]


@pytest.mark.parametrize("name, value", NUMBERS, ids=lambda v: repr(v))
@pytest.mark.parametrize("method", CHOICES["method"])
def test_bad_numbers_get_one_sentence(name, value, method):
    """eta, s_noise, r1 and r2 out of range are one sentence with the option, its value and the range, whatever the method."""
    with pytest.raises(ValueError) as caught:
        plan(VE, [14.6, 1.0, 0.0], method=method, **{name: value})
    assert one_sentence(caught.value, [f"{name} is {value!r}; "]), caught.value


def test_singlestep_checks_the_options_it_does_not_use():
    """A misspelt start or final rule is an error with either method: silence would hide it until the method is changed."""
    for name in ("start", "final_rule"):
        for method in ("singlestep", "singlestep_fixed"):
            with pytest.raises(ValueError, match=name):
                plan(VE, [14.6, 1.0, 0.0], method=method, **{name: "oficial"})


def test_what_cannot_act_is_noted():
    """An order above the number of steps, or an extra start without what it needs, is no error in a host's workflow, but a note."""
    assert plan(VE, [14.6, 5.0, 2.0, 1.0], order=3).notes == ()
    (note,) = plan(VE, [14.6, 0.0], order=3).notes
    assert note == "order is 3, but a run of 1 step has at most order 1."
    for options in ({"order": 3}, {"order": 2, "corrector": "unipc"}):
        (note,) = plan(VE, [14.6, 5.0, 2.0, 1.0], start="extra", **options).notes
        assert note.startswith("start is extra, which needs corrector unipc")
    assert plan(VE, [14.6, 5.0, 2.0, 1.0], start="extra", order=3, corrector="unipc").notes == ()


def test_unknown_options_are_named():
    """check_options on an unknown name lists the options."""
    with pytest.raises(ValueError, match="steps is no option; the options are algorithm, order, .*, eta, s_noise, r1, r2"):
        check_options(steps=5)


def test_every_preset_is_made_of_options():
    """Presets name options and values that exist, and the first is "auto": hosts show them in this order."""
    assert list(PRESETS)[0] == "auto"
    for options in TAPES.values():
        check_options(**options)


@pytest.mark.parametrize("method", CHOICES["method"])
def test_bad_sigmas_are_refused_by_the_planners(method):
    """Planners validate: nothing is planned for sigmas that rise and fall or rise from 0, NaN or flow sigmas above 1."""
    for path, sigmas in ((VE, [1.0, 2.0, 0.0]), (VE, [0.0, 2.0]), (VE, [1.0, math.nan, 0.0]), (FLOW, [1.5, 0.5, 0.0]), (VE, [1.0, 1.0])):
        with pytest.raises(ValueError, match="sigmas"):
            plan(path, sigmas, method=method)
