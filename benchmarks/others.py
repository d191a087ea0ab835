"""Solvers of other projects for the whole grid of `bench.py`: diffusers' schedulers, k-diffusion, and our facade of the official code
(its numbers are the official code's, see docs/python.md). Names have no " + "."""

import functools
import importlib
import importlib.util
import sys
import types

from problems import Host, Problem, tools

TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
KINDS = {
    "VP": {**TABLE, "prediction_type": "epsilon"},
    "v": {**TABLE, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    "flow": {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"},
}
DIFFUSERS = {
    "DPM multistep 2": ("DPMSolverMultistepScheduler", {"solver_order": 2}),
    "DPM multistep 3": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "DPM singlestep 2": ("DPMSolverSinglestepScheduler", {"solver_order": 2}),
    "DPM singlestep 3": ("DPMSolverSinglestepScheduler", {"solver_order": 3}),
    "DEIS 3": ("DEISMultistepScheduler", {"solver_order": 3}),
    "UniPC 2": ("UniPCMultistepScheduler", {"solver_order": 2}),
    "UniPC 3": ("UniPCMultistepScheduler", {"solver_order": 3}),
    "SA, no noise": ("SASolverScheduler", {"tau_func": lambda t: 0}),
}
ZERO_SNR = ("DPM multistep 2", "DPM multistep 3", "UniPC 2", "UniPC 3")  # those that know it
SPACINGS = {"": {}, " karras": {"use_karras_sigmas": True}, " exponential": {"use_exponential_sigmas": True}}
K_DIFFUSION = ("euler", "heun", "dpm_2", "lms", "dpmpp_2m")
FACADE = tuple((m, o, s) for m in ("multistep", "singlestep") for o in (2, 3) for s in ("time_uniform", "logSNR", "time_quadratic"))


def names(kind: str) -> list[str]:
    found = [f"k-diffusion {s} {g}" for s in K_DIFFUSION for g in ("karras", "exponential")] if kind != "flow" else []
    for name in DIFFUSERS if kind in ("VP", "flow") else ZERO_SNR if kind == "v" else ():
        found += [f"diffusers {name}{spacing}" for spacing in SPACINGS if kind == "VP" or not spacing]
    return found + ([f"facade {m} {o} {s}" for m, o, s in FACADE] if kind == "VP" else [])


def run(problem: Problem, host: Host, name: str, count: int):
    kind = problem.name.split(", ")[1]
    project, rest = name.split(" ", 1)
    return {"diffusers": _diffusers, "k-diffusion": _k_diffusion, "facade": _facade}[project](problem, host, rest, count, kind)


def _diffusers(problem, host, name, count, kind):
    spacing = next((s for s in SPACINGS if s and name.endswith(s)), "")
    cls, options = DIFFUSERS[name.removesuffix(spacing)]
    made = getattr(importlib.import_module("diffusers"), cls)(**KINDS[kind], **options, **SPACINGS[spacing])
    made.set_timesteps(count)
    sigmas = [float(s) for s in made.sigmas]
    size = (1.0, sigmas[0]) if kind == "flow" else (1 / (1 + sigmas[0] ** 2) ** 0.5, sigmas[0])
    x = problem.noise * (size[0] * size[1])
    for s, t in zip(sigmas, made.timesteps, strict=False):  # sigmas end with 0
        alpha = 1.0 if kind == "flow" else 1 / (1 + s * s) ** 0.5
        x0 = host.ask(x / alpha, s)
        noise = (x - alpha * x0) / (alpha * s)
        said = {"VP": lambda: noise, "v": lambda: alpha * noise - alpha * s * x0, "flow": lambda: (x - x0) / s}[kind]()  # noqa: B023
        x = made.step(said, t, x, return_dict=False)[0]
    return x


@functools.cache
def _sampling():
    """k_diffusion.sampling of the installed package; its `__init__`, which wants more packages, stays out."""
    spec = importlib.util.find_spec("k_diffusion")
    parent = types.ModuleType("k_diffusion")
    parent.__path__ = list(spec.submodule_search_locations)
    sys.modules["k_diffusion"] = parent
    return importlib.import_module("k_diffusion.sampling")


def _k_diffusion(problem, host, name, count, kind):
    module, (sampler, schedule) = _sampling(), name.split()
    steps = (count + 1) // 2 if sampler in ("heun", "dpm_2") else count
    sigmas = getattr(module, f"get_sigmas_{schedule}")(steps, float(problem.sampling.sigma_min), float(problem.sampling.sigma_max))
    return getattr(module, f"sample_{sampler}")(host, problem.noise * float(sigmas[0]), sigmas, disable=True)


def _facade(problem, host, name, count, kind):
    torch, _, library, _ = tools()
    method, order, skip = name.split()
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    schedule = library.NoiseScheduleVP("discrete", betas=betas)

    def model(x, t):
        t = t.reshape(-1)[:1]
        alpha, sigma = float(schedule.marginal_alpha(t)), float(schedule.marginal_std(t))
        return (x - alpha * host.ask(x / alpha, sigma / alpha)) / sigma

    top = float(problem.sampling.sigma_max)
    solver = library.DPM_Solver(model, schedule, algorithm_type="dpmsolver++")
    x = problem.noise * top / (1 + top * top) ** 0.5
    return solver.sample(x, steps=count - 1, order=int(order), skip_type=skip, method=method, denoise_to_zero=True)
