"""Tuned steps: the schedule, and if asked the solver, with the least error on your own model at a given number of steps.

    reference ends → the best of known schedules → least squares from there → a check on samples that the search has not seen

The error of a sample is the root mean square distance of its end state to that of a fine run from the same noise. What comes back is never
worse on the held-out samples than the best known schedule tried there: else it is that schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .arrays import namespace, on_host, widened, without_gradients
from .choices import CHOICES, FAMILY, PRESETS, check_options
from .execute import execute
from .path import Path
from .presets import plan
from .schedule import TimeMap, auto, karras, log_snr, sd_time_map, time_uniform
from .tune_fit import descend
from .tune_space import Space, start_levels

Solver = Callable[[Callable[[Any, float], Any], Any, list[float]], Any]
PICKS = 65_536  # of a latent's values take part in the fit: all of them up to 128 x 128 x 4
CANDIDATES: dict[str, dict[str, object]] = {
    "auto": PRESETS["auto"],
    "dpmpp_2m": PRESETS["dpmpp_2m"],
    "ddim": {"algorithm": "dpmsolver++", "order": 1},
}
OPTIONS = {*CHOICES, "eta", "s_noise", "r1", "r2", "statistics", "corrector_range"}  # of plan
SEARCHED = 2  # solvers at most, from their best known schedules
CHECKED = 3  # known schedules that the held-out samples are spent on
FIRST = 4  # samples on which all known schedules are tried; the better half goes on to the others


@dataclass
class State:
    """What a tuning has measured so far, in place: given again to the same tuning, nothing of it is paid twice but the round it was in.

    `reference`: {sample: (m,) float32, values of its reference end}; `errors`: {solver | schedule | sample: error}; `searches`: {solver |
    schedule: (θ, whether it came to its end)}; `best`: the running best (evaluations spent, mean error on the samples of the search).
    """

    reference: dict[int, np.ndarray] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    searches: dict[str, tuple[list[float], bool]] = field(default_factory=dict)
    best: list[tuple[int, float]] = field(default_factory=list)
    evaluations: int = 0


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
    budget: int = 5000,
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

    `budget` bounds all sample-evaluations (one call on one latent is 1), those of the state included; the search ends by itself when a
    step gains less than 0.5 %. `report(state)` is called after every model call; what it or `denoise` raises ends the tuning, and with the
    same `state` it goes on. ValueError, one sentence, before any call, for options that cannot be.
    """
    solvers = {name: solver_of(options, path) for name, options in _named(solver).items()}
    namespace(x)  # ValueError for what is no array
    x = widened(x)
    count = int(x.shape[0])
    if held_out is None:
        held_out = max(1, count // 2)
    for name, value, least in (
        ("steps", steps, 3), ("held_out", held_out, 1), ("reference_steps", reference_steps, steps + 1), ("batch", batch, 1),
        ("budget", budget, 1),
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
    calls = {name: _calls_of(x, *pair) for name, pair in pairs.items()}
    most = max(calls.values())
    least = lowest_budget(count, held_out, len(pairs), most, _calls_of(x, fine, fine_levels), gains, len(solvers))
    if budget < least:
        raise ValueError(f"budget is {budget}; {count} samples at {steps} steps need at least {least}, so raise it or give fewer samples.")
    run = _Run(denoise, x, batch, begin, State() if state is None else state, report)
    run.find_reference(fine, fine_levels)
    mine, others = list(range(count - held_out)), list(range(count - held_out, count))
    ranked = run.rank(pairs, mine)
    searched: dict[str, tuple[Space, np.ndarray]] = {}
    first: dict[str, str] = {}  # the best pair of each solver
    for name in ranked:
        first.setdefault(owner[name], name)
    begun = list(first.values())[:SEARCHED]
    budget -= most * held_out * (CHECKED + len(begun))  # kept for the check
    for place, name in enumerate(begun):
        call, levels = pairs[name]
        space = Space(path, levels, sigma_min, calls[name] if gains else 0)
        share = (budget - run.state.evaluations) // (len(begun) - place)
        searched[name] = space, run.search(name, call, space, mine, run.state.evaluations + share)
    errors = {name: run.errors_of(name, *pairs[name], others) for name in ranked[:CHECKED]}
    best = min(errors, key=lambda name: np.mean(errors[name]))
    tuned = {
        name: run.errors_of(f"{name} tuned {theta.round(9).tolist()}", pairs[name][0], space.levels(theta), others, space.gain(theta))
        for name, (space, theta) in searched.items()
    }
    winner = min(tuned, key=lambda name: np.mean(tuned[name]))
    improved = bool(np.mean(tuned[winner]) < np.mean(errors[best]))
    chosen = winner if improved else best
    space, theta = searched[winner]
    sigmas = space.levels(theta) if improved else list(pairs[best][1])
    held = {"tuned": tuned[winner] if improved else errors[best], **errors}
    final = space.gain(theta) if improved else ()
    return Tuned(sigmas, owner[chosen], final, held, best, improved, run.state.evaluations, list(run.state.best))


def lowest_budget(samples: int, held_out: int, pairs: int, calls: int, reference_calls: int, gains: bool, solvers: int = 1) -> int:
    """Sample-evaluations of a tuning with one round of search, for `calls` model calls a run of each of the pairs of a solver and a known
    schedule."""
    tuned, searches = samples - held_out, min(solvers, SEARCHED)
    screening = calls * (pairs * min(FIRST, tuned) + (pairs + 1) // 2 * max(0, tuned - FIRST))
    one_round = tuned * calls * (2 + (calls - 1) * (1 + gains) // 2)
    return samples * reference_calls + screening + searches * one_round + calls * held_out * (CHECKED + searches)


def _named(solver: Mapping[str, Any] | str | Solver) -> dict[str, Any]:
    """{name: what `solver_of` takes} of what `tune_schedule` takes."""
    if isinstance(solver, str):
        return {solver: solver}
    if isinstance(solver, Mapping) and solver and not OPTIONS.intersection(solver):
        return dict(solver)
    return {"solver": solver}


def _rows(x: Any, ids: Sequence[int]) -> Any:
    """These samples of x, as a copy: a function that works in place does not spoil x."""
    return x[np.asarray(ids)]


def _calls_of(x: Any, solver: Solver, sigmas: Sequence[float]) -> int:
    """How many model calls a run makes, counted without the model; what cannot be run is told here, before anything is paid."""
    count = 0

    def nothing(state: Any, sigma: float) -> Any:
        nonlocal count
        count += 1
        return 0 * state

    solver(nothing, _rows(x, [0]), list(sigmas))
    return count


class _Spent(Exception):
    """The search may pay no more."""


class _Run:
    """Runs of solvers on numbered samples, with all that they cost counted and kept in the state."""

    def __init__(self, denoise, x, batch, begin, state, report):
        self.denoise, self.x, self.batch, self.begin, self.state, self.report = denoise, x, batch, begin, state, report
        size = int(np.prod(x.shape[1:]))
        # the same places in every sample, at random: an even stride would see one phase of a pattern only
        if any(len(a) != min(size, PICKS) for a in state.reference.values()):
            raise ValueError(f"state is of samples of another size than the {size} values here; give that of this very tuning, or none.")
        self.limit: int | None = None
        self.picks = None if size <= PICKS else np.sort(np.random.default_rng(0).choice(size, PICKS, replace=False))
        self.last: list[int] = []

    def values(self, end: Any) -> np.ndarray:
        """(b, m) float32 of end states."""
        flat = on_host(end, "The end state").reshape(len(end), -1)
        return np.ascontiguousarray(flat if self.picks is None else flat[:, self.picks], dtype=np.float32)

    def go(self, solver: Solver, sigmas: list[float], ids: list[int], gains: Sequence[float] = (), near: Any = None) -> tuple[Any, Any]:
        """(end values (b, m), the log of the calls), in chunks of `batch`. Calls at the same state as in the log `near` are not made."""
        ends, logs = [], []
        for at in range(0, len(ids), self.batch):
            chunk = ids[at : at + self.batch]
            log: list[tuple[Any, float, Any]] = []
            old = list(near[len(logs)]) if near is not None else []

            def model(state: Any, sigma: float, chunk=chunk, log=log, old=old) -> Any:
                i = len(log)
                if i < len(old) and old[i][1] == sigma and bool((old[i][0] == state).all()):
                    x0 = old[i][2]
                else:
                    old.clear()
                    x0 = self.call(chunk, state, sigma)
                log.append((state, sigma, x0))
                return x0 * gains[i] if i < len(gains) else x0

            ends.append(self.values(solver(model, _rows(self.x, chunk), sigmas)))
            logs.append(log)
        return np.concatenate(ends), logs

    def call(self, ids: list[int], state: Any, sigma: float) -> Any:
        """One model call. `_Spent` in its place where it would go beyond the limit."""
        if self.limit is not None and self.state.evaluations + len(ids) > self.limit:
            raise _Spent
        if self.begin is not None and ids != self.last:
            self.begin(list(ids))
        self.last = ids
        with without_gradients(state):  # the log would keep their graphs
            x0 = self.denoise(state, sigma)
        self.state.evaluations += len(ids)
        if self.report is not None:
            self.report(self.state)
        return x0

    def find_reference(self, solver: Solver, sigmas: list[float]) -> None:
        """The end states of all samples."""
        missing = [i for i in range(len(self.x)) if i not in self.state.reference]
        for at in range(0, len(missing), self.batch):
            ids = missing[at : at + self.batch]
            end, _ = self.go(solver, sigmas, ids)
            if not np.isfinite(end).all():
                raise ValueError("The reference run came out with NaN or infinite values; check the model, or take a wider precision.")
            self.state.reference.update(zip(ids, end, strict=True))

    def residuals(self, end: np.ndarray, ids: list[int]) -> np.ndarray:
        """(b, m), scaled to root mean squares; a run that blew up counts as far away."""
        r = (end - np.stack([self.state.reference[i] for i in ids])) / np.float32(np.sqrt(end.shape[1]))
        return np.nan_to_num(np.clip(r, -1e6, 1e6), nan=1e6)

    def errors_of(self, name: str, solver: Solver, sigmas: Sequence[float], ids: list[int], gains: Sequence[float] = ()) -> list[float]:
        """The errors of samples, from the state where it has them."""
        missing = [i for i in ids if f"{name} | {i}" not in self.state.errors]
        for at in range(0, len(missing), self.batch):
            chunk = missing[at : at + self.batch]
            end, _ = self.go(solver, list(sigmas), chunk, gains)
            sizes = np.sqrt(np.square(self.residuals(end, chunk), dtype=np.float64).sum(1))
            self.state.errors.update({f"{name} | {i}": float(e) for i, e in zip(chunk, sizes, strict=True)})
        return [self.state.errors[f"{name} | {i}"] for i in ids]

    def rank(self, pairs: Mapping[str, tuple[Solver, Sequence[float]]], ids: list[int]) -> list[str]:
        """The names of `pairs`, best first: all on the first samples, the better half on the others too."""
        means = {name: float(np.mean(self.errors_of(name, *pair, ids[:FIRST]))) for name, pair in pairs.items()}
        order = sorted(means, key=means.__getitem__)
        half = order[: (len(order) + 1) // 2]
        means = {name: float(np.mean(self.errors_of(name, *pairs[name], ids))) for name in half}
        order = sorted(half, key=means.__getitem__) + order[len(half) :]
        if not self.state.best:
            self.state.best.append((self.state.evaluations, means[order[0]]))
        return order

    def search(self, name: str, solver: Solver, space: Space, ids: list[int], most: int) -> np.ndarray:
        """The best θ of `space`, from where an earlier search of this name stopped, before `most` evaluations are spent in all."""
        old, ended = self.state.searches.get(name, ([0.0] * space.size, False))
        if len(old) != space.size:  # of a state that was not made by this search
            old, ended = [0.0] * space.size, False
        theta = np.array(old)
        if ended:
            return theta
        before, run_cost, self.limit = self.state.evaluations, [0], most

        def residuals(at: np.ndarray, near: Any) -> tuple[np.ndarray, Any]:
            end, log = self.go(solver, space.levels(at), ids, space.gain(at), near)
            run_cost[0] = run_cost[0] or self.state.evaluations - before
            return self.residuals(end, ids), log

        def afford(runs: float) -> bool:
            return self.state.evaluations + runs * run_cost[0] <= most

        def accepted(at: np.ndarray, loss: float) -> None:
            self.state.searches[name] = at.tolist(), False
            if loss < self.state.best[-1][1]:
                self.state.best.append((self.state.evaluations, loss))

        try:
            theta, ended = descend(residuals, theta, space.quotients, afford=afford, accepted=accepted)
        except _Spent:
            theta, ended = np.array(self.state.searches.get(name, (theta,))[0]), False
        finally:
            self.limit = None
        self.state.searches[name] = theta.tolist(), ended
        return theta
