"""The solvers of `bench.py` by name, and one run of each: "sampler + schedule" is ComfyUI's or ours, "diffusers …" and so on are others'.

A run may use up to the cell's number of evaluations. Samplers with two calls a step take as many steps as fit.
"""

import functools
import math

import others
from problems import Host, Problem, Spent, errors, tools

OURS = "dpm_auto dpmpp_2m dpmpp_3m unipc dpm_solver_v3 dpmpp_2s dpmpp_3s dpm_fast".split()
PEERS = "euler dpmpp_2m lms ipndm deis uni_pc_bh2".split()  # best somewhere in results/defaults.md, and the most used one
SCHEDULES = {"flow": ("beta", "normal", "sgm_uniform")}
AUTO = "dpm_auto_ext + dpm_auto_ext"
QUICK = ("dpmpp_2m + karras", "ipndm + beta", "lms + beta", "euler + beta", "deis + karras", "uni_pc_bh2 + normal")
# ComfyUI's samplers that the whole grid leaves out, and why
LEFT_OUT = {
    "noise in every step: no end of the ODE to compare with": "euler_ancestral dpm_2_ancestral dpmpp_2s_ancestral dpmpp_sde dpmpp_sde_gpu "
    "dpmpp_2m_sde dpmpp_2m_sde_gpu dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu dpmpp_3m_sde dpmpp_3m_sde_gpu ddpm lcm "
    "res_multistep_ancestral er_sde seeds_2 seeds_3 sa_solver sa_solver_pece",
    "another update, which no number of steps brings to the ODE's end": "euler_cfg_pp euler_ancestral_cfg_pp dpmpp_2s_ancestral_cfg_pp "
    "dpmpp_2m_cfg_pp res_multistep_cfg_pp res_multistep_ancestral_cfg_pp gradient_estimation_cfg_pp",
    "its own number of evaluations": "dpm_adaptive",
}


def schedules(kind: str) -> tuple[str, ...]:
    return SCHEDULES.get(kind, ("karras", "beta", "normal"))


@functools.cache
def chosen(kind: str, size: str) -> tuple[str, ...]:
    """The names for a kind of model; `size` "quick", "default" or "full"."""
    if size == "quick":
        return (AUTO, "dpmpp_2m_ext + dpm_auto_ext", "unipc_ext + dpm_auto_ext", *QUICK)
    ours = [f"{name}_ext + dpm_auto_ext" for name in OURS]
    if size == "default":
        return (*ours, *(f"{a} + {s}" for a in PEERS for s in schedules(kind)), *(["dpmpp_2m + karras"] if kind == "flow" else []))
    comfy = tools()[1].samplers
    skipped = {name for group in LEFT_OUT.values() for name in group.split()}
    samplers = [s for s in [*comfy.KSAMPLER_NAMES, "uni_pc", "uni_pc_bh2"] if not s.endswith("_ext") and s not in skipped]
    builtin = [s for s in comfy.SCHEDULER_NAMES if not s.endswith("_ext")]
    ours += [f"{name}_ext + {s}" for name in OURS for s in (*builtin, "dpm_logsnr_ext")]
    return (*ours, *(f"{a} + {s}" for a in samplers for s in builtin), *others.names(kind))


def is_ours(name: str) -> bool:
    return "_ext" in name or name.startswith("facade")


def measure(problem: Problem, name: str, count: int, kept: dict) -> list[float] | None:
    """The rms error of every image; None where the solver fails, cannot make so few steps or returns what is not finite."""
    host = Host(problem, count, kept)
    try:
        end = others.run(problem, host, name, count) if " + " not in name else run(problem, host, name, count)
    except (Spent, ValueError, AssertionError, IndexError, RuntimeError, ZeroDivisionError, NotImplementedError):
        return None
    if end is None or not 0.6 * count < host.calls <= count:
        return None
    found = errors(end, problem.ends)
    return found if all(map(math.isfinite, found)) else None


def run(problem: Problem, host: Host, name: str, count: int):
    """The final state of ComfyUI's function `sampler` on its `schedule`."""
    sampler, schedule = name.split(" + ")
    _, comfy, _, _ = tools()
    twice = sampler in ("heun", "heunpp2", "dpm_2", "exp_heun_2_x0")
    steps = (count + 1) // 2 if twice else count  # the last step to 0 needs one call
    if sampler == "heunpp2":
        steps = (count + 3) // 3
    sigmas = comfy.samplers.calculate_sigmas(problem.sampling, schedule, steps + sampler.startswith("uni_pc"))
    noise = problem.noise
    if sampler.startswith("uni_pc"):  # loses the last sigma but one, as KSampler does for it; and knows float32 only
        sigmas = type(sigmas)(sigmas.tolist()[:-2] + sigmas.tolist()[-1:])
        function = getattr(comfy.extra_samplers.uni_pc, "sample_unipc" + "_bh2" * sampler.endswith("bh2"))
        noise = noise.float()
    else:
        function = getattr(comfy.samplers.k_diffusion_sampling, f"sample_{sampler}")
    if sampler == "dpm_fast":  # takes the ends only, and stops at the last sigma above 0, as in the host
        return function(host, noise * float(sigmas[0]), float(sigmas[-2]), float(sigmas[0]), count, extra_args={}, disable=True)
    return function(host, noise * float(sigmas[0]), sigmas, extra_args={"seed": 0}, callback=None, disable=True)
