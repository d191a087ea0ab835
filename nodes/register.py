"""Adds our names to ComfyUI's lists, in place, and touches nothing that is there."""

import functools
import logging

SAMPLERS = {
    "dpm_auto_ext": "auto",
    "dpmpp_2m_ext": "dpmpp_2m",
    "dpmpp_3m_ext": "dpmpp_3m",
    "dpmpp_2s_ext": "dpmpp_2s",
    "dpmpp_3s_ext": "dpmpp_3s",
    "dpm_fast_ext": "dpm_fast",
    "dpm_adaptive_ext": "dpm_adaptive",
    "unipc_ext": "unipc",
    "dpmpp_2m_sde_ext": "dpmpp_2m_sde",
    "dpmpp_3m_sde_ext": "dpmpp_3m_sde",
    "dpmpp_sde_ext": "dpmpp_sde",
    "dpm_solver_v3_ext": "dpm_solver_v3",
}
SCHEDULERS = {
    "dpm_auto_ext": "auto",
    "dpm_logsnr_ext": "logSNR",
    "dpm_time_uniform_ext": "time_uniform",
    "dpm_time_quadratic_ext": "time_quadratic",
}

log = logging.getLogger("dpm_solver_ext")


def register() -> None:
    """Register samplers, schedulers, the folders of files and the plot's route; where the host has moved, say in one sentence what is off
    and leave the rest working."""
    for what, add in (
        ("samplers", _add_samplers),
        ("schedulers", _add_schedulers),
        ("folders of files", _add_folder),
        ("plots in the nodes", _add_page),
    ):
        try:
            add()
        except (ImportError, AttributeError, TypeError) as error:
            log.warning("DPM-Solver (ext): its %s are missing, because this ComfyUI has changed (%s); the nodes still work.", what, error)


def _add_folder() -> None:
    from .ems_files import register as add_folder

    add_folder()


def _add_page() -> None:
    from .page import register as add_route

    add_route()


def _add_samplers() -> None:
    import comfy.samplers
    from comfy.k_diffusion import sampling

    from ..solvers.choices import FAMILY, PRESETS
    from .adapter import sample

    lists = [comfy.samplers.KSAMPLER_NAMES, comfy.samplers.SAMPLER_NAMES]
    for name, preset in SAMPLERS.items():
        if not hasattr(sampling, f"sample_{name}"):
            function = functools.partial(sample, **(PRESETS | FAMILY)[preset])
            setattr(sampling, f"sample_{name}", functools.update_wrapper(function, sample))
        for names in lists:
            if name not in names:
                names.append(name)


def _add_schedulers() -> None:
    import comfy.samplers

    from .schedules import handler

    for name, schedule in SCHEDULERS.items():
        comfy.samplers.SCHEDULER_HANDLERS.setdefault(name, comfy.samplers.SchedulerHandler(handler(schedule), True))
        if name not in comfy.samplers.SCHEDULER_NAMES:
            comfy.samplers.SCHEDULER_NAMES.append(name)
