"""Tuned steps of a file in a run: at the run's number of steps, and with gains only where they are right."""

import math
from collections.abc import Mapping, Sequence

from .path import PATHS, Path
from .tune import Tuned
from .tune_file import ENDED, STOPPED
from .tune_space import stretched

SAME = 1e-3  # relative: a schedule that went through float32 and a text is still the one that was tuned


def range_of(words: Mapping[str, str], sigmas: Sequence[float], name: str) -> tuple[Path, float]:
    """(path, sigma_min) that the file `name` was made on. ValueError, one sentence, if it does not say."""
    try:
        low = float(words.get("sigma_min", ""))
    except ValueError:
        low = math.nan
    if words.get("noise") not in PATHS or not 0 <= low < sigmas[0]:
        raise ValueError(f"{name} does not say what noise levels it is for; tune again or choose another.")
    return PATHS[words["noise"]], low


def levels_of(tuned: Tuned, words: Mapping[str, str], steps: int, name: str) -> list[float]:
    """The sigmas of a file for a run of `steps` steps, as tuned or stretched. ValueError, one sentence, for a file that cannot be used."""
    path, low = range_of(words, tuned.sigmas, name)
    try:
        path.validate(tuned.sigmas)
        return list(tuned.sigmas) if steps == len(tuned.sigmas) - 1 else stretched(tuned.sigmas, steps, path, low)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name} cannot be used: {error}") from error


def same_levels(now: Sequence[float], made_for: Sequence[float]) -> bool:
    """Whether two schedules are the same but for rounding."""
    return len(now) == len(made_for) and all(math.isclose(a, b, rel_tol=SAME, abs_tol=1e-9) for a, b in zip(now, made_for, strict=True))


def is_paid(tuned: Tuned, words: Mapping[str, str], budget: int) -> bool:
    """Whether a tuning with this budget has come to its end before."""
    search, old = words.get("search"), words.get("budget", "")
    if search in (ENDED, STOPPED):
        return search == ENDED
    spent = int(old) if old.isascii() and old.isdigit() and len(old) < 16 else 0
    return old == "0" if budget == 0 else budget <= max(tuned.evaluations, spent)
