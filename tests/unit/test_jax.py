"""One code on torch, NumPy and JAX arrays: equal to 1e-6 in float32, eagerly, under jax.jit and under jax.pmap."""

import math
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers.adaptive import adaptive
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.official import DPM_Solver
from dpm_solver_ext.solvers.official_model import model_wrapper
from dpm_solver_ext.solvers.official_schedule import NoiseScheduleVP
from dpm_solver_ext.solvers.path import FLOW, VE, VP
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.tape import Noise

LIBRARIES = {"torch": torch.from_numpy, "numpy": np.asarray, "jax": jnp.asarray}
GRID = [6.0, 3.0, 1.6, 0.8, 0.4, 0.2, 0.08]
START = np.random.default_rng(5).standard_normal((2, 3, 4)).astype(np.float32)
RUNS = {
    "multistep 1": (VP, {"order": 1}),
    "multistep 2": (VE, {"order": 2, "solver_type": "taylor"}),
    "multistep 3": (VP, {"order": 3}),
    "multistep eps 3": (VP, {"algorithm": "dpmsolver", "order": 3, "start": "official", "final_rule": "none"}),
    "multistep v 3": (VE, {"algorithm": "dpmsolver-v", "order": 3}),
    "flow": (FLOW, {"order": 3}),
    "singlestep": (VP, {"method": "singlestep", "order": 3}),
    "singlestep_fixed 2": (VP, {"method": "singlestep_fixed", "algorithm": "dpmsolver", "order": 2}),
    "singlestep_fixed 3": (VE, {"method": "singlestep_fixed", "order": 3, "solver_type": "taylor"}),
    "unipc 2": (VP, {"order": 2, "corrector": "unipc", "solver_type": "bh1"}),
    "unipc 4": (VE, {"order": 4, "corrector": "unipc"}),
    "sde 1": (VP, {"order": 1, "eta": 1.0}),
    "sde 2": (VE, {"order": 2, "eta": 1.0}),
    "sde 3": (VE, {"order": 3, "eta": 0.5, "s_noise": 0.9}),
    "sde singlestep": (VP, {"method": "singlestep_fixed", "order": 2, "eta": 1.0}),
}


def denoiser(path):
    """The posterior mean of data ±0.6 per element with variance 0.2, in operations that all three libraries share."""

    def denoise(x, s):
        a, b = path.alpha(s), path.sigma(s)
        v = a * a * 0.2 + b * b
        tanh = torch.tanh if isinstance(x, torch.Tensor) else np.tanh if isinstance(x, np.ndarray) else jnp.tanh
        center = 0.6 * tanh(x * (0.6 * a / v))  # of the nearer of the two components, softly
        return center + (x - a * center) * (0.2 * a / v)

    return denoise


def noises(tape, make):
    """Given noise for every interval of a tape, as arrays of a library."""
    random = np.random.default_rng(6)
    intervals = dict.fromkeys((r.sigma_from, r.sigma_to) for r in tape.records if isinstance(r, Noise))
    given = {key: make(random.standard_normal(START.shape).astype(np.float32)) for key in intervals}
    return lambda a, b: given[a, b]


@pytest.mark.parametrize("name", RUNS)
def test_planners(name):
    """Every family of tapes on the three libraries and compiled by jax.jit: the same float32 result to 1e-6 of its size."""
    path, options = RUNS[name]
    grid = [s / (1 + s) for s in GRID] if path is FLOW else GRID
    tape = plan(path, [*grid, 0.0], **options)
    ends = {}
    for library, make in LIBRARIES.items():
        x = make(START * np.float32(path.sigma(grid[0])))
        run = lambda y, make=make: execute(tape, denoiser(path), y, noise=noises(tape, make))  # noqa: E731
        ends[library] = run(x)
        assert type(ends[library]) is type(x) and ends[library].dtype == x.dtype
    ends["jax.jit"] = jax.jit(run)(x)
    want = ends.pop("numpy")
    for library, got in ends.items():
        np.testing.assert_allclose(np.asarray(got), want, rtol=0, atol=1e-6 * max(1.0, np.abs(want).max()), err_msg=library)


def test_adaptive():
    """The adaptive solver takes the same steps on the three libraries, to the same end; float32 rounding of its errors moves it 1e-5."""
    ends, infos = zip(
        *(adaptive(VP, denoiser(VP), make(START), GRID[0], GRID[-1], order=3, rtol=0.01) for make in LIBRARIES.values()), strict=True
    )
    assert len({(i.evaluations, i.accepted, i.rejected) for i in infos}) == 1
    for got in (ends[0], ends[2]):
        np.testing.assert_allclose(np.asarray(got), ends[1], rtol=0, atol=1e-5)


# --- the official call signatures -----------------------------------------------------------------------------------------------------

BETAS = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
OPTIONS = {
    "multistep": {"steps": 8, "order": 3},
    "singlestep": {"steps": 8, "order": 3, "method": "singlestep", "skip_type": "logSNR", "denoise_to_zero": True},
    "singlestep_fixed": {"steps": 8, "order": 2, "method": "singlestep_fixed", "skip_type": "time_quadratic"},
}


def sampler(table, x, guidance="classifier-free", kind="v", **options):
    """sample(x) as a user of any of the libraries writes it: a v network of (x, label, condition)."""
    schedule = NoiseScheduleVP("discrete", betas=table)
    tanh = torch.tanh if isinstance(x, torch.Tensor) else np.tanh if isinstance(x, np.ndarray) else jnp.tanh

    def network(y, label, cond=0.0):
        assert label.shape == y.shape[:1]
        return tanh(0.3 * y + 0.001 * label.reshape((-1, 1, 1)) + cond)

    def solve(x, condition, unconditional):
        fn = model_wrapper(
            network, schedule, kind, {}, guidance, condition, unconditional, 2.0,
            lambda y, label, cond: -0.1 * ((y - cond) ** 2).reshape(y.shape[0], -1).sum(1),
        )  # fmt: skip
        solver = DPM_Solver(fn, schedule, correcting_x0_fn="dynamic_thresholding", correcting_xt_fn=lambda x, t, step: x * (1 + 0.01 * t))
        return solver.sample(x, **options)

    return solve


@pytest.mark.parametrize("method", OPTIONS)
def test_official_signatures(method):
    """DPM_Solver with guidance, thresholding and hooks: one result on the three libraries, under jax.jit and (once) jax.pmap."""
    ends = {}
    for library, make in LIBRARIES.items():
        x, c = make(START), make(np.full((2, 1, 1), 0.4, np.float32))
        solve = sampler(make(BETAS.astype(np.float32)), x, **OPTIONS[method])
        ends[library] = solve(x, c, -c)
        assert type(ends[library]) is type(x) and ends[library].dtype == x.dtype
    ends["jax.jit"] = jax.jit(solve)(x, c, -c)
    if method == "singlestep_fixed":
        ends["jax.pmap"] = jax.pmap(solve)(x[None], c[None], -c[None])[0]
    want = ends.pop("numpy")
    for library, got in ends.items():
        np.testing.assert_allclose(np.asarray(got), want, rtol=0, atol=1e-6 * max(1.0, np.abs(want).max()), err_msg=library)


def test_classifier_guidance():
    """The gradient of the classifier is jax.grad's, eagerly and compiled, and torch's: the same sample; NumPy says that it has none."""
    ends = []
    for make in (torch.from_numpy, jnp.asarray):
        x, c = make(START), make(np.full((2, 3, 4), 0.4, np.float32))
        solve = sampler(BETAS, x, "classifier", "noise", steps=6)
        ends.append(np.asarray(solve(x, c, None)))
    ends.append(np.asarray(jax.jit(lambda a, b: solve(a, b, None))(x, c)))
    for got in ends[1:]:
        np.testing.assert_allclose(got, ends[0], rtol=0, atol=2e-6)
    with pytest.raises(ValueError, match="NumPy has none"):
        sampler(BETAS, START, "classifier", steps=6)(START, START, None)


@pytest.mark.parametrize("denoise", [False, True])
def test_arguments_by_position_of_the_jax_code(denoise):
    """(…, method, denoise, solver_type, atol, rtol) by position is the same call by name; so are the torch code's, told by their types."""
    schedule, x = NoiseScheduleVP("linear"), jnp.asarray(START)
    solver = DPM_Solver(lambda x, t: jnp.tanh(x), schedule, True)
    first = (x, 9, 1.0, 1e-3, 3, "logSNR", "singlestep")
    named = solver.sample(*first, denoise=denoise, solver_type="taylor")
    np.testing.assert_array_equal(solver.sample(*first, denoise, "taylor"), named)
    np.testing.assert_array_equal(solver.sample(*first, None, denoise, "taylor"), named)
    dpm = solver.sample(*first, denoise=denoise, solver_type="dpm_solver")
    np.testing.assert_array_equal(solver.sample(*first, denoise, "dpm_solver"), dpm)
    assert not np.array_equal(dpm, named)
    first = (x, 9, 1.0, 1e-3, 3, "logSNR", "adaptive")
    tight = solver.sample(*first, denoise=denoise, atol=0.001, rtol=0.0078)
    for rest in ((0.001, 0.0078), (0.001,), ()):
        names = dict(zip(("atol", "rtol")[len(rest) :], (0.001, 0.0078)[len(rest) :], strict=True))
        np.testing.assert_array_equal(solver.sample(*first, denoise, "dpm_solver", *rest, **names), tight)
    with pytest.raises(ValueError, match="'taylor' by name and 'dpm_solver' by position"):
        solver.sample(*first, denoise, "dpm_solver", solver_type="taylor")


def test_adaptive_under_jit_is_one_sentence():
    """Steps chosen by values cannot be traced: said before the model is called; outside jit it runs on JAX arrays."""
    schedule = NoiseScheduleVP("linear")
    solver = DPM_Solver(lambda x, t: 0.5 * x, schedule)
    with pytest.raises(ValueError, match="'adaptive'.*jax.jit.*outside"):
        jax.jit(lambda x: DPM_Solver(max, schedule).sample(x, method="adaptive"))(START)
    got = solver.sample(jnp.asarray(START), method="adaptive", order=2)
    np.testing.assert_allclose(np.asarray(got), solver.sample(START, method="adaptive", order=2), rtol=0, atol=1e-5)


def test_schedules_made_of_traced_tables_are_one_sentence():
    """A table made by jax.numpy inside jax.jit has no values to plan with; made outside it serves inside."""
    with pytest.raises(ValueError, match="betas is traced by JAX"):
        jax.jit(lambda x: DPM_Solver(max, NoiseScheduleVP(betas=jnp.linspace(1e-4, 0.02, 100) * x.mean())).sample(x))(START)
    with pytest.raises(ValueError, match="t_end is traced by JAX"):
        jax.jit(lambda x: DPM_Solver(max, NoiseScheduleVP("linear")).sample(x, t_end=abs(x).min()))(START)


class OwnJaxSchedule:
    """A user's schedule in jax.numpy: cosine, α = cos(πt/2)."""

    T, total_N = 0.99, 1000

    def marginal_log_mean_coeff(self, t):
        return jnp.log(jnp.cos(jnp.pi / 2 * t))

    def marginal_std(self, t):
        return jnp.sin(jnp.pi / 2 * t)

    def marginal_lambda(self, t):
        return -jnp.log(jnp.tan(jnp.pi / 2 * t))

    def inverse_lambda(self, lamb):
        return 2 / jnp.pi * jnp.arctan(jnp.exp(-lamb))


def test_a_jax_schedule_of_ones_own():
    """Asked while planning, also inside jax.jit."""
    schedule = OwnJaxSchedule()
    solver = DPM_Solver(model_wrapper(lambda x, t: jnp.tanh(x + t[:, None, None]), schedule, "v"), schedule)
    run = lambda x: solver.sample(x, 7, skip_type="logSNR")  # noqa: E731
    x = jnp.asarray(START)
    np.testing.assert_allclose(np.asarray(jax.jit(run)(x)), np.asarray(run(x)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision(dtype):
    """The network sees the state's dtype and the result has it; in between the state is float32: 60 steps lose no more than the last
    rounding and the network's."""
    seen = []

    def network(x, t):
        seen.append((x.dtype, t.dtype))
        return jnp.tanh(0.2 * x.astype(jnp.float32) + t[:, None, None]).astype(dtype)

    x, schedule = jnp.asarray(START, dtype=dtype), NoiseScheduleVP("linear")
    got = DPM_Solver(network, schedule).sample(x, 60, t_end=0.05)
    assert set(seen) == {(jnp.dtype(dtype), jnp.dtype(jnp.float32))} and got.dtype == dtype
    exactly = DPM_Solver(lambda y, t: network(y.astype(dtype), t).astype(jnp.float32), schedule).sample(
        x.astype(jnp.float32), 60, t_end=0.05
    )
    np.testing.assert_array_equal(np.asarray(got, dtype=np.float32), np.asarray(exactly.astype(dtype), dtype=np.float32))
