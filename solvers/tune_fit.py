"""Least squares without derivatives: Levenberg-Marquardt on difference quotients, robust over samples.

The loss is the mean over samples of the root mean square distance to the reference, Σ_i |r_i|: each sample's square is weighted by 1/|r_i|
(iteratively reweighted least squares), so that pictures which came out entirely different do not decide for the others. Because the
distance is a sum of squares of thousands of residuals, one quotient a parameter says what a search by values alone (Nelder-Mead, CMA-ES)
needs dozens of trials for; `benchmarks/tune.py` compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .tune_space import REACH

LEAST_GAIN = 0.005  # of the loss: a round that gains less is the last
ATTEMPTS = 4  # at a step of one Jacobian, with more damping each time

Residuals = Callable[[np.ndarray, Any], tuple[np.ndarray, Any]]


def descend(
    residuals: Residuals,
    theta: np.ndarray,
    quotients: np.ndarray,
    *,
    afford: Callable[[], bool],
    accepted: Callable[[np.ndarray, float], None],
    rounds: int = 12,
) -> tuple[np.ndarray, bool]:
    """The θ with a locally least loss, from `theta` (p,), and whether the search came to its end there.

    `residuals(θ, near) -> (r (K, m), here)`: r scaled so that |r_i| is a root mean square; `here` is handed back as `near` for the
    quotients around it, whose runs begin alike. `afford()` is asked before each round. `accepted(θ, loss)` hears of every improvement.
    """
    r, here = residuals(theta, None)
    size = _sizes(r)
    damping = 0.01
    for _ in range(rounds):
        if not afford():
            return theta, False
        weight = 1 / np.maximum(size, 0.3 * np.median(size) + 1e-12)
        jacobian = np.stack([(residuals(_moved(theta, q, h), here)[0] - r) / h for q, h in enumerate(quotients)])
        weighted = jacobian * weight[None, :, None]
        normal = np.einsum("pkm,qkm->pq", weighted, jacobian, optimize=True).astype(np.float64)
        slope = np.einsum("pkm,km->p", weighted, r, optimize=True).astype(np.float64)
        scale = np.diag(normal)
        before = size.mean()
        for _ in range(ATTEMPTS):
            ridge = np.diag(damping * scale + 1e-6 * scale.mean() + 1e-300)
            step = -np.linalg.solve(normal + ridge, slope)
            trial = theta + np.clip(step, -REACH, REACH)
            r_new, here_new = residuals(trial, None)
            if _sizes(r_new).mean() < before:
                theta, r, size, here = trial, r_new, _sizes(r_new), here_new
                break
            damping *= 8
        if size.mean() < before:
            accepted(theta, float(size.mean()))
        if size.mean() > (1 - LEAST_GAIN) * before:
            break
        damping = max(damping / 5, 1e-4)
    return theta, True


def _moved(theta: np.ndarray, q: int, h: float) -> np.ndarray:
    out = theta.copy()
    out[q] += h
    return out


def _sizes(r: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(r, dtype=np.float64).sum(1))
