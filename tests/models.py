"""Models whose denoiser is exact: Gaussian data (the sampling ODE is solved in closed form) and mixtures (solved finely)."""

from __future__ import annotations

import functools
import math
import pathlib

import numpy as np

DATA = pathlib.Path(__file__).parent / "data"


class Gaussian:
    """x0 ~ N(mean, var) per element."""

    def __init__(self, mean: float = 0.4, var: float = 0.25):
        self.mean, self.var = mean, var

    def denoise(self, path, x, s):
        a, b = path.alpha(s), path.sigma(s)
        return self.mean + self.var * a * (x - a * self.mean) / (a * a * self.var + b * b)

    def solution(self, path, x, s, t):
        """The probability-flow ODE from s to t: the standardised state is conserved."""

        def std(r):
            return math.sqrt(path.alpha(r) ** 2 * self.var + path.sigma(r) ** 2)

        return path.alpha(t) * self.mean + (x - path.alpha(s) * self.mean) * std(t) / std(s)


class Mixture:
    """Gaussian mixture on R^n: component k is N(mu_k, U_k diag(var_k) U_kᵀ). States are (batch, n).

    `guidance` g gives D_u + g (D_c - D_u), D_c the mixture of the first `cond` components (classifier-free guidance).
    """

    def __init__(self, mu, var, logw, basis=None, guidance: float = 1.0, cond: int = 3):
        self.mu, self.var, self.logw, self.basis, self.guidance, self.cond = mu, var, logw, basis, guidance, cond

    def _posterior_mean(self, x, a, b, comps):
        mu, var = self.mu[comps], self.var[comps]
        if self.basis is not None:  # to each component's own axes: (batch, K, n)
            r = np.einsum("kij,bki->bkj", self.basis[comps], x[:, None, :] - a * mu)
            v = a * a * var + b * b
            w = self._weights(self.logw[comps] - 0.5 * (r * r / v + np.log(v)).sum(-1))
            return np.einsum("bk,bki->bi", w, mu + np.einsum("kij,bkj->bki", self.basis[comps], a * var / v * r))
        v = a * a * var + b * b  # one set of axes for all: sums over components are matrix products
        square = (x * x) @ (1 / v).T - 2 * a * (x @ (mu / v).T) + (a * a * mu * mu / v).sum(1)
        w = self._weights(self.logw[comps] - 0.5 * (square + np.log(v).sum(1)))
        gain = a * var / v
        return w @ (mu - a * gain * mu) + x * (w @ gain)

    @staticmethod
    def _weights(logp):
        w = np.exp(logp - logp.max(1, keepdims=True))
        return w / w.sum(1, keepdims=True)

    def denoise(self, path, x, s):
        a, b = path.alpha(s), path.sigma(s)
        u = self._posterior_mean(x, a, b, slice(None))
        if self.guidance == 1:
            return u
        return u + self.guidance * (self._posterior_mean(x, a, b, slice(0, self.cond)) - u)


@functools.cache
def golden():
    """The project's golden vectors: mixtures, noise and what the official code and the hosts' samplers returned."""
    return dict(np.load(DATA / "golden.npz"))


def toy(guidance: float = 1.0) -> Mixture:
    """6 components in R^8, strongly correlated: the golden vectors' model."""
    g = golden()
    return Mixture(g["toy.mu"], g["toy.var"], g["toy.logw"], g["toy.U"], guidance)


def image_like(guidance: float = 1.0) -> Mixture:
    """12 components in R^256, the coefficients of (4, 8, 8) latents in the orthonormal DCT, with falling spectra."""
    g = golden()
    return Mixture(g["mini.mu"], g["mini.var"], g["mini.logw"], None, guidance)
