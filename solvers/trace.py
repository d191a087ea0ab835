"""One pass over a tape's records, for its proof: who reads and writes what, and which claims are made alike.

Constant data would not show an evaluation of another step, nor a picture that another evaluation's step shows: that is checked here.
"""

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, NoReturn

import numpy as np

from .tape import Affine, Arrive, Eval, Mark, Measure, Noise, Record, Tape, TapeError, reads, writes

BITS = 20  # who wrote a register: its record's place (from 1; 0 is the start), and below these bits of what kind that is
KIND = (1 << BITS) - 1  # 0: a state; 1: an evaluation; 2 and more: a stored evaluation, of this tag
CLAIM = attrgetter("first", "last", "sigma_from", "sigma_to", "form", "rule", "nodes", "fades", "register", "eta", "trusted")


class Trace:
    """What the pass has seen. Places count from 1; `sources` are the codes (see `BITS`) of what each record reads.

    `tags` are small numbers, alike for records that read the same kinds of things from as far back; `alike` has the claims whose records
    all have the same tags, by (how far back the register's last writing and the start's are, …). TapeError, one sentence, where a record
    reads what nothing has written, stores a prediction with a state it was not made at, evaluates or shows a state where it is not, or
    shows what it does not say.
    """

    def __init__(self, tape: Tape):
        self.tape, self.records = tape, tape.records
        columns: list[Any] = list(zip(*map(CLAIM, tape.claims), strict=True)) or [()] * 11
        self.firsts, self.lasts, self.starts, self.ends, self.forms, self.rules, self.nodes, self.fades = columns[:8]
        self.registers, self.etas, self.trusted = columns[8:]
        self.levels: dict[float, int] = {}  # a number for each sigma
        for s in chain(tape.sigmas, self.starts, self.ends, *self.nodes):
            if s not in self.levels:
                self.levels[s] = len(self.levels)
        count = len(tape.records) + 1
        self.sources: list[Any] = [()] * count
        self.asked: dict[int, int] = {}  # of a record that is an evaluation, stored or not: the place of its `Eval`
        self.coefficients: list[Any] = []  # of all sums, with the bias last
        self.offsets = [0] * count  # where those of a record begin
        self.sums: list[int] = []  # places of all sums
        self.amounts: list[float] = []  # coefficients of all noises
        self.at_level = [0] * count  # the level of an `Eval`
        self.into_states: list[int] = []  # places of sums into states that read evaluations
        self.alike: dict[tuple[Any, ...], list[int]] = {}
        self.measures: list[tuple[int, Measure, list[int]]] = []  # codes of its terms, of `before`, and of what it writes, -1: not written
        self.latest = [0] * len(tape.claims)  # how many were measured before the end of a claim
        self.noisy = any(self.etas)
        self._states = {*self.registers}
        self._origin: dict[int, int] = {}  # of an evaluation, stored or not: the writing of the state that it was made at
        self._writer = {"x": 0}  # who wrote each register
        self._at = {"x": self.starts[0]} if self.starts else {}  # the sigma that each state has come to
        self._tags = [-1] * (count - 1)
        self._numbers: dict[Any, int] = {}  # of the tags
        self._shown = self._arrived = -1
        self._pass()

    def _pass(self) -> None:
        records, ends, firsts, started = self.records, {}, {*self.firsts}, {}
        for i, last in enumerate(self.lasts):
            ends.setdefault(last, []).append(i)
        self._endings = ends
        ways = {Affine: self._affine, Eval: self._eval, Mark: self._mark, Arrive: self._arrive, Noise: self._noise, Measure: self._measure}
        for place, record in enumerate(records):
            if place in ends:
                self._end(ends[place], place, started)
            if place in firsts:
                started[place] = self._writer["x"]
            ways[type(record)](place, record)
        self._end(ends.get(len(records), ()), len(records), started)

    def _end(self, ended, place: int, started: dict[int, int]) -> None:
        """The claims that end before this place."""
        for i in ended:
            register, first = self.registers[i], self.firsts[i]
            self._at[register] = self.ends[i]
            if register not in self._writer:
                self._fail(f"nothing writes {register}, the end of the step to {self.ends[i]:g}")
            self.latest[i] = len(self.measures)
            root, start = ((place + 1) << BITS) - self._writer[register], ((first + 1) << BITS) - started.get(first, -1)
            key = (root, start, place - first, register, *self._tags[first:place])
            if key in self.alike:
                self.alike[key].append(i)
            else:
                self.alike[key] = [i]

    def _affine(self, place: int, record: Affine) -> None:
        dst, terms, here, writer = record.dst, record.terms, (place + 1) << BITS, self._writer
        try:
            read = [writer[name] for name, _ in terms]
        except KeyError:
            self._unwritten(place, record)
        self.sums.append(place + 1)
        self.sources[place + 1], self.offsets[place + 1] = read, len(self.coefficients)
        self.coefficients += [w for _, w in terms]
        self.coefficients.append(record.bias)
        known = [w for w in read if w & KIND]
        tag: tuple[Any, ...] = (dst if dst in self._states else "", *[here - w for w in read])
        number = self._tags[place] = self._numbers.setdefault(tag, len(self._numbers))
        if tag[0]:
            self._at.pop(dst, None)  # it has left; its claim says where it comes to
            if known:
                self.into_states.append(place)
        elif known:
            made = known[0] >> BITS
            of = self._origin[made]
            if len(known) > 1 or [w for w in read if w != of and not w & KIND]:
                sigma = self.sigma(self.asked[made])
                self._fail(f"{dst} stores the prediction at {sigma:g} with a state it was not made at")
            self.asked[place + 1], self._origin[place + 1] = self.asked[made], of
            here += 2 + number
        elif len(read) > 1:
            self._fail(f"{dst} mixes states")
        writer[dst] = here

    def _eval(self, place: int, record: Eval) -> None:
        src, dst, sigma, here = record.src, record.dst, record.sigma, (place + 1) << BITS
        if src not in self._writer:
            self._unwritten(place, record)
        if self._at.get(src) != sigma:
            self._fail(f"register {src} is evaluated at {sigma:g}, but holds {self._at.get(src)}")
        of, state = self._writer[src], dst if dst in self._states else ""
        if state:
            self._at.pop(dst, None)
        self.sources[place + 1] = (of,)
        self._tags[place] = self._numbers.setdefault((here - of, state), len(self._numbers))
        self.asked[place + 1], self._origin[place + 1] = place + 1, of
        self.at_level[place + 1] = self.levels.setdefault(sigma, len(self.levels))
        self._writer[dst] = here + 1

    def _mark(self, place: int, record: Mark) -> None:
        before: Any = self.records[place - 1] if place else None
        if record.step <= self._shown or type(before) is not Eval or before.src != record.x or before.dst != record.x0:
            self._fail(f"step {record.step} shows another state or prediction than those of its evaluation")
        self._shown = record.step

    def _arrive(self, place: int, record: Arrive) -> None:
        step, sigmas = record.step, self.tape.sigmas
        if step < self._arrived or not step < len(sigmas):
            self._fail(f"step {step} arrives after step {self._arrived}")
        if self._at.get(record.x) != sigmas[step]:
            self._fail(f"{record.x} arrives at step {step}, but holds {self._at.get(record.x)}")
        self._arrived = step

    def _noise(self, place: int, record: Noise) -> None:
        dst, here = record.dst, (place + 1) << BITS
        if dst not in self._writer:
            self._unwritten(place, record)
        if dst not in [self.registers[i] for i in self._endings.get(place + 1, ())]:
            self._fail(f"record {place} adds noise to {dst} before the end of a step")
        before = self._writer[dst]
        self.sources[place + 1] = (before,)
        self._tags[place] = self._numbers.setdefault(("noise", here - before), len(self._numbers))
        self._writer[dst], self.noisy = here, True
        self.amounts.append(record.coefficient)

    def _measure(self, place: int, record: Measure) -> None:
        names = (*[name for name, _ in record.terms], record.before, record.dst, record.change)
        self.measures.append((place, record, [self._writer.get(name, -1) for name in names]))

    def place_written(self, names: set[str]) -> int | None:
        """The first record but a `Measure` that writes one of these registers, counted from 0."""
        if not names & self._writer.keys():
            return None
        return next(p for p, r in enumerate(self.records) if not isinstance(r, Measure) and writes(r) & names)

    def sigma(self, place: int) -> float:
        """Where the `Eval` of this place is made."""
        record: Any = self.records[place - 1]
        return record.sigma

    def places_of(self, columns: Sequence[int]) -> np.ndarray:
        """Which records have these coefficients, counted from 0."""
        firsts = np.array([self.offsets[p] for p in self.sums])
        return np.array(self.sums)[np.searchsorted(firsts, columns, side="right") - 1] - 1

    def _fail(self, what: str) -> NoReturn:
        raise TapeError(f"{self.tape.solver}: {what}")

    def _unwritten(self, place: int, record: Record) -> NoReturn:
        name = sorted(reads(record) - self._writer.keys())[0]
        self._fail(f"record {place} reads {name}, which nothing has written")
