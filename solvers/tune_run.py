"""The measuring half of tuned steps: runs of a solver on numbered samples, every model call counted, and nothing paid for twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .arrays import beside, on_host, put_by, widened, without_gradients
from .tune_fit import descend
from .tune_space import Space

Solver = Callable[[Callable[[Any, float], Any], Any, list[float]], Any]
PICKS = 65_536  # of a latent's values take part in the fit: all of them up to 128 x 128 x 4
FEW = 3  # known schedules that solvers beside the first are tried with
FIRST = 4  # samples on which all pairs are tried
KEPT = 6  # pairs that go on from there to the other samples
SEARCHED = 2  # solvers at most, from their best known schedules; the held-out samples choose among them
CHECKED = 3  # known schedules that the held-out samples are spent on


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


def label(name: str, theta: np.ndarray) -> str:
    """The name of a tuned pair's errors."""
    return f"{name} tuned {theta.round(9).tolist()}"


def lowest_budget(
    samples: int, held_out: int, pairs: int, calls: int, reference_calls: int, gains: bool, solvers: int = 1, rounds: int = 1
) -> int:
    """Sample-evaluations of a tuning with `rounds` rounds of search, for `calls` model calls a run of each of the pairs of a solver and a
    known schedule."""
    tuned, searches = samples - held_out, min(solvers, SEARCHED)
    screening = calls * (pairs * min(FIRST, tuned) + min(KEPT, pairs) * max(0, tuned - FIRST))
    one_round = tuned * calls * (2 + (calls - 1) * (1 + gains) // 2)
    return samples * reference_calls + screening + searches * rounds * one_round + calls * held_out * (CHECKED + 1 + SEARCHED)


def rows(x: Any, ids: Sequence[int]) -> Any:
    """These samples of x, as a copy: a function that works in place does not spoil x."""
    return x[np.asarray(ids)]


def digest(a: Any) -> bytes:
    """16 bytes of an array's values: calls are compared by them, for two states of a video would be as large as the prediction."""
    values = widened(a).detach().cpu().numpy() if hasattr(a, "new_full") else np.asarray(a)
    return hashlib.blake2b(values.tobytes(), digest_size=16).digest()


def calls_of(x: Any, solver: Solver, sigmas: Sequence[float]) -> int:
    """How many model calls a run makes, counted without the model; what cannot be run is told here, before anything is paid."""
    count = 0

    def nothing(state: Any, sigma: float) -> Any:
        nonlocal count
        count += 1
        return 0 * state

    solver(nothing, rows(x, [0]), list(sigmas))
    return count


class _Spent(Exception):
    """The search may pay no more."""


class Runs:
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
        """(end values (b, m), the log of the calls), in chunks of `batch`.

        `near`: the log of another run, or []; calls at the same state as there are not made. None: there is no log, and the memory that it
        takes is not needed. A log is a list a chunk of ((digest of the state, sigma), x0 in the host's memory): the calls of a video model
        would fill its device.
        """
        ends, logs = [], []
        for at in range(0, len(ids), self.batch):
            chunk = ids[at : at + self.batch]
            log: list[tuple[tuple[bytes, float], Any]] = []
            old = list(near[len(logs)]) if near else []
            place = [0]

            def model(state: Any, sigma: float, chunk=chunk, log=log, old=old, place=place) -> Any:
                i = place[0]
                place[0] += 1
                key = None if near is None else (digest(state), sigma)
                if i < len(old) and old[i][0] == key:
                    log.append(old[i])
                    x0 = beside(old[i][1], state)
                else:
                    old.clear()
                    x0 = self.call(chunk, state, sigma)
                    if key is not None:
                        log.append((key, put_by(x0)))
                return gains[i] * x0 if i < len(gains) else 1 * x0

            ends.append(self.values(solver(model, rows(self.x, chunk), sigmas)))
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

    def tuned_errors(self, name: str, solver: Solver, space: Space, theta: np.ndarray, ids: list[int]) -> list[float]:
        """The errors of samples at θ of the search that began at the pair `name`."""
        if not theta.any():
            return self.errors_of(name, solver, space.sigmas, ids)
        return self.errors_of(label(name, theta), solver, space.levels(theta), ids, space.gain(theta))

    def rank(self, pairs: Mapping[str, tuple[Solver, Sequence[float]]], solvers: list[str], known: list[str], ids: list[int]) -> list[str]:
        """Names of pairs, best first. On the first samples: the first solver with all known schedules, the others with the few that suited
        it best; the best of these on all samples."""

        def mean(name: str, on: list[int]) -> float:
            return float(np.mean(self.errors_of(name, *pairs[name], on)))

        means = {f"{solvers[0]} + {k}": mean(f"{solvers[0]} + {k}", ids[:FIRST]) for k in known}
        few = sorted(known, key=lambda k: means[f"{solvers[0]} + {k}"])[:FEW]
        means |= {f"{s} + {k}": mean(f"{s} + {k}", ids[:FIRST]) for s in solvers[1:] for k in few}
        order = sorted(means, key=means.__getitem__)
        means = {name: mean(name, ids) for name in order[:KEPT]}
        order = sorted(means, key=means.__getitem__) + order[KEPT:]
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
        last: list[np.ndarray] = []

        def residuals(at: np.ndarray, near: Any) -> tuple[np.ndarray, Any]:
            end, log = self.go(solver, space.levels(at), ids, space.gain(at), near or [])
            run_cost[0] = run_cost[0] or self.state.evaluations - before
            last[:] = [self.residuals(end, ids)]
            return last[0], log

        def afford(runs: float) -> bool:
            return self.state.evaluations + runs * run_cost[0] <= most

        def accepted(at: np.ndarray, loss: float) -> None:
            self.state.searches[name] = at.tolist(), False
            sizes = np.sqrt(np.square(last[0], dtype=np.float64).sum(1))
            self.state.errors.update({f"{label(name, at)} | {i}": float(e) for i, e in zip(ids, sizes, strict=True)})
            if loss < self.state.best[-1][1]:
                self.state.best.append((self.state.evaluations, loss))

        def phase(theta: np.ndarray, count: int) -> tuple[np.ndarray, bool]:
            """From θ, with its first `count` parameters."""

            def full(at: np.ndarray) -> np.ndarray:
                return np.concatenate([at, theta[count:]])

            at, ended = descend(
                lambda at, near: residuals(full(at), near), theta[:count], space.quotients[:count], afford=afford,
                accepted=lambda at, loss: accepted(full(at), loss), signed=lambda at: space.signed(full(at))[:count],
                settled=lambda at: space.settled(full(at))[:count], bound=lambda at: space.bound(full(at), count),
            )  # fmt: skip
            return full(at), ended

        try:
            # the schedule first: gains alone make up for much that it could mend, and then it stays where it is
            if space.gains and not theta[space.gaps :].any():
                theta, ended = phase(theta, space.gaps)
            theta, ended = phase(theta, space.size)
        except _Spent:
            theta, ended = np.array(self.state.searches.get(name, (theta,))[0]), False
        finally:
            self.limit = None
        self.state.searches[name] = theta.tolist(), ended
        return theta
