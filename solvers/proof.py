"""Every tape proves itself before it runs: its records are executed on prescribed evaluations whose exact step is known.

For a claim on p nodes the evaluations are set to the Newton polynomials N_0 … N_{p-1} of these nodes (N_0 is data at one point:
the state then runs from α_s c + σ_s n to α_t c + σ_t n; form "v" has no such data, and runs on v's polynomial from G). Where no
fade acts and the rule is exact this is the same as being exact for x0(λ) = (λ-λ_s)^k (or ε, v likewise) for every k below the
order. The expected integrals come from a Gauss-Legendre quadrature of their own,
not from the φ functions the planner used. One pass over the records serves a block of claims: registers are vectors.
"""

import functools
import math

import numpy as np

from .path import PATHS, Path
from .step import FLOOR, POWER, is_open
from .tape import Affine, Claim, Eval, Tape, TapeError

C, N = 0.7, -1.3  # the one-point data and the noise that travels with it
TOLERANCE = 1e-11
BLOCK, HISTORY = 32, 8  # claims in one pass; claims before them whose evaluations they may read
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


def _prescribed(path: Path, form: str, s: float, wanted, x):
    """The x0 at state x that makes the quantity of form "eps" or "v", damped as `step` says, equal `wanted`: written out anew here."""
    alpha, sigma = path.alpha(s), path.sigma(s)
    if form == "eps":
        return (x - sigma * wanted) / alpha
    size = math.hypot(alpha, sigma)
    return (alpha * x / size - sigma * wanted / ((alpha / size) ** 2 + FLOOR**2) ** (POWER / 2)) / size


def check(tape: Tape) -> Tape:
    """Return the tape, or raise TapeError naming what is wrong.

    The claims must lead from the first sigma to the last, every record must belong to one of them, and each claim must hold. Time is
    linear in the steps: claims are taken in blocks.
    """
    path = PATHS[tape.path]
    chain = [(c.sigma_from, c.sigma_to) for c in tape.claims if c.register == "x"]
    chain = [pair for i, pair in enumerate(chain) if i == 0 or pair != chain[i - 1]]  # a corrected step is claimed twice
    if chain != list(zip(tape.sigmas, tape.sigmas[1:], strict=False)):
        raise TapeError(f"{tape.solver}: the claims do not lead along the sigmas, step by step")
    covered = {p for c in tape.claims for p in range(c.first, c.last)}
    if len(covered) != len(tape.records):
        raise TapeError(f"{tape.solver}: some records belong to no claim")
    for begin in range(0, len(tape.claims), BLOCK):
        _check_block(tape, path, begin)
    return tape


def _check_block(tape: Tape, path: Path, begin: int) -> None:
    claims = tape.claims[begin : begin + BLOCK]
    back = max(0, begin - HISTORY)  # far enough back that all stored evaluations are made again
    while back > 0 and tape.claims[back - 1].first >= tape.claims[back].first:
        back -= 1  # the stages of a step begin together
    opening, near = tape.claims[back], tape.claims[back : begin + BLOCK]
    cases = [(claim, k) for claim in claims for k in range(len(claim.nodes))]
    starts = {claim.first: claim.sigma_from for claim in near}
    ends: dict[int, list[int]] = {}
    for i, (claim, _) in enumerate(cases):
        ends.setdefault(claim.last, []).append(i)
    arrivals = {claim.last: claim for claim in near}
    zero = np.zeros(len(cases))
    first = np.array([claim.first for claim, _ in cases])
    one_point = np.array([k == 0 and claim.form != "v" for claim, k in cases])
    of_v = np.array([claim.form == "v" for claim, _ in cases])
    roots = np.full((len(cases), 2), np.nan)
    ratio = np.array([claim.rule == "ratio" for claim, _ in cases])
    for i, (claim, k) in enumerate(cases):
        roots[i, :k] = [_ratio(path, n) if ratio[i] else path.half_logsnr(n) for n in claim.nodes[:k]]
    absent = np.isnan(roots)
    by_form = {form: np.array([claim.form == form for claim, _ in cases]) & ~one_point for form in ("eps", "v")}

    def exact(s: float) -> np.ndarray:
        """The states that the claims' steps start from at s."""
        return np.where(one_point, path.alpha(s) * C + path.sigma(s) * N, np.where(of_v, math.hypot(path.alpha(s), path.sigma(s)), 0.0))

    def evaluate(sigma: float, x: np.ndarray) -> np.ndarray:
        """The x0 that makes each claim's quantity the wanted polynomial. Where λ is infinite no polynomial has a value, and no claim of
        order > 1 may read one."""
        lam = path.half_logsnr(sigma)
        at = np.where(ratio, _ratio(path, sigma), lam if math.isfinite(lam) else math.nan)
        wanted = np.where(one_point, C, np.nan_to_num(np.where(absent, 1.0, at[:, None] - roots).prod(1)))
        for form, here in by_form.items():
            if here.any() and not is_open(path, sigma):
                wanted = np.where(here, _prescribed(path, form, sigma, wanted, x), wanted)
        return wanted

    registers: dict[str, np.ndarray] = {"x": exact(opening.sigma_from)}
    noise = {"x": zero}  # a bound of the rounding in each register; large coefficients are no defect
    at: dict[str, float] = {"x": opening.sigma_from}  # the sigma each state has come to
    for position in range(opening.first, claims[-1].last + 1):
        if position in arrivals:
            at[arrivals[position].register] = arrivals[position].sigma_to
        for i in ends.get(position, ()):
            claim, k = cases[i]
            want, got = _expected(path, claim, k), registers[claim.register][i]
            allowed = TOLERANCE * max(1.0, abs(want), path.sigma(claim.sigma_from)) + noise[claim.register][i]
            if not abs(got - want) <= allowed:
                raise TapeError(
                    f"{tape.solver}: the step {claim.sigma_from:g} -> {claim.sigma_to:g} gives {got:.12g} on evaluations "
                    f"of degree {k} in λ where {want:.12g} is right"
                )
        if position == claims[-1].last:
            break
        if position in starts:  # the exact state for the claims that begin here, and for those still to come, so that no error travels
            here = first >= position
            registers["x"] = np.where(here, exact(starts[position]), registers["x"])
            noise["x"] = np.where(here, 0.0, noise["x"])
        record = tape.records[position]
        if isinstance(record, Eval):
            if at.get(record.src) != record.sigma:
                raise TapeError(f"{tape.solver}: register {record.src} is evaluated at {record.sigma:g}, but holds {at.get(record.src)}")
            registers[record.dst] = evaluate(record.sigma, registers[record.src])
            noise[record.dst] = ROUNDING * np.abs(registers[record.dst])
        elif isinstance(record, Affine):
            known = [(name, w) for name, w in record.terms if name in registers]  # before the block: what only earlier claims read
            registers[record.dst], noise[record.dst] = (
                sum((w * registers[name] for name, w in known), zero),
                sum((abs(w) * (ROUNDING * np.abs(registers[name]) + noise[name]) for name, w in known), zero),
            )
