"""DPM_Solver: the call signatures of the official code, torch and JAX version, on this project's tapes.

The noise schedule's times become sigmas s = σ/α on the host, in float64; planners and executor do the rest. So one class serves torch,
NumPy and JAX arrays, `torch.autocast`, half precision (the state is kept in float32), `jax.jit` and `jax.pmap` (but for "adaptive").

By default it returns what the official torch code does (52bc3fb; golden vectors to 1e-9), its faults included: multistep order 3
converges at order 2, `lower_order_final` acts below 10 steps only, singlestep order 3 leaves out a stage. `exact=True` mends them, by
other weights at the same network times: on the golden mixture, time_uniform, order 3, the error of 12 multistep evaluations falls from
0.37 to 0.047. Where the official code ignores an option or hangs, this does as told: correcting_x0_fn for "dpmsolver", `inverse` by
"adaptive".
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import cast, namespace, on_host, widened
from .official_grid import Timeline
from .official_model import ModelFn
from .official_run import choose, in_order, run
from .threshold import check_threshold


class DPM_Solver:
    """Samples by the ODE of a noise prediction `model_fn(x, t)`, x (batch, ...), t (batch,); make it by `model_wrapper`.

    `noise_schedule`: a `NoiseScheduleVP`, or anything with its marginal_log_mean_coeff, marginal_std, marginal_lambda and inverse_lambda
    (any α and σ; defaults T = 1, total_N = 1000). `algorithm_type` "dpmsolver++" (default), "dpmsolver" or this project's "dpmsolver-v".
    `correcting_x0_fn(x0, t)`, or "dynamic_thresholding" with `thresholding_max_val` and `dynamic_thresholding_ratio`, replaces every data
    prediction; `correcting_xt_fn(x, t, step)` the state at every time of the grid. t has shape ().

    The JAX signature (and the first torch one) is `predict_x0`, `thresholding`, `max_val`, also by position. Used with any of them, the
    defaults are that version's: algorithm "dpmsolver" without predict_x0, `sample` singlestep of order 3, no lower_order_final.

    `exact`: see the module's text. ValueError, one sentence, for values out of range.
    """

    def __init__(
        self,
        model_fn: Callable[[Any, Any], Any] | None,
        noise_schedule: Any,
        algorithm_type: str | bool | None = None,
        correcting_x0_fn: Callable[[Any, Any], Any] | str | bool | None = None,
        correcting_xt_fn: Callable[[Any, Any, int], Any] | float | None = None,
        thresholding_max_val: float = 1.0,
        dynamic_thresholding_ratio: float = 0.995,
        *,
        predict_x0: bool | None = None,
        thresholding: bool | None = None,
        max_val: float | None = None,
        exact: bool = False,
    ):
        if isinstance(algorithm_type, bool):
            algorithm_type, predict_x0 = None, algorithm_type
        if isinstance(correcting_x0_fn, bool):
            correcting_x0_fn, thresholding = None, correcting_x0_fn
        if isinstance(correcting_xt_fn, (int, float)) and not isinstance(correcting_xt_fn, bool):
            correcting_xt_fn, max_val = None, correcting_xt_fn
        self.older_defaults = not predict_x0 is thresholding is max_val is None
        if algorithm_type is not None and predict_x0 is not None:
            raise ValueError("algorithm_type and predict_x0 say the same; give one of them.")
        if thresholding and correcting_x0_fn is not None:
            raise ValueError("thresholding and correcting_x0_fn both replace the data prediction; give one of them.")
        if algorithm_type is None:
            algorithm_type = "dpmsolver" if self.older_defaults and not predict_x0 else "dpmsolver++"
        choose("algorithm_type", algorithm_type, ("dpmsolver++", "dpmsolver", "dpmsolver-v"))
        if not (correcting_x0_fn is None or callable(correcting_x0_fn) or correcting_x0_fn == "dynamic_thresholding"):
            raise ValueError(f"correcting_x0_fn is {correcting_x0_fn!r}; give a function of (x0, t), 'dynamic_thresholding' or None.")
        if not (correcting_xt_fn is None or callable(correcting_xt_fn)):
            raise ValueError(f"correcting_xt_fn is {correcting_xt_fn!r}; give a function of (x, t, step), or None.")
        self.noise_schedule, self.algorithm_type = noise_schedule, algorithm_type
        self.correcting_xt_fn = correcting_xt_fn
        self.threshold = None
        if thresholding or correcting_x0_fn == "dynamic_thresholding":
            correcting_x0_fn = None
            self.threshold = (dynamic_thresholding_ratio, thresholding_max_val if max_val is None else max_val)
            check_threshold(*self.threshold)
        self.correcting_x0_fn = correcting_x0_fn
        self.model_fn = model_fn
        self.model = model_fn if isinstance(model_fn, ModelFn) else ModelFn(model_fn, None)
        self.exact = exact or algorithm_type == "dpmsolver-v"  # of which there is no official code

    def sample(
        self,
        x: Any,
        steps: int = 20,
        t_start: float | None = None,
        t_end: float | None = None,
        order: int | None = None,
        skip_type: str = "time_uniform",
        method: str | None = None,
        lower_order_final: bool | None = None,
        denoise_to_zero: bool = False,
        solver_type: str = "dpmsolver",
        atol: float | None = None,
        rtol: float = 0.05,
        return_intermediate: bool = False,
        *,
        denoise: bool = False,
        eps: float | None = None,
        callback: Callable[[int, Any, Any], None] | None = None,
    ) -> Any:
        """From `x` (batch, ...) at time `t_start` (default T) to `t_end` (default 1/total_N): the state there, shape and dtype of x.

        `method` "multistep" (default; `steps` evaluations), "singlestep" (`steps` evaluations in steps of orders up to `order`),
        "singlestep_fixed" (`steps // order` steps) or "adaptive" (orders 2 and 3; `atol` 0.0078, `rtol`; `steps` and `skip_type` are not
        used; error of the worst item of the batch). `order` 1, 2 (default) or 3. `skip_type` "time_uniform", "time_quadratic" or
        "logSNR". `solver_type` "dpmsolver" or "taylor". `denoise_to_zero` adds an evaluation at t_end and returns its data prediction.
        With `return_intermediate` the result is (x, states at the times of the grid), the first one included if multistep.
        JAX and older names: `denoise` (denoise_to_zero), `eps` (t_end), solver_type "dpm_solver". By position JAX goes on after `method`
        with denoise, solver_type, atol, rtol: understood from a solver_type in the ninth place. `callback(step, x, x0)` is called after
        each step's first evaluation (progress; raise to stop).

        ValueError, one sentence, for values out of range, before the first evaluation. Same arguments use the same cached plan.
        """
        if t_end is not None and eps is not None:
            raise ValueError("t_end and eps are two names of the same time; give one of them.")
        return run(
            self, x, steps, t_start, eps if t_end is None else t_end, order, skip_type, method,
            *in_order(lower_order_final, denoise_to_zero, denoise, solver_type, atol, rtol), return_intermediate, callback,
        )  # fmt: skip

    def inverse(self, x: Any, steps: int = 20, t_start: float | None = None, t_end: float | None = None, *rest: Any, **options: Any) -> Any:
        """From data `x` at time `t_start` (default 1/total_N) to noise at `t_end` (default T); the rest as in `sample`."""
        line = Timeline(self.noise_schedule, x)
        t_start, t_end = 1.0 / line.total_N if t_start is None else t_start, line.T if t_end is None else t_end
        return self.sample(x, steps, t_start, t_end, *rest, **options)

    def add_noise(self, x: Any, t: Any, noise: Any = None) -> Any:
        """α_t x + σ_t noise for times t of shape (n,): shape (n, *x.shape), or that of x if n is 1. `noise` (n, *x.shape) is drawn by
        torch's or NumPy's global generator if None; JAX has none, so there it must be given."""
        times = on_host(t, "t").ravel()
        shape, xp = (len(times), *x.shape), namespace(x)
        if noise is None:
            if xp is not np and not hasattr(x, "new_full"):
                raise ValueError("noise is None, but JAX draws from explicit keys; give noise=jax.random.normal(key, (len(t), *x.shape)).")
            noise = xp.randn(shape, device=x.device, dtype=x.dtype) if xp is not np else np.random.standard_normal(shape).astype(x.dtype)
        alpha, sigma = Timeline(self.noise_schedule, x).alpha_sigma(times)
        states = [cast(float(a) * widened(x) + float(s) * n, x.dtype) for a, s, n in zip(alpha, sigma, noise.reshape(shape), strict=True)]
        return states[0] if len(states) == 1 else xp.stack(states)
