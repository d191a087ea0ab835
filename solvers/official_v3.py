"""DPM_Solver_v3: the call signatures of the official code of DPM-Solver-v3 (arXiv 2310.13268), on this project's tapes.

By default it repeats that code (ba16871; golden vectors to 1e-6): arrays at even λ over the run, steps snapped to these, trapezoid sums
between them, `half` the wrong way round. So it does not converge: more steps only come nearer to the grid, and no two can share a point
of it. `exact=True` takes the steps where they are, l, s and b as C¹ functions of λ and integrals by Gauss-Legendre, corrects the first
step, lowers the last orders smoothly, and has `half` as the paper says it.
"""

import operator
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import cast, dtype_name, namespace, widened, without_gradients
from .execute import execute
from .official import DPM_Solver
from .official_ems import checked, load_npz
from .official_grid import SKIP_TYPES, Timeline
from .official_run import choose, data_at, scaled
from .official_v3_plan import Plans
from .statistics import Statistics


class DPM_Solver_v3:
    """Samples by the ODE of a noise prediction, with statistics of the model.

    `statistics_dir`: the folder with the official `l.npz` and `sb.npz`; the arrays (l, s, b) of shape (n + 1, C, H, W) themselves, at even
    λ from `t_start` to `t_end`; or this project's `Statistics`, which know their λ and always run as `exact`. `noise_schedule`, `t_start`
    (default T) and `t_end` (default 1/total_N) as in `DPM_Solver`. `skip_type` "logSNR", "time_uniform", "time_quadratic" or "edm" (even in
    σ^(1/7)). `degenerated`: l = 1, s = b = 0, which is DPM-Solver++. `device` is accepted and unused: arrays go where x is.

    `exact`: see the module's text. `indexes` (steps + 1 points of the statistics' grid, from 0 to n) repeats a run of the official code,
    which prints them: where a step falls in the middle of two points that code's choice hangs on its rounding; here it is the later one.

    ValueError, one sentence, for files that cannot be used and values out of range.
    """

    def __init__(
        self,
        statistics_dir: str | os.PathLike[str] | Sequence[Any] | Statistics,
        noise_schedule: Any,
        steps: int = 10,
        t_start: float | None = None,
        t_end: float | None = None,
        skip_type: str = "logSNR",
        degenerated: bool = False,
        device: Any = None,
        *,
        exact: bool = False,
        indexes: Sequence[int] | None = None,
    ):
        choose("skip_type", skip_type, (*SKIP_TYPES, "edm"))
        statistics, arrays = None, None
        if isinstance(statistics_dir, Statistics):
            statistics = statistics_dir
        elif isinstance(statistics_dir, (str, os.PathLike)):
            arrays = checked(*load_npz(statistics_dir))
        elif isinstance(statistics_dir, (tuple, list)) and len(statistics_dir) == 3:
            arrays = checked(*statistics_dir)
        else:
            kind = type(statistics_dir).__name__
            raise ValueError(f"statistics_dir is a {kind}; give the folder of l.npz and sb.npz, the arrays (l, s, b), or Statistics.")
        exact = _flag("exact", exact) or arrays is None
        steps, degenerated = _whole("steps", steps, 1), _flag("degenerated", degenerated)
        if indexes is not None:
            indexes = [_whole("indexes", i, 0) for i in indexes]
            last = 0 if arrays is None else len(arrays[0]) - 1
            if exact or len(indexes) != steps + 1 or (np.diff(indexes) < 1).any() or (indexes[0], indexes[-1]) != (0, last):
                raise ValueError(
                    f"indexes are for official arrays without exact, steps + 1 = {steps + 1} numbers that rise from 0 to {last}."
                )
        self.noise_schedule = noise_schedule
        self._plans = Plans(statistics, arrays, steps, t_start, t_end, skip_type, degenerated, exact, indexes)

    def sample(
        self,
        x: Any,
        model_fn: Any,
        order: int,
        p_pseudo: bool,
        use_corrector: bool | str,
        c_pseudo: bool,
        lower_order_final: bool,
        *flags: bool,
        half: bool = False,
        return_intermediate: bool = False,
        callback: Callable[[int, Any, Any], None] | None = None,
    ) -> Any:
        """From `x` (batch, ...) at `t_start` to the state at `t_end`, shape and dtype of x, in `steps` calls of `model_fn(x, t)`.

        `order` 1, 2 or 3; `p_pseudo` pseudo-order prediction; `use_corrector`, with `c_pseudo` of pseudo order `order` + 1, else of
        `order`; `lower_order_final` lowers the last orders; `half` (or use_corrector="half") corrects in one half of the run only: t > 0.5
        as the official code does, t ≤ 0.5 with `exact`, as its paper says. With `return_intermediate` the result is (x, the states
        before each step). `callback(step, x, x0)` is called after each evaluation.

        By position as in the root of the official repository, (x, model_fn, …, half, return_intermediate), or as in its EDM code,
        (model_fn, x, …, return_intermediate): told by which of the first two is a function.
        """
        swapped = callable(x) and not hasattr(x, "shape")
        x, model_fn = (model_fn, x) if swapped else (x, model_fn)
        names = ("return_intermediate",) if swapped else ("half", "return_intermediate")
        if len(flags) > len(names):
            raise ValueError(f"sample got {len(flags) - len(names)} values too many by position; give them by name.")
        given = {"half": half, "return_intermediate": return_intermediate} | dict(zip(names, flags, strict=False))
        half, return_intermediate = (_flag(name, value) for name, value in given.items())
        if not callable(model_fn):
            raise ValueError(f"model_fn is {model_fn!r:.80}; give a function of (x, t), made by model_wrapper.")
        namespace(x)
        if not dtype_name(x).lstrip("b").startswith("float") or x.ndim == 0:
            raise ValueError(f"x has dtype {dtype_name(x)} and {x.ndim} axes; give floating-point states of shape (batch, ...).")
        choose("order", order, (1, 2, 3))
        solver_type = "pseudo" if _flag("p_pseudo", p_pseudo) else "taylor"
        corrector = "v3_pseudo" if _flag("c_pseudo", c_pseudo) else "v3"
        half, use_corrector = half or use_corrector == "half", use_corrector == "half" or _flag("use_corrector", use_corrector)
        line, solver = Timeline(self.noise_schedule, x), DPM_Solver(model_fn, self.noise_schedule)
        lower = _flag("lower_order_final", lower_order_final)
        tape, when = self._plans.tape(line, order, solver_type, corrector if use_corrector else "none", half, lower)
        dtype, states, scale_here = x.dtype, [], [1.0]

        def denoise(y: Any, s: float) -> Any:
            scale_here[0] = scale = line.at(s)[1]
            return data_at(solver, scaled(y, scale), when[s], line.path.alpha(s) * scale, line.path.sigma(s) * scale, dtype)

        def arrive(y: Any, s: float, step: int) -> None:
            if step < len(tape.sigmas) - 1:
                states.append(cast(scaled(y, line.at(s)[1]), dtype))

        hooks: dict[str, Any] = {"arrive": arrive} if return_intermediate else {}
        if callback is not None:
            hooks["mark"] = lambda step, y, x0: callback(step, cast(scaled(y, scale_here[0]), dtype), cast(x0, dtype))
        with without_gradients(x):
            y = execute(tape, denoise, scaled(widened(x), 1 / line.at(tape.sigmas[0])[1]), **hooks)
            result = cast(scaled(y, line.at(tape.sigmas[-1])[1]), dtype)
        return (result, states) if return_intermediate else result


def _flag(name: str, value: Any) -> bool:
    """True or False, also as 1 or 0, which the official code takes."""
    if isinstance(value, str) or value not in (0, 1):
        raise ValueError(f"{name} is {value!r}; give True or False.")
    return bool(value)


def _whole(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; give a whole number.") from None
    if number < least:
        raise ValueError(f"{name} is {number}; give at least {least}.")
    return number
