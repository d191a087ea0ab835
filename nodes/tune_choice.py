"""Which solvers a tuning tries, what they are called, and the SAMPLER that comes of it."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import comfy.samplers
import numpy as np

from ..solvers.choices import FAMILY, PRESETS
from ..solvers.tune import CANDIDATES, Tuned
from . import adapter
from .ems_model import code_of
from .register import SAMPLERS
from .tuned_sampler import own_options, sample_tuned, unwrapped

# samplers of the host that are one of ours under another name; {name: (candidate, whether on flow models too)}
TWINS = {"euler": ("ddim", True), "dpmpp_2m": ("dpmpp_2m", False)}
MODES = ("schedule", "schedule and gains", "schedule, gains and solver")


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
        if own is None or values != {k: v for k, v in own.items() if v is not None}:
            found[name] = Choice(adapter.sample, values, {}, _plain(values))
    return found


def adds_noise(sampler) -> bool:
    """Whether a SAMPLER of this pack is an SDE form: it keeps its noise in pictures, and is tuned without, for the schedule only."""
    return bool((own_options(sampler) or {}).get("eta"))


def name_of(sampler) -> str:
    """What people call a SAMPLER: the list's name where it is in the list."""
    function, options = unwrapped(sampler)
    own = own_options(sampler)
    if own is None:
        plain = getattr(function, "__name__", type(function).__name__).removeprefix("sample_").removesuffix("_function")
        return "".join(c for c in plain if c.isprintable() and c not in "+|")[:80] or "sampler"
    known = PRESETS | FAMILY
    bare = {k: v for k, v in own.items() if k != "statistics"}
    listed = next((name for name, preset in SAMPLERS.items() if known[preset] == bare), None)
    return listed or f"{own.get('algorithm', 'dpmsolver++')} of order {own.get('order', 2)} (connected)"


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


def sampler_code(choices: dict[str, Choice]) -> str:
    """Eight digits of the functions and options that are tried; statistics by their numbers."""

    def words(value: Any) -> Any:
        if is_dataclass(value) and hasattr(value, "lam"):
            code = hashlib.sha256()
            for key, part in sorted(asdict(value).items()):
                if isinstance(part, np.ndarray):
                    code.update(key.encode() + np.ascontiguousarray(part).tobytes())
            return code.hexdigest()
        return value

    tried = [(name, c.function, {k: words(v) for k, v in without_noise(c).items()}) for name, c in choices.items()]
    return "#" + code_of([(name, getattr(f, "__module__", "").rpartition(".")[2], f, o) for name, f, o in tried])


def outcome_sampler(tuned: Tuned, choice: Choice, connected, label: str):
    """The SAMPLER of a tuning: with its gains, or the connected one itself where nothing is added to it."""
    if not tuned.gains:
        function, options = unwrapped(connected)
        if function is choice.function and options == choice.options and connected.sampler_function is not sample_tuned:
            return connected
        return comfy.samplers.KSAMPLER(choice.function, dict(choice.options), dict(choice.inpaint))
    options = {"sampler_function": choice.function, "sampler_options": dict(choice.options), "gains": tuned.gains}
    options |= {"made_for": tuple(tuned.sigmas), "label": label}
    return comfy.samplers.KSAMPLER(sample_tuned, options, dict(choice.inpaint))
