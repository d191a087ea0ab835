"""The official call signatures: every golden vector of the official torch code, and what a user of its README would write."""

import contextlib
import json
import math
import re
import warnings

import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers.official import DPM_Solver
from dpm_solver_ext.solvers.official_model import model_wrapper
from dpm_solver_ext.solvers.official_schedule import NoiseScheduleVP
from dpm_solver_ext.solvers.path import VE, VP
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit.pixels import dct, idct

RECORDS = {r["key"]: r for r in json.loads((models.DATA / "golden.json").read_text()) if r["impl"] == "dpm_solver_pytorch"}
BETAS = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
PASSED = (
    "steps",
    "order",
    "method",
    "skip_type",
    "solver_type",
    "lower_order_final",
    "denoise_to_zero",
    "atol",
    "rtol",
    "return_intermediate",
)


class EDM:
    """α = 1, σ = t from 80 to 0.002: a schedule of the user's own, by the four functions the official code asks for."""

    T, total_N, schedule = 80.0, 500, "edm"

    def marginal_log_mean_coeff(self, t):
        return 0 * t

    def marginal_std(self, t):
        return t

    def marginal_lambda(self, t):
        return -torch.log(t) if isinstance(t, torch.Tensor) else -np.log(t)

    def inverse_lambda(self, lamb):
        return torch.exp(-lamb) if isinstance(lamb, torch.Tensor) else np.exp(-lamb)


def schedule_of(record):
    if "edm" in record["problem"]:
        return EDM()
    return NoiseScheduleVP("linear") if record["schedule"] == "linear" else NoiseScheduleVP("discrete", betas=BETAS)


def network(record, schedule, calls):
    """The golden model as a network that predicts noise from (x, label), for NumPy and torch; `calls` takes the labels."""
    mini, edm = "mini" in record["problem"], "edm" in record["problem"]
    mixture = models.image_like() if mini else models.toy(4.0 if "cfg" in record["problem"] else 1.0)

    def model(x, label):
        assert label.shape == (x.shape[0],) and type(label) is type(x)
        values, label = np.asarray(x), float(label[0])
        calls.append(label)
        t = label / 1000 + 1 / 1000 if schedule.schedule == "discrete" else label
        path, s = (VE, t) if edm else (VP, math.exp(-float(schedule.marginal_lambda(t))))
        flat = dct(values).reshape(len(x), -1) if mini else values.reshape(len(x), -1)
        x0 = mixture.denoise(path, flat, s)
        x0 = (idct(x0) if mini else x0).reshape(x.shape)
        noise = (values - path.alpha(s) * x0) / path.sigma(s)
        return torch.from_numpy(noise) if isinstance(x, torch.Tensor) else noise

    return model


@pytest.mark.parametrize("library", ["torch", "numpy"])
@pytest.mark.parametrize("key", RECORDS)
def test_golden(key, library):
    """Result, intermediates and network times of every recorded run of the official float64 code, to 1e-9."""
    record, data, calls = RECORDS[key], models.golden(), []
    x = data["mini.noise" if "mini" in record["problem"] else "toy.noise"] * (80.0 if "edm" in record["problem"] else 1.0)
    x = torch.from_numpy(x) if library == "torch" else x
    schedule = schedule_of(record)
    solver = DPM_Solver(
        model_wrapper(network(record, schedule, calls), schedule),
        schedule,
        algorithm_type=record["algo"],
        correcting_x0_fn=None if record["thr"] == "None" else record["thr"],
        correcting_xt_fn=(lambda x, t, step: 0.99 * x) if "xtfn" in key else None,
        thresholding_max_val=record["mx"],
    )
    out = solver.sample(x, **{name: record[name] for name in PASSED if name in record})
    if record.get("return_intermediate"):
        out, states = out
        want = data[key + ".inter"]
        assert len(states) == len(want)
        np.testing.assert_allclose(np.stack([np.asarray(s) for s in states]), want, rtol=0, atol=1e-9 * max(1.0, np.abs(want).max()))
    assert type(out) is type(x) and out.dtype == x.dtype and len(calls) == record["nfe"]
    np.testing.assert_allclose(calls, data[key + ".t"], rtol=0, atol=1e-7 if "adaptive" in key else 1e-9)
    want = data[key + ".out"]
    np.testing.assert_allclose(np.asarray(out), want, rtol=0, atol=1e-9 * max(1.0, np.abs(want).max()))


def test_every_golden_key_is_run():
    """The list above is the whole of what was recorded of the official torch code: 55 runs."""
    assert len(RECORDS) == 55


# --- what a user of the README writes -------------------------------------------------------------------------------------------------

LINEAR = NoiseScheduleVP("linear")
GAUSSIAN = models.Gaussian()


def level(t, schedule=LINEAR):
    """The VP sigma of a time."""
    return math.exp(-float(schedule.marginal_lambda(t)))


def exact(x, t_start, t_end, schedule=LINEAR):
    """Where the ODE of Gaussian data leads."""
    return GAUSSIAN.solution(VP, x, level(t_start, schedule), level(t_end, schedule))


def gaussian_network(kind="noise", log=None, schedule=LINEAR):
    """The exact network of Gaussian data in each of the four model types, for float64 NumPy and torch states."""

    def model(x, t, *_, **__):
        if log is not None:
            log.append((x, t))
        s = level(float(t[0]), schedule)
        alpha, sigma = VP.alpha(s), VP.sigma(s)
        x0 = GAUSSIAN.denoise(VP, x, s)
        noise = (x - alpha * x0) / sigma
        return {"noise": noise, "x_start": x0, "v": alpha * noise - sigma * x0, "score": -noise / sigma}[kind]

    return model


def states(batch=3, width=5):
    return np.random.default_rng(3).standard_normal((batch, width))


def test_positional_arguments_of_the_torch_code():
    """Parameters come in the official order, so that calls by position keep their meaning."""
    import inspect

    def names(function):
        return [n for n, p in inspect.signature(function).parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD and n != "self"]

    run = "x steps t_start t_end order skip_type method lower_order_final denoise_to_zero solver_type atol rtol return_intermediate"
    assert names(DPM_Solver.sample) == run.split() and names(DPM_Solver.inverse) == run.split()[:4]
    values = (7, 0.1, 0.8, 3, "logSNR", "multistep", False, True, "taylor", 0.01, 0.1, True)
    solver, x = DPM_Solver(gaussian_network(), LINEAR), states()
    named = solver.inverse(x, **dict(zip(run.split()[1:], values, strict=True)))
    np.testing.assert_array_equal(solver.inverse(x, *values)[1], named[1])
    assert len(named[1]) == 9 and not np.array_equal(solver.inverse(x, *values[:7]), named[0])
    wrapper = "model noise_schedule model_type model_kwargs guidance_type condition unconditional_condition guidance_scale classifier_fn "
    assert names(model_wrapper) == (wrapper + "classifier_kwargs").split()
    schedule = "schedule betas alphas_cumprod continuous_beta_0 continuous_beta_1 dtype"
    assert names(NoiseScheduleVP.__init__) == schedule.split()
    solver = "model_fn noise_schedule algorithm_type correcting_x0_fn correcting_xt_fn thresholding_max_val dynamic_thresholding_ratio"
    assert names(DPM_Solver.__init__) == solver.split()


def test_the_lines_of_the_readme():
    """The three examples of the official README, word for word but for the import."""
    from dpm_solver_ext import DPM_Solver, NoiseScheduleVP, model_wrapper

    betas = torch.from_numpy(BETAS)
    x_T = torch.from_numpy(states()).float()
    condition, unconditional_condition, guidance_scale = torch.ones(3, 1), -torch.ones(3, 1), 2.0
    model_kwargs, classifier_kwargs = {"gain": 0.9}, {"sharpness": 0.1}

    def model(x, t_input, cond=None, gain=1.0):
        return gain * torch.tanh(x + t_input[:, None] / 1000 + (0 if cond is None else cond))

    def classifier(x, t_input, cond, sharpness=1.0):
        return -sharpness * (x - cond).square().sum(1)

    noise_schedule = NoiseScheduleVP(schedule="discrete", betas=betas)
    ends = []
    for guidance in (
        {},
        {
            "guidance_type": "classifier",
            "condition": condition,
            "guidance_scale": guidance_scale,
            "classifier_fn": classifier,
            "classifier_kwargs": classifier_kwargs,
        },
        {
            "guidance_type": "classifier-free",
            "condition": condition,
            "unconditional_condition": unconditional_condition,
            "guidance_scale": guidance_scale,
        },
    ):
        model_fn = model_wrapper(model, noise_schedule, model_type="noise", model_kwargs=model_kwargs, **guidance)
        dpm_solver = DPM_Solver(model_fn, noise_schedule, algorithm_type="dpmsolver++")
        x_sample = dpm_solver.sample(x_T, steps=20, order=2, skip_type="time_uniform", method="multistep")
        assert x_sample.shape == x_T.shape and x_sample.dtype == torch.float32 and bool(x_sample.isfinite().all())
        ends.append(x_sample)
    assert min(float((a - b).abs().max()) for a, b in zip(ends, ends[1:], strict=False)) > 1e-2


def test_names_and_defaults_of_the_jax_code():
    """predict_x0, thresholding and max_val, by name or position, and sample's denoise, eps and 'dpm_solver': singlestep of order 3."""
    x, model_fn = states(), model_wrapper(gaussian_network(), LINEAR)
    torch_names = DPM_Solver(model_fn, LINEAR, "dpmsolver++", "dynamic_thresholding", thresholding_max_val=0.4)
    want = torch_names.sample(x, 7, None, 1e-3, 3, method="singlestep", denoise_to_zero=True, solver_type="dpmsolver")
    for solver in (
        DPM_Solver(model_fn, LINEAR, True, True, 0.4),
        DPM_Solver(model_fn, LINEAR, predict_x0=True, thresholding=True, max_val=0.4),
    ):
        np.testing.assert_array_equal(solver.sample(x, 7, eps=1e-3, denoise=True, solver_type="dpm_solver"), want)
    assert DPM_Solver(model_fn, LINEAR).algorithm_type == "dpmsolver++"
    assert DPM_Solver(model_fn, LINEAR, predict_x0=False).algorithm_type == "dpmsolver"
    assert DPM_Solver(model_fn, LINEAR, thresholding=True).algorithm_type == "dpmsolver"
    plain = DPM_Solver(model_fn, LINEAR, "dpmsolver").sample(x, 8, order=2, lower_order_final=False)
    np.testing.assert_array_equal(DPM_Solver(model_fn, LINEAR, False).sample(x, 8, order=2, method="multistep"), plain)


@pytest.mark.parametrize("kind", ["noise", "x_start", "v", "score"])
def test_model_types(kind):
    """Each type gives the same ε from model_fn, for times of every shape, and the same sample."""
    x, t = states(), 0.37
    model_fn = model_wrapper(gaussian_network(kind), LINEAR, model_type=kind)
    s = level(t)
    noise = (x - VP.alpha(s) * GAUSSIAN.denoise(VP, x, s)) / VP.sigma(s)
    for times in (np.full(3, t), np.array([t]), np.array(t), t):
        np.testing.assert_allclose(model_fn(x, times), noise, rtol=0, atol=1e-12)
    for algorithm in ("dpmsolver", "dpmsolver++"):
        got, want = (
            DPM_Solver(model_wrapper(gaussian_network(k), LINEAR, model_type=k), LINEAR, algorithm).sample(x, 10, order=3)
            for k in (kind, "noise")
        )
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_any_noise_prediction_function():
    """model_fn need not come from model_wrapper: called with times t of shape (batch,), it gives the same sample."""
    x, calls = states(), []
    own = gaussian_network(log=calls)
    got = DPM_Solver(own, LINEAR).sample(x, 6)
    np.testing.assert_allclose(got, DPM_Solver(model_wrapper(own, LINEAR), LINEAR).sample(x, 6), rtol=0, atol=0)
    np.testing.assert_allclose([float(t[0]) for _, t in calls[:6]], np.linspace(1, 1e-3, 7)[:-1], rtol=0, atol=1e-15)
    assert calls[0][1].shape == (3,)


def test_classifier_guidance_is_the_gradient():
    """ε - scale·σ·∇log p, for log p = -|x-c|²/2 whose gradient is c - x; under no_grad, and leaving no graph behind."""
    x, t, c = torch.from_numpy(states()), 0.5, torch.full((3, 5), 0.3, dtype=torch.float64)
    guided = model_wrapper(
        gaussian_network(), LINEAR, guidance_type="classifier", condition=c, guidance_scale=1.7,
        classifier_fn=lambda y, label, cond: -0.5 * (y - cond).square().sum(1),
    )  # fmt: skip
    with torch.no_grad():
        got = guided(x, torch.full((3,), t))
    want = gaussian_network()(x, torch.full((3,), t)) - 1.7 * VP.sigma(level(t)) * (c - x)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)
    by_hand = DPM_Solver(lambda y, u: gaussian_network()(y, u) - 1.7 * VP.sigma(level(float(u[0]))) * (c - y), LINEAR).sample(
        x.clone().requires_grad_(True), 8
    )
    sample = DPM_Solver(guided, LINEAR).sample(x, 8)
    assert not sample.requires_grad and not by_hand.requires_grad
    torch.testing.assert_close(sample, by_hand, rtol=0, atol=1e-12)


def test_classifier_free_guidance():
    """ε_u + scale (ε_c - ε_u) in one call on a doubled batch, unconditional first; one plain call where the scale is 1 or there is no
    unconditional condition; conditions may be dicts and lists."""
    x, t, seen = states(), np.full(3, 0.5), []

    def model(y, label, cond):
        seen.append((y.shape, label.shape))
        c = cond["cross"][0] if isinstance(cond, dict) else cond
        return 0.1 * y + c

    c, u = np.full((3, 5), 2.0), np.full((3, 5), 1.0)
    for condition, unconditional in ((c, u), ({"cross": [c]}, {"cross": [u]})):
        fn = model_wrapper(model, LINEAR, "noise", {}, "classifier-free", condition, unconditional, 3.0)
        np.testing.assert_allclose(fn(x, t), 0.1 * x + 1 + 3 * (2 - 1), rtol=0, atol=1e-14)
    assert seen == [((6, 5), (6,))] * 2
    seen.clear()
    for unconditional, scale in ((u, 1.0), (None, 3.0)):
        said = pytest.warns(UserWarning, match="guidance_scale is 3.0, but without unconditional") if scale > 1 else nothing_said()
        with said:
            fn = model_wrapper(model, LINEAR, "noise", {}, "classifier-free", c, unconditional, scale)
        np.testing.assert_allclose(fn(x, t), 0.1 * x + 2, rtol=0, atol=1e-14)
    assert seen == [((3, 5), (3,))] * 2


@contextlib.contextmanager
def nothing_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_guidance_that_cannot_act_warns():
    """A condition with "uncond", or "classifier-free" without one, runs unguided as the official code does, and says so in one sentence;
    what acts, or asks for nothing, says nothing."""
    x, t, c = states(), np.full(3, 0.5), np.full((3, 5), 2.0)
    plain = lambda y, label: 0.1 * y  # noqa: E731
    for guidance, condition, words in (
        ("uncond", c, "guidance_type is 'uncond', so condition"),
        ("classifier-free", None, "condition is None, so nothing guides"),
    ):
        with pytest.warns(UserWarning, match=words) as said:
            fn = model_wrapper(plain, LINEAR, "noise", {}, guidance, condition, None, 3.0)
        assert len(said) == 1 and said[0].filename == __file__ and str(said[0].message).endswith(".")
        np.testing.assert_array_equal(fn(x, t), 0.1 * x)
    with nothing_said():
        model_wrapper(plain, LINEAR)
        model_wrapper(plain, LINEAR, guidance_type="classifier", condition=c, guidance_scale=3.0, classifier_fn=max)
        model_wrapper(plain, LINEAR, guidance_type="classifier-free", condition=c, unconditional_condition=c, guidance_scale=3.0)
        model_wrapper(plain, LINEAR, guidance_type="classifier-free", condition=c)


@pytest.mark.parametrize("method", ["multistep", "singlestep", "singlestep_fixed", "adaptive"])
@pytest.mark.parametrize("algorithm", ["dpmsolver", "dpmsolver++"])
def test_correcting_x0_acts_in_every_form(algorithm, method):
    """With x0 set to a constant the ODE is solved exactly by every solver; the official code ignores the function for "dpmsolver"."""
    x, times = states(), []

    def correct(x0, t):
        times.append(float(t))
        assert t.shape == ()
        return np.full_like(x0, 0.7)

    solver = DPM_Solver(gaussian_network(), LINEAR, algorithm, correct)
    got = solver.sample(x, 6, t_start=0.9, t_end=0.01, order=2, method=method)
    a, b = level(0.9), level(0.01)
    want = VP.alpha(b) * 0.7 + VP.sigma(b) / VP.sigma(a) * (x - VP.alpha(a) * 0.7)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 if method != "adaptive" else 1e-3)
    assert times[0] == 0.9
    if method == "multistep":
        np.testing.assert_allclose(solver.sample(x, 6, denoise_to_zero=True), 0.7, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    """Network, hooks and result have the state's dtype, labels stay float32, and the state is kept in float32: the error does not grow
    with the number of steps as a half-precision state's would."""
    x, seen = torch.from_numpy(states()), []

    def network(y, t):
        seen.append((y.dtype, t.dtype))
        return gaussian_network()(y.double(), t).to(dtype)

    def correct(y, t, step):
        assert y.dtype == dtype
        return y

    out, inter = DPM_Solver(network, LINEAR, correcting_x0_fn=lambda x0, t: correct(x0, t, 0)).sample(
        x.to(dtype), 100, t_start=0.9, t_end=0.01, return_intermediate=True
    )
    assert set(seen) == {(dtype, torch.float32)} and out.dtype == dtype and {y.dtype for y in inter} == {dtype}
    want = DPM_Solver(gaussian_network(), LINEAR).sample(x.to(dtype).double(), 100, t_start=0.9, t_end=0.01)
    assert float((out.double() - want).abs().max()) < 4 * torch.finfo(dtype).eps * float(want.abs().max())


def test_autocast():
    """Under torch.autocast a network computes in bfloat16; the state stays float32 and the result is near the float32 one."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 5)
    x, seen = torch.from_numpy(states()).float(), []

    def network(y, t):
        out = layer(y)
        seen.append(out.dtype)
        return out

    solver = DPM_Solver(model_wrapper(network, LINEAR), LINEAR)
    want = solver.sample(x, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = solver.sample(x, 10)
    assert seen == [torch.float32] * 10 + [torch.bfloat16] * 10 and got.dtype == torch.float32 and not got.requires_grad
    assert 0 < float((got - want).abs().max()) < 0.05 * float(want.abs().max())


@pytest.mark.parametrize(
    "options", [{"order": 3}, {"order": 3, "method": "singlestep"}, {"order": 3, "method": "adaptive", "atol": 1e-4, "rtol": 1e-4}]
)
def test_inverse_and_back(options):
    """`inverse` ends where the ODE of Gaussian data does, and `sample` from there returns the data; "adaptive" too, which hangs there."""
    data = 0.4 + 0.5 * states()
    solver = DPM_Solver(gaussian_network(), LINEAR)
    noise = solver.inverse(data, steps=60, t_start=0.01, skip_type="logSNR", **options)
    np.testing.assert_allclose(noise, exact(data, 0.01, 1.0), rtol=0, atol=3e-3)
    np.testing.assert_allclose(solver.sample(noise, 60, t_end=0.01, skip_type="logSNR", **options), data, rtol=0, atol=3e-3)


def test_exact_has_the_order_the_official_code_lacks():
    """Multistep order 3 converges at 2 as the official code has it, and at 3 with exact=True, at the same network times."""
    x, slopes, times = states(), [], []
    for exact_too in (False, True):
        errors, log = [], []
        for n in (32, 64):
            solver = DPM_Solver(gaussian_network(log=log), LINEAR, exact=exact_too)
            got = solver.sample(x, n, t_start=0.8, t_end=0.3, order=3, lower_order_final=False)
            errors.append(np.abs(got - exact(x, 0.8, 0.3)).max())
        slopes.append(math.log2(errors[0] / errors[1]))
        times.append([float(t[0]) for _, t in log])
    assert slopes[0] < 2.4 and slopes[1] > 2.75, slopes
    assert times[0] == times[1]


@pytest.mark.parametrize("method, calls", [("singlestep", 10), ("singlestep_fixed", 9)])
def test_exact_singlestep(method, calls):
    """With exact=True a step of order 3 uses all its stages where the grid puts them: the same network times, a smaller error."""
    errors, times = [], []
    for exact_too in (False, True):
        log = []
        solver = DPM_Solver(gaussian_network(log=log), LINEAR, exact=exact_too)
        got = solver.sample(states(), 10, skip_type="time_quadratic", order=3, method=method)
        errors.append(np.abs(got - exact(states(), 1.0, 1e-3)).max())
        times.append([float(t[0]) for _, t in log])
    assert times[0] == times[1] and len(times[0]) == calls
    assert errors[1] < 0.7 * errors[0], errors


def test_zero_terminal_snr():
    """A whole table that ends at α = 0 starts at λ = -∞: with a v model the result is near the exact one, which the clipped table misses;
    noise there says nothing of the data, and is refused."""
    alphas = np.cumprod(1 - BETAS)
    roots = np.sqrt(alphas)
    table = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    whole = NoiseScheduleVP(alphas_cumprod=table, clipped_lambda=None)
    assert whole.total_N == 1000 > NoiseScheduleVP(alphas_cumprod=table).total_N
    assert whole.marginal_lambda(1.0) == -math.inf and whole.marginal_std(np.array(1.0)) == 1

    def network(x, label):
        t = float(label[0]) / 1000 + 1e-3
        alpha, sigma = float(whole.marginal_alpha(t)), float(whole.marginal_std(t))
        x0 = GAUSSIAN.mean + GAUSSIAN.var * alpha * (x - alpha * GAUSSIAN.mean) / (alpha**2 * GAUSSIAN.var + sigma**2)
        return (alpha * x - x0) / sigma

    x = states()
    got = DPM_Solver(model_wrapper(network, whole, model_type="v"), whole, exact=True).sample(x, 100)
    std = math.sqrt(table[0] * GAUSSIAN.var + 1 - table[0])
    np.testing.assert_allclose(got, roots[0] * GAUSSIAN.mean + std * x, rtol=0, atol=5e-3)
    with pytest.raises(ValueError, match="zero terminal SNR"):
        DPM_Solver(model_wrapper(network, whole), whole).sample(x, 50)
    solver = DPM_Solver(model_wrapper(network, whole, model_type="v"), whole)
    with nothing_said():
        with pytest.raises(ValueError, match=r"skip_type is 'logSNR', but at t_start 1 λ is -inf, .*; choose a t_start at a finite λ"):
            solver.sample(x, 10, skip_type="logSNR")
        with pytest.raises(ValueError, match=r"skip_type is 'logSNR', but at t_end 1 λ is -inf"):
            solver.inverse(x, 10, skip_type="logSNR", method="singlestep")
        assert np.isfinite(solver.sample(x, 10, 0.999, skip_type="logSNR")).all()


class Flow:
    """Rectified flow: α = 1 - t, σ = t, neither variance-preserving nor exploding."""

    T = 1.0

    def marginal_log_mean_coeff(self, t):
        return np.log1p(-t)

    def marginal_std(self, t):
        return t

    def marginal_lambda(self, t):
        return np.log1p(-t) - np.log(t)

    def inverse_lambda(self, lamb):
        return 1 / (1 + np.exp(lamb))


@pytest.mark.parametrize("method", ["multistep", "singlestep", "adaptive"])
def test_schedules_of_other_scalings(method):
    """A schedule with any α and σ works in its own scaling: intermediates, hooks, thresholds and results; flow's exact end is met."""
    from dpm_solver_ext.solvers.path import FLOW

    x, steps = states(), []

    def network(y, t):
        s = float(t[0])
        return (y - (1 - s) * GAUSSIAN.denoise(FLOW, y, s)) / s

    def correct(y, t, step):
        np.testing.assert_allclose(y, GAUSSIAN.solution(FLOW, x, 0.95, float(t)), rtol=0, atol=1e-2)
        steps.append(step)
        return y

    solver = DPM_Solver(network, Flow(), correcting_xt_fn=correct)
    got, inter = solver.sample(x, 24, t_start=0.95, t_end=0.05, order=3, method=method, atol=1e-3, rtol=1e-3, return_intermediate=True)
    np.testing.assert_allclose(got, GAUSSIAN.solution(FLOW, x, 0.95, 0.05), rtol=0, atol=1e-2)
    np.testing.assert_allclose(inter[-1], got, rtol=0, atol=1e-14)
    assert steps == list(range(len(inter)))


@pytest.mark.parametrize("method, count", [("multistep", 8), ("singlestep", 4), ("singlestep_fixed", 4)])
def test_callback(method, count):
    """Called once a step with the state and its x0; raising in it stops the run."""
    seen = []
    DPM_Solver(gaussian_network(), LINEAR).sample(states(), 8, method=method, callback=lambda *args: seen.append(args))
    assert [step for step, _, _ in seen] == list(range(count))
    np.testing.assert_array_equal(seen[0][1], states())
    np.testing.assert_allclose(seen[0][2], GAUSSIAN.denoise(VP, states(), level(1.0)), rtol=0, atol=1e-9)

    def stop(step, x, x0):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        DPM_Solver(gaussian_network(), LINEAR).sample(states(), 8, method=method, callback=stop)


def test_same_arguments_use_the_same_plan():
    """A second run plans nothing, on whatever array."""
    from dpm_solver_ext.solvers import official_grid

    solver = DPM_Solver(gaussian_network(), LINEAR)
    for method, cached in (("multistep", official_grid._multistep), ("singlestep", official_grid._singlestep)):
        solver.sample(states(), 11, method=method)
        before = cached.cache_info()
        solver.sample(torch.from_numpy(states()), 11, method=method)
        assert cached.cache_info().misses == before.misses and cached.cache_info().hits == before.hits + 1


def test_add_noise():
    """α_t x + σ_t noise of shape (n, *x.shape), without the first axis for one time; drawn by the library's generator if none is given."""
    solver, x = DPM_Solver(None, LINEAR), torch.from_numpy(states())
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 3, 5)))
    got = solver.add_noise(x, torch.tensor([0.2, 0.9]), noise)
    assert got.shape == (2, 3, 5) and got.dtype == x.dtype
    for i, t in enumerate((0.2, 0.9)):
        s = level(np.float64(np.float32(t)))
        torch.testing.assert_close(got[i], VP.alpha(s) * x + VP.sigma(s) * noise[i], rtol=0, atol=1e-12)
        torch.testing.assert_close(solver.add_noise(x, [np.float32(t)], noise[i : i + 1]), got[i], rtol=0, atol=0)
    torch.manual_seed(5)
    drawn = torch.randn(1, 3, 5, dtype=torch.float64)
    torch.manual_seed(5)
    torch.testing.assert_close(solver.add_noise(x, [0.2]), solver.add_noise(x, [0.2], drawn), rtol=0, atol=0)
    assert solver.add_noise(states().astype(np.float32), [0.3]).dtype == np.float32


def test_tables_of_betas():
    """betas and alphas_cumprod say the same, in torch and NumPy; the official λ clip shortens a cosine table, None keeps it."""
    a, b = NoiseScheduleVP(betas=torch.from_numpy(BETAS)), NoiseScheduleVP("discrete", None, np.cumprod(1 - BETAS))
    t = np.linspace(0.001, 1, 13)
    np.testing.assert_allclose(a.marginal_lambda(t), b.marginal_lambda(t), rtol=0, atol=1e-12)
    np.testing.assert_allclose(a.inverse_lambda(a.marginal_lambda(t)), t, rtol=0, atol=1e-12)
    np.testing.assert_allclose(a.marginal_alpha(t) ** 2 + a.marginal_std(t) ** 2, 1, rtol=0, atol=1e-14)
    f = lambda i: math.cos((i / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2  # noqa: E731
    cosine = [min(1 - f(i + 1) / f(i), 0.999) for i in range(1000)]
    assert (NoiseScheduleVP(betas=cosine).total_N, NoiseScheduleVP(betas=cosine, clipped_lambda=None).total_N) == (996, 1000)


RUN = DPM_Solver(lambda x, t: pytest.fail("the model was called"), LINEAR)
WRONG = {
    "schedule is 'sigmoid'": lambda: NoiseScheduleVP("sigmoid"),
    "either betas or alphas_cumprod": lambda: NoiseScheduleVP("discrete"),
    "give either": lambda: NoiseScheduleVP("discrete", betas=BETAS, alphas_cumprod=BETAS),
    "alphas_cumprod is no noise schedule": lambda: NoiseScheduleVP(alphas_cumprod=BETAS),
    "betas is no noise schedule": lambda: NoiseScheduleVP(betas=100 * BETAS),
    "model_type is 'eps'": lambda: model_wrapper(None, LINEAR, "eps"),
    "guidance_type is 'cfg'": lambda: model_wrapper(None, LINEAR, guidance_type="cfg"),
    "classifier_fn is None": lambda: model_wrapper(None, LINEAR, guidance_type="classifier"),
    "algorithm_type is 'ddim'": lambda: DPM_Solver(None, LINEAR, "ddim"),
    "correcting_x0_fn is 'clip'": lambda: DPM_Solver(None, LINEAR, correcting_x0_fn="clip"),
    "algorithm_type and predict_x0": lambda: DPM_Solver(None, LINEAR, "dpmsolver", predict_x0=False),
    "thresholding and correcting_x0_fn": lambda: DPM_Solver(None, LINEAR, correcting_x0_fn=max, thresholding=True),
    "correcting_x0_fn is 0.5": lambda: DPM_Solver(None, LINEAR, correcting_x0_fn=0.5),
    "correcting_xt_fn is 'keep'": lambda: DPM_Solver(None, LINEAR, correcting_xt_fn="keep"),
    "correcting_xt_fn is True": lambda: DPM_Solver(None, LINEAR, correcting_xt_fn=True),
    "lower_order_final is 'no'": lambda: RUN.sample(states(), lower_order_final="no"),
    "lower_order_final is 1": lambda: RUN.inverse(states(), lower_order_final=1),
    "denoise_to_zero is 'dpm'": lambda: RUN.sample(states(), 9, None, None, 3, "logSNR", "singlestep", False, "dpm"),
    "denoise is None": lambda: RUN.sample(states(), denoise=None),
    "return_intermediate is 1": lambda: RUN.sample(states(), return_intermediate=1),
    "ratio is 99.5": lambda: DPM_Solver(None, LINEAR, correcting_x0_fn="dynamic_thresholding", dynamic_thresholding_ratio=99.5),
    "model_fn is None": lambda: DPM_Solver(None, LINEAR).sample(states()),
    "x is a list": lambda: RUN.sample([1.0]),
    "dtype int64": lambda: RUN.sample(np.ones((2, 2), dtype=np.int64)),
    "order is 4": lambda: RUN.sample(states(), order=4),
    "order is 2.0": lambda: RUN.sample(states(), order=2.0),
    "order is 1": lambda: RUN.sample(states(), order=1, method="adaptive"),
    "skip_type is 'quad'": lambda: RUN.sample(states(), skip_type="quad"),
    "method is 'fast'": lambda: RUN.sample(states(), method="fast"),
    "solver_type is 'midpoint'": lambda: RUN.sample(states(), solver_type="midpoint"),
    "steps is 2, but multistep": lambda: RUN.sample(states(), 2, order=3),
    "steps is 1, but singlestep_fixed": lambda: RUN.sample(states(), 1, order=2, method="singlestep_fixed"),
    "steps is 0": lambda: RUN.sample(states(), 0, order=3, method="singlestep"),
    "steps is 2.5": lambda: RUN.sample(states(), 2.5),
    "t_end is 0": lambda: RUN.sample(states(), t_end=0.0),
    "t_start is -1": lambda: RUN.sample(states(), t_start=-1),
    "t_start is 999": lambda: RUN.sample(states(), t_start=999),
    "t_start and t_end are both": lambda: RUN.sample(states(), t_start=0.5, t_end=0.5),
    "t_end and eps": lambda: RUN.sample(states(), t_end=0.1, eps=0.1),
    "atol is -1": lambda: RUN.sample(states(), method="adaptive", atol=-1.0),
    "no noise level": lambda: DPM_Solver(RUN.model_fn, NoiseScheduleVP(betas=np.linspace(1e-3, 0.999, 50))).sample(states(), t_end=1e-3),
    "structure": lambda: model_wrapper(max, LINEAR, "noise", {}, "classifier-free", {"a": BETAS}, [BETAS], 2.0)(states(), 0.5),
    "NumPy has none": lambda: model_wrapper(lambda x, t: x, LINEAR, "noise", {}, "classifier", classifier_fn=max)(states(), 0.5),
    "returned shape": lambda: DPM_Solver(lambda x, t: x[:1], LINEAR).sample(states()),
}


@pytest.mark.parametrize("words", WRONG)
def test_bad_input_is_one_sentence(words):
    """ValueError before the model is called, one sentence that names the option and what to do."""
    with pytest.raises(ValueError) as caught:
        WRONG[words]()
    message = str(caught.value)
    assert words in message and message.endswith(".") and "\n" not in message and (";" in message or ":" in message or "," in message), (
        message
    )


def guide_examples():
    text = (models.DATA.parent.parent / "docs" / "python.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.filterwarnings("ignore:.*__array__ implementation.*")  # diffusers' own
@pytest.mark.parametrize("number", range(len(guide_examples())))
def test_the_guides_examples_run(number):
    """Every block of docs/python.md runs as it stands."""
    if "diffusers" in guide_examples()[number]:
        pytest.importorskip("diffusers")
    exec(compile(guide_examples()[number], f"docs/python.md, example {number + 1}", "exec"), {})  # noqa: S102
