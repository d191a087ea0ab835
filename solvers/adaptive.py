"""Adaptive DPM-Solver-12 and -23 (arXiv 2206.00927, algorithm 3 and appendix C), their ++ and v forms, forwards and inverse.

Each attempt is one singlestep step by two orders that share their evaluations; their difference is the error that `stepsize` judges.
It is planned, proven and walked through like any tape (0.6 ms, 1.1 ms for form v), and reads one number from the device.

The batch is coupled: a step is as short as its worst item needs (norm "item"), so an item's picture depends on those beside it within
the tolerance. Who wants items independent runs them one by one.

Measured on the mixtures toy and image_like, guidance 1 and 7.5, VE (14.6 to 0.029) and flow (0.98 to 0.005), 32 states in batches of 4,
against the ODE solved finely. Error at the same number of evaluations (25 to 45), over that of the defaults, geometric means:

| | |
| --- | --- |
| official code's settings (h_init 0.05, safety 0.9, growth unbounded, no `reuse`), ++; "dpmsolver" | 2.3; 6.0 |
| k-diffusion's (control pid, norm batch, "dpmsolver", h_init 0.05, no `reuse`) | 5.9 |
| safety 0.75; 0.65. h_init 0.8; 1.2. growth 2; unbounded | 1.04; 1.01. 1.12; 1.03. 1.04; 1.03 |
| evaluating anew after a rejection (no `reuse`: nothing else changes) | 1.14 |
| control pid, h_init 0.05; 0.5. norm batch | 2.2; 1.17. 1.01 |
| solver_type taylor. Algorithm dpmsolver; dpmsolver-v | 1.27. 2.2; 1.8 |
| order 2; with dpmsolver-v | 11; 5.9 |

On states and guidance (3 and 5) that had no part in the choice: official settings, ++, 2.1; k-diffusion's 7.2.
The default tolerance costs 22 to 44 evaluations, for an rms error of 0.0004 to 0.004. What it buys is that the error is asked for, not the
cost: the multistep preset "auto" on karras has 0.4 to 1.1 of its error at 30 evaluations, 0.2 to 0.5 at 45.

These figures are from before `h_max` and `scaled`, which change none of these problems' evaluations by more than 10 %. They are for
ranges such as 4519 to 0.029 (zero terminal SNR), where the error was 0.6 without them and is 0.005 to 0.01.

Peak memory: 10 states, x and a prediction included.
"""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

from .execute import HALF, Denoise, walk
from .pair import plan_pair
from .path import ULPS, Path
from .singlestep import plan_singlestep
from .step import check_options
from .stepsize import NORMS, controller, error_of
from .tape import Tape

# |λ| where the control begins and ends beside an infinite one, at atol ATOL. The first-order step beyond is in error by a multiple of
# e^{-2|λ|}: at 4.5 by 6e-5 to 2e-3 from λ = -∞ (more with guidance) and 2e-4 to 4e-4 to +∞, on the models above.
LAMBDA_END, ATOL = 4.5, 0.0078
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
    atol: float = ATOL,
    rtol: float = 0.05,
    h_init: float = 1.0,
    h_max: float = 2.0,
    control: str = "official",
    safety: float | None = None,
    growth: float | None = None,
    gains: tuple[float, float, float] | None = None,
    norm: str = "item",
    scaled: bool = True,
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
    prediction (or a list of it, which is emptied) and returns (final state, AdaptiveInfo). `x` has any shape, axis 0 counts items.

    `order` 3 compares orders 2 and 3, 2 orders 1 and 2. A step's error is judged against max(`atol`, `rtol`·|x|) (`stepsize.error_of`;
    `norm`), with `scaled` in the scaling α² + σ² = 1, in which states have about the size of the data or of 1 at every noise level and
    all paths take the same steps; off, in the path's own, as k-diffusion does, where a large sigma hides any error of what comes after.
    `h_init` is the first step in λ and `h_max` the longest: a pair sees nothing of what lies beyond its last stage. `control`,
    `safety`, `growth`, `gains`: see `stepsize.controller`. `reuse`: a rejected attempt's first evaluation serves the next one; off, the
    model is called as often as by the codes this is compared to. RuntimeError before an attempt that would need more than `max_evaluations`, where the error is not finite, or does not shrink with the step.

    From λ = -∞ (flow 1, VP ∞), to it, or to σ = 0 goes one first-order step, exact for data at one point; the finite sigmas it joins are
    `sigma_first` and `sigma_last`, by default at |λ| = 4.5 + log(0.0078/atol)/2 (flow 0.989 and 0.011). A run that lies beyond them is
    that step only. `done(sigma)` true ends the control early (the official code's tolerance in time).

    Hooks as in `execute.walk`: `project(x0, sigma)`; `mark(step, x, x0)` at the first evaluation of each new state, not again after a
    rejection; `arrive(x, sigma, step)` at the start, before its evaluation, and after each accepted step; `report(fraction, info)` after
    each attempt, with the way done in λ, 0 … 1. Any of them may raise. ValueError, one sentence, if an option is out of range.
    """
    sigma_from, sigma_to = float(sigma_from), float(sigma_to)
    check_options(algorithm=algorithm, solver_type=solver_type)
    if solver_type == "bh1":
        raise ValueError("solver_type is bh1, which belongs to UniPC; choose dpmsolver or taylor.")
    _check_run(path, sigma_from, sigma_to, order, atol, rtol, h_init, h_max, norm, max_evaluations)
    propose = controller(order, control, safety, growth, gains)
    first, last = _finite_ends(path, sigma_from, sigma_to, sigma_first, sigma_last, atol)
    sign = 1 if sigma_to < sigma_from else -1
    whole = abs(path.half_logsnr(last) - path.half_logsnr(first))
    dtype = getattr(x, "dtype", None)
    half = str(dtype) in HALF
    x = x.float() if half else x
    info = AdaptiveInfo(sigmas=(sigma_from,), h=h_init)
    mend = f"raise atol ({atol:g}) or rtol ({rtol:g})"

    def marked(y: Any, x0: Any) -> None:
        if mark is not None:
            mark(len(info.sigmas) - 1, y, x0)

    def arrived(y: Any, sigma: float) -> Any:
        changed = None if arrive is None else arrive(y, sigma, len(info.sigmas) - 1)
        return y if changed is None else changed

    x = arrived(x, sigma_from)
    legs = [(sigma_from, first, False), (first, last, True), (last, sigma_to, False)]
    for end, controlled in [(b, controlled) for a, b, controlled in legs if a != b]:
        s = info.sigmas[-1]
        if not controlled:
            tape = plan_singlestep(path, (s, end), algorithm=algorithm, order=1)
            x = yield from walk(tape, x, project=project, mark=lambda _, y, x0: marked(y, x0))
            info = replace(info, evaluations=info.evaluations + 1, sigmas=(*info.sigmas, end))
            x = arrived(x, end)
            if report is not None:
                report(float(end == sigma_to), info)
            continue
        before, kept = x, None
        while s != end and not (done is not None and done(s)):
            lam = path.half_logsnr(s)
            rest = abs(path.half_logsnr(end) - lam)
            h = min(info.h, h_max)
            h = min(h, rest) if control == "official" else h
            t = end if h > rest - SNAP else path.from_half_logsnr(lam + sign * h)
            cost = order - (kept is not None)
            if info.evaluations + cost + (last != sigma_to) > max_evaluations:
                raise RuntimeError(f"adaptive: max_evaluations is {max_evaluations}, and sigma is still {s:.4g}; raise it, or {mend}.")
            pair = plan_pair(path, s, t, algorithm=algorithm, order=order, solver_type=solver_type)
            high, low, kept = yield from _attempt(pair, x, kept, project, marked)
            scales = (_size(path, s), _size(path, t)) if scaled else (1.0, 1.0)
            error = error_of(low, high, before, atol, rtol, norm, scales)
            if not math.isfinite(error):
                raise RuntimeError(
                    f"adaptive: the error from sigma {s:.4g} to {t:.4g} is {error}, which atol and rtol cannot mend: the model or a hook "
                    "returned values that are not finite; look there (half precision overflows)."
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
                        f"adaptive: at sigma {s:.4g} no step is short enough, so it is the model's rounding or a jump in it; {mend}."
                    )
            del high, low
            if report is not None:
                report(1 - abs(path.half_logsnr(end) - path.half_logsnr(s)) / whole, info)
    return (x.to(dtype) if half else x), info


def _attempt(
    pair: Tape, x: Any, kept: Any, project: Callable[[Any, float], Any] | None, marked: Callable[[Any, Any], None]
) -> Generator[tuple[Any, float], Any, tuple[Any, Any, Any]]:
    """Walk through `pair` from x; `kept` is the first prediction if it is known. Returns (end of the higher order, of the lower, kept)."""
    lower: list[Any] = []
    fresh = kept is None
    mark = (lambda _, y, x0: marked(y, x0)) if fresh else None
    run = walk(pair, x, project=project, mark=mark, arrive=lambda y, *_: lower.append(y))
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


def _size(path: Path, s: float) -> float:
    return math.hypot(path.alpha(s), path.sigma(s))


def _finite_ends(path: Path, a: float, b: float, first: float | None, last: float | None, atol: float) -> tuple[float, float]:
    """The sigmas between which the step size is controlled: a and b where λ is finite, else the given ones or the defaults."""
    ends = []
    for name, given, s in (("sigma_first", first, a), ("sigma_last", last, b)):
        lam = path.half_logsnr(s)
        if given is None:
            away = max(LAMBDA_END + math.log(ATOL / atol) / 2, 2.0)
            ends.append(path.from_half_logsnr(math.copysign(away, lam)) if math.isinf(lam) else s)
        elif math.isfinite(lam):
            raise ValueError(f"{name} is {given!r}, but the run's end at sigma {s:g} is finite and needs none; leave it out.")
        elif not (min(a, b) < given < max(a, b) and math.isfinite(path.half_logsnr(given))):
            raise ValueError(f"{name} is {given!r}; choose a noise level between {min(a, b):g} and {max(a, b):g}, or leave it out.")
        else:
            ends.append(given)
    if (ends[0] - ends[1]) * (a - b) > 0:
        return ends[0], ends[1]
    if first is not None or last is not None:
        raise ValueError(f"sigma_first {ends[0]:g} and sigma_last {ends[1]:g} do not follow each other from {a:g} to {b:g}; change one.")
    return (b, b) if math.isinf(path.half_logsnr(a)) else (a, a)  # all beyond the defaults: one step, which one end takes


def _check_run(path, a, b, order, atol, rtol, h_init, h_max, norm, max_evaluations) -> None:
    """One ValueError sentence if a value is out of range."""
    for name, s in (("sigma_from", a), ("sigma_to", b)):
        top = 1 + ULPS if path.name == "flow" else math.inf
        if not 0 <= s <= top or (math.isinf(s) and path.name != "vp"):
            raise ValueError(f"{name} is {s!r}; a {path.name} path has noise levels from 0 {'to 1' if path.name == 'flow' else 'up'}.")
    if a == 0:
        raise ValueError("sigma_from is 0, where no noise is left to invert; start at the model's smallest sigma, such as 0.03.")
    if path.half_logsnr(a) == path.half_logsnr(b):
        raise ValueError(f"sigma_from and sigma_to are both {a:g}; there is nothing to do between them, so change one.")
    if not isinstance(order, int) or order not in (2, 3):
        raise ValueError(f"order is {order!r}; adaptive compares two orders, so choose 2 (orders 1 and 2) or 3 (2 and 3).")
    for name, v, usual in (("atol", atol, ATOL), ("h_init", h_init, 1.0), ("h_max", h_max, 2.0)):
        if not 0 < v < math.inf and (name, v) != ("h_max", math.inf):
            raise ValueError(f"{name} is {v!r}; choose a finite number above 0, such as {usual}.")
    if not 0 <= rtol < math.inf:
        raise ValueError(f"rtol is {rtol!r}; choose a finite number, 0 or more, such as 0.05.")
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}; choose one of {', '.join(NORMS)}.")
    if isinstance(max_evaluations, bool) or not isinstance(max_evaluations, int) or max_evaluations < order:
        raise ValueError(f"max_evaluations is {max_evaluations!r}; choose a whole number, {order} or more, such as 1000.")
