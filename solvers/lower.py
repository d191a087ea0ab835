"""A tape made cheaper to run, the same in exact arithmetic: what the executor walks through when nobody looks in between.

Two changes, both of the coefficients alone. A correction of the state and the step that follows it become one sum, so that the corrected
state is not written and read again. And a stored evaluation is kept in units of its largest weight, v / w = a + (w'/w) b, which spares one
kernel and two tensor passes; who reads it later has w in the coefficient. The tape itself stays as it was proved.
"""

from collections.abc import Iterable
from dataclasses import replace

from .tape import Affine, Arrive, Blend, Eval, Mark, Measure, Noise, Record, Tape
from .trust import plus, size, times


def cheaper(tape: Tape) -> Tape:
    """The same run at less cost, without arrivals and claims; made once for a tape, and kept with it."""
    kept = vars(tape)
    if "cheaper" not in kept:
        kept["cheaper"] = replace(tape, records=lowered(tape.records), claims=())
    return kept["cheaper"]


def lowered(records: Iterable[Record]) -> tuple[Record, ...]:
    """The records without arrivals (nobody may wait for one), states corrected and stepped at once, stored evaluations in own units."""
    return _in_own_units(_at_once(r for r in records if not isinstance(r, Arrive)))


def _plain(record: Record) -> bool:
    """Whether all coefficients are numbers, or blends of them; DPM-Solver-v3's fields stay as they are."""
    return isinstance(record, Affine) and isinstance(record.bias, float) and all(isinstance(w, (float, Blend)) for _, w in record.terms)


def _at_once(records: Iterable[Record]) -> list[Record]:
    """Two sums in a row that write the same register, the second reading what the first wrote, as one."""
    out: list[Record] = []
    for r in records:
        before = out[-1] if out else None
        if isinstance(r, Affine) and isinstance(before, Affine) and before.dst == r.dst and _plain(r) and _plain(before):
            own = dict(r.terms).get(r.dst)
            if isinstance(own, float):
                weights = {name: times(w, own) for name, w in before.terms}
                for name, w in r.terms:
                    if name != r.dst:
                        weights[name] = plus(weights.get(name, 0.0), w)
                out[-1] = Affine(r.dst, tuple(weights.items()), own * before.bias + r.bias)  # type: ignore[operator]
                continue
        out.append(r)
    return out


def _in_own_units(records: list[Record]) -> tuple[Record, ...]:
    """Registers that only sums read are divided by their largest weight, and that weight joins the coefficients of their readers."""
    seen = {"x"}  # those that somebody else looks at
    for r in records:
        seen |= (
            {r.src, r.dst} if isinstance(r, Eval) else {r.x, r.x0} if isinstance(r, Mark) else {r.dst} if isinstance(r, Noise) else set()
        )
        if isinstance(r, Affine) and not _plain(r):
            seen |= {r.dst, *(name for name, _ in r.terms)}
    unit: dict[str, float] = {}
    out: list[Record] = []
    for r in records:
        if isinstance(r, Affine) and _plain(r):
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
    return tuple((name, times(w, 1 / first[1])) for name, w in (first, *(t for t in terms if t is not first))), first[1]
