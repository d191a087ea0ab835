"""Every tape proves itself before it runs: its records are executed on prescribed evaluations whose exact step is known.

For a claim on p nodes the evaluations are set to the Newton polynomials N_0 … N_{p-1} of these nodes (N_0 is data at one point:
the state then runs from α_s c + σ_s n to α_t c + σ_t n; form "v" has no such data, and runs on v's polynomial from G). Where no
fade acts and the rule is exact this is the same as being exact for x0(λ) = (λ-λ_s)^k (or ε, v likewise) for every k below the
order. The expected integrals come from a Gauss-Legendre quadrature of their own,
not from the φ functions the planner used: see `promised`. All claims of a form are run at once, those that reach their ends in the same
way (`unrolled`) by the same lines.

What such runs cannot show is checked on the records themselves: that a prediction is read and stored with the node and the state it
belongs to, and that marks and arrivals show what they say (`structure`), and that noise is added once and last, and by its interval
(`proof_noise`).

DPM-Solver-v3's form "f" runs on g = N_k from y = 1, for a few bins of its statistics, one after the other: `proof_v3`. Where slopes are
measured the tape must hold at two numbers of each trust, and so at all: `proof_trust`.

With noise (eta > 0) the same holds of the mean, with the rates of the SDE; ε forms then run on ε = n, not on data at one point.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from .path import PATHS
from .promised import ROUNDING, Book, C, N, Promised
from .proof_noise import check_noises
from .proof_trust import check_trusts, trusted_fades, with_trusts
from .proof_v3 import Along, bins_to_try
from .statistics import Statistics
from .step import FLOOR, POWER
from .structure import check_nodes, check_structure
from .tape import Blend, Field, Tape, TapeError
from .trace import Trace
from .unrolled import Alike, unrolled

TOLERANCE = 1e-11


def check(tape: Tape) -> Tape:
    """Return the tape, or raise TapeError naming what is wrong.

    The claims must lead from the first sigma to the last, every record must belong to one of them, and each claim must hold. Time is
    linear in the steps. Of a tape with parity statistics, which sum in the official code's own way, only the structure is checked.
    """
    trace = Trace(tape)
    check_structure(tape, trace)
    book = Book(trace, PATHS[tape.path])
    check_trusts(trace, book)
    coefficients, trusts = _coefficients(trace)
    _check_finite(trace, coefficients)
    groups = unrolled(trace)
    check_nodes(trace, chain.from_iterable(groups.values()))
    check_noises(trace, book, groups)
    if tape.statistics is not None and tape.statistics.parity:
        return tape
    fades = trusted_fades(trace, book, trusts)
    with np.errstate(all="ignore"):  # what comes to NaN is refused
        for along, numbers in _by_bin(tape.statistics, coefficients, book):
            for (form, *_), found in groups.items():
                _Run(book, form, found, fades, along).check(tape.solver, numbers)
    return tape


def _coefficients(trace: Trace) -> tuple[np.ndarray | list[Any], np.ndarray]:
    """(the coefficients (1 or 2, coefficients), or a list where there are fields; the trusts that they hold for (1 or 2, trusts))."""
    found = trace.coefficients
    kinds = {*map(type, found)}
    if Blend in kinds or trace.measures:
        return with_trusts(trace)
    if Field not in kinds:
        return np.array([found], dtype=float), np.zeros((1, 0))
    tape = trace.tape
    bins = tape.statistics.l[0].size if tape.statistics is not None else 0
    for p, w in enumerate(found):
        if isinstance(w, Field) and not (w.values.shape == (bins,) and np.isfinite(w.values).all()):
            raise TapeError(f"{tape.solver}: record {trace.places_of([p])[0]} has a field that does not fit {bins} bins, or is not finite")
    return found, np.zeros((1, 0))


def _check_finite(trace: Trace, coefficients: np.ndarray | list[Any]) -> None:
    """TapeError where a number of the tape is none: infinite ones would make the bounds of rounding infinite too. `check_trusts` compares a
    `Measure`'s, and `_coefficients` looks at fields."""
    found = coefficients
    if isinstance(found, list):
        found = np.array([[0.0 if isinstance(w, Field) else w for w in found]])
    if not (right := np.isfinite(found)).all():
        place = trace.places_of([int(np.argwhere(~right)[0, 1])])[0]
        raise TapeError(f"{trace.tape.solver}: record {place} has a coefficient that is not finite")
    if not np.isfinite(trace.amounts).all():
        raise TapeError(f"{trace.tape.solver}: the coefficient of a noise is not finite")


def _by_bin(statistics: Statistics | None, found: np.ndarray | list[Any], book: Book) -> Iterator[tuple[Along | None, np.ndarray]]:
    """(what l, s and b add up to, the coefficients (1 or 2, coefficients)): once, or for some bins of the statistics."""
    lams = book.levels[2]
    if statistics is None or statistics.l[0].size == 1:
        numbers = found if isinstance(found, np.ndarray) else np.array([[w.values[0] if isinstance(w, Field) else w for w in found]])
        yield Along(statistics, lams) if statistics is not None else None, numbers
        return
    for j in bins_to_try(statistics):
        numbers = found if isinstance(found, np.ndarray) else np.array([[w.values[j] if isinstance(w, Field) else w for w in found]])
        yield Along(statistics.at_bins([j]), lams), numbers


class _Run(Promised):
    """Claims of one form, and what their records make of prescribed evaluations."""

    def __init__(self, book: Book, form: str, found: list[Alike], fades: np.ndarray, along: Along | None):
        trials = len(fades)
        alike: dict[Any, list[Alike]] = {}
        for a in found:
            alike.setdefault(tuple(a.shape.entries), []).append(a)
        self.found = [(shape, *_together(some)) for shape, some in alike.items()]
        rows = np.concatenate([claims for _, claims, _, _ in self.found for _ in range(trials)])
        trial = np.concatenate([np.full(len(claims), v) for _, claims, _, _ in self.found for v in range(trials)]) if trials > 1 else 0
        super().__init__(book, rows, form, fades[trial, rows], along)
        self.trials = trials

    def check(self, solver: str, numbers: np.ndarray) -> None:
        """TapeError unless each of the claims holds."""
        want, got = self.expected(), self.run(numbers, False)[0]
        allowed = TOLERANCE * np.maximum(np.maximum(1.0, np.abs(want)), self.sigma_s)
        if (np.abs(got - want) <= allowed)[self.valid].all():
            return
        allowed += self.run(numbers, True)[1]  # large coefficients are no defect
        wrong = np.argwhere(~(np.abs(got - want) <= allowed) & self.valid)
        for i, k in sorted(wrong.tolist(), key=lambda place: int(self.rows[place[0]])):
            start, end = self.book.starts, self.book.ends
            raise TapeError(
                f"{solver}: the step {start[self.rows[i]]:g} -> {end[self.rows[i]]:g} gives {got[i, k]:.12g} on evaluations "
                f"of degree {k} in λ where {want[i, k]:.12g} is right"
            )

    def run(self, numbers: np.ndarray, bounds: bool) -> tuple[np.ndarray, np.ndarray]:
        """(the state at the end, with `bounds` a bound of its rounding) of the cases, (claims, cases) each."""
        exact = self.exact()
        counts = [len(claims) * self.trials for _, claims, _, _ in self.found]
        levels = [np.concatenate([level] * self.trials) if self.trials > 1 else level for _, _, _, level in self.found]
        owner = np.repeat(np.arange(len(self.rows)), np.repeat([level.shape[1] for level in levels], counts))
        flat = np.concatenate([level.ravel() for level in levels])
        of_x, rest = self.predictions(owner, flat)
        known = of_x * exact[flat] + rest if self.form != "x0" else rest
        out, row, place = [], 0, 0
        for (shape, _, columns, _), count, level in zip(self.found, counts, levels, strict=True):
            some, place = slice(place, place + level.size), place + level.size
            start, row = exact[self.book.start[self.rows[row : row + count]]], row + count
            weights = np.concatenate([one[columns] for one in numbers]) if self.trials > 1 else numbers[0][columns]
            own = [a[some].reshape(*level.shape, self.cases) for a in (known, of_x, rest)]
            out.append(_made(shape, weights.T[:, :, None], start, exact, level, own, bounds))
        return np.concatenate([value for value, _ in out]), np.concatenate([bound for _, bound in out]) if bounds else exact

    def exact(self) -> np.ndarray:
        """The states that the claims' steps start from at each level of the path, (levels, cases)."""
        alpha, sigma, _ = self.book.levels
        states = np.zeros((len(alpha), self.cases))
        if self.form in ("v", "f"):
            states += (np.hypot(alpha, sigma) if self.form == "v" else alpha)[:, None]
        else:
            states[:, 0] = alpha * C + sigma * N
        return states

    def predictions(self, owner: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(of_x, rest), (n, cases), with which x0 = of_x · x + rest at these levels makes the quantity of the claims `owner` the wanted
        polynomial, "v" damped as `step` says: written out anew here. Where λ is infinite no polynomial has a value, and no claim of
        order > 1 may read one."""
        alpha, sigma, lam = self.book.levels[:, levels, None]
        wanted = np.ones((len(levels), self.cases))
        if self.cases > 1:
            at = lam.copy()
            if self.ratio.size:
                of_ratio = np.isin(owner, self.ratio)
                at[of_ratio] = alpha[of_ratio] / sigma[of_ratio]
            roots = self.roots[owner]
            for k in range(1, self.cases):
                wanted[:, k] = wanted[:, k - 1] * (at - roots[:, k - 1 : k])[:, 0]
            wanted[~np.isfinite(wanted)] = 0.0
        if self.form in ("x0", "eps"):
            wanted[:, 0] = N if self.noise_alone else C
        if self.form == "x0" or not len(levels):
            return np.zeros_like(wanted), wanted
        if self.form == "f":
            assert self.along is not None
            l = self.along.statistics.blocks[0][0].value(lam[:, 0])  # noqa: E741
            to_s, drift = self.along.drift(self.lam_s[owner, 0], lam[:, 0])  # f = e^{∫s} (g + B), x0 = (1-l) y - f
            return np.broadcast_to((1 - l) / alpha, wanted.shape), -np.exp(to_s) * (wanted + drift)
        if self.form == "eps":
            of_x, rest = np.repeat(1 / alpha, self.cases, axis=1), -sigma * wanted / alpha
            if not self.noise_alone:
                of_x[:, 0], rest[:, 0] = 0.0, C
        else:
            size = np.hypot(alpha, sigma)
            of_x = np.repeat(alpha / size**2, self.cases, axis=1)
            rest = -sigma * wanted / (((alpha / size) ** 2 + FLOOR**2) ** (POWER / 2) * size)
        none = alpha[:, 0] == 0
        if none.any():
            of_x[none], rest[none] = 0.0, wanted[none]
        return of_x, rest


def _together(some: list[Alike]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(claims, columns, levels) of claims of one shape."""
    if len(some) == 1:
        return some[0].claims, some[0].columns, some[0].levels
    claims, columns, levels = (np.concatenate(parts) for parts in zip(*((a.claims, a.columns, a.levels) for a in some), strict=True))
    return claims, columns, levels


def _made(entries, weights, start, exact, levels, evaluations, bounds: bool) -> tuple[np.ndarray, np.ndarray]:
    """(the last of a shape's entries, with `bounds` a bound of its rounding), (claims, cases)."""
    known, of_x, rest = evaluations
    values: list[np.ndarray] = []
    loose: list[Any] = []
    for kind, *of in entries:
        bound: Any = 0.0
        if kind == "start":
            value = start
        elif kind == "exact":
            value = exact[levels[:, of[0]]]
        elif kind == "sum":
            column, *parts = of
            value = weights[column + len(parts)]
            for j, part in enumerate(parts, column):
                value = value + weights[j] * values[part]
            if bounds:
                bound = sum([np.abs(weights[j]) * (ROUNDING * np.abs(values[p]) + loose[p]) for j, p in enumerate(parts, column)])
        else:
            value = known[:, of[0]] if kind == "known" else of_x[:, of[1]] * values[of[0]] + rest[:, of[1]]
            bound = ROUNDING * np.abs(value) if bounds else 0.0
        values.append(value)
        loose.append(bound)
    return values[-1] + 0 * start, loose[-1] + 0 * start if bounds else start
