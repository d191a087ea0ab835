"""Sums of a tape told by other registers, and what they cost: stored evaluations that no later step needs are not stored.

A singlestep method in the ε or v form stores v = a d + b y of each evaluation and sums these. As long as d and what y was made of lie in
their registers the sums can read them instead: as many terms, and nothing to store.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce

from .tape import Affine, Blend, Coefficient, Measure, Record, reads, writes
from .trust import plus, size, times

ROUNDING = 1e-13
Version = tuple[str, int]  # a register, and the place of the record that wrote it


def is_plain(record: Record) -> bool:
    """Whether all coefficients are numbers, or blends of them; DPM-Solver-v3's fields stay as they are."""
    return isinstance(record, Affine) and isinstance(record.bias, float) and all(isinstance(w, (float, Blend)) for _, w in record.terms)


def passes(records: Iterable[Record]) -> int:
    """What the sums among the records read and write, in states, as `sums.combine` makes them."""
    total = 0
    for r in records:
        if isinstance(r, (Affine, Measure)):
            plain = sum(isinstance(w, float) for _, w in r.terms)
            total += 3 * (len(r.terms) - 1) + (plain < 2 and len(r.terms) > 0) * 2
    return total


def added(terms: Iterable[tuple[str, Coefficient]]) -> tuple[tuple[str, Coefficient], ...]:
    """The terms, one for each register, without weights of which only rounding is left."""
    found: dict[str, list[Coefficient]] = {}
    for name, w in terms:
        found.setdefault(name, []).append(w)
    sums = {name: ws[0] if len(ws) == 1 else _rounded(reduce(plus, ws), ROUNDING * max(map(size, ws))) for name, ws in found.items()}
    return tuple((name, w) for name, w in sums.items() if len(found[name]) == 1 or w != 0.0) or tuple(sums.items())[:1]


def _rounded(w: Coefficient, least: float) -> Coefficient:
    base, parts = (w.base, w.parts) if isinstance(w, Blend) else (w, ())
    assert isinstance(base, float)
    base, parts = base if abs(base) > least else 0.0, tuple(part for part in parts if abs(part[1]) > least)
    return Blend(base, parts) if parts else base


def without_stores(records: Sequence[Record]) -> Sequence[Record]:
    """The records with what was stored told by its parts, where these are unchanged when it is read; as they are if it is no less work."""
    hidden = {r.dst for r in records if isinstance(r, Affine)} - {"x"}
    for r in records:
        if not is_plain(r):  # somebody else than a plain sum looks at these
            hidden -= reads(r) | writes(r)
    if not hidden:
        return records
    kept: set[Version] = set()
    while True:
        out, lost = _told(records, hidden, kept)
        if not lost:
            return min(records, out, key=passes)
        kept |= lost


def _told(records: Sequence[Record], hidden: set[str], kept: set[Version]) -> tuple[list[Record], set[Version]]:
    """(the records without stores, those of them that are read when one of their parts has been overwritten)."""
    newest: dict[str, Version] = {}
    made_of: dict[Version, dict[Version, float]] = {}
    out, lost = [], set()

    def now(name: str) -> Version:
        return newest.get(name, (name, -1))

    def parts(version: Version) -> dict[Version, float]:
        found = made_of.get(version, {version: 1.0})
        return found if version[0] in hidden or all(now(name) == (name, at) for name, at in found) else {version: 1.0}

    for place, r in enumerate(records):
        if isinstance(r, Affine):
            own = now_made = (r.dst, place)
            numbers = is_plain(r) and r.bias == 0.0 and all(isinstance(w, float) for _, w in r.terms)
            left_out = numbers and r.dst in hidden and now_made not in kept
            if numbers and now_made not in kept:
                sum_ = added((part, times(w, v)) for name, w in r.terms for part, v in parts(now(name)).items())  # type: ignore[misc]
                made_of[own] = dict(sum_)  # type: ignore[arg-type]
            if not left_out:
                terms = []
                for name, w in r.terms:
                    told = made_of.get(now(name)) if name in hidden else None
                    lost |= {now(name)} if told and any(now(part[0]) != part for part in told) else set()
                    terms += [(part[0], times(w, v)) for part, v in told.items()] if told else [(name, w)]
                out.append(replace(r, terms=added(terms)))
        else:
            left_out = False
            out.append(r)
        for name in writes(r):
            newest[name] = name, place
    return out, lost
