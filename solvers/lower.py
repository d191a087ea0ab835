"""A tape made cheaper to run, the same in exact arithmetic: what the executor walks through when nobody looks in between.

Five changes, all of the coefficients. A state that nobody reads is not made. A correction of the state and the step that follows it
become one sum, so that the corrected state is not written and read again. A sum that leans on measured slopes is told by the newest stored
evaluation and by changes: the changes alone have weights of each item then, and older evaluations are free. Where no evaluation is kept for
a later step none is stored: `direct`. And a stored one is kept in units of its largest weight, v / w = a + (w'/w) b, which has one free
number and so is one kernel; who reads it later has w in the coefficient. The tape itself stays as it was proved.
"""

from collections.abc import Iterable
from dataclasses import replace

from .direct import added, is_plain, passes, without_stores
from .tape import Affine, Arrive, Blend, Eval, Mark, Measure, Noise, Record, Tape, reads, writes
from .trust import size, times


def cheaper(tape: Tape) -> Tape:
    """The same run at less cost, without arrivals and claims; made once for a tape, and kept with it."""
    kept = vars(tape)
    if "cheaper" not in kept:
        kept["cheaper"] = replace(tape, records=lowered(tape.records), claims=())
    return kept["cheaper"]


def lowered(records: Iterable[Record]) -> tuple[Record, ...]:
    """The records without arrivals (nobody may wait for one), states corrected and stepped at once, and the rest of the above."""
    return _in_own_units(without_stores(_by_changes(_at_once(_read([r for r in records if not isinstance(r, Arrive)])))))


def _read(records: list[Record]) -> list[Record]:
    """Without sums that nobody reads: a last correction, where the run ends at the last evaluation."""
    live, out = {"x"}, []
    for r in reversed(records):
        if isinstance(r, Affine) and r.dst not in live:
            continue
        out.append(r)
        live = (live - writes(r)) | reads(r)
    return out[::-1]


def _at_once(records: Iterable[Record]) -> list[Record]:
    """Two sums in a row that write the same register, the second reading what the first wrote, as one."""
    out: list[Record] = []
    for r in records:
        before = out[-1] if out else None
        if isinstance(r, Affine) and isinstance(before, Affine) and before.dst == r.dst and is_plain(r) and is_plain(before):
            own = dict(r.terms).get(r.dst)
            if isinstance(own, float):
                terms = [(name, times(w, own)) for name, w in before.terms] + [t for t in r.terms if t[0] != r.dst]
                out[-1] = Affine(r.dst, added(terms), own * before.bias + r.bias)  # type: ignore[operator]
                continue
        out.append(r)
    return out


def _by_changes(records: Iterable[Record]) -> list[Record]:
    """Sums with weights of each item: the older evaluation of a `Measure`, change = w new + v old, is (change - w new)/v."""
    records = list(records)
    if not any(isinstance(r, Measure) for r in records):
        return records
    through: dict[str, tuple[tuple[str, float], ...]] = {}  # a register as a sum of others, all unchanged since
    leaning: dict[str, set[str]] = {}  # those whose sums hold a register
    out: list[Record] = []
    for r in records:
        if isinstance(r, Affine) and is_plain(r) and any(isinstance(w, Blend) for _, w in r.terms):
            terms = r.terms
            while any(name in through for name, _ in terms):
                terms = tuple((to, times(w, v)) for name, w in terms for to, v in through.get(name, ((name, 1.0),)))
            told = replace(r, terms=added(terms))
            r = min(r, told, key=lambda one: passes([one]))
        out.append(r)
        for written in writes(r):
            for name in (written, *leaning.pop(written, ())):
                through.pop(name, None)
        if isinstance(r, Measure) and len(r.terms) == 2:
            (new, w), (old, v) = r.terms
            if abs(w) < 10 * abs(v):  # rounding stays small
                through[old] = (r.change, 1 / v), (new, -w / v)
                for name in (r.change, new):
                    leaning.setdefault(name, set()).add(old)
    return out


def _in_own_units(records: Iterable[Record]) -> tuple[Record, ...]:
    """Registers that only sums read are divided by their largest weight, and that weight joins the coefficients of their readers."""
    records = list(records)
    seen = {"x"}  # those that somebody else looks at
    for r in records:
        seen |= (
            {r.src, r.dst} if isinstance(r, Eval) else {r.x, r.x0} if isinstance(r, Mark) else {r.dst} if isinstance(r, Noise) else set()
        )
        if isinstance(r, Affine) and not is_plain(r):
            seen |= {r.dst, *(name for name, _ in r.terms)}
    unit: dict[str, float] = {}
    out: list[Record] = []
    for r in records:
        if isinstance(r, Affine) and is_plain(r):
            terms = tuple((name, times(w, unit[name]) if name in unit else w) for name, w in r.terms)
            unit.pop(r.dst, None)
            if r.dst not in seen and r.bias == 0.0:
                terms, largest = _over_largest(terms)
                if largest != 1.0:
                    unit[r.dst] = largest
            r = Affine(r.dst, terms, r.bias)
        elif isinstance(r, Measure):
            terms, unit[r.change] = _over_largest(tuple((name, w * unit.get(name, 1.0)) for name, w in r.terms))
            r = replace(r, terms=terms, scale=r.scale * unit[r.change] / unit.get(r.before, 1.0))
        out.append(r)
    return tuple(out)


def _over_largest(terms: tuple) -> tuple[tuple, float]:
    """(terms over the largest weight, which comes first; that weight), as they are where it is no plain number or the only one."""
    first = max(terms, key=lambda term: size(term[1]))
    if len(terms) < 2 or isinstance(first[1], Blend) or first[1] == 0.0:
        return terms, 1.0
    return ((first[0], 1.0), *((name, times(w, 1 / first[1])) for name, w in terms if name != first[0])), first[1]
