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
from dpm_solver_ext.solvers.path import FLOW, VE, VP
from dpm_solver_ext.solvers.presets import PRESETS
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit.grids import run

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
        for method in ("multistep", "singlestep"):
            got = run(VE, model, sigmas, x, algorithm=algorithm, order=1, method=method)
            np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-11)


def test_singlestep_two_is_kdiffusions_dpm2(kdiffusion):
    """DPM-Solver++(2S) with midpoint stages equals k-diffusion's sample_dpmpp_2s_ancestral without noise (eta = 0), to 1e-11."""
    model, sigmas = models.toy(), schedule.karras(9, 14.6, 0.03)
    x = states() * sigmas[0]
    want = kdiffusion.sample_dpmpp_2s_ancestral(
        as_kdiffusion(model),
        torch.from_numpy(x),
        torch.tensor(sigmas, dtype=torch.float64),
        disable=True,
        eta=0.0,
        noise_sampler=lambda a, b: 0.0,
    )
    got = run(VE, model, sigmas, x, order=2, method="singlestep")
    np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-11)


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
    ours = run(VP, model, sigmas[::2], x, algorithm=algorithm, order=2, method="singlestep")
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


def official_orders(steps: int, order: int) -> list[int]:
    """How the official singlestep solver spends its evaluations."""
    if order == 2:
        return [2] * (steps // 2) + [1] * (steps % 2)
    if steps % 3 == 0:
        return [3] * (steps // 3 - 1) + [2, 1]
    return [3] * (steps // 3) + [steps % 3]


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
    from dpm_solver_ext.solvers.execute import execute
    from dpm_solver_ext.solvers.presets import plan

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
        project = (lambda d, s: dct(plain(idct(d), s).reshape(-1, 4, 8, 8)).reshape(-1, 256)) if mini else plain
    x = 80.0 * noise if edm else noise
    calls = []

    def denoise(y, s):
        calls.append(s)
        return model.denoise(path, y, s)

    common = {"algorithm": record["algo"], "solver_type": record.get("solver_type", "dpmsolver")}
    if record.get("method") == "singlestep":
        orders = official_orders(steps, order)
        sigmas, place = grid(len(orders)), 0
        for p, group in itertools.groupby(orders):
            n = len(list(group))
            part = sigmas[place : place + n + 1]
            solver_type = "taylor" if p == 3 and common["solver_type"] == "taylor" else common["solver_type"]
            x = execute(plan(path, part, algorithm=common["algorithm"], solver_type=solver_type, order=p, method="singlestep"), denoise, x)
            place += n
    else:
        sigmas = grid(steps)
        rule = "official" if record.get("lower_order_final", True) else "none"
        if order == 3:
            common["solver_type"] = "official"
        x = execute(plan(path, sigmas, **common, order=order, start="official", final_rule=rule), denoise, x, project=project)
        if record.get("denoise_to_zero"):
            x = denoise(x, sigmas[-1])
    assert len(calls) == record["nfe"]
    want = data[key + ".out"]
    got = idct(x) if mini else x
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=0, atol=1e-9 * max(1.0, np.abs(want).max()))


@functools.cache
def _dct_matrix() -> np.ndarray:
    """Orthonormal DCT-II of length 8, rows are frequencies."""
    k, n = np.arange(8)[:, None], np.arange(8)[None, :]
    m = np.cos(math.pi * (n + 0.5) * k / 8) * math.sqrt(2 / 8)
    m[0] /= math.sqrt(2)
    return m


def dct(x):
    """(batch, 4, 8, 8) pixels to coefficients."""
    return _dct_matrix() @ x @ _dct_matrix().T


def idct(c):
    """(batch, 256) coefficients to pixels, flattened."""
    return (_dct_matrix().T @ c.reshape(-1, 4, 8, 8) @ _dct_matrix()).reshape(-1, 256)


def test_comfyui_on_karras_and_on_flow():
    """ComfyUI's recorded dpmpp_2m: equal on karras (1e-10); on flow it takes λ = -log σ, so ours differs, and is nearer the exact end."""
    from dpm_solver_ext.tests.unit.grids import fine_end

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
