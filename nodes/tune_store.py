"""What is kept of a tuning: its outcome, what a stopped one has found so far, and what was measured for it."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import comfy.samplers
import numpy as np

from ..solvers.keep import same_start
from ..solvers.tune import State, Tuned
from ..solvers.tune_file import STOPPED, load_state, load_tuned, save_tuned
from ..solvers.tune_run import PICKS
from . import ems_files
from .ems_model import differences
from .tune_choice import Choice, code_of_sampler

log = logging.getLogger("dpm_solver_ext")


def held(
    file: Path, settings: dict[str, str], levels: Mapping[str, Sequence[float]]
) -> tuple[tuple[Tuned, dict[str, str]] | None, State | None]:
    """What is there of this tuning: its outcome, and what was measured for it at these very noise levels (of the known schedules and of
    the reference) by name. ValueError, one sentence, for files of other settings."""
    found: list[Any] = [None, None]
    for place, (path, load) in enumerate(((file, load_tuned), (ems_files.part_of(file), load_state))):
        if not path.is_file():
            continue
        try:
            found[place] = load(path)
        except ValueError as error:
            log.warning("DPM-Solver (ext): %s is not used and will be replaced: %s", path.name, error)
            continue
        words = found[place][1]
        made, _ = differences(words, settings)
        other = [k for k in settings if k != "weights" and words.get(k) != settings[k]]
        if made or other:
            what = made or ", ".join(f"{k} {words.get(k, 'unknown')}" for k in other)
            raise ValueError(f"file_name leads to {path.name}, which was made for {what:.300}; choose another name, or remove the file.")
    tuned, part = found
    if part is not None and any(len(a) != min(_size(settings), PICKS) for a in part[0].reference.values()):
        log.warning("DPM-Solver (ext): %s is not used and will be replaced: its reference has another size.", file.name)
        part = None
    if part is not None and not same_start(part[1], levels):  # the host or this pack came to make them otherwise
        name = ems_files.part_of(file).name
        log.warning("DPM-Solver (ext): %s is not used and will be replaced: the known schedules were others when it was begun.", name)
        part = None
    if tuned is not None and len(tuned[0].sigmas) != int(settings["steps"]) + 1:
        raise ValueError(f"file_name leads to {file.name}, which has {len(tuned[0].sigmas) - 1} steps; choose another name.")
    return tuned, None if part is None else part[0]


def words_of(
    tuned: Tuned, settings: dict[str, str], budget: int, search: str, choices: Mapping[str, Choice], known: Iterable[str], state: State,
    calls: Mapping[str, int],
) -> dict[str, str]:  # fmt: skip
    """The metadata of a file: the settings, how the search ended, what it was held against, and of what the sampler can be made again.
    `calls`: {solver + schedule: model calls of a run}, which are told where the outcome costs more or less than what it is held against."""
    choice, tried = choices[tuned.solver], {label.rpartition(" | ")[0] for label in state.errors}
    pairs = [(s, k) for s in choices for k in known if f"{s} + {k}" in tried]
    samplers, schedules = (", ".join(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    own = max(n for pair, n in calls.items() if pair.partition(" + ")[0] == tuned.solver)
    cost = f" ({tuned.solver} makes {own} model calls a picture, {tuned.known} {calls[tuned.known]})" if own != calls[tuned.known] else ""
    return settings | {
        "budget": str(budget), "search": search,
        "compared": f"{len(pairs)} pairs of {samplers} with {schedules}{cost}",
        "plan": json.dumps(choice.plain),
        "solver code": code_of_sampler(comfy.samplers.KSAMPLER(choice.function, choice.options)),
    }  # fmt: skip


def save_stopped(tuned: Tuned, file: Path, words: Mapping[str, str], old: tuple[Tuned, dict[str, str]] | None) -> str:
    """Keep the best so far as `file`, which the finished tuning replaces, and say so in a sentence; what was checked on pictures that the
    search had not seen (`old`) stays, and so does what was better. It never ends in an exception: the user must read of what stopped it."""
    if old is not None and (old[1].get("search") != STOPPED or old[0].error() <= tuned.error()):
        return f"tuning stopped; {file.name} is as it was before, and the same settings go on from here."
    try:
        save_tuned(tuned, file, words)
    except (OSError, ValueError) as problem:
        return f"tuning stopped; the best so far could not be written to {file.name}: {problem}"
    gained = 100 * (1 - tuned.error() / max(tuned.error(tuned.known), 1e-12))
    return (
        f"tuning stopped; the best so far is {file.name}, for Load Tuned Steps (ext): {gained:.0f} % less error than {tuned.known} on the "
        "pictures of the search, not checked on others; the same settings go on from here."
    )


def nothing_better(file: Path, old: object, kept: bool) -> str:
    """What is said where a tuning was cancelled before it found anything to save; `kept`: whether there is a part."""
    found = "nothing better than the known schedules was found yet, so there is no file to load"
    found = found if old is None else f"{file.name} is as it was before"
    return f"tuning stopped; {found}; the same settings {'go on from here' if kept else 'begin anew'}."


def _size(settings: dict[str, str]) -> int:
    return int(np.prod([int(n) for n in settings["size"].split("×")]))
