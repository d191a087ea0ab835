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

from .arrays import on_host
from .choices import FAMILY, PRESETS
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
CHECKED = 3  # known schedules that the held-out samples are spent on
FIRST = 4  # samples on which all known schedules are tried; the better half goes on to the others


@dataclass
class State:
    """What a tuning has measured so far, in place: given again, nothing of it is paid twice.

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
    settings: dict[str, Any] = dict(options)
    if settings.get("method") == "adaptive":
        raise ValueError("method is adaptive, which chooses its own steps and has no schedule to tune; choose another method.")
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
    the search. `solver` is a name, options of `plan`, or a function (denoise, x, sigmas) -> end; to choose among several as well, a dict
    {name: any of these}. `time_map`: the model's clock (`schedule.table_map`), for `known_schedules`, from the best of which
    the search starts; `known`: {name: schedule of `steps` steps} in their place. `gains`: also tune a factor
    for each prediction. `reference`: what is called converged, `reference_steps` steps of it; default the preset auto. `begin(numbers)` is
    called before calls that are for other samples than the last one: for prompts that differ.

    `budget` bounds the sample-evaluations (one call on one latent is 1) of the search; it ends by itself when a round gains less than
    0.5 %. `report(state)` is called after every model call; what it or `denoise` raises ends the tuning, and with the same `state` it goes
    on. ValueError, one sentence, before any call, for options that cannot be.
    """
    names = {"it": solver} if callable(solver) or isinstance(solver, str) or "algorithm" in solver else dict(solver)
    if isinstance(solver, str):
        names = {solver: solver}
    solvers = {name: solver_of(options, path) for name, options in names.items()}
    count = int(x.shape[0])
    held_out = count // 2 if held_out is None else held_out
    for name, value, least in (("steps", steps, 3), ("held_out", held_out, 1), ("reference_steps", reference_steps, steps + 1)):
        if value < least:
            raise ValueError(f"{name} is {value}; give at least {least}.")
    if count - held_out < 2:
        raise ValueError(f"x holds {count} samples, of which {held_out} are held out; give at least two more to tune on.")
    clock = time_map or plain_clock(path)
    known = known_schedules(path, steps, sigma_max, sigma_min, clock) if known is None else known
    starts = {name: start_levels(sigmas, path, sigma_max) for name, sigmas in known.items()}
    if not starts or any(len(s) != steps + 1 for s in starts.values()):
        raise ValueError(f"known has schedules of {[len(s) - 1 for s in starts.values()]} steps; give at least one, all of {steps} steps.")
    least = lowest_budget(count, held_out, len(solvers) * len(starts), steps, reference_steps, gains)
    if budget < least:
        raise ValueError(f"budget is {budget}; {count} samples at {steps} steps need at least {least}, so raise it or give fewer samples.")
    run = _Run(denoise, x, batch, begin, State() if state is None else state, report)
    fine = reference or solver_of("auto", path)
    run.find_reference(fine, auto(path, reference_steps, sigma_max, sigma_min, clock))
    mine, others = list(range(count - held_out)), list(range(count - held_out, count))
    pairs = {f"{s} + {k}": (solvers[s], starts[k]) for s in solvers for k in starts}
    ranked = run.rank(pairs, mine)
    searched: dict[str, tuple[Space, np.ndarray]] = {}
    begun = _one_each(ranked, 2)
    budget -= steps * held_out * (CHECKED + len(begun))  # kept for the check
    for place, name in enumerate(begun):
        call, levels = pairs[name]
        calls = run.calls_of(call, levels, mine[0]) if gains else 0
        space = Space(path, levels, sigma_min, calls)
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
    return Tuned(sigmas, chosen.split(" + ")[0], final, held, best, improved, run.state.evaluations, list(run.state.best))


def lowest_budget(samples: int, held_out: int, pairs: int, steps: int, reference_steps: int, gains: bool) -> int:
    """Sample-evaluations of a tuning with one round of search, for a solver with one model call a step."""
    tuned = samples - held_out
    screening = steps * (pairs * min(FIRST, tuned) + (pairs + 1) // 2 * max(0, tuned - FIRST))
    one_round = tuned * steps * (2 + (steps - 1) * (1 + gains) // 2)
    return samples * reference_steps + screening + one_round + steps * held_out * (CHECKED + 1)


def _one_each(ranked: Sequence[str], most: int) -> list[str]:
    """The best pair of each solver, at most `most`."""
    first: dict[str, str] = {}
    for name in ranked:
        first.setdefault(name.split(" + ")[0], name)
    return list(first.values())[:most]


class _Run:
    """Runs of solvers on numbered samples, with all that they cost counted and kept in the state."""

    def __init__(self, denoise, x, batch, begin, state, report):
        self.denoise, self.x, self.batch, self.begin, self.state, self.report = denoise, x, batch, begin, state, report
        size = int(np.prod(x.shape[1:]))
        # the same places in every sample, at random: an even stride would see one phase of a pattern only
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

            ends.append(self.values(solver(model, self.x[chunk[0] : chunk[-1] + 1], sigmas)))
            logs.append(log)
        return np.concatenate(ends), logs

    def call(self, ids: list[int], state: Any, sigma: float) -> Any:
        """One model call."""
        if self.begin is not None and ids != self.last:
            self.begin(ids)
        self.last = ids
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

    def calls_of(self, solver: Solver, sigmas: Sequence[float], sample: int) -> int:
        """How many model calls a run makes."""
        return len(self.go(solver, list(sigmas), [sample])[1][0])

    def search(self, name: str, solver: Solver, space: Space, ids: list[int], most: int) -> np.ndarray:
        """The best θ of `space`, from where an earlier search of this name stopped, before `most` evaluations are spent in all."""
        old, ended = self.state.searches.get(name, ([0.0] * space.size, False))
        theta = np.array(old)
        if ended:
            return theta
        spent = [self.state.evaluations]

        def residuals(at: np.ndarray, near: Any) -> tuple[np.ndarray, Any]:
            end, log = self.go(solver, space.levels(at), ids, space.gain(at), near)
            return self.residuals(end, ids), log

        def afford() -> bool:
            """Whether another round as dear as the last one fits; a first round costs a run for each parameter, half of it known."""
            last = (self.state.evaluations - spent[-1]) * (1 if len(spent) > 1 else 1 + space.size / 2)
            spent.append(self.state.evaluations)
            return self.state.evaluations + last <= most

        def accepted(at: np.ndarray, loss: float) -> None:
            self.state.searches[name] = at.tolist(), False
            if loss < self.state.best[-1][1]:
                self.state.best.append((self.state.evaluations, loss))

        theta, ended = descend(residuals, theta, space.quotients, afford=afford, accepted=accepted)
        self.state.searches[name] = theta.tolist(), ended
        return theta
