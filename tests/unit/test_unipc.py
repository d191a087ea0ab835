"""UniPC: its corrector against the papers' own linear system, what it costs and where it may act, and the extra start."""

import functools
import math

import numpy as np
import pytest
from dpm_solver_ext.solvers.choices import FAMILY, PRESETS
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.path import FLOW, VE, VP
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.tape import Affine, Arrive, Eval, Mark
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit.grids import SCHEDULES, errors, problem, run

TYPES = {"bh1": "bh1", "bh2": "dpmsolver", "vary": "taylor"}
LAMBDAS = [-2.0, -1.4, -0.9, -0.1, 0.3, 1.1, 1.6]
EVERY = pytest.mark.parametrize("path", [VE, FLOW, VP], ids=lambda p: p.name)


def grid(path):
    return [path.from_half_logsnr(v) for v in LAMBDAS]


def papers_weights(path, form, s, t, others, kind, corrected):
    """arXiv 2302.04867, eq. 5 to 10 (UniP, UniC): weights of the evaluations at (s, *others, t if corrected), from R_p(h) a = φ_p(h)/B(h).

    Σ_m a_m/r_m D_m is added to the first-order step, D_m = f(λ_m) - f(λ_s), r_m = (λ_m - λ_s)/h, times α_t B(h) h or σ_t B(h) h; a single
    unknown is set to 1/2. "vary" solves the system with the exact φ in place of B (section 3.4): then nothing is set.
    """
    lam_s, h = path.half_logsnr(s), path.half_logsnr(t) - path.half_logsnr(s)
    z = -h if form == "x0" else h
    r = [(path.half_logsnr(n) - lam_s) / h for n in others] + [1.0] * corrected
    p = len(r)
    whole = math.expm1(z)
    scale = path.alpha(t) if form == "x0" else path.sigma(t)
    first = -scale * whole
    if not p:
        return [first]
    size = z if kind == "bh1" else whole
    goal, phi = [], whole / z - 1  # hφ_2, hφ_3 … by the recurrence of the paper
    for k in range(1, p + 1):
        goal.append(phi * math.factorial(k) / (size if kind != "vary" else 1))
        phi = phi / z - 1 / math.factorial(k + 1)
    if p == 1 and kind != "vary":
        a = np.array([0.5])
    else:
        a = np.linalg.solve(np.array([[v**k for v in r] for k in range(p)]), goal)
    d = -scale * a * (size if kind != "vary" else 1) / r
    return [first - d.sum(), *d]


@EVERY
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("algorithm, form", [("dpmsolver++", "x0"), ("dpmsolver", "eps")])
def test_weights_solve_the_papers_system(path, algorithm, form, kind):
    """Predictor and corrector weights of orders 1 to 4 are those of the papers' own linear system for B(h) = h and e^h - 1 and of the one
    without B: two formulas that share nothing. From the third order on, B(h) cancels."""
    sigmas = grid(path)
    for order in (1, 2, 3, 4):
        tape = plan(path, sigmas, algorithm=algorithm, order=order, solver_type=TYPES[kind], corrector="unipc", final_rule="none")
        steps = [r for r in tape.records if isinstance(r, Affine) and r.dst == "x"]
        total = {}
        for i, record in enumerate(steps):
            step, corrects = (i + 1) // 2, i % 2 == 1
            if corrects:
                s, t = sigmas[step - 1], sigmas[step]
                others = [sigmas[step - 1 - j] for j in range(1, min(order, step))]
                wanted = papers_weights(path, form, s, t, others, kind, True)
                names = [step - 1, *(step - 1 - j for j in range(1, min(order, step))), step]
                got = total | {int(n[1:]): total.get(int(n[1:]), 0.0) + w for n, w in record.terms if n != "x"}
            else:
                s, t = sigmas[step], sigmas[step + 1]
                others = [sigmas[step - j] for j in range(1, min(order, step + 1))]
                wanted = papers_weights(path, form, s, t, others, kind, False)
                names = [step - j for j in range(min(order, step + 1))]
                got = total = {int(n[1:]): w for n, w in record.terms if n != "x"}
            for name, weight in zip(names, wanted, strict=True):
                assert got.get(name, 0.0) == pytest.approx(weight, rel=1e-9, abs=1e-11), (order, step, corrects, name)


@pytest.mark.parametrize("corrector", ["unipc", "official"])
def test_a_correction_costs_no_evaluation(corrector):
    """The evaluation made at the predicted state serves the correction and the next step: as many evaluations as steps."""
    for order in (1, 2, 3, 4):
        tape = plan(VE, grid(VE), order=order, solver_type="taylor", corrector=corrector)
        assert tape.evaluations == 6 and len([r for r in tape.records if isinstance(r, Mark)]) == 6
        assert len([r for r in tape.records if isinstance(r, Affine) and r.dst == "x"]) == 11  # all steps but the last are corrected


@pytest.mark.parametrize("algorithm", ["dpmsolver++", "dpmsolver", "dpmsolver-v"])
def test_the_order_is_not_lowered_at_the_end(algorithm):
    """Without a final rule the last step has the full order; by the official one it is order 1, in every run with a corrector."""
    for steps in (6, 14):
        sigmas = [14.6 * 0.6**i for i in range(steps + 1)]
        options = {"algorithm": algorithm, "order": 3, "corrector": "unipc"}
        assert plan(VE, sigmas, **options, final_rule="none").claims[-1].order == 3
        official = [c.order for c in plan(VE, sigmas, **options, final_rule="official").claims]
        assert official[-1] == 1 and official[-3] == 2
        assert 2 < plan(VE, sigmas, **options).claims[-1].order <= 3  # smooth, on steps of half a λ


@pytest.mark.parametrize("algorithm, form", [("dpmsolver++", "x0"), ("dpmsolver", "eps")])
@EVERY
def test_corrected_states_are_exact_to_one_degree_more(path, algorithm, form):
    """Where x0 (or ε) is λ^k the states that arrive are exact for k up to the order p, after a start of tiny steps, and not for p + 1."""
    lams = [-1.0, -0.999, -0.998, -0.997, -0.5, 0.1, 0.5]
    sigmas = [path.from_half_logsnr(v) for v in lams]
    nodes, weights = np.polynomial.legendre.leggauss(30)
    lam = (nodes + 1) / 2 * (lams[-2] - lams[0])
    for order in (1, 2, 3):
        tape = plan(path, sigmas, algorithm=algorithm, order=order, solver_type="taylor", corrector="unipc", final_rule="none")
        for k in range(1, order + 2):

            def denoise(x, s, k=k):
                value = (path.half_logsnr(s) - lams[0]) ** k
                return np.full_like(x, value) if form == "x0" else (x - path.sigma(s) * value) / path.alpha(s)

            states = {}
            execute(tape, denoise, np.array([0.3]), arrive=lambda x, s, i, states=states: states.update({i: float(x[0])}))
            s, t = sigmas[0], sigmas[-2]
            grown = np.exp(lam + lams[0]) if form == "x0" else -np.exp(-lam - lams[0])
            integral = (lams[-2] - lams[0]) / 2 * float(weights @ (grown * lam**k))
            size = path.sigma if form == "x0" else path.alpha
            right = size(t) * (0.3 / size(s) + integral)
            assert (abs(states[5] - right) < 2e-5) == (k <= order), (order, k, states[5] - right)


# --- the extra start ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["dpmsolver++", "dpmsolver", "dpmsolver-v"])
def test_the_extra_start(algorithm):
    """(p-1)(p-2) more evaluations, at the first p sigmas only; each step is shown and arrives once, and the start state is kept for it.
    The orders 4 and 5 that it gives are in test_order."""
    for order in (3, 4):
        options = {"algorithm": algorithm, "order": order, "corrector": "unipc"}
        plain, extra = plan(VE, grid(VE), **options), plan(VE, grid(VE), start="extra", **options)
        assert extra.evaluations == plain.evaluations + (order - 1) * (order - 2)
        again = [r.sigma for r in extra.records if isinstance(r, Eval) and r.src.startswith("again")]
        assert again == grid(VE)[1:order] * (order - 2)
        assert [r.step for r in extra.records if isinstance(r, Mark)] == list(range(6))
        assert [r.step for r in extra.records if isinstance(r, Arrive)] == list(range(7))
        assert extra.peak_registers <= plain.peak_registers + 2  # the start, and a state on the way again


@pytest.mark.parametrize("path", [FLOW, VP], ids=lambda p: p.name)
def test_the_extra_start_needs_a_finite_first_noise_level(path):
    """From λ = -∞ there is no polynomial through the first node: the corrected start acts, and a note says so."""
    sigmas = [path.from_half_logsnr(-math.inf), *grid(path)]
    tape = plan(path, sigmas, order=3, corrector="unipc", start="extra")
    assert tape.evaluations == 7 and "start is extra" in tape.notes[0]
    assert tape.records == plan(path, sigmas, order=3, corrector="unipc").records


# --- presets --------------------------------------------------------------------------------------------------------------------------


def test_the_preset_is_unipc():
    """unipc is bh2 of order 2 on x0, with the corrector on; auto is the predictor-corrector of the v form."""
    assert plan(VE, grid(VE), **FAMILY["unipc"]).solver == "multistep dpmsolver++ order 2, UniPC"
    assert plan(VE, grid(VE), **PRESETS["auto"]).solver == "multistep dpmsolver-v order 2, UniPC"


@functools.cache
def median_error(model_name, preset, steps):
    model, x, right = problem(model_name, "ve")
    return errors(run(VE, model, SCHEDULES["karras"](VE, steps), x, **(PRESETS | FAMILY)[preset]), right)


@pytest.mark.parametrize("steps", [10, 20])
def test_the_corrector_pays(steps):
    """At equal evaluations unipc is nearer the exact end than 2M, on karras, image-like data, without and with guidance."""
    for name in ("image", "image cfg 7.5"):
        ours, other = (median_error(name, preset, steps) for preset in ("unipc", "dpmpp_2m"))
        assert ours < other, (name, steps, ours, other)


def test_a_correction_uses_the_projected_prediction():
    """Thresholding acts on what the corrector reads, too: predictions held at c end at c whatever the order."""
    for order in (1, 2, 3, 4):
        tape = plan(FLOW, [1.0, 0.8, 0.5, 0.2, 0.0], order=order, corrector="unipc")
        x = np.random.default_rng(0).standard_normal((2, 8))
        out = execute(tape, lambda y, s: models.toy().denoise(FLOW, y, s), x, project=lambda d, s: np.full_like(d, 0.25))
        np.testing.assert_allclose(out, 0.25, atol=1e-13)
