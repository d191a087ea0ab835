"""The executor: runs a tape on torch, NumPy or JAX arrays, without looking at any value on the device.

What it costs on torch: a sum of n terms is n-1 kernels and 3(n-1) passes over the state (`sums`), so DPM-Solver++ 2M costs 2 kernels and 6
passes a step, and no host-device synchronisation. Measuring slopes takes 3 passes of one item and 5 of several, and about ten kernels on
one number an item. DPM-Solver-v3 with statistics multiplies by arrays (`addcmul_`), and with radial ones goes through two real FFTs an
evaluation. Two terms whose weights neither sum to 1 nor hold a 1 take one kernel more where `addr` is not taken (see `sums`). Where nobody
waits for arrivals the tape is made cheaper first (`lower`): benchmarks/cost.py measures what is left.
"""

from collections.abc import Callable, Generator
from typing import Any

from .arrays import cast, widened
from .basis import Basis, basis_of
from .lower import cheaper
from .sums import PerItem, combine, measured, unit
from .tape import Affine, Blend, Coefficient, Eval, Mark, Measure, Noise, Tape

Denoise = Callable[[Any, float], Any]


def execute(tape: Tape, denoise: Denoise, x: Any, **hooks: Any) -> Any:
    """Run `tape` from state `x` with `denoise(x, sigma)` -> data prediction (shape of x); return the final state. Hooks as in `walk`."""
    run = walk(tape, x, **hooks)
    del x
    return drive(run, denoise)


def drive(run: Generator[tuple[Any, float], Any, Any], denoise: Denoise) -> Any:
    """Answer all that a walk asks for with `denoise(x, sigma)`; return what it returns."""
    answer: list[Any] = []
    try:
        while True:
            state, sigma = run.send(answer or None)
            answer.append(denoise(state, sigma))
            del state
    except StopIteration as end:
        return end.value


def walk(
    tape: Tape,
    x: Any,
    *,
    project: Callable[[Any, float], Any] | None = None,
    noise: Callable[[float, float], Any] | None = None,
    mark: Callable[[int, Any, Any], None] | None = None,
    arrive: Callable[[Any, float, int], Any] | None = None,
) -> Generator[tuple[Any, float], Any, Any]:
    """Walk through `tape` from state `x` (any shape, in the scaling of the tape's path; where slopes are measured axis 0 counts the items,
    each of which has its own): a generator that yields (state, sigma) where an evaluation is due, is sent the data prediction, and returns
    the final state, same shape and dtype. The prediction may come in a list, which is emptied so that no sender keeps it alive; a second
    item of it is the state to go on with, where that was changed.

    Hooks: `project(x0, sigma)` returns the prediction to use instead (thresholding, correcting_x0_fn); `noise(sigma_from, sigma_to)`
    returns unit normal noise of that interval; `mark(step, x, x0)` is called once a step (callback, progress, interrupt by raising);
    `arrive(x, sigma, step)` sees the state at each sigma of the run and may return another to go on with (correcting_xt_fn). `x` itself
    is never written to. A half-precision state is kept in float32 in between. ValueError, one sentence, before the first evaluation, if
    x holds integers, or the tape adds noise and there is no source of it.
    """
    if noise is None and any(isinstance(record, Noise) for record in tape.records):
        raise ValueError(
            f"{tape.solver} adds noise, but no noise source was given; pass noise=(sigma_from, sigma_to) -> unit noise, or eta 0."
        )
    dtype = getattr(x, "dtype", None)
    if dtype is not None and "float" not in str(dtype):
        raise ValueError(f"x holds {str(dtype).rpartition('.')[2]}; a state is made of floating-point numbers, so convert it.")
    if arrive is None:
        tape = cheaper(tape)
    registers: dict[str, Any] = {"x": x if dtype is None else widened(x)}
    del x  # no reference but the registers': what a register frees is free
    state_dtype = getattr(registers["x"], "dtype", None)
    basis, shown, before, one = basis_of(tape, registers["x"]), None, None, unit(registers["x"])
    if basis is not None:
        registers["x"] = basis.forward(registers["x"])
    for record, dead in zip(tape.records, tape.last_reads, strict=True):
        if isinstance(record, Eval):
            state = registers[record.src] if basis is None else basis.inverse(registers[record.src])
            x0 = yield state, record.sigma
            if isinstance(x0, list):  # taken out of its list: only a register may keep a prediction alive
                answer, x0 = x0, x0.pop(0)
                if answer:
                    state = answer.pop()
                    registers[record.src] = state if basis is None else basis.forward(state)
                del answer
            if project is not None:
                x0 = project(x0, record.sigma)
            if getattr(x0, "shape", None) != getattr(state, "shape", None):
                raise ValueError(f"The prediction is {_kind(x0)}, the state {_kind(state)}; they must have one shape.")
            x0 = x0 if state_dtype is None else cast(x0, state_dtype)
            registers[record.dst] = x0 if basis is None else basis.forward(x0)
            if basis is not None:
                shown = state, x0  # for the mark that follows
            del x0, state
        elif isinstance(record, Affine):
            terms = [(_known(w, registers), registers[name]) for name, w in record.terms]
            registers[record.dst] = combine(terms, one) if basis is None else _combine_fields(basis, terms, one)
            if record.bias != 0.0:
                registers[record.dst] = registers[record.dst] + (record.bias if basis is None else basis.bias(record.bias))
            del terms
        elif isinstance(record, Noise):
            assert noise is not None
            drawn = noise(record.sigma_from, record.sigma_to)
            drawn = drawn if state_dtype is None else cast(drawn, state_dtype)
            if isinstance(before, Affine) and before.dst == record.dst and hasattr(drawn, "lerp"):  # nobody else has seen that sum
                registers[record.dst].add_(drawn, alpha=record.coefficient)
            else:
                registers[record.dst] = combine([(1.0, registers[record.dst]), (record.coefficient, drawn)])
            del drawn
        elif isinstance(record, Measure):
            registers[record.change] = combine([(w, registers[name]) for name, w in record.terms], one)
            registers[record.dst] = measured(record, registers[record.change], registers[record.before])
        elif isinstance(record, Mark):
            if mark is not None:
                mark(record.step, *(shown or (registers[record.x], registers[record.x0])))
            shown = None
        elif arrive is not None:
            state = registers[record.x] if basis is None else basis.inverse(registers[record.x])
            changed = arrive(state, tape.sigmas[record.step], record.step)
            if changed is not None:
                registers[record.x] = changed if basis is None else basis.forward(changed)
            del changed, state
        for name in dead:
            registers.pop(name, None)
        before = record
    x = registers["x"] if basis is None else basis.inverse(registers["x"])
    return x if dtype is None else cast(x, dtype)


def _known(w: Coefficient, registers: dict[str, Any]) -> Any:
    """A coefficient as registers are multiplied by it: of a blend, base + Σ factor·(slope·numbers + height), one number for each item."""
    if not isinstance(w, Blend):
        return w
    found = [(factor * registers[name].slope, registers[name]) for name, factor in w.parts]
    factor, first = found[0]
    base = w.base + sum(f * trust.height for (_, f), (_, trust) in zip(w.parts, found, strict=True))
    numbers = first.numbers + base / factor if base else first.numbers
    for f, trust in found[1:]:
        numbers = numbers + f / factor * trust.numbers
    return PerItem(factor, numbers)


def _combine_fields(basis: Basis, terms: list[tuple[Any, Any]], one: Any) -> Any:
    """`combine` where coefficients may differ over bins."""
    if all(isinstance(w, float) for w, _ in terms):
        return combine(terms, one)
    weight, first = terms[0]
    total = first * basis.coefficient(weight)
    for w, a in terms[1:]:
        w = basis.coefficient(w)
        if not hasattr(total, "addcmul_"):
            total = total + w * a
        elif isinstance(w, float):
            total.add_(a, alpha=w)
        else:
            total.addcmul_(w.expand_as(a), a)
    return total


def _kind(a: Any) -> str:
    return f"of shape {tuple(a.shape)}" if hasattr(a, "shape") else f"a {type(a).__name__}"
