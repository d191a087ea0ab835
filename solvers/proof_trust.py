"""The part of a tape's proof that is about measured slopes: each `Measure` looks at the evaluations that it should, as `trust` says.

What the steps make of a trust is proved with two numbers in the place of each, in which a step is linear, see `trust.pairs`.
"""

import numpy as np

from .choices import FORM
from .promised import Book
from .step import FLOOR, POWER
from .tape import Blend, TapeError, writes
from .trace import BITS, KIND, Trace
from .trust import FIRST, SLOPES, pairs


def with_trusts(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """(the coefficients (2, coefficients), the trusts (2, trusts)) with two numbers for each trust. TapeError where a coefficient has a
    trust that nothing has measured before it."""
    trusts = np.array(pairs(len(trace.measures)))
    measured = {record.dst: (j, place) for j, (place, record, _) in enumerate(trace.measures)}
    coefficients = trace.coefficients
    parts = [(p, name, factor) for p, w in enumerate(coefficients) if type(w) is Blend for name, factor in w.parts]
    found = np.array([w.base if type(w) is Blend else w for w in coefficients], dtype=float)
    found = np.stack([found, found])
    if parts:
        places, names, factors = zip(*parts, strict=True)
        readers = trace.places_of(places)
        came = np.array([measured.get(name, (0, len(trace.records)))[1] for name in names])
        if (late := came > readers).any():
            k = int(np.argmax(late))
            raise TapeError(f"{trace.tape.solver}: record {readers[k]} reads {names[k]}, which nothing has written")
        added = np.array(factors) * trusts[:, [measured[name][0] for name in names]]
        for some, own in zip(found, added, strict=True):
            np.add.at(some, list(places), own)
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
    change before it, or, the first time, of the older of the two, and nothing else writes what it has made."""
    if not trace.measures:
        return
    tape, form = trace.tape, FORM[str(dict(trace.tape.options)["algorithm"])]
    made: set[str] = set()  # by measures
    levels: list[tuple[int, int]] = []  # of the newer and of the older evaluation
    least, at_level, asked, last = 1 if form == "x0" else 2, trace.at_level, trace.asked, ""
    for place, r, (*read, before, dst, change) in trace.measures:
        if min(read, default=0) < 0 or (before < 0 and r.before not in made):
            names = [name for (name, _), code in zip(r.terms, read, strict=True) if code < 0] or [r.before]
            raise TapeError(f"{tape.solver}: record {place} reads {names[0]}, which nothing has written")
        again = dst >= 0 or change >= 0 or r.dst in made or r.change in made or r.dst == r.change
        if again or len(read) != 2 or min([w & KIND for w in read]) < least:
            raise TapeError(f"{tape.solver}: record {place} measures {r.dst} again, or something else than two stored evaluations")
        newer, older = at_level[asked[read[0] >> BITS]], at_level[asked[read[1] >> BITS]]
        if newer == older or r.before != (last or r.terms[1][0]) or (levels and older != levels[-1][0]):
            raise _wrong(trace, place, newer, older)
        last = r.change
        made.add(r.dst)
        made.add(last)
        levels.append((newer, older))
    if (place := trace.place_written(made)) is not None:  # the next measure, or a sum, would take it for what was measured
        raise TapeError(f"{tape.solver}: record {place} writes {min(made & writes(trace.records[place]))}, which is a measure's own")
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
