"""UniPC (arXiv 2302.04867): the corrector that may follow each step of a multistep solver, and the preset's place in our family.

UniP-p and UniC-p choose weights that make the update exact for polynomials in λ through p (p + 1) evaluations, whatever B(h) is: B(h)
cancels from the full system. It matters only where the official code replaces a system of one unknown by its limit 1/2, in the
predictor of order 2 and the corrector of order 1. So UniPC is our multistep predictor and the polynomial that also passes through the
evaluation at the end of the step, with

    bh1          solver_type "bh1"         B(h) = h
    bh2          solver_type "dpmsolver"   B(h) = e^h - 1
    vary_coeff   solver_type "taylor"      exact throughout

The evaluation made at the predicted state is kept, not repeated, so a correction costs no evaluation.
"""

import math
from collections.abc import Sequence

import numpy as np

from .path import Path
from .phi import phi
from .step import newton_moments


def official_corrector_weights(path: Path, form: str, s: float, t: float, nodes: Sequence[float]) -> list[float]:
    """The official code's vary_coeff corrector, for parity only: weights of the evaluations at nodes = (s, t, earlier …).

    With D_m = (f_m - f_s)/r_m and r_m = (λ_m - λ_s)/h, the right update is Σ_k hφ_{k+1} Σ_m A_km D_m with A the inverse of
    C_mk = r_m^{k-1}/k!. The official code takes the newest D_t in the last k only, and there with the row A of the k before it, and the
    others in all but the last k: which leaves order 1.
    """
    lam_s, h = path.half_logsnr(s), path.half_logsnr(t) - path.half_logsnr(s)
    order = len(nodes) - 1
    others = [*nodes[2:], t]  # the official order of the unknowns: history, then the newest
    r = [(path.half_logsnr(n) - lam_s) / h for n in others]
    a = np.linalg.inv(np.array([[r_m ** (k - 1) / math.factorial(k) for k in range(1, order + 1)] for r_m in r]))
    if form == "x0":
        moment = [path.alpha(t) * h * phi(k + 1, -h) for k in range(1, order + 1)]
    else:
        moment = [-path.sigma(t) * h * phi(k + 1, h) for k in range(1, order + 1)]
    of_d = [sum(moment[k] * a[k][m] for k in range(order - 1)) for m in range(order - 1)]
    of_d.append(moment[-1] * a[max(order - 2, 0)][-1])
    weights = [float(w / r_m) for w, r_m in zip(of_d, r, strict=True)]
    first = newton_moments(path, form, s, t, [s], "taylor")[0]
    return [first - sum(weights), weights[-1], *weights[:-1]]
