"""Which solvers a tuning tries, what they are called, and the SAMPLER that comes of it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.samplers

from ..solvers.choices import FAMILY, PRESETS
from ..solvers.presets import plan
from ..solvers.tune import CANDIDATES, Tuned
from . import adapter
from .register import SAMPLERS
from .tune import MODES
from .tune_code import thing_code
from .tuned_sampler import own_options, sample_tuned, unwrapped

# samplers of the host that are one of ours under another name; {name: (candidate, whether on flow models too)}
TWINS = {"euler": ("ddim", True), "dpmpp_2m": ("dpmpp_2m", False)}
# options of ours that say nothing
IDLE = {name: p.default for name, p in inspect.signature(plan).parameters.items() if p.default is not p.empty}
IDLE |= {"thresholding": "off", "corrector_range": "full"}


@dataclass
class Choice:
    """One solver that a tuning tries: the function as a SAMPLER has it, its options, and what of them can be written down."""

    function: Callable[..., Any]
    options: dict[str, Any]
    inpaint: dict[str, Any]
    plain: dict[str, Any]  # options of `plan` to rebuild it from, empty for samplers of others


def choices_of(sampler, mode: str, flow: bool = False) -> dict[str, Choice]:
    """{name: what to try} for the SAMPLER and, if asked, ours beside it, on a model that is a `flow` or not. ValueError, one sentence, for
    one without a schedule."""
    if not hasattr(sampler, "sampler_function"):
        raise ValueError(f"sampler is a {type(sampler).__name__}, which takes no schedule; connect one of KSamplerSelect or of this pack.")
    function, options = unwrapped(sampler)
    inpaint = dict(getattr(sampler, "inpaint_options", {}))
    own = own_options(sampler)
    if own is not None and own.get("method") == "adaptive":
        raise ValueError("sampler has method adaptive, which chooses its own steps; connect a sampler that follows a schedule.")
    found = {name_of(sampler): Choice(function, options, inpaint, _plain(own or {}))}
    if mode != MODES[2]:
        return found
    twin, also_flow = TWINS.get(name_of(sampler), ("", True)) if own is None and not options else ("", True)
    ours = {f"{name} (ext)": dict(values) for name, values in CANDIDATES.items() if name != twin or flow and not also_flow}
    statistics = (own or {}).get("statistics")
    if statistics is not None:
        v3 = {"algorithm": "dpmsolver-v3", "corrector": "unipc", "statistics": statistics}
        ours |= {f"dpm_solver_v3 of order {order} (ext)": v3 | {"order": order} for order in (2, 1)}
    for name, values in ours.items():
        if own is None or _acting(values) != _acting(own):
            found[name] = Choice(adapter.sample, values, {}, _plain(values))
    return found


def adds_noise(sampler) -> bool:
    """Whether a SAMPLER of this pack is an SDE form: it keeps its noise in pictures, and is tuned without, for the schedule only."""
    return bool((own_options(sampler) or {}).get("eta"))


def name_of(sampler, depth: int = 0) -> str:
    """What people call a SAMPLER: the list's name where it is in the list."""
    function, options = unwrapped(sampler)
    own = own_options(sampler)
    if own is None:
        plain = getattr(function, "__name__", type(function).__name__).removeprefix("sample_").removesuffix("_function")
        inner = [name_of(v, depth + 1) for v in options.values() if hasattr(v, "sampler_function")] if depth < 3 else []
        plain = " of ".join([plain, *inner])  # one that wraps another
        return "".join(c for c in plain if c.isprintable() and c not in "+|")[:80] or "sampler"
    known = PRESETS | FAMILY
    bare = _acting({k: v for k, v in own.items() if k != "statistics"})
    listed = next((name for name, preset in SAMPLERS.items() if _acting(known[preset]) == bare), None)
    return listed or f"{own.get('algorithm', 'dpmsolver++')} of order {own.get('order', 2)} (connected)"


def _acting(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ours that are not at their defaults: the same for one solver, whichever node it is from."""
    return {k: v for k, v in options.items() if v is not None and not (k in IDLE and IDLE[k] == v)}


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """What of options can be written down; of statistics, that there are some."""
    plain = {k: v for k, v in options.items() if isinstance(v, (str, int, float, bool))}
    return plain | ({"statistics": True} if options.get("statistics") is not None else {})


def without_noise(choice: Choice) -> dict[str, Any]:
    """The options of a run without fresh noise: the limit at which an SDE sampler of ours is tuned."""
    options = dict(choice.options)
    if choice.function is adapter.sample and options.get("eta"):
        options |= {"eta": 0.0, "noise_rule": "sde"}
        options.pop("s_noise", None)
    return options


def sampler_code(choices: Mapping[str, Choice]) -> str:
    """Eight digits of the functions and options that are tried; statistics by their numbers, samplers inside of others by theirs."""
    tried = []
    for name, choice in choices.items():
        options = without_noise(choice)
        if choice.function is adapter.sample:
            options = _acting(options)
        tried.append((name, getattr(choice.function, "__module__", "").rpartition(".")[2], choice.function, options))
    return "#" + thing_code(tried)


def code_of_sampler(sampler) -> str:
    """`sampler_code` of one SAMPLER, whatever it is called."""
    function, options = unwrapped(sampler)
    return sampler_code({"": Choice(function, options, {}, {})})


def outcome_sampler(tuned: Tuned, choice: Choice, label: str, made: Mapping[str, str]):
    """The SAMPLER of a tuning: with its gains if there are some; a run for another use than `made` says gets a warning."""
    options = {"sampler_function": choice.function, "sampler_options": dict(choice.options), "gains": tuned.gains}
    options |= {"made_for": tuple(tuned.sigmas), "made": dict(made), "label": label}
    return comfy.samplers.KSAMPLER(sample_tuned, options, dict(choice.inpaint))
