"""The stochastic solvers, exactly: on Gaussian data every run is linear in its start and its noise, so the executor runs on coefficients.

A state is the vector of its coefficients on (1, start, n_1, n_2 …); from it follow mean and variance of the result without one sample.
Exact for comparison: with z = (x - α μ)/√(α² v + σ²) the SDE of rate η is z_t = κ z_s + √(1-κ²) n, κ = ((v + r_t²)/(v + r_s²))^{η/2},
r = σ/α (the probability flow keeps z; Langevin's drift and noise at rate η σ²/(α² v + σ²) are added). All that holds for every η: the
state's law at a sigma does not depend on it.
"""

import math

import numpy as np
import pytest
from dpm_solver_ext.solvers.choices import FAMILY
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.path import FLOW, VE, VP
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.tape import Noise
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit.test_order import A, B, slope

EVERY_PATH = pytest.mark.parametrize("path", [VE, FLOW, VP], ids=lambda p: p.name)
SIZE = 600


def linear_run(tape, model, path):
    """(coefficients of the final state on 1, start, n_1 …; the variance that the noises give it)."""
    intervals = []

    def denoise(x, s):
        a, b = path.alpha(s), path.sigma(s)
        gain = model.var * a / (a * a * model.var + b * b)
        out = gain * x
        out[0] += model.mean * (1 - gain * a)
        return out

    def noise(s, t):
        intervals.append((s, t))
        return np.eye(1, SIZE, len(intervals) + 1)[0]

    x = execute(tape, denoise, np.eye(1, SIZE, 1)[0], noise=noise)
    assert len(intervals) + 2 < SIZE
    of_noise = x[2 : len(intervals) + 2]
    return x[: len(intervals) + 2], float(of_noise @ covariance(intervals) @ of_noise) if intervals else 0.0


def covariance(intervals) -> np.ndarray:
    """Of Brownian noises on intervals of σ, each scaled to unit variance."""
    lo, hi = (np.minimum(ends, 1e9) for ends in zip(*((t, s) for s, t in intervals), strict=True))
    common = np.minimum(hi[:, None], hi) - np.maximum(lo[:, None], lo)
    return np.maximum(common, 0) / np.sqrt(np.outer(hi - lo, hi - lo))


def law(path, model, s) -> tuple[float, float]:
    """Mean and variance of the state at s."""
    return path.alpha(s) * model.mean, path.alpha(s) ** 2 * model.var + path.sigma(s) ** 2


def final_law(tape, model, path) -> tuple[float, float]:
    """Mean and variance of the final state, started from the law at the first sigma."""
    c, of_noise = linear_run(tape, model, path)
    mean, var = law(path, model, tape.sigmas[0])
    return c[0] + c[1] * mean, c[1] ** 2 * var + of_noise


def exact_step(path, model, s, t, eta) -> tuple[float, float, float]:
    """Constant, factor of x_s, and variance of x_t given x_s."""
    (mean_s, var_s), (mean_t, var_t) = law(path, model, s), law(path, model, t)
    ratio = lambda r: model.var + (path.sigma(r) / path.alpha(r)) ** 2  # noqa: E731
    kappa = (ratio(t) / ratio(s)) ** (eta / 2)
    factor = kappa * math.sqrt(var_t / var_s)
    return mean_t - factor * mean_s, factor, (1 - kappa**2) * var_t


# --- one step -------------------------------------------------------------------------------------------------------------------------


@EVERY_PATH
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0, 1.7])
def test_one_step_on_data_at_one_point(path, eta):
    """v = 0: one step of the x0 form, however long, has the closed-form mean and variance; a quarter of σ_t², or all, as η says."""
    model = models.Gaussian(0.7, 0.0)
    for a, b in ((-3.0, 2.0), (0.1, 0.2), (-6.0, 5.0)):
        s, t = path.from_half_logsnr(a), path.from_half_logsnr(b)
        c, added = linear_run(plan(path, [s, t], order=1, eta=eta), model, path)
        const, factor, variance = exact_step(path, model, s, t, eta)
        assert c[0] == pytest.approx(const, abs=1e-12) and c[1] == pytest.approx(factor, rel=1e-11)
        assert added == pytest.approx(variance, rel=1e-11, abs=1e-15)


@EVERY_PATH
@pytest.mark.parametrize("eta", [0.4, 1.0, 1.7])
def test_one_step_with_constant_noise_prediction(path, eta):
    """ε form, ε = e throughout: the integral of the SDE gives x_t = α_t/α_s x_s - (1+η)(α_t r_s - σ_t) e + N(0, η (α_t² r_s² - σ_t²))."""
    s, t = path.from_half_logsnr(-1.0), path.from_half_logsnr(0.6)
    start, e = np.array([0.3, 0.0]), np.array([-1.1, 0.0])
    denoise = lambda x, r: (x - path.sigma(r) * e) / path.alpha(r)  # noqa: E731
    out = execute(plan(path, [s, t], algorithm="dpmsolver", order=1, eta=eta), denoise, start, noise=lambda a, b: np.array([0.0, 1.0]))
    wide = path.alpha(t) * path.sigma(s) / path.alpha(s)
    assert out[0] == pytest.approx(path.alpha(t) / path.alpha(s) * 0.3 - (1 + eta) * (wide - path.sigma(t)) * -1.1, rel=1e-12)
    assert out[1] ** 2 == pytest.approx(eta * (wide**2 - path.sigma(t) ** 2), rel=1e-11)


@EVERY_PATH
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "dpmsolver"])
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_one_step_on_gaussian_data(path, algorithm, eta):
    """Mean and variance of one first-order step differ from the exact ones by O(h²) (slopes near 2): both drift and noise are right. The
    mean of the x0 form at η = 1 is exact: there the reverse process has E[x_t | x_s, x0], which is linear in x0."""
    model, widths = models.Gaussian(0.4, 0.25), (0.08, 0.04, 0.02)
    found = []
    for h in widths:
        s, t = path.from_half_logsnr(0.5), path.from_half_logsnr(0.5 + h)
        c, added = linear_run(plan(path, [s, t], algorithm=algorithm, order=1, eta=eta), model, path)
        const, factor, variance = exact_step(path, model, s, t, eta)
        found.append((abs(c[0] - const), abs(c[1] - factor), abs(added - variance)))
    of_mean, of_factor, of_variance = np.array(found).T
    assert 1.8 < -slope(widths, of_variance) < 2.2
    if algorithm == "dpmsolver++" and eta == 1:
        assert max(*of_mean, *of_factor) < 1e-15
    else:
        assert 1.8 < -slope(widths, of_mean) < 2.2 and 1.8 < -slope(widths, of_factor) < 2.2


# --- whole runs -----------------------------------------------------------------------------------------------------------------------

WHOLE = [
    {"order": 1},
    {"order": 2},
    {"order": 2, "solver_type": "taylor", "start": "official", "final_rule": "none"},
    {"order": 3},
    {"order": 3, "solver_type": "official_taylor", "start": "official", "final_rule": "none"},
    *({"order": o, "method": "singlestep_fixed", "noise_rule": r} for o in (1, 2) for r in ("sde", "ancestral", "renoise", "renoise_flow")),
    {"order": 3, "method": "singlestep_fixed", "noise_rule": "renoise"},
    {"order": 3, "method": "singlestep", "noise_rule": "renoise"},
    {"order": 2, "method": "singlestep"},
]
IDS = [" ".join(map(str, o.values())) for o in WHOLE]
POINT_GRIDS = {
    "ve": [80.0, 9.0, 7.0, 2.0, 0.5, 0.45, 0.03],
    "flow": [1.0, 0.97, 0.8, 0.6, 0.3, 0.28, 0.05],
    "vp": [math.inf, 20.0, 6.0, 2.0, 0.5, 0.45, 0.03],
}


@pytest.mark.parametrize("options", WHOLE, ids=IDS)
@pytest.mark.parametrize("eta", [0.3, 1.0])
@EVERY_PATH
def test_the_variance_balances(path, eta, options):
    """Data at one point: after any run of the x0 form, of any order and noise rule, from λ = -∞ too, the state is N(α c, σ²) to 1e-12,
    and c itself at σ = 0. One noise too large anywhere, or a state kept too much, shows in the variance."""
    model, grid = models.Gaussian(0.7, 0.0), POINT_GRIDS[path.name]
    mean, var = final_law(plan(path, grid, eta=eta, **options), model, path)
    assert mean == pytest.approx(path.alpha(grid[-1]) * 0.7, abs=1e-12) and var == pytest.approx(path.sigma(grid[-1]) ** 2, rel=1e-10)
    mean, var = final_law(plan(path, [*grid, 0.0], eta=eta, **options), model, path)
    assert mean == pytest.approx(0.7, abs=1e-12) and abs(var) < 1e-20


def weak_errors(path, counts, eta, rate=None, **options):
    """For each count the errors of the result's mean and variance given the start, which is one standard deviation from its mean, on
    Gaussian data over λ from A to B. `rate`: the eta of the SDE that the solver follows, if it is another; None leaves its law unknown,
    and the result's marginal law is compared."""
    model, found = models.Gaussian(0.4, 0.25), []
    for n in counts:
        u = np.linspace(0, 1, n + 1)
        grid = [path.from_half_logsnr(float(v)) for v in A + (B - A) * (u + 0.05 * np.sin(2 * np.pi * u))]
        tape = plan(path, grid, eta=eta, **options)
        mean, var = final_law(tape, model, path)
        errors = [abs(mean - law(path, model, grid[-1])[0]), abs(var - law(path, model, grid[-1])[1])]
        if rate is not None:
            c, added = linear_run(tape, model, path)
            const, factor, variance = exact_step(path, model, grid[0], grid[-1], rate)
            errors = [abs(c[0] - const), abs(c[1] - factor), abs(added - variance)]
        found.append(errors)
    return np.array(found)


COUNTS = (40, 60, 90)
WEAK = [
    ({"order": 1}, 1),
    ({"order": 2}, 2),
    ({"order": 2, "solver_type": "taylor", "start": "official", "final_rule": "none"}, 2),
    ({"order": 2, "method": "singlestep_fixed"}, 2),
    ({"order": 2, "method": "singlestep"}, 2),
    ({"order": 3, "solver_type": "official_taylor", "start": "official", "final_rule": "none"}, 2),
    ({"order": 3}, 3),
]


@pytest.mark.parametrize("options, order", WEAK, ids=[" ".join(map(str, o.values())) for o, _ in WEAK])
@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "dpmsolver"])
def test_the_law_given_the_start_converges(algorithm, eta, options, order):
    """The mean given the start converges at the solver's order (3 for ours of order 3, 2 with k-diffusion's 3M weights), the variance at 1
    and 2, and at order 3 with an error below a third of order 2's; stages and steps take their noise from one Brownian path."""
    found = weak_errors(VE, COUNTS, eta, eta, algorithm=algorithm, **options)
    mean, variance = found[:, 0] + found[:, 1], found[:, 2]
    if algorithm == "dpmsolver++" and eta == 1:
        assert mean.max() < 1e-14  # exact, as for one step
    else:
        assert order - 0.15 < slope(COUNTS, mean) < order + 0.25, slope(COUNTS, mean)
    if order < 3 and not options.get("solver_type", "").startswith("official"):
        assert order - 0.5 < slope(COUNTS, variance) < order + 0.25, slope(COUNTS, variance)
    elif order == 3:
        assert variance[-1] < 0.35 * weak_errors(VE, COUNTS[-1:], eta, eta, algorithm=algorithm, order=2)[0, 2]


ANCESTRAL = [(o, r, a) for o in (1, 2, 3) for r in ("ancestral", "renoise", "renoise_flow") for a in ("dpmsolver++", "dpmsolver")]


@pytest.mark.parametrize("order, rule, algorithm", [k for k in ANCESTRAL if k[0] < 3 or k[1] != "ancestral"])
def test_the_ancestral_law_converges(order, rule, algorithm):
    """The ancestral rules end with the law of the data and noise at the last sigma: the variance converges at the order of the step."""
    options = {"order": order, "method": "singlestep_fixed", "noise_rule": rule, "algorithm": algorithm}
    found = weak_errors(FLOW if rule == "renoise_flow" else VP, COUNTS, 0.5, **options)
    assert order - 0.2 < slope(COUNTS, found[:, 1]) and (order == 3 or slope(COUNTS, found[:, 1]) < order + 0.3)


def test_our_third_order_is_nearer_than_kdiffusions():
    """3M SDE at η = 0.5: the mean given the start is 13 times nearer the exact one with the exact weights and the corrected start (1.8e-7
    for 2.4e-6 at 90 steps)."""
    ours = weak_errors(VE, (90,), 0.5, 0.5, order=3)[0, 0]
    theirs = weak_errors(VE, (90,), 0.5, 0.5, order=3, solver_type="official_taylor", start="official", final_rule="none")[0, 0]
    assert ours < 3e-7 and 10 * ours < theirs < 3e-6, (ours, theirs)


# --- eta and s_noise ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", WHOLE, ids=IDS)
@pytest.mark.parametrize("path", [VE, FLOW], ids=lambda p: p.name)
def test_s_noise_scales_the_noise_and_nothing_else(path, options):
    """Coefficients of the start and the model are as they were, those of every noise s_noise times as large; 0 adds none, silently."""
    grid = POINT_GRIDS[path.name]
    one, half, none = (plan(path, grid, eta=0.8, s_noise=s, **options) for s in (1.0, 0.5, 0.0))
    model = models.Gaussian(0.4, 0.0)  # its prediction holds no noise
    (a, va), (b, vb), (c, vc) = (linear_run(tape, model, path) for tape in (one, half, none))
    np.testing.assert_allclose(b[:2], a[:2], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(b[2:], 0.5 * a[2:], rtol=1e-12)
    assert vb == pytest.approx(0.25 * va, rel=1e-12) and vc == 0


@pytest.mark.parametrize("options", WHOLE, ids=IDS)
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "dpmsolver"])
def test_eta_zero_is_the_ode(algorithm, options):
    """With eta 0 the records of every noise rule are those of the deterministic solver, bit for bit, and no noise source is needed; a tiny
    eta comes close to it."""
    plain = {name: value for name, value in options.items() if name != "noise_rule"}
    grid = [14.6, 6.0, 2.5, 1.1, 0.4, 0.15, 0.03, 0.0]
    ode, zero = plan(VE, grid, algorithm=algorithm, **plain), plan(VE, grid, algorithm=algorithm, eta=0.0, s_noise=0.7, **options)
    assert zero.records == ode.records and zero.claims == ode.claims
    model, x = models.toy(), 14.6 * np.random.default_rng(1).standard_normal((4, 8))
    denoise = lambda y, s: model.denoise(VE, y, s)  # noqa: E731
    end = execute(plan(VE, grid[:-1], algorithm=algorithm, **plain), denoise, x)
    near = execute(plan(VE, grid[:-1], algorithm=algorithm, eta=1e-10, **options), denoise, x, noise=lambda a, b: np.ones_like(x))
    assert np.abs(near - end).max() < 2e-4


@pytest.mark.parametrize("options", [*WHOLE, FAMILY["dpmpp_sde"], FAMILY["dpmpp_2m_sde"]], ids=str)
def test_noise_without_a_source_is_one_sentence(options):
    """A stochastic run without a noise source is one ValueError that names noise and eta, not a run without noise."""
    tape = plan(VE, [14.6, 1.0, 0.1, 0.0], **({"eta": 1.0} | options))
    with pytest.raises(ValueError) as caught:
        execute(tape, lambda x, s: 0.5 * x, np.ones(3))
    assert "no noise source was given" in str(caught.value) and "eta 0." in str(caught.value) and "\n" not in str(caught.value)


def test_no_noise_is_left_at_sigma_zero():
    """The last step to σ = 0 adds none: the ε form takes it on x0, whose noise vanishes there."""
    for algorithm in ("dpmsolver++", "dpmsolver"):
        for options in WHOLE:
            for eta in (0.5, 1.0):
                tape = plan(VE, [14.6, 3.0, 1.0, 0.2, 0.0], algorithm=algorithm, eta=eta, **options)
                assert all(r.sigma_to > 0 for r in tape.records if isinstance(r, Noise))
                c, _ = linear_run(tape, models.Gaussian(0.4, 0.0), VE)
                assert np.abs(c[2:]).max(initial=0) < 1e-15 and c[0] == pytest.approx(0.4, abs=1e-12)


def test_stages_and_steps_ask_for_nested_intervals():
    """dpmpp_sde's stage asks for the noise of the first part of its step, so that one Brownian path serves both; every interval falls."""
    tape = plan(VE, [14.6, 3.0, 1.0], **FAMILY["dpmpp_sde"])
    noises = [(r.sigma_from, r.sigma_to) for r in tape.records if isinstance(r, Noise)]
    assert noises == [(14.6, pytest.approx(math.sqrt(14.6 * 3))), (14.6, 3.0), (3.0, pytest.approx(math.sqrt(3))), (3.0, 1.0)]
