"""NoiseScheduleVP: the official code's noise schedule, for arrays of torch, NumPy and JAX, with its tables kept in float64.

Facts from DPM-Solver (arXiv 2206.00927, section 2 and appendix D): q(x_t|x_0) = N(α_t x_0, σ_t² I), λ_t = log(α_t/σ_t).
"""

import math
from typing import Any

import numpy as np

from .arrays import namespace, on_host

COSINE_S = 0.008  # improved DDPM (arXiv 2102.09672, eq. 17)


class NoiseScheduleVP:
    """A variance-preserving noise schedule over times t in (0, T].

    `schedule`: "discrete" (a table of `betas` or of `alphas_cumprod`, N values; t_i = (i+1)/N, log α linear in between), "linear"
    (β(t) from `continuous_beta_0` to `continuous_beta_1`), or "cosine", which ends at T = 0.9946. `total_N` is N, 1000 without a table.

    `clipped_lambda`: as in the official torch code, a table's end with λ below -5.1 is dropped (the last entries of cosine tables, zero
    terminal SNR); None keeps the whole table, as the official JAX code does. `dtype` is accepted and unused: tables are float64, and
    every method answers in the dtype of the times it is asked for.

    Raises ValueError, one sentence, for an unknown schedule or a table that is none.
    """

    def __init__(
        self,
        schedule: str = "discrete",
        betas: Any = None,
        alphas_cumprod: Any = None,
        continuous_beta_0: float = 0.1,
        continuous_beta_1: float = 20.0,
        dtype: Any = None,
        *,
        clipped_lambda: float | None = -5.1,
    ):
        if schedule not in ("discrete", "linear", "cosine"):
            raise ValueError(f"schedule is {schedule!r}; choose discrete, linear or cosine.")
        self.schedule, self.total_N = schedule, 1000
        self.T = 0.9946 if schedule == "cosine" else 1.0  # α is 0 at t = 1 there
        self.beta_0, self.beta_1 = float(continuous_beta_0), float(continuous_beta_1)
        if schedule == "discrete":
            self._log_alpha = _table(betas, alphas_cumprod, clipped_lambda)
            self.total_N = len(self._log_alpha)
            self._times = np.arange(1, self.total_N + 1) / self.total_N

    def marginal_log_mean_coeff(self, t: Any) -> Any:
        """log α_t, of the shape of t."""
        xp = namespace(t)
        if self.schedule == "linear":
            return -0.25 * t**2 * (self.beta_1 - self.beta_0) - 0.5 * t * self.beta_0
        if self.schedule == "cosine":
            return xp.log(xp.cos((t + COSINE_S) * (math.pi / 2 / (1 + COSINE_S)))) - _cosine_start()
        return _interpolate(t, self._times, self._log_alpha)

    def marginal_alpha(self, t: Any) -> Any:
        """α_t, of the shape of t."""
        return namespace(t).exp(self.marginal_log_mean_coeff(t))

    def marginal_std(self, t: Any) -> Any:
        """σ_t, of the shape of t."""
        xp = namespace(t)
        return xp.sqrt(-xp.expm1(2.0 * self.marginal_log_mean_coeff(t)))

    def marginal_lambda(self, t: Any) -> Any:
        """λ_t = log(α_t/σ_t), of the shape of t."""
        log_alpha = self.marginal_log_mean_coeff(t)
        xp = namespace(log_alpha)
        return log_alpha - 0.5 * xp.log(-xp.expm1(2.0 * log_alpha))

    def inverse_lambda(self, lamb: Any) -> Any:
        """The t with λ_t = lamb, of the shape of lamb."""
        xp = namespace(lamb)
        log_sum = xp.logaddexp(-2.0 * lamb, xp.zeros_like(lamb))  # -2 log α
        if self.schedule == "linear":
            twice = 2.0 * (self.beta_1 - self.beta_0) * log_sum
            return 2.0 * log_sum / (xp.sqrt(self.beta_0**2 + twice) + self.beta_0)
        if self.schedule == "cosine":
            return xp.arccos(xp.exp(-0.5 * log_sum + _cosine_start())) * (2 * (1 + COSINE_S) / math.pi) - COSINE_S
        return _interpolate(-0.5 * log_sum, self._log_alpha[::-1], self._times[::-1])


def _cosine_start() -> float:
    return math.log(math.cos(COSINE_S / (1 + COSINE_S) * math.pi / 2))


def _table(betas: Any, alphas_cumprod: Any, clipped_lambda: float | None) -> np.ndarray:
    """log α of a discrete schedule, falling, in float64."""
    if (betas is None) == (alphas_cumprod is None):
        raise ValueError("A discrete schedule needs its table: give either betas or alphas_cumprod.")
    name = "betas" if alphas_cumprod is None else "alphas_cumprod"
    table = on_host(betas if alphas_cumprod is None else alphas_cumprod, name).ravel()
    with np.errstate(all="ignore"):
        squared = np.cumprod(1 - table) if alphas_cumprod is None else table
    if len(table) < 2 or not (np.all(table[:-1] < 1) and np.all((table >= 0) & (table <= 1)) and np.all(np.diff(squared) < 0)):
        hint = "β of every step, between 0 and 1" if alphas_cumprod is None else "the falling products of 1 - β"
        raise ValueError(f"{name} is no noise schedule; it has to be {hint}, at least 2 values.")
    with np.errstate(divide="ignore"):
        log_alpha = 0.5 * np.log(squared)
        lam = log_alpha - 0.5 * np.log1p(-squared)
    return log_alpha if clipped_lambda is None else log_alpha[lam >= clipped_lambda]


def _interpolate(x: Any, knots: np.ndarray, values: np.ndarray) -> Any:
    """The piecewise linear function through (knots, values), knots rising; its outer pieces go on beyond them. Shape of x."""
    xp = namespace(x)
    if xp is np:
        x = np.asarray(x, dtype=getattr(x, "dtype", np.float64))
    elif hasattr(x, "new_full"):
        knots, values = x.new_tensor(knots.copy()), x.new_tensor(values.copy())
    else:
        knots, values = xp.asarray(knots, dtype=x.dtype), xp.asarray(values, dtype=x.dtype)
    i = xp.clip(xp.searchsorted(knots, x), 1, len(knots) - 1)
    low, high = knots[i - 1], knots[i]
    part = (x - low) / (high - low)
    return values[i - 1] * (1 - part) + values[i] * part
