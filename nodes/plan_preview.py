"""What a run would do, for the plot in the nodes: widget values from the browser in, the outline of a tape out. No model is needed.

The request is hostile until checked: a page of any program on this machine can send one.
"""

import math
from collections import OrderedDict
from typing import Any

from ..solvers import schedule
from ..solvers.choices import CHOICES, FAMILY, PRESETS
from ..solvers.outline import outline, outline_of_calls
from ..solvers.path import Path
from ..solvers.presets import plan
from . import schedules
from .adapter import CORRECTOR_RANGE, THRESHOLDING, path_of, time_map_of
from .options import ADAPTIVE, DATA_STD, METHODS, SLOPES, settled
from .register import SAMPLERS as LISTED


class NotAsked(ValueError):
    """No page of this pack asks so: the request is damaged or not ours."""


SLOW = 300  # steps that are planned in about a second
TEXT = 4000  # characters of a widget
# Widgets that a preview reads: (name, default, the kind of value or the values it may have).
SCHEDULER: dict[str, tuple[Any, Any]] = {
    "schedule": ("auto", schedule.NAMES), "steps": (12, int), "denoise": (1.0, float), "sigma_max": (0.0, float), "sigma_min": (0.0, float),
    "manual_sigmas": ("14.6, 6.5, 2.9, 1.3, 0.5, 0", str), "final_sigma": ("zero", schedules.FINAL),
}  # fmt: skip
SAMPLER: dict[str, tuple[Any, Any]] = {
    "preset": ("auto", (*PRESETS, "custom", *FAMILY)), "algorithm": ("dpmsolver++", CHOICES["algorithm"]), "order": (2, int),
    "method": ("multistep", METHODS), "solver_type": ("dpmsolver", ("dpmsolver", "taylor")),
    "start": ("corrected", ("corrected", "official")), "final_rule": ("smooth", CHOICES["final_rule"]),
}  # fmt: skip
ADVANCED: dict[str, tuple[Any, Any]] = {
    "algorithm": ("dpmsolver-v", CHOICES["algorithm"]), "order": (2, int), "method": ("multistep", METHODS),
    "solver_type": ("dpmsolver", CHOICES["solver_type"]), "start": ("corrected", CHOICES["start"]),
    "final_rule": ("smooth", CHOICES["final_rule"]), "corrector": ("unipc", CHOICES["corrector"]), "eta": (0.0, float),
    "s_noise": (1.0, float), "noise_rule": ("sde", CHOICES["noise_rule"]), "r1": (0.0, float), "r2": (0.0, float),
    "thresholding": ("off", THRESHOLDING), "threshold_ratio": (0.995, float), "threshold_max": (1.0, float),
    **{name: (value, int if name == "max_evaluations" else float) for name, value in ADAPTIVE.items()},
    "data_std": (DATA_STD, float), "corrector_range": ("full", CORRECTOR_RANGE),
    "slopes": (SLOPES[0], SLOPES),
}  # fmt: skip
SAMPLERS = {"DPMSolverSamplerExt": SAMPLER, "DPMSolverSamplerAdvancedExt": ADVANCED}
HOST = {"scheduler": ("normal", str), "steps": (20, int), "denoise": (1.0, float)}  # ComfyUI's BasicScheduler
HOST_SAMPLER = {"sampler_name": ("euler", str)}  # its KSamplerSelect
FILE = {"file": ("", str), "steps": (0, int)}

_models: OrderedDict[str, Any] = OrderedDict()  # the model_samplings of the last runs, by their token
KEPT = 8


def remember(model_sampling) -> str:
    """A token for the noise levels of a model that just ran, with which the page asks for previews on it."""
    token = "/".join(
        f"{v:.6g}" if isinstance(v, float) else str(v)
        for v in (path_of(model_sampling).name, float(model_sampling.sigma_max), float(model_sampling.sigma_min), _half(model_sampling))
    )
    _models[token] = model_sampling
    _models.move_to_end(token)
    while len(_models) > KEPT:
        _models.popitem(last=False)
    return token


def family_of(model_sampling) -> str | None:
    """The model's family in `presets.FAMILIES`, by the classes that ComfyUI samples it with; None for one that is none of them."""
    kinds = {"CONST": "flow", "V_PREDICTION": "v", "EDM": "edm", "EPS": "sd"}
    kinds |= {"ModelSamplingContinuousV": "v", "ModelSamplingContinuousEDM": "edm"}
    return next((kinds[c.__name__] for c in type(model_sampling).__mro__ if c.__name__ in kinds), None)


def _half(model_sampling) -> float:
    clock = time_map_of(model_sampling)
    return clock(0.5) if clock else 0.0


def preview(request: object) -> dict[str, object]:
    """The outline of the run that the widgets of `request` ask for, with `source` (one line on the schedule) and `notes`.

    `request` has "scheduler": widgets of DPM-Solver Scheduler (ext), or of BasicScheduler, or null for the defaults; "sampler": widgets of
    one of this pack's sampler nodes or of KSamplerSelect with its id as "node", or null for the preset auto; and "model": the token of a
    model that ran, "" for one that has not run yet, or null for none.
    ValueError, one sentence, for what cannot be planned; `NotAsked` for what no page of this pack asks.
    """
    try:
        return _preview(request)
    except (ArithmeticError, AssertionError):  # coefficients that divide by 0 or overflow: from a request, or typed as manual_sigmas
        raise ValueError("A number among these values is too large or too small to plan with; choose a more usual one.") from None


def _preview(request: object) -> dict[str, object]:
    given = _dict(request, "the request", ("scheduler", "sampler", "model"))
    token = given.get("model")
    if token is not None and not isinstance(token, str):
        raise NotAsked("model is no text; send the token of a run, or null.")
    model_sampling = _models.get(token) if token else None
    levels, path, source, said, own = _levels(given.get("scheduler"), model_sampling)
    options, more = _options(given.get("sampler")) if own is None or given.get("sampler") is not None else (own, [])
    said += more
    if len(levels) < 2:
        raise ValueError("denoise is 0, so there are no steps; raise it.")
    if token is not None and model_sampling is None and "Stable Diffusion" in source:
        source = source.partition(",")[0] + f", {len(levels) - 1} steps on Stable Diffusion's noise levels; after a run on the model's own"
    known = {"source": source, "model": token if model_sampling is not None else None}
    if len(levels) - 1 > SLOW:
        raise ValueError(f"Runs of more than {SLOW} steps are not drawn before they ran.")
    if options is None:  # a sampler of the host: its schedule is known, its orders are not
        found = outline_of_calls(path, levels[:-1], levels, None, _widgets(given["sampler"], HOST_SAMPLER)["sampler_name"])
        return {**found, "notes": said, **known}
    if options.get("method") == "adaptive":
        low = next((s for s in reversed(levels[1:]) if s > 0), levels[-1])
        ends = {"first": [levels[0], path.half_logsnr(levels[0])], "last": [low, path.half_logsnr(low)]}
        ends = {k: [s, lam if math.isfinite(lam) else None] for k, (s, lam) in ends.items()}
        said.append("Adaptive chooses its own steps between the first noise level and the last: the run will show them.")
        return {
            "solver": f"adaptive {options.get('algorithm')}", "path": path.name, "options": {"method": "adaptive"}, "steps": 0,
            "evaluations": None, "registers": 10, "top": options.get("order", 3), "calls": [], "notes": said, **ends, **known,
        }  # fmt: skip
    reach = options.pop("corrector_range", "full")
    for name in ("thresholding", "threshold_ratio", "threshold_max"):
        options.pop(name, None)
    if reach == "half":
        options["corrector_range"] = (0.0, (time_map_of(model_sampling) if model_sampling is not None else schedule.sd_time_map())(0.5))
    tape = outline(plan(path, levels, **options))
    notes = [*said, *(note for note in tape["notes"] if note not in said)]
    return {**tape, "notes": notes, **known}


def _levels(given: object, model_sampling) -> tuple[list[float], Path, str, list[str], dict[str, Any] | None]:
    """(sigmas, path, one line on them, sentences, options of the sampler that they bring along) of the widgets of a scheduler node."""
    kind = _kind(given, "scheduler")
    if kind == "BasicScheduler":
        return *_of_host(_widgets(given, HOST), model_sampling), None
    if kind == "DPMSolverLoadTunedExt":
        return _of_file(_widgets(given, FILE))
    w = _widgets(given if given is not None else {}, SCHEDULER)
    _bounded(w["steps"], w["denoise"])
    made = schedules.steps_of(
        w["schedule"], w["steps"], w["denoise"], w["sigma_max"], w["sigma_min"], w["manual_sigmas"], w["final_sigma"], model_sampling
    )
    return made.sigmas, made.path, made.text.partition(":")[0], list(made.said), None


def _of_file(w: dict[str, Any]) -> tuple[list[float], Path, str, list[str], dict[str, Any] | None]:
    """The same of a file of tuned steps, with the solver that it was tuned for if that is one of this pack."""
    from ..solvers.tune_file import load_tuned
    from ..solvers.tune_use import levels_of, range_of
    from . import ems_files
    from .tune_load import solver_options

    _bounded(w["steps"], 1.0)
    place = ems_files.TUNED.find(w["file"])
    tuned, words = load_tuned(place)
    path, _ = range_of(words, tuned.sigmas, place.name)
    levels = levels_of(tuned, words, w["steps"] or len(tuned.sigmas) - 1, place.name)
    return levels, path, f"{place.name}, {len(levels) - 1} steps, tuned for {tuned.solver}", [], solver_options(words)[0] or None


def _of_host(w: dict[str, Any], model_sampling) -> tuple[list[float], Path, str, list[str]]:
    """The same of ComfyUI's own BasicScheduler, on Stable Diffusion's noise levels where no model is known."""
    import comfy.model_sampling
    import comfy.samplers

    name, steps = w["scheduler"], w["steps"]
    if name not in comfy.samplers.SCHEDULER_NAMES:
        raise ValueError(f"scheduler is {name!r}, which this ComfyUI does not have.")
    schedule.check_steps(steps)
    _bounded(steps, w["denoise"])
    known = model_sampling if model_sampling is not None else comfy.model_sampling.ModelSamplingDiscrete()

    def make(n: int) -> list[float]:
        return comfy.samplers.calculate_sigmas(known, name, n).tolist()

    levels = schedule.truncate(make, steps, w["denoise"])
    path = path_of(known)
    path.validate(levels)
    table = "" if model_sampling is not None else ", Stable Diffusion's table"
    return levels, path, f"{name}, {max(len(levels) - 1, 0)} steps{table}", []


def _bounded(steps: int, denoise: float) -> None:
    """Neither the planner nor the schedule of steps/denoise may take the server's time."""
    if 0 < denoise < 1 and steps / denoise > 20 * SLOW or steps > SLOW:
        raise ValueError(f"Runs of more than {SLOW} steps are not drawn before they ran.")


def _options(given: object) -> tuple[dict[str, Any] | None, list[str]]:
    """(options of `plan` or of the adaptive solver, None for a sampler of the host; sentences) of the widgets of a sampler node."""
    if given is None:
        return dict(PRESETS["auto"]), []
    kind = _kind(given, "sampler")
    if kind == "KSamplerSelect":
        preset = LISTED.get(_widgets(given, HOST_SAMPLER)["sampler_name"])
        return (dict((PRESETS | FAMILY)[preset]) if preset else None), []
    if kind not in SAMPLERS:
        raise NotAsked(f"sampler is of the node {kind[:80]!r}; only those of this pack can be drawn before they ran.")
    w = _widgets(given, SAMPLERS[kind])
    preset = w.pop("preset", "custom")
    if preset != "custom":
        return dict((PRESETS | FAMILY)[preset]), []
    return settled(**w)


def _kind(given: object, name: str) -> str:
    """The id of the node whose widgets `given` are; "" where it says none."""
    kind = given.get("node", "") if isinstance(given, dict) else ""
    if not isinstance(kind, str):
        raise NotAsked(f"{name} has a node that is no text; send its id.")
    return kind


def _dict(given: object, name: str, keys) -> dict[str, Any]:
    if not isinstance(given, dict) or not set(given) <= {*keys}:
        raise NotAsked(f"{name} is no object with {', '.join(keys)} only.")
    return given


def _widgets(given: object, known: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """The values of the widgets in `known`, those that are missing at their default; `NotAsked` for a value of another kind."""
    found = _dict(given, "the node", ("node", *known))
    values = {}
    for name, (default, kind) in known.items():
        value = found.get(name, default)
        if kind is float and type(value) is int:
            value = float(value) if abs(value) < 1e15 else math.nan
        if kind is float and type(value) is float and math.isfinite(value):
            pass
        elif kind is int and type(value) is int and abs(value) < 1e6:
            pass
        elif kind is str and isinstance(value, str) and len(value) <= TEXT:
            pass
        elif isinstance(kind, tuple) and isinstance(value, str) and value in kind:
            pass
        else:
            raise NotAsked(f"{name} is {str(value)[:80]!r}; the plot can read no such value.")
        values[name] = value
    return values
