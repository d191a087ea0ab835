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

from .adaptive_range import ATOL, check_run, finite_ends
from .arrays import cast, widened
from .choices import check_options
from .execute import Denoise, drive, walk
from .pair import plan_pair
from .path import Path
from .singlestep import plan_singlestep
from .stepsize import controller, error_of
from .tape import Tape

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
    return drive(run, denoise)


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
    prediction (or a list of it, which is emptied) and returns (final state, AdaptiveInfo). `x` has any shape, axis 0 counts items; a
    half-precision state is float32 in between.

    `order` 3 compares orders 2 and 3, 2 orders 1 and 2. A step's error is judged against max(`atol`, `rtol`·|x|) (`stepsize.error_of`;
    `norm`), with `scaled` in the scaling α² + σ² = 1, in which states have about the size of the data or of 1 at every noise level and
    all paths take the same steps; off, in the path's own, as k-diffusion does, where a large sigma hides any error of what comes after.
    `h_init` is the first step in λ and `h_max` the longest: a pair sees nothing of what lies beyond its last stage. `control`,
    `safety`, `growth`, `gains`: see `stepsize.controller`. `reuse`: a rejected attempt's first evaluation serves the next one; off, the
    model is called as often as by the codes this is compared to. RuntimeError before an attempt that would need more than
    `max_evaluations`, where the error is not finite, or does not shrink with the step.

    From λ = -∞ (flow 1, VP ∞), to it, or to σ = 0 goes one first-order step, exact for data at one point; the finite sigmas it joins are
    `sigma_first` and `sigma_last`, by default at |λ| = 4.5 + log(0.0078/atol)/2 (flow 0.989 and 0.011). A run that lies beyond them is
    that step only. `done(sigma)` true ends the control early (the official code's tolerance in time).

    Hooks as in `execute.walk`: `project(x0, sigma)`; `mark(step, x, x0)` at the first evaluation of each new state, not again after a
    rejection; `arrive(x, sigma, step)` at the start, before its evaluation, and after each accepted step; `report(fraction, info)` after
    each attempt, with the way done in λ, 0 … 1. Any of them may raise. ValueError, one sentence, if an option is out of range.
    """
    sigma_from, sigma_to = float(sigma_from), float(sigma_to)
    check_options(algorithm=algorithm, solver_type=solver_type)
    if solver_type in ("bh1", "pseudo"):
        raise ValueError(f"solver_type is {solver_type}, which multistep solvers have; choose dpmsolver or taylor.")
    if algorithm == "dpmsolver-v3":
        raise ValueError("algorithm is dpmsolver-v3, which is a multistep solver; set method to multistep, or algorithm to dpmsolver.")
    check_run(path, sigma_from, sigma_to, order, atol, rtol, h_init, h_max, norm, max_evaluations)
    propose = controller(order, control, safety, growth, gains)
    first, last = finite_ends(path, sigma_from, sigma_to, sigma_first, sigma_last, atol)
    sign = 1 if sigma_to < sigma_from else -1
    whole = abs(path.half_logsnr(last) - path.half_logsnr(first))
    dtype = getattr(x, "dtype", None)
    x = x if dtype is None else widened(x)
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
    return (x if dtype is None else cast(x, dtype)), info


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
