"""What a tuning shows in its node while it runs: the best steps that it has found so far."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..solvers.tune import State, Tuned
from ..solvers.tune_run import FIRST
from ..solvers.tune_so_far import so_far
from . import adapter
from .page import Found
from .tune_choice import Choice, without_noise


def best_steps(
    state: State, path, sampling, choices: Mapping[str, Choice], known: Mapping[str, Sequence[float]], seen: Sequence[int], ends: dict
) -> Found | None:
    """The steps with the least error on the samples `seen`: a search's, or before that a known schedule's by its first samples; None while
    the references are painted. `ends`: sigma_max and sigma_min."""
    found = so_far(state, path, choices, known, samples=seen, **ends)
    if found is not None:
        line = f"best so far: error {found.error(found.known):.3g} → {found.error():.3g}"
        return found.sigmas, options_of(choices[found.solver], sampling), found.solver, line
    first, tried = seen[:FIRST], {}
    for solver in choices:
        for name in known:
            errors = [state.errors.get(f"{solver} + {name} | {i}") for i in first]
            if None not in errors:
                tried[solver, name] = float(np.mean(np.array(errors, dtype=float)))
    if not tried:
        return None
    solver, name = min(tried, key=tried.__getitem__)
    return known[name], options_of(choices[solver], sampling), solver, f"best known so far: {name}, error {tried[solver, name]:.3g}"


def outcome(tuned: Tuned, choices: Mapping[str, Choice], sampling) -> Found:
    """The steps that came out."""
    held = f"error {tuned.error(tuned.known):.3g} → {tuned.error():.3g}" if tuned.improved else "nothing was gained over known steps"
    return tuned.sigmas, options_of(choices[tuned.solver], sampling), tuned.solver, f"tuned: {held}"


def options_of(choice: Choice, sampling) -> dict[str, Any] | None:
    """The options of `plan` that a choice runs with; None for a sampler that is not ours."""
    if choice.function is not adapter.sample:
        return None
    options = adapter.of_model(without_noise(choice), sampling)
    return {k: v for k, v in options.items() if k not in ("thresholding", "threshold_ratio", "threshold_max")}
