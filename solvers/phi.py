"""φ functions of exponential integrators, and the moments of a step that are made of them.

φ_0(z) = e^z and φ_k(z) = ∫_0^1 e^{(1-θ)z} θ^{k-1}/(k-1)! dθ, so that φ_{k+1}(z) = (φ_k(z) - 1/k!)/z
(Hochbruck and Ostermann, Acta Numerica 2010, eq. 2.10; DPM-Solver, arXiv 2206.00927, appendix B).
"""

import functools
import math

import numpy as np


def phi(k: int, z: float) -> float:
    """φ_k(z) in float64, to about 1e-14 relative: a series near 0, where the recurrence cancels, else the recurrence."""
    if k == 1:
        return math.expm1(z) / z if z else 1.0
    if abs(z) < 1.0 + k:
        term = total = 1.0 / math.factorial(k)
        j = 0
        while abs(term) > 1e-18 * abs(total):
            j += 1
            term *= z / (j + k)
            total += term
        return total
    value = math.exp(z)
    for j in range(k):
        value = (value - 1.0 / math.factorial(j)) / z
    return value


def phis(count: int, z: np.ndarray) -> np.ndarray:
    """φ_1 … φ_count at each of z, (len(z), count), to about 1e-14 relative: near 0 the highest by its series and the others from it by
    φ_k = 1/k! + z φ_{k+1}; elsewhere the recurrence from φ_1 up."""
    out = np.empty((len(z), count))
    with np.errstate(all="ignore"):
        out[:, 0] = np.where(z == 0, 1.0, np.expm1(z) / z)
        for k in range(1, count):
            out[:, k] = (out[:, k - 1] - 1 / math.factorial(k)) / z
    near = np.abs(z) < 2
    if count > 1 and near.any():
        some = z if near.all() else z[near]
        size, many, term = float(np.abs(some).max()), 0, 1.0
        while term > 1e-18:
            many += 1
            term *= size / (many + count)
        series = np.zeros_like(some)
        for j in range(many, -1, -1):
            series *= some
            series += 1 / math.factorial(count + j)
        out[near, count - 1] = series
        for k in range(count - 1, 1, -1):
            series = 1 / math.factorial(k) + some * series
            out[near, k - 1] = series
    return out


@functools.lru_cache(maxsize=64)  # a step and its correction ask for the same
def data_moment(k: int, h: float) -> float:
    """∫_0^h e^{τ-h} τ^k dτ = k! h^{k+1} φ_{k+1}(-h): how much a step of size h takes of x0(λ) = (λ-λ_s)^k, over α_t.

    h = ∞ (the last step to σ = 0) has a limit for k = 0 only.
    """
    if math.isinf(h):
        return 1.0 if k == 0 else math.inf
    return math.factorial(k) * h ** (k + 1) * phi(k + 1, -h)


@functools.lru_cache(maxsize=64)
def noise_moment(k: int, h: float) -> float:
    """-∫_0^h e^{-τ} τ^k dτ = -k! h^{k+1} e^{-h} φ_{k+1}(h): the same for ε(λ) = (λ-λ_s)^k, over α_t σ_s/α_s.

    h = ∞ has the limit -k!. A large h is evaluated by the complementary sum, which does not overflow.
    """
    if h > 1.0 + k:
        tail = 0.0 if math.isinf(h) else math.exp(-h) * sum(h**j / math.factorial(j) for j in range(k + 1))
        return -math.factorial(k) * (1.0 - tail)
    return -math.factorial(k) * h ** (k + 1) * math.exp(-h) * phi(k + 1, h)
