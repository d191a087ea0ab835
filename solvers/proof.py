"""Every tape proves itself before it runs: its records are executed on prescribed evaluations whose exact step is known.

For a claim on p nodes the evaluations are set to the Newton polynomials N_0 … N_{p-1} of these nodes (N_0 is data at one point:
the state then runs from α_s c + σ_s n to α_t c + σ_t n; form "v" has no such data, and runs on v's polynomial from G). Where no
fade acts and the rule is exact this is the same as being exact for x0(λ) = (λ-λ_s)^k (or ε, v likewise) for every k below the
order. The expected integrals come from a Gauss-Legendre quadrature of their own,
not from the φ functions the planner used. One pass over the records serves all claims at once: registers are vectors.
"""

import functools
import math

import numpy as np

from .path import PATHS, Path
from .step import FLOOR, POWER, damping, is_open, value
from .tape import Affine, Claim, Eval, Noise, Tape, TapeError

C, N = 0.7, -1.3  # the one-point data and the noise that travels with it
TOLERANCE = 1e-11
ROUNDING = 1e-14  # relative, of one operation: some units in the last place


@functools.cache
def _gauss():
    return np.polynomial.legendre.leggauss(24)


def _integral(path: Path, form: str, s: float, t: float, degree_roots: list[float]) -> float:
    """Quadrature over the step of Π(λ-root) with the weight of the form; finite ends only."""
    lam_s, lam_t = path.half_logsnr(s), path.half_logsnr(t)
    h = lam_t - lam_s
    panels = max(1, math.ceil(abs(h) / 3))
    nodes, weights = _gauss()
    edges = np.linspace(0.0, h, panels + 1)
    tau = (edges[:-1, None] + np.diff(edges)[:, None] * (nodes + 1) / 2).ravel()
    w = (np.diff(edges)[:, None] * weights / 2).ravel()
    poly = np.ones_like(tau)
    for root in degree_roots:
        poly *= lam_s + tau - root
    if form == "x0":
        return path.alpha(t) * float(w @ (np.exp(tau - h) * poly))
    if form == "v":  # in u = e^{-λ} = tanφ: dφ = du/(1+u²)
        u = np.exp(-(lam_s + tau))
        return -math.hypot(path.alpha(t), path.sigma(t)) * float(w @ (u / (1 + u * u) / (1 / (1 + u * u) + FLOOR**2) ** (POWER / 2) * poly))
    return -path.alpha(t) * path.sigma(s) / path.alpha(s) * float(w @ (np.exp(-tau) * poly))


def _ratio(path: Path, s: float) -> float:
    return path.alpha(s) / path.sigma(s)


def _expected(path: Path, claim: Claim, k: int) -> float:
    """The state the claim promises on data N_k (from α c + σ n for k = 0; from 0 for k > 0; from G_s in form "v")."""
    s, t = claim.sigma_from, claim.sigma_to
    start = math.hypot(path.alpha(t), path.sigma(t)) if claim.form == "v" else 0.0
    if k == 0 and claim.form != "v":
        return path.alpha(t) * C + path.sigma(t) * N
    if claim.rule == "ratio":  # x_t/σ_t - x_s/σ_s = ∫ x0 du with u = α/σ and N_1 = u - u_s
        u_s, u_t = _ratio(path, s), _ratio(path, t)
        return claim.fades[k] * path.sigma(t) * (u_t - u_s) ** 2 / 2
    lams = [path.half_logsnr(n) for n in claim.nodes[:k]]
    if claim.form == "eps" and path.sigma(t) == 0:  # ∫_0^∞ e^{-τ} Π(τ + a_j) dτ over elementary symmetric sums
        coefficients = np.poly([lam - path.half_logsnr(s) for lam in lams])[::-1]
        total = sum(c * math.factorial(j) for j, c in enumerate(coefficients))
        return -claim.fades[k] * path.alpha(t) * path.sigma(s) / path.alpha(s) * float(total)
    exact = _integral(path, claim.form, s, t, lams)
    h = path.half_logsnr(t) - path.half_logsnr(s)
    if claim.rule != "taylor" and len(claim.nodes) == 2:  # N_1 by its value half-way
        middle = path.half_logsnr(s) + h / 2 - lams[0]
        exact = middle * _integral(path, claim.form, s, t, [])
    if claim.rule == "official" and k == 2:  # (λ-λ_s)² at half its integral
        exact -= 0.5 * _integral(path, claim.form, s, t, [path.half_logsnr(s)] * 2)
    return start + claim.fades[k] * exact


def check(tape: Tape) -> Tape:
    """Return the tape, or raise TapeError naming the step whose coefficients do not do what the claim says."""
    path = PATHS[tape.path]
    cases = [(claim, k) for claim in tape.claims for k in range(len(claim.nodes))]
    starts: dict[int, list[int]] = {}
    ends: dict[int, list[int]] = {}
    for i, (claim, _) in enumerate(cases):
        starts.setdefault(claim.first, []).append(i)
        ends.setdefault(claim.last, []).append(i)
    if not cases:
        return tape
    zero = np.zeros(len(cases))
    first = np.array([claim.first for claim, _ in cases])
    one_point = np.array([k == 0 and claim.form != "v" for claim, k in cases])
    of_v = np.array([claim.form == "v" for claim, _ in cases])

    def exact(s: float) -> np.ndarray:
        """The states that the claims' steps start from at s."""
        return np.where(one_point, path.alpha(s) * C + path.sigma(s) * N, np.where(of_v, math.hypot(path.alpha(s), path.sigma(s)), 0.0))

    registers: dict[str, np.ndarray] = {"x": exact(tape.sigmas[0])}
    roots = np.full((len(cases), 2), np.nan)
    ratio = np.array([claim.rule == "ratio" for claim, _ in cases])
    for i, (claim, k) in enumerate(cases):
        roots[i, :k] = [_ratio(path, n) if ratio[i] else path.half_logsnr(n) for n in claim.nodes[:k]]
    absent = np.isnan(roots)
    by_form = {form: np.array([claim.form == form for claim, _ in cases]) & ~one_point for form in ("eps", "v")}

    def prescribed(sigma: float, x: np.ndarray) -> np.ndarray:
        """The x0 that makes the claim's quantity the wanted polynomial here. Where λ is infinite no polynomial has a value, and no
        claim of order > 1 may read one."""
        lam = path.half_logsnr(sigma)
        at = np.where(ratio, _ratio(path, sigma), lam if math.isfinite(lam) else math.nan)
        wanted = np.where(absent, 1.0, at[:, None] - roots).prod(1)
        wanted = np.where(one_point, C, np.nan_to_num(wanted))
        for form, here in by_form.items():
            if here.any() and not is_open(path, sigma):
                of_x, of_x0 = value(path, form, sigma)
                wanted = np.where(here, (wanted / damping(path, form, sigma) - of_x * x) / of_x0, wanted)
        return wanted

    noise = {"x": zero.copy()}  # a bound of the rounding in each register; large coefficients are no defect
    where: dict[str, float] = {"x": tape.sigmas[0]}  # the sigma each state has come to
    for position in range(len(tape.records) + 1):
        for i in ends.get(position, ()):
            claim, k = cases[i]
            where[claim.register] = claim.sigma_to
            want, got = _expected(path, claim, k), registers[claim.register][i]
            allowed = TOLERANCE * max(1.0, abs(want), path.sigma(claim.sigma_from)) + noise[claim.register][i]
            if not abs(got - want) <= allowed:
                raise TapeError(
                    f"{tape.solver}: the step {claim.sigma_from:g} -> {claim.sigma_to:g} gives {got:.12g} on evaluations "
                    f"of degree {k} in λ where {want:.12g} is right"
                )
        if position == len(tape.records):
            break
        if position in starts:  # the exact state for the claims that begin here, and for those still to come, so that no error travels
            s = cases[starts[position][0]][0].sigma_from
            here = first >= position
            registers["x"] = np.where(here, exact(s), registers["x"])
            noise["x"] = np.where(here, 0.0, noise["x"])
        record = tape.records[position]
        if isinstance(record, Eval):
            if where.get(record.src) != record.sigma:
                raise TapeError(f"{tape.solver}: register {record.src} is evaluated at {record.sigma:g}, but holds {where.get(record.src)}")
            registers[record.dst] = prescribed(record.sigma, registers[record.src])
            noise[record.dst] = ROUNDING * np.abs(registers[record.dst])
        elif isinstance(record, Affine):
            registers[record.dst], noise[record.dst] = (
                sum((w * registers[name] for name, w in record.terms), zero),
                sum((abs(w) * (ROUNDING * np.abs(registers[name]) + noise[name]) for name, w in record.terms), zero),
            )
        elif isinstance(record, Noise):
            pass  # the mean is what is checked here
    return tape
