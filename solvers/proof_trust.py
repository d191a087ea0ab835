"""The part of a tape's proof that is about measured slopes: each `Measure` looks at the evaluations that it should, as `trust` says.

What the steps make of a trust is proved with two numbers in the place of each, in which a step is linear, see `trust.pairs`.
"""

import numpy as np

from .choices import FORM
from .promised import Book
from .step import FLOOR, POWER
from .tape import Blend, TapeError
from .trace import BITS, KIND, Trace
from .trust import FIRST, SLOPES, pairs


def with_trusts(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """(the coefficients (2, coefficients), the trusts (2, trusts)) with two numbers for each trust. TapeError where a coefficient has a
    trust that nothing has measured before it."""
    trusts = np.array(pairs(len(trace.measures)))
    measured = {record.dst: (j, place) for j, (place, record, _) in enumerate(trace.measures)}
    coefficients = trace.coefficients
    parts = [(p, *part) for p, w in enumerate(coefficients) if type(w) is Blend for part in w.parts]
    readers = trace.places_of([p for p, _, _ in parts])
    for reader, (_, name, _) in zip(readers, parts, strict=True):
        if name not in measured or measured[name][1] > reader:
            raise TapeError(f"{trace.tape.solver}: record {reader} reads {name}, which nothing has written")
    found = np.array([[w.base if type(w) is Blend else w for w in coefficients]] * 2, dtype=float)
    if parts:
        places, names, factors = zip(*parts, strict=True)
        which = [measured[name][0] for name in names]
        for some, own in zip(found, trusts, strict=True):
            np.add.at(some, list(places), np.array(factors) * own[which])
    return found, trusts


def trusted_fades(trace: Trace, book: Book, trusts: np.ndarray) -> np.ndarray:
    """The fades (trials, claims, cases) of the claims: a step is trusted by the last `Measure` before its end; by none, nothing holds."""
    fades = np.repeat(book.fades[None], len(trusts), axis=0)
    trusted = np.flatnonzero(book.trusted)
    if trusted.size:
        latest = np.array(trace.latest)[trusted] - 1
        own = np.where(latest >= 0, trusts[:, latest], np.nan) if trusts.size else np.full((len(trusts), len(trusted)), np.nan)
        fades[:, trusted, 1:] *= own[:, :, None]
    return fades


def check_trusts(trace: Trace, book: Book) -> None:
    """TapeError unless every trust is made once: of the change between two evaluations in a row, as they are stored, damped, and of the
    change before it, or, the first time, of the older of the two."""
    if not trace.measures:
        return
    tape, form = trace.tape, FORM[str(dict(trace.tape.options)["algorithm"])]
    made: set[str] = set()  # by measures
    levels: list[tuple[int, int]] = []  # of the newer and of the older evaluation
    for place, r, codes in trace.measures:
        names = [name for name, _ in r.terms]
        for name, code in zip((*names, r.before), codes, strict=False):
            if code < 0 and name not in made:
                raise TapeError(f"{tape.solver}: record {place} reads {name}, which nothing has written")
        stored = len(names) == 2 and all(w > 0 and w & KIND and (form == "x0" or w & KIND > 1) for w in codes[:2])
        if not stored or {r.dst, r.change} & made or r.dst == r.change or codes[-2:] != [-1, -1]:
            raise TapeError(f"{tape.solver}: record {place} measures {r.dst} again, or something else than two stored evaluations")
        newer, older = (trace.at_level[trace.asked[w >> BITS]] for w in codes[:2])
        before = trace.measures[len(levels) - 1][1].change if levels else names[1]
        if newer == older or r.before != before or (levels and older != levels[-1][0]):
            raise _wrong(trace, place, newer, older)
        made |= {r.dst, r.change}
        levels.append((newer, older))
    alpha, sigma, lam = book.levels[:, np.array(levels)]  # (measures, 2)
    damped = (alpha**2 / (alpha**2 + sigma**2) + FLOOR**2) ** (POWER / 2) if form == "v" else np.ones_like(alpha)
    h = lam[:, 0] - lam[:, 1]
    scale = np.concatenate([1 / damped[:1, 1], h[:-1] / h[1:]])
    rest = np.array([(1.0, *FIRST.values())] + [(0.0, *SLOPES.values())] * (len(levels) - 1))
    wanted = np.column_stack([damped[:, 0], -damped[:, 1], scale, rest])
    found = np.array([(r.terms[0][1], r.terms[1][1], r.scale, r.offset, r.below, r.above, r.most) for _, r, _ in trace.measures])
    right = (np.abs(found - wanted) <= 1e-12 * np.abs(wanted)).all(1)
    if not right.all():
        k = int(np.argmin(right))
        raise _wrong(trace, trace.measures[k][0], *levels[k])


def _wrong(trace: Trace, place: int, newer: int, older: int) -> TapeError:
    sigmas = [*trace.levels]
    return TapeError(
        f"{trace.tape.solver}: record {place} does not measure the slope from {sigmas[older]:g} to {sigmas[newer]:g} as it should"
    )
