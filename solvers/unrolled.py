"""What each claim's register is made of, unrolled for the proof: sums of exact states and of evaluations, back to the start of its step.

Claims that are made alike (`trace.Trace`) share a `Shape` and differ in numbers only, so that the proof runs all of them at once.
"""

from typing import Any

import numpy as np

from .tape import Claim, Eval, Noise, TapeError
from .trace import BITS, KIND, Trace


class Shape:
    """How a register is made, in `entries`; numbers are places of earlier entries, places of evaluations, and columns of coefficients.

    ("start",) the exact state from which the step starts; ("exact", e) the exact state that evaluation e was made at, and ("known", e)
    that evaluation, made before the step; ("eval", of, e) evaluation e, of that entry; ("sum", column, *of) a sum of these, whose
    coefficients, and a bias, begin at that column. A stored evaluation is a sum of it and of the exact state it was made at.
    """

    def __init__(self, trace: Trace, claim: Claim, root: int, start: int):
        self.trace, self.claim, self.start = trace, claim, start
        self.entries: list[tuple[Any, ...]] = []
        self.evaluations: list[int] = []  # their places from the claim's first on
        self.sums: list[int] = []  # places and numbers within them of the coefficients' columns
        self.numbers: list[int] = []
        self.direct: list[tuple[int, int]] = []  # (place, evaluation) of what sums into the claim's register read
        self._made: dict[Any, int] = {}
        self._entry(root >> BITS)
        self.noises: dict[int, list[list[int]]] = {}  # places of noise that the register holds, and by which columns it has come there
        self._noises(root, [])

    def _add(self, key: Any, *entry: Any) -> int:
        self._made[key] = len(self.entries)
        self.entries.append(entry)
        return len(self.entries) - 1

    def _evaluation(self, place: int) -> int:
        relative = place - 1 - self.claim.first
        if relative not in self.evaluations:
            self.evaluations.append(relative)
        return self.evaluations.index(relative)

    def _entry(self, place: int) -> int:
        if place in self._made:
            return self._made[place]
        trace, inside = self.trace, place > self.claim.first
        record: Any = trace.records[place - 1] if place else None
        if not inside and place == self.start >> BITS:
            return self._add(place, "start")
        if isinstance(record, Eval):
            e = self._evaluation(place)
            return self._add(place, "eval", self._entry(trace.sources[place][0] >> BITS), e) if inside else self._add(place, "known", e)
        if inside and isinstance(record, Noise):
            return self._entry(trace.sources[place][0] >> BITS)
        if not inside and place not in trace.asked:
            name = record.dst if place else "x"
            raise TapeError(f"{trace.tape.solver}: the step to {self.claim.sigma_to:g} reads {name}, which was written before it")
        of = [self._entry(w >> BITS) if inside or w & KIND else self._exact(place) for w in trace.sources[place]]
        column, relative = len(self.sums), place - 1 - self.claim.first
        if inside and record.dst == self.claim.register:
            self.direct += [(relative, self.entries[e][-1]) for e in of if self.entries[e][0] in ("known", "eval")]
            self.direct += [(relative, self._evaluation(trace.asked[w >> BITS])) for w in trace.sources[place] if w & KIND > 1]
        self.sums += [relative] * (len(of) + 1)
        self.numbers += range(len(of) + 1)
        return self._add(place, "sum", column, *of)

    def _exact(self, place: int) -> int:
        """The state that the stored evaluation of this place belongs to."""
        asked = self.trace.asked[place]
        return self._made[key] if (key := ("exact", asked)) in self._made else self._add(key, "exact", self._evaluation(asked))

    def _noises(self, code: int, columns: list[int]) -> None:
        place, before = code >> BITS, self.trace.sources[code >> BITS]
        if code & KIND or place <= self.claim.first:
            return
        if isinstance(self.trace.records[place - 1], Noise):
            self.noises.setdefault(place - 1 - self.claim.first, []).append(columns)
            self._noises(before[0], columns)
        else:
            first = self.entries[self._made[place]][1]
            for j, w in enumerate(before):
                self._noises(w, [*columns, first + j])


class Alike:
    """Claims of one shape: `claims` (n,), and for each the columns of its coefficients (n, columns) and its evaluations' levels (n, e)."""

    def __init__(self, trace: Trace, claims: list[int], relative: tuple[int, int], offsets: np.ndarray, at_level: np.ndarray):
        first: Claim = trace.tape.claims[claims[0]]
        root, start = ((first.last + 1) << BITS) - relative[0], ((first.first + 1) << BITS) - relative[1]
        self.shape, self.claims = Shape(trace, first, root, start), np.array(claims)
        self.starts = [trace.firsts[i] for i in claims]
        self.firsts = np.array(self.starts)[:, None]
        self.columns = offsets[self.firsts + 1 + np.array(self.shape.sums, dtype=int)] + np.array(self.shape.numbers, dtype=int)
        self.levels = at_level[self.firsts + 1 + np.array(self.shape.evaluations, dtype=int)]


def unrolled(trace: Trace) -> dict[Any, list[Alike]]:
    """The claims that the proof may treat together: of one form, with noise or without, those to σ = 0 apart in forms whose integrals are
    others there; those of the official code's faulty corrector by themselves.

    TapeError, one sentence, where a step reads what was written before it and is no evaluation.
    """
    out: dict[Any, list[Alike]] = {}
    offsets, at_level = np.array(trace.offsets), np.array(trace.at_level)
    for key, claims in trace.alike.items():
        parts: dict[Any, list[int]] = {}
        for i in claims:
            form = trace.forms[i]
            faulty = len(trace.nodes[i]) if trace.rules[i] == "vary_official" else 0
            parts.setdefault((form, trace.etas[i] > 0, form != "x0" and trace.ends[i] == 0, faulty), []).append(i)
        for kind, some in parts.items():
            out.setdefault(kind, []).append(Alike(trace, some, key[:2], offsets, at_level))
    return out
