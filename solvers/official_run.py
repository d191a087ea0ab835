"""One run of DPM_Solver: its arguments checked and made a plan, its hooks in the user's scaling, the planners' executor in between."""

import math
import operator
from typing import Any

import numpy as np

from .adaptive import adaptive
from .arrays import cast, dtype_name, full, is_traced, namespace, on_host, widened, without_gradients
from .execute import execute
from .official_grid import METHODS, SKIP_TYPES, Timeline
from .threshold import dynamic_threshold

SOLVER_TYPES = ("dpmsolver", "taylor", "dpm_solver")  # the last is JAX's name of the first
T_ERR = 1e-5  # the official adaptive solver ends this near to its end, in t


def run(
    solver, x, steps, t_start, t_end, order, skip_type, method, lower_order_final, denoise_to_zero, solver_type, atol, rtol,
    return_intermediate, callback,
):  # fmt: skip
    """`DPM_Solver.sample` and `inverse`; None stands for the default of the constructor's signature."""
    older = solver.older_defaults
    order = (3 if older else 2) if order is None else order
    method = ("singlestep" if older else "multistep") if method is None else method
    lower_order_final = not older if lower_order_final is None else lower_order_final
    solver_type = "dpmsolver" if solver_type == "dpm_solver" else solver_type
    line = Timeline(solver.noise_schedule, x)
    t_start, t_end = time_in("t_start", t_start, line.T, line.T), time_in("t_end", t_end, 1.0 / line.total_N, line.T)
    _check(solver, x, steps, t_start, t_end, order, skip_type, method, solver_type, return_intermediate)
    dtype, states, scale_here = x.dtype, [], [1.0]

    def denoise(y: Any, s: float) -> Any:
        t, scale_here[0] = line.at(s)
        return data_at(solver, scaled(y, scale_here[0]), t, line.path.alpha(s) * scale_here[0], line.path.sigma(s) * scale_here[0], dtype)

    def corrected(state: Any, t: float, step: int) -> Any:
        if solver.correcting_xt_fn is not None:
            state = solver.correcting_xt_fn(state, full(x, (), t), step)
        if return_intermediate:
            states.append(state)
        return state

    def arrive(y: Any, s: float, step: int) -> Any:
        step -= method != "multistep"  # the official singlestep loop counts its steps, and begins after the first
        if step < 0:
            return None
        t, scale = line.at(s)
        state = corrected(cast(scaled(y, scale), dtype), t, step)
        return None if solver.correcting_xt_fn is None else scaled(widened(state), 1 / scale)

    hooks: dict[str, Any] = {}
    if solver.correcting_xt_fn is not None or return_intermediate:
        hooks["arrive"] = arrive
    if callback is not None:
        hooks["mark"] = lambda step, y, x0: callback(step, cast(scaled(y, scale_here[0]), dtype), cast(x0, dtype))

    with without_gradients(x):
        if method == "adaptive":
            start, end = line.sigmas([t_start, t_end])
            options = {"algorithm": solver.algorithm_type, "order": order, "solver_type": solver_type, "atol": atol, "rtol": rtol}
            if not solver.exact:  # the official code starts small, grows at will, and evaluates the start of a rejected step again
                options |= {"h_init": 0.05, "safety": 0.9, "growth": math.inf, "h_max": math.inf, "scaled": False, "reuse": False}
                options["done"] = lambda s: abs(line.at(s)[0] - t_end) <= T_ERR
            y, info = adaptive(line.path, denoise, scaled(widened(x), 1 / line.at(start)[1]), start, end, **options, **hooks)
            taken = info.accepted
        else:
            tape = line.tape(
                (t_start, t_end), steps, method, skip_type, solver.algorithm_type, order, solver_type, lower_order_final, solver.exact
            )
            y = execute(tape, denoise, scaled(widened(x), 1 / line.at(tape.sigmas[0])[1]), **hooks)
            end, taken = tape.sigmas[-1], len(tape.sigmas) - (method != "multistep")
        if denoise_to_zero:
            result = corrected(cast(denoise(y, end), dtype), t_end, taken)
        else:
            result = cast(scaled(y, line.at(end)[1]), dtype)
    return (result, states) if return_intermediate else result


def in_order(
    lower_order_final: Any, denoise_to_zero: Any, denoise: Any, solver_type: Any, atol: Any, rtol: Any
) -> tuple[Any, Any, Any, Any, Any]:
    """(lower_order_final, denoise_to_zero, solver_type, atol, rtol) of a call in the order of the torch code or, by position, in JAX's:
    denoise, solver_type, atol, rtol, which is told by the solver type in the second place. ValueError if a flag is none."""
    if isinstance(denoise_to_zero, str) and denoise_to_zero in SOLVER_TYPES:
        if not isinstance(solver_type, str):  # the tolerances, too, came by position
            solver_type, atol, rtol = "dpmsolver", solver_type, rtol if atol is None else atol
        if solver_type != "dpmsolver":
            raise ValueError(f"solver_type is {solver_type!r} by name and {denoise_to_zero!r} by position; give one of them.")
        lower_order_final, denoise_to_zero, denoise, solver_type = None, False, lower_order_final, denoise_to_zero
    check_flag("lower_order_final", lower_order_final is not None and lower_order_final)
    check_flag("denoise_to_zero", denoise_to_zero)
    check_flag("denoise", denoise)
    return lower_order_final, denoise_to_zero or denoise, solver_type, 0.0078 if atol is None else atol, rtol


def data_at(solver: Any, state: Any, t: float, alpha: float, sigma: float, dtype: Any) -> Any:
    """The data prediction used at time t, in the precision of `state`; the network sees `dtype`."""
    x = cast(state, dtype)
    x0 = solver.model.data(x, state, full(x, (x.shape[0],), solver.model.label(t)), alpha, sigma)
    if solver.threshold is not None:
        return dynamic_threshold(x0, *solver.threshold)
    if solver.correcting_x0_fn is not None:
        return cast(solver.correcting_x0_fn(cast(x0, dtype), full(x, (), t)), state.dtype)
    return x0


def _check(solver, x, steps, t_start, t_end, order, skip_type, method, solver_type, return_intermediate) -> None:
    """One ValueError sentence for what cannot be run."""
    if solver.model_fn is None:
        raise ValueError("model_fn is None, which is enough for add_noise only; give DPM_Solver the model to sample from.")
    check_flag("return_intermediate", return_intermediate)
    namespace(x)
    if not dtype_name(x).lstrip("b").startswith("float") or x.ndim == 0:
        raise ValueError(f"x has dtype {dtype_name(x)} and {x.ndim} axes; give floating-point states of shape (batch, ...).")
    choose("method", method, METHODS)
    choose("skip_type", skip_type, SKIP_TYPES)
    choose("solver_type", solver_type, ("dpmsolver", "taylor"))
    choose("order", order, (2, 3) if method == "adaptive" else (1, 2, 3))
    if t_start == t_end:
        raise ValueError(f"t_start and t_end are both {t_end:g}; there is nothing to do between them, so change one.")
    if method == "adaptive" and is_traced(x):
        raise ValueError("method 'adaptive' chooses its steps by the values, which jax.jit hides; call it outside, or take singlestep.")
    try:
        operator.index(steps)
    except TypeError:
        raise ValueError(f"steps is {steps!r}; give a whole number.") from None
    least = {"multistep": order, "singlestep_fixed": order, "singlestep": 1, "adaptive": steps}[method]
    if steps < least:
        raise ValueError(f"steps is {steps}, but {method} of order {order} needs at least {least}; raise steps or lower the order.")


def scaled(a: Any, factor: float) -> Any:
    """a·factor; a itself where the factor is 1, as on every variance-preserving schedule."""
    return a if factor == 1 else a * factor


def choose(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices or isinstance(value, (bool, float)):
        raise ValueError(f"{name} is {value!r}; choose {', '.join(map(str, choices[:-1]))} or {choices[-1]}.")


def check_flag(name: str, value: object) -> None:
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {value!r}; give True or False.")


def time_in(name: str, given: Any, default: float, last: float) -> float:
    """A time as a number in (0, T]."""
    t = default if given is None else float(on_host(given, name).reshape(()))
    if not 0 < t <= last * (1 + 1e-6):
        raise ValueError(f"{name} is {t:g}; times lie above 0 and up to T = {last:g}, and 1/N is the least one of a discrete schedule.")
    return t
