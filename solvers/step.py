"""One step of an exponential integrator: the weights of the state and of the stored evaluations.

The exact solution from s to t (DPM-Solver++, arXiv 2211.01095, eq. 8; DPM-Solver, arXiv 2206.00927, eq. 3.4), h = λ_t - λ_s:

    x_t = σ_t/σ_s x_s + α_t ∫_0^h e^{τ-h} x0(λ_s+τ) dτ              form "x0"
    x_t = α_t/α_s x_s - α_t σ_s/α_s ∫_0^h e^{-τ} ε(λ_s+τ) dτ        form "eps"
    x_t = G_t/G_s x_s - G_t ∫_0^h sinφ cosφ v(λ_s+τ) dτ            form "v"
    DPM-Solver-v3's, with statistics of the model: see `v3`          form "f"

with G² = α² + σ², tanφ = σ/α = e^{-λ} and v = cosφ ε - sinφ x0 (v-prediction, arXiv 2202.00512, appendix D: dx/dφ = v where G = 1).
For data of unit variance and no other structure v is 0 where x0 and ε are not: the third form integrates that much exactly. It is
DPM-Solver-v3's equation (arXiv 2310.13268) with the statistics l = σ²/(α²+σ²), b = 0 of such data.

With noise at rate η (SDE-DPM-Solver, arXiv 2211.01095, section 5, for η = 1; k-diffusion's eta) the ODE becomes

    x_t = σ_t/σ_s e^{-ηh} x_s + (1+η) α_t ∫_0^h e^{(1+η)(τ-h)} x0 dτ + σ_t √(1-e^{-2ηh}) n        form "x0"
    x_t = α_t/α_s x_s - (1+η) α_t σ_s/α_s ∫_0^h e^{-τ} ε dτ + σ_t √(η (e^{2h}-1)) n              form "eps"

A solver replaces x0, ε or (cos²φ + δ²)^{a/2} v by the polynomial through evaluations at `nodes`, in Newton's form, so that each order
adds one term: the k-th divided difference times the moment of N_k = Π_{j<k} (λ-λ_j). A *fade* in 0…1 scales such a term: 1 is the full
order.
The power a = 0.6 damps the high noise levels, where guidance makes v large and rough: measured on mixtures and a trained network.
δ = 0.03 ends that beyond σ/α = 33, where otherwise the damping itself would be what the polynomial has to follow (order 1).
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from .choices import FORM
from .path import Path
from .phi import data_moment, noise_moment
from .tape import Blend, Coefficient, Field
from .trust import size
from .v3 import raw_to_newton

POWER, FLOOR = 0.6, 0.03


def check_noise(algorithm: str, eta: float, noise_rule: str, rising: bool) -> None:
    """One ValueError sentence where noise cannot be added as asked."""
    if eta and algorithm in ("dpmsolver-v", "dpmsolver-v3"):
        raise ValueError(f"eta is {eta:g}, but algorithm {algorithm} has no SDE form; set eta to 0, or algorithm to dpmsolver++.")
    if eta and rising:
        raise ValueError(f"eta is {eta:g}, but the sigmas rise: an image is encoded without new noise, so set eta to 0.")
    if eta > 1 and noise_rule != "sde":
        raise ValueError(f"eta is {eta:g}, but noise_rule {noise_rule} replaces at most all of the noise; set eta to 1 or less.")


def is_open(path: Path, s: float) -> bool:
    """At λ = -∞, or so near (α/σ < 0.001) that ε and v made of x and x0 say little of the data: "eps" and "v" do not start here."""
    return path.alpha(s) < 1e-3 * path.sigma(s)


def form_of(algorithm: str, path: Path, s: float, t: float) -> str:
    """The form of a step. From an open end x holds no data and every form takes the same first-order step on x0; "v" also to σ = 0,
    "v" and "f" to pure noise."""
    form = FORM[algorithm]
    return "x0" if is_open(path, s) or (form == "v" and path.sigma(t) == 0) or (form in ("v", "f") and path.alpha(t) == 0) else form


def value(path: Path, form: str, s: float) -> tuple[float, float]:
    """(factor of x, factor of x0) that give the form's quantity at s: x0 itself, ε = (x - α x0)/σ, or v = (α x/G - G x0)/σ."""
    alpha, sigma = path.alpha(s), path.sigma(s)
    if form == "x0":
        return 0.0, 1.0
    if form == "eps":
        return 1 / sigma, -alpha / sigma
    size = math.hypot(alpha, sigma)
    return alpha / (size * sigma), -size / sigma


def damping(path: Path, form: str, s: float) -> float:
    """What the form's quantity is multiplied by before the polynomial is laid through it: (cos²φ + δ²)^{a/2} for v, else 1."""
    if form != "v":
        return 1.0
    cosine = path.alpha(s) / math.hypot(path.alpha(s), path.sigma(s))
    return (cosine**2 + FLOOR**2) ** (POWER / 2)


def state_weight(path: Path, form: str, s: float, t: float, eta: float = 0.0) -> float:
    """The factor of x_s."""
    if form == "x0":
        forget = math.exp(-eta * (path.half_logsnr(t) - path.half_logsnr(s))) if eta and path.sigma(t) > 0 else 1.0
        return path.sigma(t) / path.sigma(s) * forget
    if form == "eps":
        return path.alpha(t) / path.alpha(s)
    return math.hypot(path.alpha(t), path.sigma(t)) / math.hypot(path.alpha(s), path.sigma(s))


def noise_weight(path: Path, form: str, s: float, t: float, eta: float) -> float:
    """The factor of the unit noise that a step at rate eta adds; 0 at the end of the run to σ = 0 in the form "x0"."""
    h = path.half_logsnr(t) - path.half_logsnr(s)
    if form == "x0":
        return path.sigma(t) * math.sqrt(-math.expm1(-2 * eta * h))
    return path.sigma(t) * math.sqrt(eta * math.expm1(2 * h))


def ancestral_rate(eta: float, h: float) -> float:
    """The rate η' of the SDE whose step over h adds the ancestral samplers' noise, σ_t η √(1-e^{-2h}) (DDIM, arXiv 2010.02502, eq. 16)."""
    return float(eta) if eta in (0, 1) else -math.log1p(eta**2 * math.expm1(-2 * h)) / (2 * h) if h < math.inf else eta


@functools.cache
def gauss(panels: int) -> tuple[np.ndarray, np.ndarray]:
    """(points, weights) of Gauss-Legendre with 16 points on each of so many panels of 0…1."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    return ((np.arange(panels)[:, None] + (nodes + 1) / 2) / panels).ravel(), np.tile(weights, panels) / (2 * panels)


@functools.lru_cache(maxsize=64)  # a step, its reach and its correction ask for the same
def _v_moments(path: Path, s: float, t: float) -> list[float]:
    """-G_t ∫_0^h sinφ cosφ/(cos²φ+δ²)^{a/2} τ^k dτ for k < 5 by Gauss-Legendre on panels of at most 1 in λ (to 1e-13)."""
    lam_s, h = path.half_logsnr(s), path.half_logsnr(t) - path.half_logsnr(s)
    points, weights = gauss(max(1, math.ceil(abs(h))))
    tau = h * points
    cosine = (1 + np.tanh(lam_s + tau)) / 2 + FLOOR**2  # cos²φ + δ², and sinφ cosφ = 1/(2 cosh λ)
    integrand = (-math.hypot(path.alpha(t), path.sigma(t)) * h / 2) * weights / np.cosh(lam_s + tau) * cosine ** (-POWER / 2)
    return (tau ** np.arange(5)[:, None] @ integrand).tolist()


def newton_moments(path: Path, form: str, s: float, t: float, nodes: Sequence[float], rule: str, eta: float = 0.0) -> list[float]:
    """Integrals of N_0 … N_{p-1} over the step, p = len(nodes); λ of every node but a last one finite if p > 1.

    `rule`: "taylor" integrates exactly. "dpmsolver" takes N_1 of two nodes by its value in the middle of the step, as the papers'
    second-order solvers of that type do (UniPC's B(h) = e^h - 1); "bh1" takes its slope's integral as h²/2 (UniPC's B(h) = h).
    "official" is "dpmsolver", with the second derivative of order 3 at half its weight as the official multistep code has it (its
    third-order update lacks a factor 2, which makes it order 2), "official_taylor" is "taylor" with that; for parity only. "pseudo" puts
    τ^k in the place of N_k, as DPM-Solver-v3's pseudo-order methods do. Form "v" knows "taylor" only.
    """
    lam_s, h = path.half_logsnr(s), path.half_logsnr(t) - path.half_logsnr(s)
    offsets = [lam_s - path.half_logsnr(n) for n in nodes[:-1]]
    if form == "v":
        return raw_to_newton(_v_moments(path, s, t)[: len(nodes)], offsets)
    if h == -math.inf:  # to pure noise, one node: what the state lacks of α_t c + σ_t n
        return [-path.sigma(t) * path.alpha(s) / path.sigma(s) if form == "x0" else path.sigma(t)]
    rate = 1 + eta
    if form == "x0":
        scale = path.alpha(t)
        raw = [scale * rate**-k * data_moment(k, rate * h) for k in range(len(nodes))]
    else:
        scale = -path.sigma(t)
        raw = [rate * path.alpha(t) * path.sigma(s) / path.alpha(s) * noise_moment(k, h) for k in range(len(nodes))]
    if len(nodes) == 2 and not rule.endswith(("taylor", "pseudo")):
        raw[1] = scale * h * h / 2 if rule == "bh1" else raw[0] * h / 2
    if len(nodes) == 3 and rule.startswith("official"):
        raw[2] /= 2
    return raw if rule == "pseudo" else raw_to_newton(raw, offsets)


def node_weights(
    path: Path, form: str, s: float, t: float, nodes: Sequence[float], rule: str, fades: Sequence[float], eta: float = 0.0
) -> list[float]:
    """The factors of the evaluations at `nodes` (newest first), each term of the Newton form scaled by its fade."""
    moments = newton_moments(path, form, s, t, nodes, rule, eta)
    lams = [path.half_logsnr(n) for n in nodes]
    weights = [0.0] * len(nodes)
    for k, (moment, fade) in enumerate(zip(moments, fades, strict=True)):
        if fade == 0:
            continue
        for j in range(k + 1):  # f[λ_0 … λ_k] = Σ_j f_j / Π_{i≠j} (λ_j - λ_i)
            apart = 1.0
            for i in range(k + 1):
                apart *= lams[j] - lams[i] if i != j else 1.0
            weights[j] += fade * moment / apart
    return weights if form != "v" else [w * damping(path, form, n) for w, n in zip(weights, nodes, strict=True)]


def coefficient(w: Coefficient | np.ndarray) -> Coefficient:
    """A weight as a tape's coefficient: a number unless it differs over bins. A bias that is nowhere is 0, which costs nothing."""
    if isinstance(w, float):
        return float(w)
    if isinstance(w, (Blend, Field)):
        return w
    if isinstance(w, np.ndarray) and not w.any():
        return 0.0
    return Field(w) if isinstance(w, np.ndarray) and w.size > 1 else float(np.ravel(w)[0])


def terms_of(
    state: str, state_factor: float | np.ndarray, values: Sequence[str], weights: Sequence[Coefficient] | Sequence[np.ndarray]
) -> tuple[tuple[str, Coefficient], ...]:
    """The terms of an Affine; a weight that is 0 but for rounding is left out: it would cost a kernel and a live register."""
    names, factors = (state, *values), (state_factor, *weights)
    sizes = [abs(w) if type(w) is float else _size(w) for w in factors]
    least, kinds = 1e-13 * max(sizes), {*map(type, factors)}
    if min(sizes) > least and (kinds == _NUMBER or kinds <= _PLAIN):
        return tuple(zip(names, factors, strict=True))  # type: ignore[arg-type]
    return tuple([(name, coefficient(w)) for name, w, size in zip(names, factors, sizes, strict=True) if size > least])


_NUMBER, _PLAIN = {float}, {float, Blend}


def _size(w) -> float:
    return float(np.abs(w).max()) if isinstance(w, np.ndarray) else size(w)
