"""Least squares without derivatives: Levenberg-Marquardt on difference quotients, robust over samples.

The loss is the mean over samples of the root mean square distance to the reference, Σ_i |r_i|: each sample's square is weighted by 1/|r_i|
(iteratively reweighted least squares), so that pictures which came out entirely different do not decide for the others. Because the
distance is a sum of squares of thousands of residuals, one quotient a parameter says what a search by values alone needs dozens of trials
for; `benchmarks/tune.py` compares it with Nelder-Mead and a (1+1)-ES.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

LEAST_GAIN = 0.005  # of the loss: a step that gains less, by a fresh Jacobian, is the last
STALE_GAIN = 0.02  # a step by an updated Jacobian that gains less asks for a fresh one
ODD = 10.0  # a trial with so many times the loss has blown up: it teaches the Jacobian nothing
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
    signed: Callable[[np.ndarray], np.ndarray] | None = None,
    settled: Callable[[np.ndarray], np.ndarray] | None = None,
    bound: Callable[[np.ndarray], tuple[np.ndarray, float]] | None = None,
    rounds: int = 40,
) -> tuple[np.ndarray, bool]:
    """The θ with a locally least loss, from `theta` (p,), and whether the search came to its end there.

    `residuals(θ, near) -> (r (K, m), here)`: r scaled so that |r_i| is a root mean square; `here` is handed back as `near` for the
    runs near it, which begin alike. `afford(runs)` is asked before so many runs are made. `accepted(θ, loss)` hears of every
    improvement. `signed(θ)`: `quotients` with the signs they are to have at θ; `settled(θ)`: the θ that stands for it;
    `bound(θ) -> (c, slack)`: a step s has c·s ≤ slack. Between fresh Jacobians each step teaches the one that is there (Broyden 1965), for
    the cost of a single run.
    """
    r, here = residuals(theta, None)
    size, damping, jacobian, fresh = _sizes(r), 0.01, None, False
    for _ in range(rounds):
        before = size.mean()
        if not before:
            return theta, True
        if not afford(1 if jacobian is not None else 1 + len(theta) / 2):
            return theta, False
        if jacobian is None:
            steps = quotients if signed is None else signed(theta)
            jacobian = np.stack([(residuals(_moved(theta, q, h), here)[0] - r) / r.dtype.type(h) for q, h in enumerate(steps)])
            fresh = True
        weight = 1 / np.maximum(size, 0.3 * np.median(size) + 1e-12)
        normal, slope = np.zeros((len(theta), len(theta))), np.zeros(len(theta))
        for k, w in enumerate(weight):  # sample by sample: float64 sums without a float64 copy of all
            rows = jacobian[:, k].astype(np.float64)
            normal += w * (rows @ rows.T)
            slope += w * (rows @ r[k])
        scale = np.diag(normal)
        for _ in range(ATTEMPTS if fresh else 1):
            ridge = np.diag(np.where(scale > 0, damping * scale, 1.0))  # a parameter without effect stays
            step = -np.linalg.solve(normal + ridge, slope)
            if bound is not None:  # the least squares step along the bound, where the free one would cross it
                c, slack = bound(theta)
                if c @ step > slack and c.any():
                    across = np.linalg.solve(normal + ridge, c)
                    step -= across * ((c @ step - slack) / (c @ across))
            step /= max(1.0, float(np.max(np.abs(step) / (REACH * quotients))))
            trial = theta + step if settled is None else settled(theta + step)
            step = trial - theta
            if not step.any():
                break
            r_new, here_new = residuals(trial, here)
            if _sizes(r_new).mean() < ODD * before:
                missed = r_new - r - np.tensordot(step.astype(r.dtype), jacobian, 1)
                jacobian += (step / (step @ step)).astype(r.dtype)[:, None, None] * missed
            if _sizes(r_new).mean() < before:
                theta, r, size, here = trial, r_new, _sizes(r_new), here_new
                damping = max(damping / 5, 1e-4)
                accepted(theta, float(size.mean()))
                break
            damping *= 8
        gain = 1 - size.mean() / before
        if fresh and gain < LEAST_GAIN:
            return theta, True
        if not fresh and gain < STALE_GAIN:
            jacobian = None
        fresh = False
    return theta, False


def _moved(theta: np.ndarray, q: int, h: float) -> np.ndarray:
    out = theta.copy()
    out[q] += h
    return out


def _sizes(r: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(r, dtype=np.float64).sum(1))
