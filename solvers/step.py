"""One step of an exponential integrator: the weights of the state and of the stored evaluations.

The exact solution from s to t (DPM-Solver++, arXiv 2211.01095, eq. 8; DPM-Solver, arXiv 2206.00927, eq. 3.4), h = λ_t - λ_s:

    x_t = σ_t/σ_s x_s + α_t ∫_0^h e^{τ-h} x0(λ_s+τ) dτ              form "x0"
    x_t = α_t/α_s x_s - α_t σ_s/α_s ∫_0^h e^{-τ} ε(λ_s+τ) dτ        form "eps"

A solver replaces x0 (or ε) by the polynomial through evaluations at `nodes`, in Newton's form, so that each order adds one term:
the k-th divided difference times the moment of N_k = Π_{j<k} (λ-λ_j). A *fade* in 0…1 scales such a term: 1 is the full order.
"""

import math
from collections.abc import Sequence

from .path import Path
from .phi import data_moment, noise_moment

FORM = {"dpmsolver++": "x0", "dpmsolver": "eps"}
CHOICES: dict[str, tuple[object, ...]] = {
    "algorithm": tuple(FORM),
    "order": (1, 2, 3),
    "method": ("multistep", "singlestep"),
    "solver_type": ("dpmsolver", "taylor", "official"),
    "start": ("corrected", "official"),
    "final_rule": ("smooth", "official", "none"),
}


def check_options(**options: object) -> None:
    """One ValueError sentence, naming the option, the value and the choices, if any of them is out of range."""
    for name, value in options.items():
        if name not in CHOICES:
            raise ValueError(f"{name} is no option; the options are {', '.join(CHOICES)}.")
        if value not in CHOICES[name]:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(str, CHOICES[name]))}.")


def state_weight(path: Path, form: str, s: float, t: float) -> float:
    """The factor of x_s; also right at both ends (σ_t = 0; α_s = 0, where the first-order step keeps σ_t/σ_s of x)."""
    if form == "x0" or path.alpha(s) == 0:
        return path.sigma(t) / path.sigma(s)
    return path.alpha(t) / path.alpha(s)


def newton_moments(path: Path, form: str, s: float, t: float, nodes: Sequence[float], rule: str) -> list[float]:
    """Integrals of N_0 … N_{p-1} over the step, p = len(nodes) ≤ 3; λ of every node finite if p > 1.

    `rule`: "taylor" integrates exactly. "dpmsolver" takes N_1 by its value in the middle of the step, as the papers' second-order
    solvers of that type do. "official" is "dpmsolver", with the second derivative of order 3 at half its weight as the official
    multistep code has it (its third-order update lacks a factor 2, which makes it order 2); for parity only.
    """
    lam_s, lam_t = path.half_logsnr(s), path.half_logsnr(t)
    h = lam_t - lam_s
    if form == "x0":
        scale, moment = path.alpha(t), data_moment
    elif math.isinf(lam_s):
        return [path.alpha(t) - path.sigma(t) / path.sigma(s) * path.alpha(s)]  # first order is the same in both forms
    else:
        scale, moment = path.alpha(t) * path.sigma(s) / path.alpha(s), noise_moment
    m = [scale * moment(0, h)]
    if len(nodes) > 1:
        a = lam_s - path.half_logsnr(nodes[0])
        first = scale * moment(1, h) if rule == "taylor" or len(nodes) > 2 else m[0] * h / 2
        m.append(first + a * m[0])
    if len(nodes) > 2:
        b = lam_s - path.half_logsnr(nodes[1])
        second = scale * moment(2, h) * (0.5 if rule == "official" else 1.0)
        m.append(second + (a + b) * first + a * b * m[0])
    return m


def node_weights(path: Path, form: str, s: float, t: float, nodes: Sequence[float], rule: str, fades: Sequence[float]) -> list[float]:
    """The factors of the evaluations at `nodes` (newest first), each term of the Newton form scaled by its fade."""
    moments = newton_moments(path, form, s, t, nodes, rule)
    lams = [path.half_logsnr(n) for n in nodes]
    weights = [0.0] * len(nodes)
    for k, (moment, fade) in enumerate(zip(moments, fades, strict=True)):
        if fade == 0:
            continue
        for j in range(k + 1):  # f[λ_0 … λ_k] = Σ_j f_j / Π_{i≠j} (λ_j - λ_i)
            weights[j] += fade * moment / math.prod(lams[j] - lams[i] for i in range(k + 1) if i != j)
    return weights
