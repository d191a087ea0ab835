"""Tuned steps: the schedule, and if asked the solver, with the least error on your own model at a given number of steps.

    reference ends → the best of known schedules → least squares from there → a check on samples that the search has not seen, which
    also choose between the two best searches

The error of a sample is the root mean square distance of its end state to that of a fine run from the same noise. What comes back is never
worse on the held-out samples than the best known schedule tried there: else it is that schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import namespace, widened
from .choices import CHOICES, FAMILY, PRESETS, check_options
from .execute import execute
from .path import Path
from .presets import plan
from .schedule import TimeMap, auto, karras, log_snr, sd_time_map, time_uniform
from .tune_run import CHECKED, FEW, SEARCHED, Runs, Solver, State, calls_of, lowest_budget
from .tune_space import Space, start_levels

# With strong guidance low orders are best, and which of the forms is, depends on the model: each of these was the best somewhere.
CANDIDATES: dict[str, dict[str, object]] = {
    "auto": PRESETS["auto"],
    "dpmpp_2m": PRESETS["dpmpp_2m"],
    "unipc": FAMILY["unipc"],
    "unipc of order 1": {"algorithm": "dpmsolver++", "order": 1, "corrector": "unipc"},
    "dpmsolver-v of order 1": {"algorithm": "dpmsolver-v", "order": 1},
    "dpmsolver-v of order 3": {"algorithm": "dpmsolver-v", "order": 3},
    "ddim": {"algorithm": "dpmsolver++", "order": 1},
}
OPTIONS = {*CHOICES, "eta", "s_noise", "r1", "r2", "statistics", "corrector_range"}  # of plan
ROUNDS = 6  # of search, each with a fresh Jacobian, that a tuning may cost by default


@dataclass(frozen=True)
class Tuned:
    """The outcome of a tuning.

    `sigmas` for the solver called `solver`; `gains` for its model calls, in order (empty: none). `held_out`: {name: errors of the held-out
    samples} of "tuned" and of the known pairs "solver + schedule" that came nearest; `known`: the best of those; `improved`: whether
    sigmas is new, or else the schedule of `known`. `best`: see `State`.
    """

    sigmas: list[float]
    solver: str
    gains: tuple[float, ...]
    held_out: dict[str, list[float]]
    known: str
    improved: bool
    evaluations: int
    best: list[tuple[int, float]]

    def error(self, name: str = "tuned") -> float:
        """The mean error of the held-out samples."""
        return float(np.mean(self.held_out[name]))


def known_schedules(path: Path, steps: int, sigma_max: float, sigma_min: float, time_map: TimeMap) -> dict[str, list[float]]:
    """The schedules a search may start from, by name."""
    ends = steps, sigma_max, sigma_min, time_map
    made = {"auto": auto(path, *ends), "logSNR": log_snr(path, *ends), "time_uniform": time_uniform(*ends)}
    return made if path.name == "flow" else made | {"karras": karras(steps, sigma_max, sigma_min)}


def plain_clock(path: Path) -> TimeMap:
    """The clock where the model's own is not known: Stable Diffusion's, or a flow model's without shift."""
    return (lambda tau: tau) if path.name == "flow" else sd_time_map()


def solver_of(options: Mapping[str, object] | str | Solver, path: Path) -> Solver:
    """(denoise, x, sigmas) -> end state of a preset, of options of `plan`, or of a function that is one already. SDE forms are tuned by
    their ODE limit, eta 0. ValueError, one sentence, for what has no schedule."""
    if isinstance(options, str):
        known = CANDIDATES | PRESETS | FAMILY
        if options not in known:
            raise ValueError(f"solver is {options!r}; give one of {', '.join(known)}, options of plan, or a function.")
        options = known[options]
    if callable(options):
        return options
    if not isinstance(options, Mapping):
        raise ValueError(f"solver is {options!r}; give a name, options of plan, or a function.")
    settings: dict[str, Any] = dict(options)
    if settings.get("method") == "adaptive":
        raise ValueError("method is adaptive, which chooses its own steps and has no schedule to tune; choose another method.")
    check_options(**{name: value for name, value in settings.items() if name not in ("statistics", "corrector_range")})
    if settings.get("eta"):
        settings |= {"eta": 0.0, "noise_rule": "sde"}

    def run(denoise: Callable[[Any, float], Any], x: Any, sigmas: list[float]) -> Any:
        return execute(plan(path, sigmas, **settings), denoise, x)

    return run


def tune_schedule(
    denoise: Callable[[Any, float], Any],
    path: Path,
    solver: Mapping[str, Any] | str | Solver,
    steps: int,
    *,
    x: Any,
    sigma_max: float,
    sigma_min: float,
    time_map: TimeMap | None = None,
    known: Mapping[str, Sequence[float]] | None = None,
    gains: bool = False,
    held_out: int | None = None,
    reference: Solver | None = None,
    reference_steps: int = 50,
    budget: int | None = None,
    batch: int = 8,
    begin: Callable[[list[int]], None] | None = None,
    state: State | None = None,
    report: Callable[[State], None] | None = None,
) -> Tuned:
    """Tune the `steps` of `solver` on the model `denoise(x (b, *shape), sigma) -> x0`, b at most `batch`.

    `x` (K, *shape), torch or NumPy, holds states of pure noise at sigma_max, one a sample; the last `held_out` of them (half) are kept from
    the search. States in half precision are tuned in float32. `solver` is a name, options of `plan`, or a function (denoise, x, sigmas) ->
    end; to choose among several as well, a dict {name: any of these}. `time_map`: the model's clock (`schedule.table_map`), for
    `known_schedules`, from the best of which the search starts; `known`: {name: schedule of `steps` steps} in their place. `gains`: also
    tune a factor for each prediction. `reference`: what is called converged, `reference_steps` steps of it; default the preset auto.
    `begin(numbers)` is called before calls that are for other samples than the last one: for prompts that differ.

    `budget` bounds all sample-evaluations (one call on one latent is 1), those of the state included; by default it is what ROUNDS rounds
    of search cost. The search ends by itself when a step gains less than 0.5 %. `report(state)` is called after every model call; what it
    or `denoise` raises ends the tuning, and with the same `state` it goes on. ValueError, one sentence, before any call, for options that
    cannot be.
    """
    solvers = {name: solver_of(options, path) for name, options in _named(solver).items()}
    namespace(x)  # ValueError for what is no array
    x = widened(x)
    count = int(x.shape[0])
    if held_out is None:
        held_out = max(1, count // 2)
    for name, value, least in (
        ("steps", steps, 3), ("held_out", held_out, 1), ("reference_steps", reference_steps, steps + 1), ("batch", batch, 1),
        ("budget", 1 if budget is None else budget, 1),
    ):  # fmt: skip
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is {value!r}; give a whole number from {least} up.")
    if count - held_out < 2:
        raise ValueError(f"x holds {count} samples, of which {held_out} are held out; give at least two more to tune on.")
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"sigma_max is {sigma_max:g} and sigma_min {sigma_min:g}; give a falling range above 0.")
    clock = time_map or plain_clock(path)
    known = known_schedules(path, steps, sigma_max, sigma_min, clock) if known is None else known
    starts = {name: start_levels(sigmas, path, sigma_max) for name, sigmas in known.items()}
    if not starts or any(len(s) != steps + 1 for s in starts.values()):
        raise ValueError(f"known has schedules of {[len(s) - 1 for s in starts.values()]} steps; give at least one, all of {steps} steps.")
    fine, fine_levels = reference or solver_of("auto", path), auto(path, reference_steps, sigma_max, sigma_min, clock)
    pairs = {f"{s} + {k}": (solvers[s], starts[k]) for s in solvers for k in starts}
    owner = {f"{s} + {k}": s for s in solvers for k in starts}
    calls = {name: calls_of(x, *pair) for name, pair in pairs.items()}
    most = max(calls.values())
    tried = len(starts) + (len(solvers) - 1) * min(FEW, len(starts))
    costs = count, held_out, tried, most, calls_of(x, fine, fine_levels), gains, len(solvers)
    least = lowest_budget(*costs)
    budget = lowest_budget(*costs, ROUNDS) if budget is None else budget
    if budget < least:
        raise ValueError(f"budget is {budget}; {count} samples at {steps} steps need at least {least}, so raise it or give fewer samples.")
    run = Runs(denoise, x, batch, begin, State() if state is None else state, report)
    run.find_reference(fine, fine_levels)
    mine, others = list(range(count - held_out)), list(range(count - held_out, count))
    ranked = run.rank(pairs, list(solvers), list(starts), mine)
    spaces = {name: Space(path, pairs[name][1], sigma_min, calls[name] if gains else 0) for name in ranked}
    first: dict[str, str] = {}  # the best pair of each solver
    for name in ranked:
        first.setdefault(owner[name], name)
    begun = list(first.values())[:SEARCHED]
    # the connected solver's own best pair is among those that the outcome is held against
    checked = dict.fromkeys([*ranked[:CHECKED], first[next(iter(solvers))]])
    unknown = sum(f"{name} | {i}" not in run.state.errors for name in checked for i in others)
    budget -= most * (unknown + held_out * SEARCHED)  # kept for the check
    for place, name in enumerate(begun):
        share = (budget - run.state.evaluations) // (len(begun) - place)
        run.search(name, pairs[name][0], spaces[name], mine, run.state.evaluations + share)
    # the best searches, those of an earlier call among them; which of them learnt its own samples by heart, the held-out ones tell
    found = {name: np.array(theta) for name, (theta, _) in run.state.searches.items() if name in spaces and len(theta) == spaces[name].size}
    losses = {name: np.mean(run.tuned_errors(name, pairs[name][0], spaces[name], theta, mine)) for name, theta in found.items()}
    judged = {
        name: run.tuned_errors(name, pairs[name][0], spaces[name], found[name], others)
        for name in sorted(losses, key=losses.__getitem__)[:SEARCHED]
    }
    winner = min(judged, key=lambda name: np.mean(judged[name]))
    theta, space, tuned = found[winner], spaces[winner], judged[winner]
    errors = {name: run.errors_of(name, *pairs[name], others) for name in checked}
    best = min(errors, key=lambda name: np.mean(errors[name]))
    if np.mean(tuned) < np.mean(errors[best]):
        made = space.levels(theta), owner[winner], space.gain(theta), {"tuned": tuned, **errors}, best, True
    else:
        made = list(pairs[best][1]), owner[best], (), {"tuned": errors[best], **errors}, best, False
    return Tuned(*made, run.state.evaluations, list(run.state.best))


def _named(solver: Mapping[str, Any] | str | Solver) -> dict[str, Any]:
    """{name: what `solver_of` takes} of what `tune_schedule` takes."""
    if isinstance(solver, str):
        return {solver: solver}
    if isinstance(solver, Mapping) and solver and not OPTIONS.intersection(solver):
        return dict(solver)
    return {"solver": solver}
