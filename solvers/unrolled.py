"""What each claim's register is made of, unrolled for the proof: sums of exact states and of evaluations, back to the start of its step.

Claims whose registers are made in the same way share a `Shape` and differ in numbers only, so that the proof runs all of them at once.
"""

from collections import defaultdict
from typing import Any

from .tape import Affine, Arrive, Claim, Eval, Record, Tape, TapeError, reads

# The entries of a shape, in the order in which they are made; numbers are places of earlier entries:
# ("start",) the exact state from which the step starts; ("known",) an evaluation of the exact state at its level, made before;
# ("stored",) the same as it is stored, from two weights (of the state, of the evaluation) and a bias;
# ("eval", of) an evaluation of that entry; ("sum", *of) a sum of these with a weight each, and a bias.
Shape = tuple[tuple[Any, ...], ...]
Alike = tuple[Shape, str, str, int, bool, bool]
Unrolled = tuple[Claim, list[float], list[float]]  # claim, weights and biases, levels of the evaluations; in the order of the shape


def unrolled(tape: Tape) -> dict[Alike, list[Unrolled]]:
    """The claims by (shape, form, rule, number of nodes, whether noise is added, whether to σ = 0), which the proof treats alike.

    TapeError, one sentence, where a state is evaluated or arrives at another sigma than its claim leads to, or a step reads what was
    written before it and is no evaluation.
    """
    sources, stored, roots, starts = _sources(tape)
    groups: dict[Alike, list[Unrolled]] = defaultdict(list)
    for claim, root in zip(tape.claims, roots, strict=True):
        if root is None:
            raise TapeError(f"{tape.solver}: nothing writes {claim.register}, the end of the step to {claim.sigma_to:g}")
        shape, weights, levels = _unroll(tape, sources, stored, claim, root, starts[claim.first])
        key = shape, claim.form, claim.rule, len(claim.nodes), claim.eta > 0, claim.sigma_to == 0
        groups[key].append((claim, weights, levels))
    return groups


def _sources(tape: Tape):
    """For each record the places of those that wrote what it reads (-1: the state at the start); {place: stored evaluation}, see
    `_stored`; for each claim the place of the record that it ends with; and {first record of a claim: that which wrote x before}."""
    ends: dict[int, list[int]] = defaultdict(list)
    for i, claim in enumerate(tape.claims):
        ends[claim.last].append(i)
    states, firsts = {c.register for c in tape.claims}, {c.first for c in tape.claims}
    writer, starts = {"x": -1}, {}
    at = {"x": tape.claims[0].sigma_from} if tape.claims else {}  # the sigma that each state has come to
    sources: list[tuple[int, ...]] = []
    stored: dict[int, tuple[int, float, float, float]] = {}
    roots: list[int | None] = [None] * len(tape.claims)
    for place in range(len(tape.records) + 1):
        for i in ends.get(place, ()):
            at[tape.claims[i].register] = tape.claims[i].sigma_to
            roots[i] = writer.get(tape.claims[i].register)
        if place == len(tape.records):
            break
        if place in firsts:
            starts[place] = writer["x"]
        record = tape.records[place]
        if isinstance(record, Affine):
            at.pop(record.dst, None)  # it has left; its claim says where it comes to
            read = tuple(writer[name] for name, _ in record.terms)
            if record.dst not in states:
                _stored(sources, stored, place, record, read)
            writer[record.dst] = place
        elif isinstance(record, Eval):
            if at.get(record.src) != record.sigma:
                raise TapeError(f"{tape.solver}: register {record.src} is evaluated at {record.sigma:g}, but holds {at.get(record.src)}")
            read = (writer[record.src],)
            stored[place] = place, 0.0, 1.0, 0.0
            writer[record.dst] = place
        else:
            read = ()
            if isinstance(record, Arrive) and at.get(record.x) != tape.sigmas[record.step]:
                raise TapeError(f"{tape.solver}: {record.x} arrives at step {record.step}, but holds {at.get(record.x)}")
        sources.append(read)
    return sources, stored, roots, starts


def _stored(sources, stored, place: int, record: Affine, read: tuple[int, ...]) -> None:
    """Note (the evaluation's place, weight of the state it was made at, of the evaluation, bias) of a sum of no more than these."""
    made = next((stored[p][0] for p in read if p in stored), None)
    if made is None:
        return
    of_x, of_x0, bias = 0.0, 0.0, float(record.bias)  # type: ignore[arg-type]
    for p, (_, w) in zip(read, record.terms, strict=True):
        if p == sources[made][0]:
            of_x += w  # type: ignore[operator]
        elif p in stored and stored[p][0] == made:
            _, x, x0, b = stored[p]
            of_x, of_x0, bias = of_x + w * x, of_x0 + w * x0, bias + w * b  # type: ignore[operator]
        else:
            return
    stored[place] = made, of_x, of_x0, bias


def _unroll(tape: Tape, sources, stored, claim: Claim, root: int, start: int) -> tuple[Shape, list[float], list[float]]:
    """(shape, weights, levels) of what the record at `root` writes."""
    records: Any = tape.records
    shape: list[tuple[Any, ...]] = []
    weights: list[float] = []
    levels: list[float] = []
    entries: dict[int, int] = {}

    def entry(place: int) -> int:
        if place in entries:
            return entries[place]
        record: Any = records[place]
        if place < claim.first and place == start:
            made: tuple[Any, ...] = ("start",)
        elif place < claim.first:
            if place not in stored:
                raise TapeError(f"{tape.solver}: the step to {claim.sigma_to:g} reads {_name(record)}, which was written before it")
            at, *numbers = stored[place]
            levels.append(records[at].sigma)
            made = ("known",) if at == place else ("stored",)
            weights.extend(numbers if at != place else ())
        elif isinstance(record, Eval):
            made = ("eval", entry(sources[place][0]))
            levels.append(record.sigma)
        else:
            made = ("sum", *[entry(p) for p in sources[place]])
            weights.extend([w for _, w in record.terms])
            weights.append(record.bias)
        shape.append(made)
        entries[place] = len(shape) - 1
        return len(shape) - 1

    entry(root)
    return tuple(shape), weights, levels


def _name(record: Record) -> str:
    return getattr(record, "dst", "") or next(iter(reads(record)))
