"""What a run of DPM_Solver does, on the host and in float64: the official grids of times, their sigmas s = σ/α, and the tape."""

import contextlib
import functools
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import is_traced, on_host
from .multistep import plan_multistep
from .official_schedule import NoiseScheduleVP
from .path import VE, VP, Path
from .singlestep import fast_orders, plan_singlestep
from .tape import Tape

SKIP_TYPES = ("time_uniform", "time_quadratic", "logSNR")
METHODS = ("multistep", "singlestep", "singlestep_fixed", "adaptive")
PLAIN = 1e-6  # a scale this near to 1 is 1, but for the rounding of a schedule that computes in float32


class Timeline:
    """A noise schedule asked on the host, for states like `x`; remembers which time each sigma came from.

    Solvers run on `path`: VP where α² + σ² = 1, VE where α = 1, else VP with states divided by √(α² + σ²), the `scale`.
    """

    def __init__(self, schedule: Any, x: Any):
        self.schedule, self.x = schedule, x
        self.T, self.total_N = float(getattr(schedule, "T", 1.0)), int(getattr(schedule, "total_N", 1000))
        self.path: Path = VP
        self.plain = isinstance(schedule, NoiseScheduleVP)
        self._known: dict[float, tuple[float, float]] = {}

    def ask(self, name: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """What the schedule's method `name` says at `values`, (n,). One of the user's own is asked with an array of x's library."""
        given: Any = np.asarray(values, dtype=np.float64).reshape(-1)
        eager = contextlib.nullcontext()
        if not isinstance(self.schedule, NoiseScheduleVP):
            if hasattr(self.x, "new_full"):
                torch = sys.modules["torch"]
                given = self.x.new_tensor(given, dtype=torch.float32 if self.x.device.type == "mps" else torch.float64)
            elif is_traced(self.x):
                eager = sys.modules["jax"].ensure_compile_time_eval()
        with eager, np.errstate(all="ignore"):
            answer = on_host(getattr(self.schedule, name)(given), f"What the noise schedule's {name} returned").reshape(-1)
        return np.broadcast_to(answer, (len(values),))

    def grid(self, skip_type: str, start: float, end: float, n: int) -> np.ndarray:
        """n + 1 times from `start` to `end`: even in t, in √t, or in λ."""
        if skip_type == "logSNR":
            first, last = self.ask("marginal_lambda", [start, end])
            for name, t, v in (("t_start", start, first), ("t_end", end, last)):
                if not math.isfinite(v):
                    raise ValueError(
                        f"skip_type is 'logSNR', but at {name} {t:g} λ is {v:g}, where no even steps in λ lead; choose a {name} at a "
                        "finite λ, or skip_type time_uniform."
                    )
            times = self.ask("inverse_lambda", np.linspace(first, last, n + 1)).copy()
        else:
            power = 2 if skip_type == "time_quadratic" else 1
            times = np.linspace(start ** (1 / power), end ** (1 / power), n + 1) ** power
        times[0], times[-1] = start, end
        return times

    def alpha_sigma(self, times: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(α, σ) at `times`, each (n,)."""
        return np.exp(self.ask("marginal_log_mean_coeff", times)), self.ask("marginal_std", times)

    def sigmas(self, times: Sequence[float] | np.ndarray) -> tuple[float, ...]:
        """The sigmas of `times`, remembered. ValueError, one sentence, where there is no noise level."""
        lam = self.ask("marginal_lambda", times)
        for t, v in zip(times, lam, strict=True):
            if math.isnan(v) or v == math.inf:
                raise ValueError(f"At time {t:g} the noise schedule has λ = {v:g}, no noise level; choose t_start and t_end inside it.")
        if not self.plain and not self._known:
            alpha, sigma = self.alpha_sigma(times)
            variance = alpha**2 + sigma**2
            self.plain = bool(np.all(abs(variance - 1) < PLAIN))
            if not self.plain and np.all(abs(alpha - 1) < PLAIN):
                self.path, self.plain = VE, True
        sigmas = tuple(math.exp(-v) if v > -math.inf else math.inf for v in lam)
        for s, t in zip(sigmas, times, strict=True):
            self._known[s] = (float(t), self._scale(s, float(t)))
        return sigmas

    def at(self, s: float) -> tuple[float, float]:
        """(time, scale of the user's state over the path's) at sigma s."""
        if s not in self._known:
            t = float(self.ask("inverse_lambda", [-math.log(s)])[0])
            self._known[s] = (t, self._scale(s, t))
        return self._known[s]

    def _scale(self, s: float, t: float) -> float:
        return 1.0 if self.plain else float(self.alpha_sigma([t])[1][0]) / self.path.sigma(s)

    def tape(
        self, times: tuple[float, float], steps: int, method: str, skip_type: str, algorithm: str, order: int, solver_type: str,
        lower_order_final: bool, exact: bool,
    ) -> Tape:  # fmt: skip
        """The run between two times as a checked tape, `exact` or as the official code has it. Same arguments, same tape."""
        if method == "multistep":
            sigmas = self.sigmas(self.grid(skip_type, *times, steps))  # which also finds the path
            return _multistep(self.path, sigmas, algorithm, order, solver_type, lower_order_final, exact)
        orders = fast_orders(steps, order) if method == "singlestep" else [order] * (steps // order)
        if method == "singlestep" and skip_type != "logSNR":  # every evaluation has its place on the grid
            outer = self.grid(skip_type, *times, steps)[np.cumsum([0, *orders])]
        else:
            outer = self.grid(skip_type, *times, len(orders))
        inner = [self.grid(skip_type, s, t, p)[1:-1] for s, t, p in zip(outer, outer[1:], orders, strict=False)]
        stages = tuple(self.sigmas(part) if len(part) else () for part in inner)
        sigmas = self.sigmas(outer)
        return _singlestep(self.path, sigmas, algorithm, order, solver_type, exact, tuple(orders), stages)


@functools.lru_cache(maxsize=64)
def _multistep(path, sigmas, algorithm, order, solver_type, lower_order_final, exact):
    return plan_multistep(
        path, sigmas, algorithm=algorithm, order=order, solver_type=_rule(solver_type, order, exact),
        start="corrected" if exact else "official", final_rule=("smooth" if exact else "official") if lower_order_final else "none",
    )  # fmt: skip


@functools.lru_cache(maxsize=64)
def _singlestep(path, sigmas, algorithm, order, solver_type, exact, orders, stages):
    return plan_singlestep(
        path, sigmas, algorithm=algorithm, order=order, solver_type=_rule(solver_type, order, exact), orders=orders, stages=stages
    )


def _rule(solver_type: str, order: int, exact: bool) -> str:
    """The planners' name: the official order 3 is not their own."""
    if exact or order < 3:
        return solver_type
    return "official" if solver_type == "dpmsolver" else "official_taylor"
