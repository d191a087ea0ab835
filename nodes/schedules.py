"""The step schedules as ComfyUI wants them: from a model_sampling and a number of steps to a tensor of sigmas."""

import math
from dataclasses import dataclass

import torch

from ..solvers import schedule
from ..solvers.path import FLOW, VE, Path
from ..solvers.schedule import TimeMap
from .adapter import path_of, time_map_of

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


def of_table(name: str, path: Path | None, sigma_max: float, sigma_min: float) -> tuple[Path, float, float, str, list[str]]:
    """(path, sigma_max, sigma_min, where the levels come from, a sentence where the table cannot have been made for this model, or where
    that cannot be seen) for a published table, for a model of this path and range, or (None) for no model: then the table's own."""
    from ..solvers.tables import TABLES, published

    home, made_for, *_ = TABLES[name]
    own = published(name, 0)
    said = []
    if path is None:
        if home is FLOW:
            said.append(
                f"schedule {name} has the noise levels of {made_for}, a flow model, and they spoil pictures of a model that is none; "
                "connect the model, so that they are fitted to it."
            )
        return home, own[0], own[-1], f", published for {made_for}, over its own noise levels, because no model is connected", said
    if (path is FLOW) is not (home is FLOW):
        kinds = ("is a flow model", "is not a flow model")
        said.append(
            f"schedule {name} was made for {made_for}, which {kinds[home is not FLOW]}, but this model {kinds[path is not FLOW]}; its "
            "levels are taken at the same signal-to-noise ratio and gain nothing, so choose auto."
        )
    return path, sigma_max, sigma_min, f", published for {made_for}", said


@dataclass(frozen=True)
class Made:
    """What the Scheduler node makes: sigmas, the path they lie on, one line of text, and sentences for the log."""

    sigmas: list[float]
    path: Path
    text: str
    said: list[str]


def steps_of(
    name: str, steps: int, denoise: float, sigma_max: float, sigma_min: float, manual: str, final: str, model_sampling=None
) -> Made:
    """The widgets of the Scheduler node as sigmas, for a model's model_sampling or (None) for Stable Diffusion's table. ValueError, one
    sentence with the widget's name, for what cannot be made."""
    if final not in FINAL:
        raise ValueError(f"final_sigma is {final!r}; choose one of {', '.join(FINAL)}.")
    if name not in schedule.NAMES:
        raise ValueError(f"schedule is {name!r}; choose one of {', '.join(schedule.NAMES)}.")
    schedule.check_steps(steps)
    path, top, low, clock, own = of_model(model_sampling)
    said: list[str] = []
    source = (
        ", the model's clock"
        if own
        else ", Stable Diffusion's table, because no model is connected"
        if model_sampling is None
        else ", Stable Diffusion's clock, because this model has no table"
    )
    if name in schedule.TABLES:
        path, top, low, source, said = of_table(name, path if model_sampling is not None else None, top, low)
    if name == "manual":
        sigmas, source = schedule.manual(manual), ""
        path.validate(sigmas)
    else:
        for which, value in (("sigma_max", sigma_max), ("sigma_min", sigma_min)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{which} is {value:g}; type a noise level, or 0 for the model's own.")
        top, low = sigma_max or top, sigma_min or low
        if not low < top:
            whose = ("" if sigma_min else "the model's ") + f"sigma_min {low:g} is not below " + ("" if sigma_max else "the model's ")
            raise ValueError(f"{whose}sigma_max {top:g}; raise sigma_max or lower sigma_min, or set both to 0 for the model's range.")
        path.validate([top, low])
        sigmas = schedule.truncate(lambda n: levels(name, n, path, top, low, clock, final), steps, denoise)
        try:
            path.validate(torch.tensor(sigmas, dtype=torch.float32).tolist())
        except ValueError as error:
            raise ValueError(
                f"schedule {name} cannot place {steps} steps between sigma_max {top:g} and sigma_min {low:g} on this model; take "
                "fewer steps, another schedule, or 0 for both."
            ) from error
        if name in schedule.TABLES and sigma_min:
            without = of_model(model_sampling)[2] if model_sampling is not None else of_table(name, None, top, low)[2]
            if sigmas == schedule.truncate(lambda n: levels(name, n, path, top, without, clock, final), steps, denoise):
                said.append(
                    f"sigma_min is {sigma_min:g}, which changes nothing here: a table is cut only above the level that its last step "
                    "starts from; set it to 0."
                )
    count = max(len(sigmas) - 1, 0)
    shown = [f"{s:.4g}" for s in sigmas]
    if len(shown) > 24:
        shown[12:-12] = ["…"]
    text = f"{name}, {count} step{'s' * (count != 1)}{source}" + (f": {', '.join(shown)}" if shown else "; denoise is 0")
    text = "; ".join([text, *said])
    return Made(sigmas, path, text, said)


def handler(name: str):
    """A function for SCHEDULER_HANDLERS: (model_sampling, steps) -> float32 sigmas (steps + 1,)."""

    def scheduler(model_sampling, steps):
        path, sigma_max, sigma_min, clock, _ = of_model(model_sampling)
        return torch.tensor(levels(name, int(steps), path, sigma_max, sigma_min, clock), dtype=torch.float32)

    scheduler.__name__ = f"dpm_{name}_ext".lower()
    return scheduler
