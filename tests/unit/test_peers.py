"""Equal numbers to other people's code: k-diffusion and diffusers run here, the official code through its recorded (golden) vectors."""

import functools
import importlib
import importlib.machinery
import importlib.util
import itertools
import json
import math
import sys
import types

import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers import schedule
from dpm_solver_ext.solvers.choices import PRESETS
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.path import FLOW, VE, VP
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.singlestep import fast_orders, plan_singlestep
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit.grids import comfy_normal, errors, fine_end, problem, run
from dpm_solver_ext.tests.unit.pixels import dct, idct

# --- k-diffusion ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kdiffusion():
    """k_diffusion.sampling of the installed package; its `__init__` and torchvision, which sampling does not use, stay out."""
    spec = importlib.util.find_spec("k_diffusion")
    assert spec is not None and spec.submodule_search_locations, "k-diffusion is a test dependency: tools/venv.py installs it"
    before = set(sys.modules)
    parent = types.ModuleType("k_diffusion")
    parent.__path__ = list(spec.submodule_search_locations)
    sys.modules["k_diffusion"] = parent
    if importlib.util.find_spec("torchvision") is None:
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            sys.modules[name] = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, None))
        sys.modules["torchvision.transforms"].functional = sys.modules["torchvision.transforms.functional"]  # type: ignore[attr-defined]
    try:
        yield importlib.import_module("k_diffusion.sampling")
    finally:
        for name in set(sys.modules) - before:
            if name.split(".")[0] in ("k_diffusion", "torchvision"):
                del sys.modules[name]


def as_kdiffusion(model, log=None):
    """Our mixtures as a k-diffusion model: x (batch, n) and a sigma a batch item, float64."""

    def denoise(x, sigma, **_):
        if log is not None:
            log.append(float(sigma[0]))
        return torch.from_numpy(model.denoise(VE, x.numpy(), float(sigma[0])))

    return denoise


def tensors(x, sigmas):
    """(x, sigmas) as float64 tensors."""
    return torch.from_numpy(x), torch.tensor(sigmas, dtype=torch.float64)


def states(width=8, batch=8):
    return np.random.default_rng(9).standard_normal((batch, width))


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 25])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_dpmpp_2m_on_karras_is_kdiffusions(kdiffusion, guidance, steps):
    """Preset dpmpp_2m on karras equals sample_dpmpp_2m to 1e-12 in float64, same model calls: there its smooth rule changes nothing."""
    model, sigmas = models.toy(guidance), schedule.karras(steps, 14.614642, 0.0291675)
    x = states() * sigmas[0]
    called = []
    want = kdiffusion.sample_dpmpp_2m(as_kdiffusion(model, called), *tensors(x, sigmas), disable=True)
    assert called == sigmas[:-1]
    np.testing.assert_allclose(run(VE, model, sigmas, x, **PRESETS["dpmpp_2m"]), want.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("algorithm", ["dpmsolver++", "dpmsolver"])
def test_order_one_is_euler(kdiffusion, algorithm):
    """Order 1 of both forms equals sample_euler (DDIM) on any schedule, to 1e-11."""
    model = models.toy()
    for sigmas in (schedule.karras(12, 14.6, 0.03), schedule.exponential(7, 80.0, 0.002), [10.0, 9.0, 0.5, 0.01, 0.0]):
        x = states() * sigmas[0]
        want = kdiffusion.sample_euler(as_kdiffusion(model), *tensors(x, sigmas), disable=True)
        for method in ("multistep", "singlestep", "singlestep_fixed"):
            got = run(VE, model, sigmas, x, algorithm=algorithm, order=1, method=method)
            np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-11)


@pytest.fixture()
def double():
    """k-diffusion makes its own numbers in torch's default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def noise_of(sigma_from: float, sigma_to: float) -> np.ndarray:
    """Unit noise that depends on its interval only, so that two samplers agree if they ask for the same intervals."""
    seed = [round(1e5 * (50 + math.log(float(s)))) for s in (sigma_from, sigma_to)]
    return np.random.default_rng(seed).standard_normal((8, 8))


def torch_noise(sigma_from, sigma_to):
    return torch.from_numpy(noise_of(sigma_from, sigma_to))


def uneven(n: int) -> list[float]:
    """n steps to σ = 0 whose λ steps differ by up to 2."""
    lam = np.cumsum([1 + 0.33 * (-1) ** i for i in range(n)])
    return [float(v) for v in 14.6 * np.exp(-6.0 * (lam - lam[0]) / max(lam[-1], 1))] + [0.0]


SAMPLERS = {
    "sample_dpmpp_2s_ancestral": ({}, {"order": 2, "method": "singlestep_fixed", "noise_rule": "renoise"}),
    "sample_dpmpp_sde": ({}, {"order": 2, "method": "singlestep_fixed", "noise_rule": "ancestral"}),
    "sample_dpmpp_2m_sde midpoint": ({"solver_type": "midpoint"}, {"order": 2, "start": "official", "final_rule": "none"}),
    "sample_dpmpp_2m_sde heun": (
        {"solver_type": "heun"},
        {"order": 2, "solver_type": "taylor", "start": "official", "final_rule": "none"},
    ),
    "sample_dpmpp_3m_sde": ({}, {"order": 3, "solver_type": "official_taylor", "start": "official", "final_rule": "none"}),
}


@pytest.mark.parametrize("eta, s_noise", [(0.0, 1.0), (0.3, 1.0), (1.0, 1.0), (0.7, 1.2), (1.0, 0.8)])
@pytest.mark.parametrize("name", SAMPLERS)
def test_kdiffusions_stochastic_samplers(kdiffusion, double, name, eta, s_noise):
    """2s_ancestral, dpmpp_sde, 2m_sde (both types) and 3m_sde equal ours in float64 to 1e-9 with the same noise by interval, at guidance 4,
    from one step to σ = 0 to 16 (with one the multistep ones crash there), on karras and on uneven sigmas; the model is called at the same.
    """
    model = models.toy(4.0)
    theirs, ours = SAMPLERS[name]
    counts = (2, 3, 9, 16) if "m_sde" in name else (1, 2, 3, 9, 16)
    for sigmas in [schedule.karras(n, 14.6, 0.03) for n in counts] + [uneven(7)]:
        x, called, asked = states() * sigmas[0], [], []
        sample = getattr(kdiffusion, name.split()[0])
        options = {"eta": eta, "s_noise": s_noise, "noise_sampler": torch_noise, "disable": True} | theirs
        want = sample(as_kdiffusion(model, called), *tensors(x, sigmas), **options).numpy()

        class Watch:
            def denoise(self, path, y, s, asked=asked):
                asked.append(s)
                return model.denoise(path, y, s)

        got = run(VE, Watch(), sigmas, x, noise_of, eta=eta, s_noise=s_noise, **ours)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)
        np.testing.assert_allclose(asked, called, rtol=1e-10)


def fast_grid(evaluations: int, top: float, low: float) -> list[float]:
    return [float(v) for v in np.exp(np.linspace(math.log(top), math.log(low), len(fast_orders(evaluations, 3)) + 1))]


def dpm_fast(evaluations: int, sigmas, x, model, eta=0.0, s_noise=1.0):
    """k-diffusion's sample_dpm_fast by our planner: all but the last step with noise, as its last one may not go below sigma_min."""
    orders, options = fast_orders(evaluations, 3), {"algorithm": "dpmsolver", "order": 3}
    denoise = lambda y, s: model.denoise(VE, y, s)  # noqa: E731
    noisy = {"eta": eta, "s_noise": s_noise, "noise_rule": "renoise"}
    if eta:
        x = execute(plan_singlestep(VE, sigmas[:-1], orders=orders[:-1], **options, **noisy), denoise, x, noise=noise_of)
        orders, sigmas = orders[-1:], sigmas[-2:]
    return execute(plan_singlestep(VE, sigmas, orders=orders, **options), denoise, x)


@pytest.mark.parametrize("eta, s_noise", [(0.0, 1.0), (0.4, 1.0), (1.0, 0.9)])
def test_kdiffusions_dpm_fast(kdiffusion, double, eta, s_noise):
    """sample_dpm_fast of 1 to 11 evaluations equals our singlestep tapes with fast_orders on even λ, without and with noise, to 1e-11."""
    model = models.toy()
    for evaluations in range(1, 12):
        sigmas, called = fast_grid(evaluations, 14.6, 0.03), []
        x = states() * sigmas[0]
        want = kdiffusion.sample_dpm_fast(
            as_kdiffusion(model, called),
            torch.from_numpy(x),
            0.03,
            14.6,
            evaluations,
            disable=True,
            eta=eta,
            s_noise=s_noise,
            noise_sampler=torch_noise,
        )
        assert len(called) == evaluations
        got = dpm_fast(evaluations, sigmas, x, model, eta, s_noise)
        np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-11)


def test_kdiffusions_dpm_fast_stops_at_sigma_min(kdiffusion, double):
    """k-diffusion's dpm_fast ends at sigma_min; on a schedule that ends at 0 ours adds an evaluation and takes the prediction: the same run
    and a last step. Neither is nearer the ODE's end in general: toy, to 0.1, 16 evaluations .0125 theirs, .0205 ours; 40 .0221, .0193.
    """
    model, sigmas = models.toy(), fast_grid(16, 14.6, 0.1)
    x = states() * 14.6
    theirs = kdiffusion.sample_dpm_fast(as_kdiffusion(model), torch.from_numpy(x), 0.1, 14.6, 16, disable=True).numpy()
    tape = plan_singlestep(VE, [*sigmas, 0.0], algorithm="dpmsolver", order=3, orders=[*fast_orders(16, 3), 1])
    ours = execute(tape, lambda y, s: model.denoise(VE, y, s), x)
    assert tape.evaluations == 17
    np.testing.assert_allclose(ours, model.denoise(VE, theirs, 0.1), rtol=0, atol=1e-11)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_the_third_order_weights_of_3m_sde(kdiffusion, double, guidance):
    """At eta = 0 sample_3m_sde takes half of the second derivative (order 2); our third order with exact weights and the corrected start is
    nearer the exact end of the ODE."""
    model, sigmas = models.toy(guidance), fast_grid(3 * 63, 5.0, 0.2)
    x = states() * sigmas[0]
    right = fine_end(VE, model, x, sigmas[0], sigmas[-1], 600)
    theirs = kdiffusion.sample_dpmpp_3m_sde(as_kdiffusion(model), *tensors(x, sigmas), disable=True, eta=0.0, noise_sampler=torch_noise)
    ours = run(VE, model, sigmas, x, order=3)
    a, b = errors(ours, right), errors(theirs.numpy(), right)
    assert a < 0.4 * b and b > 1e-5, (a, b)


def test_the_smooth_rule_where_the_last_step_is_long(kdiffusion):
    """On ComfyUI's `normal` the last finite λ step is far longer than the one before: there 2M extrapolates over it, the smooth rule does
    not, and is nearer the exact end (image-like data: .062 for .085 at 12 steps, .033 for .055 at 20; karras: the same solver, above)."""
    model, x, right = problem("image", "ve")
    for steps, ratio in ((8, 0.95), (12, 0.8), (20, 0.7)):
        sigmas = comfy_normal(VE, steps)
        theirs = kdiffusion.sample_dpmpp_2m(as_kdiffusion(model), *tensors(x, sigmas), disable=True).numpy()
        ours = errors(run(VE, model, sigmas, x, **PRESETS["dpmpp_2m"]), right)
        assert ours < ratio * errors(theirs, right), (steps, ours, errors(theirs, right))


def test_kdiffusions_schedules(kdiffusion):
    """karras and exponential equal get_sigmas_karras and get_sigmas_exponential (float32 there): 1e-5 relative."""
    for steps, top, low in itertools.product((2, 5, 30), (14.614642, 80.0, 4519.0), (0.0291675, 0.002)):
        np.testing.assert_allclose(schedule.karras(steps, top, low), kdiffusion.get_sigmas_karras(steps, low, top).numpy(), rtol=2e-5)
        if top < 1000:  # beyond lies an infinite end, entered in one step: schedule.exponential
            np.testing.assert_allclose(
                schedule.exponential(steps, top, low), kdiffusion.get_sigmas_exponential(steps, low, top).numpy(), rtol=2e-5
            )


# --- diffusers ------------------------------------------------------------------------------------------------------------------------


QUIET = pytest.mark.filterwarnings("ignore:.*(__array__ implementation|algorithm_type).*")  # diffusers' own


def diffusers_run(cls, path, model, sigmas, x, **config):
    """A diffusers scheduler stepped along our sigmas; the network returns x0. Its state and sigmas are float32."""
    common = {"num_train_timesteps": 1000, "prediction_type": "sample", "lower_order_final": False, "final_sigmas_type": "sigma_min"}
    if path is FLOW:
        common |= {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    scheduler = cls(**(common | config))
    scheduler.set_timesteps(len(sigmas) - 1)
    assert len(scheduler.sigmas) == len(sigmas)
    scheduler.sigmas = torch.tensor(sigmas, dtype=torch.float32)
    scheduler.timesteps = torch.arange(len(sigmas) - 1, 0, -1)  # labels only: our model reads the sigma
    if hasattr(scheduler, "order_list"):
        scheduler.order_list = scheduler.get_order_list(len(sigmas) - 1)
    state = torch.from_numpy(x).float()
    for i, t in enumerate(scheduler.timesteps):
        s = float(scheduler.sigmas[i])
        x0 = model.denoise(path, state.double().numpy(), s)
        out = (state.double().numpy() - x0) / s if path is FLOW else x0
        state = scheduler.step(torch.from_numpy(out).float(), t, state).prev_sample
    return state.double().numpy()


GRID = [10.0, 7.0, 4.2, 2.9, 1.5, 1.1, 0.6, 0.3, 0.22, 0.1, 0.06]


@QUIET
@pytest.mark.parametrize("steps", [10, 8])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "dpmsolver"])
def test_diffusers_multistep(algorithm, order, steps):
    """DPMSolverMultistepScheduler (midpoint) on uneven sigmas equals our official options, without and with its final orders, to 2e-5."""
    diffusers = pytest.importorskip("diffusers")
    model, sigmas = models.toy(), GRID[-steps - 1 :]
    x = VP.sigma(sigmas[0]) * states()
    config = {"algorithm_type": algorithm, "solver_order": order, "solver_type": "midpoint"}
    ours = {"algorithm": algorithm, "order": order, "solver_type": "official", "start": "official"}
    for lower, rule in ((False, "none"), (True, "official")):
        if lower and steps == 10:
            continue  # it drops orders below 15 steps, the official code below 10
        theirs = diffusers_run(diffusers.DPMSolverMultistepScheduler, VP, model, sigmas, x, lower_order_final=lower, **config)
        np.testing.assert_allclose(run(VP, model, sigmas, x, **ours, final_rule=rule), theirs, rtol=0, atol=2e-5)


@QUIET
@pytest.mark.parametrize("order", [1, 2, 3])
def test_diffusers_flow(order):
    """The same scheduler on flow sigmas (true λ there), to 2e-5: guards the flow path's coefficients."""
    diffusers = pytest.importorskip("diffusers")
    model, sigmas = models.toy(), [0.98, 0.9, 0.83, 0.7, 0.6, 0.4, 0.3, 0.15, 0.06, 0.02]
    x = states()
    theirs = diffusers_run(diffusers.DPMSolverMultistepScheduler, FLOW, model, sigmas, x, algorithm_type="dpmsolver++", solver_order=order)
    ours = run(FLOW, model, sigmas, x, order=order, solver_type="official", start="official", final_rule="none")
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


@QUIET
def test_diffusers_order_three_differs_from_the_exact_one():
    """Its third order halves the second derivative, as the official code: ours with exact weights is another solver (> 1e-3 apart)."""
    diffusers = pytest.importorskip("diffusers")
    model, x = models.toy(), VP.sigma(GRID[0]) * states()
    theirs = diffusers_run(diffusers.DPMSolverMultistepScheduler, VP, model, GRID, x, algorithm_type="dpmsolver++", solver_order=3)
    ours = run(VP, model, GRID, x, order=3, solver_type="dpmsolver", start="official", final_rule="none")
    assert np.abs(ours - theirs).max() > 1e-3


@QUIET
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "dpmsolver"])
def test_diffusers_singlestep(algorithm):
    """DPMSolverSinglestepScheduler of order 2 (midpoint) on even λ, its stages being every other sigma, equals ours to 2e-5.

    Its order 3 takes the inner stage by the midpoint rule where the papers (and we) integrate it: not the same solver.
    """
    diffusers = pytest.importorskip("diffusers")
    model = models.toy()
    sigmas = [math.exp(2.0 - 0.45 * i) for i in range(11)]
    x = VP.sigma(sigmas[0]) * states()
    theirs = diffusers_run(
        diffusers.DPMSolverSinglestepScheduler, VP, model, sigmas, x, algorithm_type=algorithm, solver_order=2, solver_type="midpoint"
    )
    ours = run(VP, model, sigmas, x, algorithm=algorithm, order=2, method="singlestep")
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


# --- the official code's golden vectors -----------------------------------------------------------------------------------------------


class OfficialSchedule:
    """NoiseScheduleVP's facts: log α(t) for t in (0, 1], "discrete" piecewise linear over the table, "linear" in closed form."""

    def __init__(self, kind: str):
        self.kind = kind
        betas = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
        self.table = 0.5 * np.cumsum(np.log(1 - betas))
        self.times = np.linspace(0, 1, 1001)[1:]
        self.end = 1e-3

    def log_alpha(self, t: float) -> float:
        if self.kind == "linear":
            return -0.25 * t * t * (20 - 0.1) - 0.5 * t * 0.1
        return float(np.interp(t, self.times, self.table))

    def sigma(self, t: float) -> float:
        """Our VP sigma, σ/α."""
        return math.sqrt(math.expm1(-2 * self.log_alpha(t)))

    def grid(self, skip: str, n: int) -> list[float]:
        if skip == "logSNR":
            return [float(v) for v in np.exp(np.linspace(math.log(self.sigma(1.0)), math.log(self.sigma(self.end)), n + 1))]
        p = 2 if skip == "time_quadratic" else 1
        times = np.linspace(1.0, self.end ** (1 / p), n + 1) ** p
        return [self.sigma(float(t)) for t in times]


@functools.cache
def golden_records() -> dict:
    return {r["key"]: r for r in json.loads((models.DATA / "golden.json").read_text())}


def covered(record: dict) -> bool:
    """Runs our planners can do: multistep with any grid, singlestep where its stages are ours (even λ), no correcting_xt_fn."""
    key = record["key"]
    if record["impl"] != "dpm_solver_pytorch" or "adaptive" in key or "xtfn" in key or record["algo"] not in ("dpmsolver", "dpmsolver++"):
        return False
    if "tstart" in key or "inverse" in key:
        return False
    return not record.get("method", "multistep").startswith("singlestep") or record.get("skip_type") == "logSNR"


COVERED = [key for key, record in golden_records().items() if covered(record)]


def test_enough_golden_vectors_are_covered():
    """The list of covered runs cannot shrink unseen: every multistep run of the official code, and singlestep on even λ."""
    assert all(key in COVERED for key in golden_records() if ".multi." in key)
    assert len([k for k in COVERED if ".multi." in k]) == 21
    assert len(COVERED) >= 32, COVERED


def threshold(limit: float):
    """The official dynamic thresholding: clip to the 0.995 quantile of |x0| of an item, at least `limit`, and divide by it."""

    def project(x0, _):
        s = np.maximum(np.quantile(np.abs(x0), 0.995, axis=1, keepdims=True), limit)
        return np.clip(x0, -s, s) / s

    return project


@pytest.mark.parametrize("key", COVERED)
def test_golden_vectors(key):
    """Our planner with the official options gives what the official float64 code returned, to 1e-9."""
    record, data = golden_records()[key], models.golden()
    edm, mini = "edm" in record["problem"], "mini" in record["problem"]
    path = VE if edm else VP
    if mini:
        model = models.image_like()
        noise = dct(data["mini.noise"]).reshape(2, 256)
    else:
        model = models.toy(4.0 if "cfg" in record["problem"] else 1.0)
        noise = data["toy.noise"].reshape(4, 8)
    steps, order, skip = record["steps"], record["order"], record.get("skip_type", "time_uniform")
    times = OfficialSchedule(record["schedule"])

    def grid(n):
        if edm:
            return [float(v) for v in np.exp(np.linspace(math.log(80), math.log(0.002), n + 1))]
        return times.grid(skip, n)

    project = None
    if record["thr"] != "None":
        plain = threshold(record["mx"])
        project = (lambda d, s: dct(plain(idct(d).reshape(-1, 256), s).reshape(-1, 4, 8, 8)).reshape(-1, 256)) if mini else plain
    x = 80.0 * noise if edm else noise
    calls = []

    def denoise(y, s):
        calls.append(s)
        return model.denoise(path, y, s)

    common = {"algorithm": record["algo"], "solver_type": record.get("solver_type", "dpmsolver")}
    if record.get("method") == "singlestep":
        orders = fast_orders(steps, order)
        tape = plan_singlestep(path, grid(len(orders)), **common, order=order, orders=orders)
    else:
        rule = "official" if record.get("lower_order_final", True) else "none"
        if order == 3:
            common["solver_type"] = {"dpmsolver": "official", "taylor": "official_taylor"}[common["solver_type"]]
        tape = plan(path, grid(steps), **common, order=order, start="official", final_rule=rule)
    x = execute(tape, denoise, x, project=project)
    if record.get("denoise_to_zero"):
        x = denoise(x, tape.sigmas[-1])
    assert len(calls) == record["nfe"]
    want = data[key + ".out"]
    got = idct(x) if mini else x
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=0, atol=1e-9 * max(1.0, np.abs(want).max()))


UNIPC_TYPES = {"bh1": "bh1", "bh2": "dpmsolver", "vary_coeff": "taylor"}
UNIPC = [key for key, record in golden_records().items() if record["impl"] == "uni_pc"]
HOSTS = [key for key, record in golden_records().items() if record["impl"] in ("kd", "comfy") and "dpmpp_2m.." not in key]


def test_every_key_of_unipc_and_the_hosts_is_covered():
    """No golden run of uni_pc, k-diffusion or ComfyUI is left out: those below, and the two of sample_dpmpp_2m at the end of this file."""
    records = golden_records()
    left = {key for key, r in records.items() if r["impl"] not in ("dpm_solver_pytorch", "dpm_solver_v3")} - set(UNIPC) - set(HOSTS)
    assert left == {"comfy.sample_dpmpp_2m..eta0.0.vp", "comfy.sample_dpmpp_2m..eta0.0.flow"}
    assert len(UNIPC) == 9 and len(HOSTS) == 15


@pytest.mark.parametrize("key", UNIPC)
def test_golden_unipc(key):
    """UniPC of orders 1 to 3, bh1, bh2 and the faulty vary_coeff (as corrector "official"), by data and by noise, to 1e-12."""
    record, data, model = golden_records()[key], models.golden(), models.toy()
    variant = record.get("variant", "bh1")
    tape = plan(
        VP,
        OfficialSchedule("discrete").grid(record.get("skip_type", "time_uniform"), record["steps"]),
        algorithm="dpmsolver" if record.get("algo") == "noise_prediction" else "dpmsolver++",
        order=record["order"],
        solver_type=UNIPC_TYPES[variant],
        start="official",
        final_rule="official",
        corrector="official" if variant == "vary_coeff" else "unipc",
    )
    assert tape.evaluations == record["nfe"]
    got = execute(tape, lambda y, s: model.denoise(VP, y, s), data["toy.noise"].reshape(4, 8))
    np.testing.assert_allclose(got, data[key + ".out"].reshape(4, 8), rtol=0, atol=1e-12)


def shifted(sigma: float, shift: float = 3.0) -> float:
    return shift * sigma / (1 + (shift - 1) * sigma)


@pytest.mark.parametrize("key", HOSTS)
def test_golden_samplers_of_the_hosts(key):
    """k-diffusion's and ComfyUI's stochastic samplers with the recorded noise, to 1e-12, at the recorded sigmas.

    From flow σ = 1 ComfyUI starts its SDE samplers at the time 1 - 1e-4 of the shifted schedule instead, and 2s_ancestral takes the first
    step by the prediction at a stage at 0.9999 alone: the one step done by hand here. Ours from 1 itself is in test_ends.
    """
    record, data, model = golden_records()[key], models.golden(), models.toy()
    flow, name = record["problem"] == "flow", record["fn"]
    path, sigmas = (FLOW, data["sigmas.flow_sgm10"]) if flow else (VE, data["sigmas.karras10"])
    sigmas = [float(s) for s in sigmas]
    x, noise = data["toy.noise"].reshape(4, 8) * sigmas[0], iter(data["sde.noise"].reshape(-1, 4, 8))
    options = dict(SAMPLERS[f"{name} heun" if "heun" in key else f"{name} midpoint" if "2m_sde" in key else name][1], eta=record["eta"])
    asked = []

    def denoise(y, s):
        asked.append(s)
        return model.denoise(path, y, s)

    if flow and name == "sample_dpmpp_2s_ancestral":
        options["noise_rule"], (s, t) = "renoise_flow", sigmas[:2]
        down = t * (1 + (t / s - 1) * record["eta"])
        stage = 0.9999 * x + 0.0001 * denoise(x, s)
        x = down * x + (1 - down) * denoise(stage, 0.9999)
        scale = (1 - t) / (1 - down)
        x, sigmas = scale * x + math.sqrt(t**2 - (scale * down) ** 2) * next(noise), sigmas[1:]
    elif flow:
        sigmas[0] = shifted(1 - 1e-4)
    got = execute(plan(path, sigmas, **options), denoise, x, noise=lambda a, b: next(noise))
    np.testing.assert_allclose(got, data[key + ".out"].reshape(4, 8), rtol=0, atol=1e-12)
    np.testing.assert_allclose(asked, data[key + ".t"].ravel(), rtol=1e-13)
    assert len(asked) == record["nfe"]


def test_comfyui_on_karras_and_on_flow():
    """ComfyUI's recorded dpmpp_2m: equal on karras (1e-10); on flow it takes λ = -log σ, so ours differs, and is nearer the exact end."""
    data, model = models.golden(), models.toy()
    noise = data["toy.noise"].reshape(4, 8)
    sigmas = data["sigmas.karras10"]
    want = data["comfy.sample_dpmpp_2m..eta0.0.vp.out"].reshape(4, 8)
    np.testing.assert_allclose(run(VE, model, sigmas, noise * sigmas[0], **PRESETS["dpmpp_2m"]), want, rtol=0, atol=1e-10)
    sigmas = data["sigmas.flow_sgm10"]
    theirs = data["comfy.sample_dpmpp_2m..eta0.0.flow.out"].reshape(4, 8)
    ours = run(FLOW, model, sigmas, noise, **PRESETS["auto"])
    right = fine_end(FLOW, model, noise, 1.0)
    size = lambda a: math.sqrt(np.mean(a**2))  # noqa: E731
    assert size(ours - theirs) > 1e-3
    assert size(ours - right) < size(theirs - right)
