"""The step schedules as ComfyUI wants them: from a model_sampling and a number of steps to a tensor of sigmas."""

import torch

from ..solvers import schedule
from ..solvers.path import FLOW, VE, Path
from ..solvers.schedule import TimeMap
from .adapter import path_of, tell, time_map_of

FINAL = ("zero", "sigma_min")


def levels(name: str, steps: int, path: Path, sigma_max: float, sigma_min: float, time_map: TimeMap, final: str = "zero") -> list[float]:
    """The schedule `name` (not "manual"), steps + 1 values: from sigma_max to sigma_min and then 0, or to sigma_min ("sigma_min")."""
    sigmas = _to_zero(name, steps, path, sigma_max, sigma_min, time_map)
    if final == "zero":
        return sigmas
    if steps > 1 and sigmas[-2] <= sigma_min * (1 + 1e-6):  # schedules that visit sigma_min before 0
        return _to_zero(name, steps + 1, path, sigma_max, sigma_min, time_map)[:-1]
    return [*sigmas[:-1], sigma_min]


def _to_zero(name: str, steps: int, path: Path, sigma_max: float, sigma_min: float, time_map: TimeMap) -> list[float]:
    if name == "time_uniform":
        return schedule.time_uniform(steps, sigma_max, sigma_min, time_map)
    if name == "time_quadratic":
        return schedule.time_uniform(steps, sigma_max, sigma_min, time_map, power=2)
    if name == "logSNR":
        return schedule.log_snr(path, steps, sigma_max, sigma_min, time_map)
    if name == "karras":
        return schedule.karras(steps, sigma_max, sigma_min)
    if name == "exponential":
        return schedule.exponential(steps, sigma_max, sigma_min)
    if name in schedule.TABLES:
        from ..solvers.tables import table  # not needed until one is asked for

        return table(name, steps, path, sigma_max, sigma_min)
    return schedule.auto(path, steps, sigma_max, sigma_min, time_map)


def of_model(model_sampling) -> tuple[Path, float, float, TimeMap, bool]:
    """(path, sigma_max, sigma_min, clock, whether the clock is the model's own); Stable Diffusion's for None."""
    clock = time_map_of(model_sampling) if model_sampling is not None else None
    own = clock is not None
    clock = clock or schedule.sd_time_map()
    if model_sampling is None:
        return VE, clock(1.0), clock(0.0), clock, own
    return path_of(model_sampling), float(model_sampling.sigma_max), float(model_sampling.sigma_min), clock, own


def of_table(name: str, path: Path | None, sigma_max: float, sigma_min: float) -> tuple[Path, float, float, str]:
    """(path, sigma_max, sigma_min, where the levels come from) for a published table, for a model of this path and range, or (None) for no
    model: then the table's own. Tells once of a model that the table cannot have been made for."""
    from ..solvers.tables import TABLES, published

    home, made_for, *_ = TABLES[name]
    own = published(name, 0)
    if path is None:
        return home, own[0], own[-1], f", published for {made_for}"
    if (path is FLOW) is not (home is FLOW):
        kinds = ("is a flow model", "is not a flow model")
        tell(
            f"schedule {name} was made for {made_for}, which {kinds[home is not FLOW]}, but this model {kinds[path is not FLOW]}; its "
            "levels are taken at the same signal-to-noise ratio and gain nothing, so choose auto."
        )
    return path, sigma_max, sigma_min, f", published for {made_for}"


def handler(name: str):
    """A function for SCHEDULER_HANDLERS: (model_sampling, steps) -> float32 sigmas (steps + 1,)."""

    def scheduler(model_sampling, steps):
        path, sigma_max, sigma_min, clock, _ = of_model(model_sampling)
        return torch.tensor(levels(name, int(steps), path, sigma_max, sigma_min, clock), dtype=torch.float32)

    scheduler.__name__ = f"dpm_{name}_ext".lower()
    return scheduler
