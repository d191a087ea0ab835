"""What a tuning that was cut off has found so far: for who cannot wait for its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .path import Path
from .tune import Tuned
from .tune_run import CHECKED, State, label
from .tune_space import Space, start_levels


def so_far(
    state: State,
    path: Path,
    solvers: Iterable[str],
    known: Mapping[str, Sequence[float]],
    *,
    sigma_max: float,
    sigma_min: float,
    samples: Sequence[int],
) -> Tuned | None:
    """The best steps that the searches of `state` have come to; None while they are not better than the best known pair.

    All else is as `tune_schedule` had it: the names of its solvers, `known` (in its place, its `known_schedules`), and `samples` the
    numbers of those that are not held out. No model call is made, so what comes back was judged on the samples of the search only: they
    are what its `held_out` holds, and on others it may gain less, or nothing.
    """

    def errors(name: str) -> list[float] | None:
        found = [state.errors.get(f"{name} | {i}") for i in samples]
        whole = [e for e in found if e is not None]
        return whole if len(whole) == len(found) else None

    owner = {f"{s} + {k}": (s, k) for s in solvers for k in known}
    tried = [(name, e) for name in owner if (e := errors(name)) is not None]  # on all samples
    pairs = sorted(tried, key=lambda pair: float(np.mean(pair[1])))
    ends = {
        name: e
        for name, (theta, _) in state.searches.items()
        if name in owner and len(theta) + 2 >= len(known[owner[name][1]]) and (e := errors(label(name, np.array(theta)))) is not None
    }
    if not pairs or not ends:
        return None
    name, (best, errors_of_best) = min(ends, key=lambda end: float(np.mean(ends[end]))), pairs[0]
    if np.mean(ends[name]) >= np.mean(errors_of_best):
        return None
    solver, schedule = owner[name]
    theta, levels = np.array(state.searches[name][0]), start_levels(known[schedule], path, sigma_max)
    space = Space(path, levels, sigma_min, len(theta) - (len(levels) - 2))
    held = {"tuned": ends[name], **dict(pairs[: CHECKED + 1])}
    return Tuned(space.levels(theta), solver, space.gain(theta), held, best, True, state.evaluations, list(state.best))
