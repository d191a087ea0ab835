"""Adaptive DPM-Solver-12 and -23 (arXiv 2206.00927, algorithm 3 and appendix C), their ++ and v forms, forwards and inverse.

TODO figures
"""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

from .execute import HALF, Denoise, walk
from .path import ULPS, Path
from .proof import check
from .singlestep import FRACTIONS, plan_singlestep
from .step import check_options, form_of, node_weights, state_weight, terms_of, value
from .stepsize import NORMS, controller, error_of
from .tape import Affine, Claim, Eval, Mark, Record, Tape

LAMBDA_LOW, LAMBDA_HIGH = -4.0, 5.0  # where the control begins and ends beside λ = -∞ and +∞
SNAP, SHORTEST = 1e-5, 1e-9  # in λ: no step leaves less than the first; an error that stays at the second is not the step's


@dataclass(frozen=True, slots=True)
class AdaptiveInfo:
    """What a run did so far: model calls, accepted and rejected attempts (the single steps at infinite ends are none), the sigmas it
    came to, the last attempt's error over the tolerance, and the step size proposed next, in λ."""

    evaluations: int = 0
    accepted: int = 0
    rejected: int = 0
    sigmas: tuple[float, ...] = ()
    error: float = math.nan
    h: float = math.nan


def plan_pair(path: Path, s: float, t: float, *, algorithm: str, order: int, solver_type: str) -> Tape:
    """One step s → t (finite λ, falling or rising) by two orders that share their evaluations, checked: `order` leads to "x", `order`-1
    to "low". Mark 0 is the first evaluation; Mark 1, the last record, holds both ends (x, low)."""
    records: list[Record] = []
    claims: list[Claim] = []
    lam_s, h, form = path.half_logsnr(s), path.half_logsnr(t) - path.half_logsnr(s), form_of(algorithm, path, s, t)
    stages = (s, *(path.from_half_logsnr(lam_s + r * h) for r in FRACTIONS[order]))
    values: list[str] = []

    def step(dst: str, end: float, which: slice, rule: str) -> None:
        nodes = stages[which]
        weights = node_weights(path, form, s, end, nodes, rule, (1.0,) * len(nodes))
        records.append(Affine(dst, terms_of("x", state_weight(path, form, s, end), values[which], weights)))
        if dst == "x":
            records.append(Mark(1, "x", "low"))
        claims.append(Claim(0, len(records), s, end, form, rule, nodes, (1.0,) * len(nodes), dst))

    for j, sigma in enumerate(stages):
        state = f"y{j}" if j else "x"
        if j:
            step(state, sigma, slice(j), "taylor")
        values.append(f"d{j}")
        records.append(Eval(f"d{j}", state, sigma))
        if j == 0:
            records.append(Mark(0, "x", "d0"))
        if form != "x0":
            of_x, of_x0 = value(path, form, sigma)
            records.append(Affine(f"v{j}", ((state, of_x), (f"d{j}", of_x0))))
            values[-1] = f"v{j}"
    of_two = "taylor" if form == "v" else solver_type
    if order == 2:
        step("low", t, slice(1), "taylor")
        step("x", t, slice(2), of_two)
    else:
        step("low", t, slice(2), of_two)
        step("x", t, slice(None) if solver_type == "taylor" else slice(None, None, 2), "taylor")  # first and last: right, as r2 = 2/3
    return check(Tape(f"adaptive {algorithm} order {order}", path.name, (s, t), tuple(records), tuple(claims)))


def adaptive(path: Path, denoise: Denoise, x: Any, sigma_from: float, sigma_to: float, **options: Any) -> tuple[Any, AdaptiveInfo]:
    """Run from state `x` with `denoise(x, sigma)` -> data prediction; return the final state and what it cost. Options: `walk_adaptive`."""
    run = walk_adaptive(path, x, sigma_from, sigma_to, **options)
    del x
    answer: list[Any] = []
    try:
        while True:
            state, sigma = run.send(answer or None)
            answer.append(denoise(state, sigma))
            del state
    except StopIteration as end:
        return end.value


def walk_adaptive(
    path: Path,
    x: Any,
    sigma_from: float,
    sigma_to: float,
    *,
    algorithm: str = "dpmsolver++",
    order: int = 3,
    solver_type: str = "dpmsolver",
    atol: float = 0.0078,
    rtol: float = 0.05,
    h_init: float = 0.05,
    control: str = "official",
    safety: float | None = None,
    gains: tuple[float, float, float] | None = None,
    norm: str = "item",
    reuse: bool = True,
    max_evaluations: int = 1000,
    sigma_first: float | None = None,
    sigma_last: float | None = None,
    done: Callable[[float], bool] | None = None,
    project: Callable[[Any, float], Any] | None = None,
    mark: Callable[[int, Any, Any], None] | None = None,
    arrive: Callable[[Any, float, int], Any] | None = None,
    report: Callable[[float, AdaptiveInfo], None] | None = None,
) -> Generator[tuple[Any, float], Any, tuple[Any, AdaptiveInfo]]:
    """Walk from `x` at `sigma_from` to `sigma_to`, falling or rising: yields (state, sigma) where an evaluation is due, is sent the data
    prediction (or a list of it, which is emptied) and returns (final state, AdaptiveInfo).
    """
    check_options(algorithm=algorithm, solver_type=solver_type)
    _check_run(path, sigma_from, sigma_to, order, atol, rtol, h_init, norm, max_evaluations)
    propose = controller(order, control, safety, gains)
    first, last = _finite_ends(path, sigma_from, sigma_to, sigma_first, sigma_last)
    sign = 1 if sigma_to < sigma_from else -1
    whole = abs(path.half_logsnr(last) - path.half_logsnr(first))
    dtype = getattr(x, "dtype", None)
    half = str(dtype) in HALF
    x = x.float() if half else x
    info = AdaptiveInfo(sigmas=(sigma_from,), h=h_init)

    def marked(y: Any, x0: Any) -> None:
        if mark is not None:
            mark(len(info.sigmas) - 1, y, x0)

    def arrived(y: Any, sigma: float) -> Any:
        changed = None if arrive is None else arrive(y, sigma, len(info.sigmas) - 1)
        return y if changed is None else changed

    x = arrived(x, sigma_from)
    for s, end, controlled in ((sigma_from, first, False), (first, last, True), (last, sigma_to, False)):
        if s != end and not controlled:
            tape = plan_singlestep(path, (s, end), algorithm=algorithm, order=1)
            x = yield from walk(tape, x, project=project, mark=lambda _, y, x0: marked(y, x0))
            info = replace(info, evaluations=info.evaluations + 1, sigmas=(*info.sigmas, end))
            x = arrived(x, end)
            if report is not None:
                report(float(end == sigma_to), info)
        before, kept = x, None
        while s != end and controlled and not (done is not None and done(s)):
            lam = path.half_logsnr(s)
            rest = abs(path.half_logsnr(end) - lam)
            h = min(info.h, rest) if control == "official" else info.h
            t = end if h > rest - SNAP else path.from_half_logsnr(lam + sign * h)
            cost = order - (kept is not None)
            if info.evaluations + cost > max_evaluations:
                raise RuntimeError(
                    f"adaptive: max_evaluations is {max_evaluations}, and after {info.evaluations} sigma is {s:.4g} on the way to {sigma_to:.4g}; "
                    f"raise it, or raise atol ({atol:g}) or rtol ({rtol:g})."
                )
            pair = plan_pair(path, s, t, algorithm=algorithm, order=order, solver_type=solver_type)
            high, low, kept = yield from _attempt(pair, x, kept, project, marked)
            error = error_of(low, high, before, atol, rtol, norm)
            if not math.isfinite(error):
                raise RuntimeError(
                    f"adaptive: the error of the step from sigma {s:.4g} to {t:.4g} is {error}, so the model or a hook returned values that are "
                    f"not finite; look there first (half precision overflows), as no atol ({atol:g}) or rtol ({rtol:g}) can mend it."
                )
            accepted, h = propose(error, h)
            evaluations = info.evaluations + cost
            if accepted:
                info = replace(info, evaluations=evaluations, accepted=info.accepted + 1, sigmas=(*info.sigmas, t), error=error, h=h)
                x, before, kept, s = arrived(high, t), low, None, t
            else:
                info = replace(info, evaluations=evaluations, rejected=info.rejected + 1, error=error, h=h)
                kept = kept if reuse else None
                if h < SHORTEST:
                    raise RuntimeError(
                        f"adaptive: at sigma {s:.4g} the error stays above the tolerance however short the step, so it is the model's rounding or a "
                        f"jump in it; raise atol ({atol:g}) or rtol ({rtol:g})."
                    )
            del high, low
            if report is not None:
                done_so_far = 1 - abs(path.half_logsnr(end) - path.half_logsnr(s)) / whole
                report(done_so_far, info)
    return (x.to(dtype) if half else x), info


def _attempt(
    pair: Tape, x: Any, kept: Any, project: Callable[[Any, float], Any] | None, marked: Callable[[Any, Any], None]
) -> Generator[tuple[Any, float], Any, tuple[Any, Any, Any]]:
    """Walk through `pair` from x; `kept` is the first prediction if it is known. Returns (end of the higher order, of the lower, kept)."""
    lower: list[Any] = []

    def mark(which: int, y: Any, other: Any) -> None:
        if which == 1:
            lower.append(other)
        elif fresh:
            marked(y, other)

    fresh = kept is None
    run = walk(pair, x, project=project, mark=mark)
    del x
    due: Any = next(run)
    try:
        if fresh:
            answer = yield due
            kept = answer.pop() if isinstance(answer, list) else answer
        due = None  # a state that was evaluated may be freed
        due = run.send(kept)
        while True:
            answer = yield due
            due = None
            due = run.send(answer)
    except StopIteration as end:
        return end.value, lower.pop(), kept


def _finite_ends(path: Path, a: float, b: float, first: float | None, last: float | None) -> tuple[float, float]:
    """The sigmas between which the step size is controlled: a and b where λ is finite there, else the given ones or the defaults."""
    ends = []
    for name, given, s, other in (("sigma_first", first, a, b), ("sigma_last", last, b, a)):
        if math.isfinite(path.half_logsnr(s)):
            if given is not None:
                raise ValueError(f"{name} is {given!r}, but the run's end at sigma {s:g} is finite and needs none; leave it out.")
            ends.append(s)
            continue
        if given is not None and not (min(a, b) < given < max(a, b) and math.isfinite(path.half_logsnr(given))):
            raise ValueError(f"{name} is {given!r}; choose a noise level between {min(a, b):g} and {max(a, b):g}, or leave it out.")
        default = path.from_half_logsnr(LAMBDA_HIGH if s == 0 else LAMBDA_LOW)
        ends.append(default if given is None else given)
    if (ends[0] - ends[1]) * (a - b) <= 0:  # the run is all within the last stretch before an infinite end: one step
        return (b, b) if math.isfinite(path.half_logsnr(b)) else (a, a)
    return ends[0], ends[1]


def _check_run(path, a, b, order, atol, rtol, h_init, norm, max_evaluations) -> None:
    """One ValueError sentence if a value is out of range."""
    for name, s in (("sigma_from", a), ("sigma_to", b)):
        top = 1 + ULPS if path.name == "flow" else math.inf
        if not 0 <= s <= top or (math.isinf(s) and path.name != "vp"):
            raise ValueError(f"{name} is {s!r}; a {path.name} path has noise levels from 0 {'to 1' if path.name == 'flow' else 'up'}.")
    if a == 0:
        raise ValueError("sigma_from is 0, where no noise is left to invert; start at the model's smallest sigma, such as 0.03.")
    if path.half_logsnr(a) == path.half_logsnr(b):
        raise ValueError(f"sigma_from and sigma_to are both {a:g}; there is nothing to do between them, so change one.")
    if isinstance(order, bool) or order not in (2, 3):
        raise ValueError(f"order is {order!r}; adaptive compares two orders, so choose 2 (orders 1 and 2) or 3 (2 and 3).")
    for name, v, usual in (("atol", atol, 0.0078), ("h_init", h_init, 0.05)):
        if not 0 < v < math.inf:
            raise ValueError(f"{name} is {v!r}; choose a finite number above 0, such as {usual}.")
    if not 0 <= rtol < math.inf:
        raise ValueError(f"rtol is {rtol!r}; choose a finite number, 0 or more, such as 0.05.")
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}; choose one of {', '.join(NORMS)}.")
    if isinstance(max_evaluations, bool) or not isinstance(max_evaluations, int) or max_evaluations < order:
        raise ValueError(f"max_evaluations is {max_evaluations!r}; choose a whole number, {order} or more, such as 1000.")
