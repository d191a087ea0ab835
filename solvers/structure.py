"""The part of a tape's proof that is about its claims as a whole: they lead along the sigmas, cover the records, claim no more than the
tape's options, and name the evaluations that their steps read."""

from collections.abc import Iterable
from operator import attrgetter

from .choices import FORM
from .tape import Arrive, Tape, TapeError
from .trace import Trace
from .unrolled import Alike


def check_structure(tape: Tape, trace: Trace) -> None:
    """TapeError, one sentence, unless the claims lead along all sigmas, every record belongs to one, their forms and rates of noise are
    those of the options, and each has a fade for each node."""
    _check_covered(tape)
    _check_chain(tape, trace)
    _check_options(tape, trace)
    for i, (nodes, fades) in enumerate(zip(trace.nodes, trace.fades, strict=True)):
        if len(nodes) != len(fades):
            step = f"{trace.starts[i]:g} -> {trace.ends[i]:g}"
            raise TapeError(f"{tape.solver}: the step {step} claims {len(nodes)} nodes and {len(fades)} fades")


def _check_covered(tape: Tape) -> None:
    reach = 0
    for c in (*sorted(tape.claims, key=attrgetter("first")), None):
        between = tape.records[reach : c.first if c else None]
        if {*map(type, between)} - {Arrive}:
            raise TapeError(f"{tape.solver}: some records belong to no claim")
        reach = max(reach, c.last) if c else reach


def _check_chain(tape: Tape, trace: Trace) -> None:
    came, here, any_step = None, tape.sigmas[0] if tape.sigmas else 0.0, False
    visited = {here}
    for register, start, end in zip(trace.registers, trace.starts, trace.ends, strict=True):
        if register != "x":
            continue
        any_step = True
        if start == here:
            came, here = here, end
            visited.add(here)
        elif end != here or start not in (came, tape.sigmas[0]):  # else the step, or the whole start, taken again
            raise TapeError(f"{tape.solver}: the claims do not lead along the sigmas, step by step")
    fast = dict(tape.options).get("method") == "singlestep"  # several sigmas a step
    if len(tape.sigmas) > 1 and (here != tape.sigmas[-1] or not any_step or not (fast or set(tape.sigmas) <= visited)):
        raise TapeError(f"{tape.solver}: the claims do not lead along the sigmas, step by step")


def _check_options(tape: Tape, trace: Trace) -> None:
    options = dict(tape.options)
    eta, form = float(options.get("eta", 0.0)), FORM.get(str(options.get("algorithm")))  # type: ignore[arg-type]
    fixed = options.get("noise_rule", "sde") == "sde"
    if {*trace.etas} <= {eta if fixed else 0.0} and (form is None or {*trace.forms} <= {"x0", form}):
        return
    for c in tape.claims:
        rate = eta if fixed else c.eta
        if c.eta != rate or (c.eta > 0) > (eta > 0):
            raise TapeError(f"{tape.solver}: the step to {c.sigma_to:g} claims eta {c.eta:g}, the run has {eta:g}")
        if form is not None and c.form not in ("x0", form):
            raise TapeError(f"{tape.solver}: the step to {c.sigma_to:g} claims the form {c.form}")


def check_nodes(trace: Trace, groups: Iterable[Alike]) -> None:
    """TapeError unless every evaluation that a sum into a state reads is a node of a claim that the sum is a part of."""
    number, seen, some = trace.levels, set(), list(groups)
    unnamed: set[tuple[int, int]] = set()  # (place, level)
    for a in some:
        places, evaluations = {place for place, _ in a.shape.direct}, {e for _, e in a.shape.direct}
        for i, first, levels in zip(a.claims.tolist(), a.starts, a.levels.tolist(), strict=True):
            seen.update([first + place for place in places])
            own = {number[s] for s in trace.nodes[i]}
            if not {levels[e] for e in evaluations} <= own:
                unnamed |= {(first + place, levels[e]) for place, e in a.shape.direct if levels[e] not in own}
    for a in some if unnamed else ():  # what one claim does not name another may
        for i, first, levels in zip(a.claims.tolist(), a.starts, a.levels.tolist(), strict=True):
            unnamed -= {(first + place, number[s]) for place, e in a.shape.direct for s in trace.nodes[i] if number[s] == levels[e]}
    seen -= {place for place, _ in unnamed}
    for place in trace.into_states:
        if place not in seen:
            raise TapeError(f"{trace.tape.solver}: record {place} reads an evaluation that is none of its step's nodes")
