"""Tuned steps in a run: the levels of a file, and its gains where they are right."""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from . import files
from .foreign import NEAR
from .model import path_of
from .options import BY_NAME, NO_FILE, BadOption


def levels(name: str, steps: int, wrap: Any) -> tuple[list[float], str]:
    """(the sigmas of the file `name` for a run of `steps` steps on the host's denoiser `wrap`, a sentence if they are not as tuned).
    BadOption, one sentence, for a file that is not for such models."""
    from ..solvers.tune_use import levels_of, range_of

    tuned, words = files.tuned(name)
    try:
        path = range_of(words, tuned.sigmas, name)[0]
        if path is not path_of(wrap):
            raise ValueError(f"{name} is for models of another kind ({path.name}) than this one ({path_of(wrap).name}); choose another.")
        sigmas = levels_of(tuned, words, steps, name)
    except ValueError as error:
        raise BadOption(f"{BY_NAME['tuned'].said}: {error}") from error
    count, top = len(tuned.sigmas) - 1, float(wrap.sigmas[-1])
    said = [f"{name} was tuned for {count} steps; this run of {steps} reads it as a curve, without gains."] * (steps != count)
    if abs(tuned.sigmas[0] / top - 1) > NEAR:
        said.append(f"{name} begins at sigma {tuned.sigmas[0]:.4g}, but this model at {top:.4g}; tune for this model.")
    return sigmas, " ".join(said)


def gains(
    name: str, options: Mapping[str, Any], statistics: str, sigmas: Sequence[float], calls: int, masked: bool
) -> tuple[Sequence[float], str]:
    """(the gains of the file `name` for a run of `calls` model calls at `sigmas` with `options` of `plan` and this file of statistics, a
    sentence if there are some and they are off). They are for the very levels and solver that they were tuned with, and not for a mask."""
    from ..solvers.tune_use import same_levels

    tuned, words = files.tuned(name)
    if all(gain == 1.0 for gain in tuned.gains):
        return (), ""
    if not same_levels(sigmas, tuned.sigmas):
        return (), f"{name} has gains, which are for whole runs of its own {len(tuned.sigmas) - 1} steps, so they are off here."
    if masked:
        return (), f"{name} has gains, which would change what a mask keeps, so they are off here."
    if not _same_solver(words, options, statistics) or len(tuned.gains) != calls:
        return (), f"{name} has gains, which are for {tuned.solver} as it was tuned, so they are off here."
    return tuned.gains, ""


def named(statistics: str) -> str:
    """A file of statistics with a code of its numbers: another file may come under the same name."""
    found = files.statistics(statistics)
    return f"{statistics} #{hashlib.sha256(found.l.tobytes() + found.s.tobytes() + found.b.tobytes()).hexdigest()[:8]}"


def _same_solver(words: Mapping[str, str], options: Mapping[str, Any], statistics: str) -> bool:
    """Whether `options` of `plan` are those that a file names, but for what is at its default."""
    from ..solvers.presets import plan

    try:
        made = json.loads(words.get("plan", "{}"))
    except (ValueError, RecursionError):
        return False
    if not isinstance(made, dict) or not made:
        return False
    if made.pop("statistics", False) and (statistics == NO_FILE or words.get("statistics") != named(statistics)):
        return False
    defaults = {name: p.default for name, p in inspect.signature(plan).parameters.items() if p.default is not inspect.Parameter.empty}

    def whole(given: Mapping[str, Any]) -> dict[str, Any]:
        return {**defaults, "thresholding": "off", "corrector_range": "full", "statistics": None, **given}

    return whole(made) == whole({**options, "statistics": None})
