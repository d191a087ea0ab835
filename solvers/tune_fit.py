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

LEAST_GAIN = 0.005  # of the loss: a step that gains less, by a fresh Jacobian, is the last
STALE_GAIN = 0.02  # a step by an updated Jacobian that gains less asks for a fresh one
ATTEMPTS = 4  # at a step of a fresh Jacobian, with more damping each time
REACH = 8  # of its quotients' steps is the most a parameter changes at once

Residuals = Callable[[np.ndarray, Any], tuple[np.ndarray, Any]]


def descend(
    residuals: Residuals,
    theta: np.ndarray,
    quotients: np.ndarray,
    *,
    afford: Callable[[float], bool],
    accepted: Callable[[np.ndarray, float], None],
    rounds: int = 40,
) -> tuple[np.ndarray, bool]:
    """The θ with a locally least loss, from `theta` (p,), and whether the search came to its end there.

    `residuals(θ, near) -> (r (K, m), here)`: r scaled so that |r_i| is a root mean square; `here` is handed back as `near` for the
    quotients around it, whose runs begin alike. `afford(runs)` is asked before so many runs are made. `accepted(θ, loss)` hears of every
    improvement. Between fresh Jacobians each step teaches the one that is there (Broyden 1965), for the cost of a single run.
    """
    r, here = residuals(theta, None)
    size, damping, jacobian, fresh = _sizes(r), 0.01, None, False
    for _ in range(rounds):
        if not afford(1 if jacobian is not None else 1 + len(theta) / 2):
            return theta, False
        if jacobian is None:
            jacobian = np.stack([(residuals(_moved(theta, q, h), here)[0] - r) / h for q, h in enumerate(quotients)])
            fresh = True
        weight = 1 / np.maximum(size, 0.3 * np.median(size) + 1e-12)
        weighted = jacobian * weight[None, :, None]
        normal = np.einsum("pkm,qkm->pq", weighted, jacobian, optimize=True).astype(np.float64)
        slope = np.einsum("pkm,km->p", weighted, r, optimize=True).astype(np.float64)
        scale, before = np.diag(normal), size.mean()
        for _ in range(ATTEMPTS if fresh else 1):
            ridge = np.diag(damping * scale + 1e-6 * scale.mean() + 1e-300)
            step = -np.linalg.solve(normal + ridge, slope)
            step /= max(1.0, float(np.max(np.abs(step) / (REACH * quotients))))
            r_new, here_new = residuals(theta + step, None)
            missed = r_new - r - np.tensordot(step, jacobian, 1)
            jacobian += ((step / (step @ step))[:, None, None] * missed).astype(jacobian.dtype)
            if _sizes(r_new).mean() < before:
                theta, r, size, here = theta + step, r_new, _sizes(r_new), here_new
                damping = max(damping / 5, 1e-4)
                accepted(theta, float(size.mean()))
                break
            damping *= 8
        gain = 1 - size.mean() / before
        if fresh and gain < LEAST_GAIN:
            break
        if not fresh and gain < STALE_GAIN:
            jacobian = None
        fresh = False
    return theta, True


def _moved(theta: np.ndarray, q: int, h: float) -> np.ndarray:
    out = theta.copy()
    out[q] += h
    return out


def _sizes(r: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(r, dtype=np.float64).sum(1))
