"""Tuned steps from a file: their sigmas at any number of steps, and the sampler that they were tuned for."""

import json

import comfy.samplers

from ..plots.tuned import summary
from ..solvers.path import PATHS
from ..solvers.presets import plan
from ..solvers.threshold import make_project
from ..solvers.tune_file import load_tuned
from ..solvers.tune_use import levels_of
from . import adapter, ems_files
from .tune_choice import code_of_sampler
from .tuned_sampler import own_options, sample_tuned, unwrapped

# of our solvers that a file may set
WORDS, NUMBERS = (
    (
        "algorithm", "order", "method", "solver_type", "start", "final_rule", "corrector", "slopes", "noise_rule", "thresholding",
        "corrector_range",
    ),
    ("eta", "s_noise", "r1", "r2", "threshold_ratio", "threshold_max"),
)  # fmt: skip

OUTSIDE = ("thresholding", "threshold_ratio", "threshold_max", "corrector_range")  # of them, what `plan` does not take


def load(file: str, steps: int, sampler=None):
    """(sigmas, SAMPLER, text) of a file of models/dpm_tuned; `steps` 0 as tuned. ValueError, one sentence, for what cannot be."""
    place = ems_files.TUNED.find(file)
    tuned, words = load_tuned(place)
    sigmas = levels_of(tuned, words, steps or len(tuned.sigmas) - 1, place.name)
    same = len(sigmas) == len(tuned.sigmas)
    how, is_it = _sampler(tuned.solver, words, sampler, place.name)
    gains = tuned.gains if same and is_it else ()
    function, options = unwrapped(how)
    wrapped = {"sampler_function": function, "sampler_options": options, "gains": gains, "made_for": tuple(tuned.sigmas)}
    inpaint = dict(getattr(how, "inpaint_options", {}))
    how = comfy.samplers.KSAMPLER(sample_tuned, wrapped | {"made": words, "label": place.name}, inpaint)
    note = ""
    if not same:
        levels = ", ".join(f"{s:.4g}" for s in sigmas)
        note = f"Stretched to {len(sigmas) - 1} steps, without gains: {levels}. As tuned it was:\n\n"
    elif not is_it:
        what = "without gains, " if tuned.gains else "as a plain schedule, "
        note = f"Used {what}because the connected sampler is not {tuned.solver} with the options it was tuned with. As tuned it was:\n\n"
    return sigmas, how, note + summary(tuned, words, place.name)


def solver_options(words: dict[str, str]) -> tuple[dict[str, object], bool]:
    """(the options of our solver that a file names, whether it had statistics); no options for a sampler of others, or what cannot be."""
    try:
        found = json.loads(words.get("plan", "{}"))
    except (ValueError, RecursionError):
        return {}, False
    if not isinstance(found, dict) or not found:
        return {}, False
    statistics = found.pop("statistics", False) is True
    good = all(type(v) in (str, int) if k in WORDS else k in NUMBERS and type(v) in (int, float) for k, v in found.items())
    try:
        if good:
            kind, reach = found.get("thresholding", "off"), found.get("corrector_range", "full")
            good = kind in adapter.THRESHOLDING and reach in adapter.CORRECTOR_RANGE
            if kind != "off":
                make_project(found.get("threshold_ratio", 0.995), found.get("threshold_max", 1.0))
            plan(PATHS["ve"], (8.0, 4.0, 2.0, 1.0), **{k: v for k, v in found.items() if k not in OUTSIDE})
    except (ValueError, OverflowError):
        good = False
    return (found if good else {}), statistics


def _sampler(solver: str, words: dict[str, str], sampler, name: str):
    """(the SAMPLER for the steps, whether it is what they were tuned for): the connected one, or made from the file where that can be; with
    the statistics of the connected one where it needs some."""
    options, needs = solver_options(words)

    def same(how) -> bool:
        return code_of_sampler(how) == words.get("solver code")

    own = own_options(sampler) if sampler is not None else None
    if options and needs and own is not None and own.get("statistics") is not None:
        how = comfy.samplers.KSAMPLER(adapter.sample, options | {"statistics": own["statistics"]})
        return how, same(how)
    if sampler is not None:
        return sampler, same(sampler)
    if options and not needs:
        return comfy.samplers.KSAMPLER(adapter.sample, options), True
    if needs:
        raise ValueError(
            f"{name} is for {solver} with statistics; connect to sampler a DPM-Solver Sampler (ext) with preset dpm_solver_v3 and ems."
        )
    raise ValueError(f"{name} is for the sampler {solver}, which cannot be made from the file; connect it to the sampler input.")
