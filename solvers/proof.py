"""Every tape proves itself before it runs: its records are executed on prescribed evaluations whose exact step is known.

For a claim on p nodes the evaluations are set to the Newton polynomials N_0 … N_{p-1} of these nodes (N_0 is data at one point:
the state then runs from α_s c + σ_s n to α_t c + σ_t n; form "v" has no such data, and runs on v's polynomial from G). Where no
fade acts and the rule is exact this is the same as being exact for x0(λ) = (λ-λ_s)^k (or ε, v likewise) for every k below the
order. The expected integrals come from a Gauss-Legendre quadrature of their own,
not from the φ functions the planner used. One pass over the records serves a block of claims: registers are vectors.

What such runs cannot show is checked on the records themselves: that noise is added once and last, and by its interval, that a
prediction is read and stored with the node and the state it belongs to, and that marks and arrivals show what they say.

DPM-Solver-v3's form "f" runs on g = N_k from y = 1, for a few bins of its statistics, one after the other: `proof_v3`.

With noise (eta > 0) the same holds of the mean, with the rates of the SDE; ε forms then run on ε = n, not on data at one point. The
noise that a claim's records add must be, for the x0 forms, what the state's own noise lacks of σ_t² (the variance balances), and for
the ε forms the integral of the SDE's.
"""

import functools
import math

import numpy as np

from .path import PATHS, Path
from .proof_v3 import along, expected, gauss, one_by_one
from .statistics import Statistics
from .step import FLOOR, POWER
from .structure import ROUNDING, check_structure, kept
from .tape import Affine, Arrive, Claim, Eval, Tape, TapeError

C, N = 0.7, -1.3  # the one-point data and the noise that travels with it
TOLERANCE = 1e-11
BLOCK, HISTORY = 32, 16  # claims in one pass; claims before them whose evaluations they may read


@functools.lru_cache(maxsize=512)
def _quadrature(path: Path, form: str, s: float, t: float, eta: float) -> tuple[np.ndarray, np.ndarray]:
    """(λ of the points, weights) of Gauss-Legendre over the step with the weight of the form; finite ends only."""
    lam_s, lam_t = path.half_logsnr(s), path.half_logsnr(t)
    h = lam_t - lam_s
    panels = max(1, math.ceil(abs(h) / 3))
    nodes, weights = gauss()
    tau = ((np.arange(panels)[:, None] + (nodes + 1) / 2) * (h / panels)).ravel()
    w = np.tile(weights, panels) * (h / (2 * panels))
    if form == "x0":
        w = path.alpha(t) * (1 + eta) * w * np.exp((1 + eta) * (tau - h))
    elif form == "v":  # in u = e^{-λ} = tanφ: dφ = du/(1+u²)
        u = np.exp(-(lam_s + tau))
        w = -math.hypot(path.alpha(t), path.sigma(t)) * w * u / (1 + u * u) / (1 / (1 + u * u) + FLOOR**2) ** (POWER / 2)
    else:
        w = -(1 + eta) * path.alpha(t) * path.sigma(s) / path.alpha(s) * w * np.exp(-tau)
    return lam_s + tau, w


def _integral(path: Path, form: str, s: float, t: float, roots: list[float], eta: float = 0.0) -> float:
    """The integral over the step of Π(λ-root) with the weight of the form."""
    lam, w = _quadrature(path, form, s, t, eta)
    for root in roots:
        w = w * (lam - root)
    return float(w.sum())


def _stochastic_eps(claim: Claim) -> bool:
    return claim.form == "eps" and claim.eta > 0


def _ratio(path: Path, s: float) -> float:
    return path.alpha(s) / path.sigma(s)


def _expected(path: Path, claim: Claim, k: int, statistics: Statistics | None) -> float:
    """The state the claim promises on data N_k (from α c + σ n for k = 0; from 0 for k > 0; from G_s in form "v", from α_s in "f")."""
    if claim.form == "f":
        assert statistics is not None
        return expected(path, claim, k, statistics)
    s, t = claim.sigma_from, claim.sigma_to
    if _stochastic_eps(claim) and k == 0:  # ε = n all along
        start = path.alpha(t) / path.alpha(s) * (path.alpha(s) * C + path.sigma(s) * N)
        return start + N * _integral(path, "eps", s, t, [], claim.eta)
    if k == 0 and claim.form != "v":
        return path.alpha(t) * C + kept(path, claim) * N
    start = math.hypot(path.alpha(t), path.sigma(t)) if claim.form == "v" else 0.0
    if claim.rule == "ratio":  # x_t/σ_t - x_s/σ_s = ∫ x0 du with u = α/σ and N_1 = u - u_s
        u_s, u_t = _ratio(path, s), _ratio(path, t)
        return claim.fades[k] * path.sigma(t) * (u_t - u_s) ** 2 / 2
    lams = [path.half_logsnr(n) for n in claim.nodes[:k]]
    lam_s = path.half_logsnr(s)
    if claim.form == "eps" and path.sigma(t) == 0:  # ∫_0^∞ e^{-τ} Π(τ + a_j) dτ over elementary symmetric sums
        coefficients = np.poly([lam - lam_s for lam in lams])[::-1]
        total = sum(c * math.factorial(j) for j, c in enumerate(coefficients))
        return -claim.fades[k] * path.alpha(t) * path.sigma(s) / path.alpha(s) * float(total)
    if claim.rule == "vary_official":
        return _vary_official(path, claim, k)
    exact = _integral(path, claim.form, s, t, lams if claim.rule != "pseudo" else [lam_s] * k, claim.eta)
    h = path.half_logsnr(t) - lam_s
    # the integral of the slope's τ by B(h) h/2; N_1 = τ + λ_s - λ_0
    if claim.rule not in ("taylor", "official_taylor", "pseudo") and len(claim.nodes) == 2:
        whole = _integral(path, claim.form, s, t, [], claim.eta)
        size = whole if claim.rule != "bh1" else h * (path.alpha(t) if claim.form == "x0" else -path.sigma(t))
        exact = size * h / 2 + whole * (lam_s - lams[0])
    if claim.rule in ("official", "official_taylor") and k == 2 and len(claim.nodes) == 3:  # (λ-λ_s)² at half its integral
        exact -= 0.5 * _integral(path, claim.form, s, t, [lam_s] * 2, claim.eta)
    return start + claim.fades[k] * exact


def _vary_official(path: Path, claim: Claim, k: int) -> float:
    """What the official vary_coeff corrector makes of N_k: Taylor coefficients y by solving its system, its sum written as it is."""
    s, t = claim.sigma_from, claim.sigma_to
    lam_s, h = path.half_logsnr(s), path.half_logsnr(t) - path.half_logsnr(s)
    own = [claim.nodes[0], *claim.nodes[2:], t]
    lams = [path.half_logsnr(n) for n in claim.nodes[:k]]
    f = np.array([math.prod(path.half_logsnr(n) - lam for lam in lams) for n in own])
    r = np.array([(path.half_logsnr(n) - lam_s) / h for n in own[1:]])
    d, order = (f[1:] - f[0]) / r, len(r)
    system = np.stack([r ** (j - 1) / math.factorial(j) for j in range(1, order + 1)], axis=1)
    history, newest = np.append(d[:-1], 0.0), np.append(np.zeros(order - 1), d[-1])
    of_history, of_newest = np.linalg.solve(system, history), np.linalg.solve(system, newest)
    moment = [_integral(path, claim.form, s, t, [lam_s] * j) / h**j / math.factorial(j) for j in range(1, order + 1)]
    last = of_newest[max(order - 2, 0)] * moment[-1]
    return float(f[0] * _integral(path, claim.form, s, t, []) + of_history[:-1] @ moment[:-1] + last)


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
    linear in the steps: claims are taken in blocks. Of a tape with parity statistics, which sum in the official code's own way, only
    the structure is checked.
    """
    path = PATHS[tape.path]
    check_structure(tape)
    if tape.statistics is not None and tape.statistics.parity:
        return tape
    for one in one_by_one(tape):
        for begin in range(0, len(one.claims), BLOCK):
            _check_block(one, path, begin)
    return tape


def _check_block(tape: Tape, path: Path, begin: int) -> None:
    claims = tape.claims[begin : begin + BLOCK]
    back = max(0, begin - HISTORY)  # far enough back that all stored evaluations are made again
    while back > 0 and tape.claims[back - 1].first >= tape.claims[back].first:
        back -= 1  # the stages of a step begin together
    opening, near = tape.claims[back], tape.claims[back : begin + BLOCK]
    cases = [(claim, k) for claim in claims for k in range(max(1, len(claim.nodes)))]
    starts = {claim.first: claim.sigma_from for claim in near}
    ends: dict[int, list[int]] = {}
    for i, (claim, _) in enumerate(cases):
        ends.setdefault(claim.last, []).append(i)
    arrivals = {claim.last: claim for claim in near}
    zero, unwritten = np.zeros(len(cases)), np.full(len(cases), math.nan)
    first = np.array([claim.first for claim, _ in cases])
    from_point = np.array([k == 0 and claim.form not in ("v", "f") for claim, k in cases])
    of_noise = np.array([k == 0 and _stochastic_eps(claim) for claim, k in cases])
    one_point = from_point & ~of_noise
    of_v = np.array([claim.form == "v" for claim, _ in cases])
    of_f = np.array([claim.form == "f" for claim, _ in cases])
    roots = np.full((len(cases), 4), np.nan)
    ratio = np.array([claim.rule == "ratio" for claim, _ in cases])
    for i, (claim, k) in enumerate(cases):
        roots[i, :k] = [_ratio(path, n) if ratio[i] else path.half_logsnr(n) for n in claim.nodes[:k]]
    absent = np.isnan(roots)
    by_form = {form: np.array([claim.form == form for claim, _ in cases]) & ~one_point for form in ("eps", "v")}
    way = tape.statistics

    def exact(s: float) -> np.ndarray:
        """The states that the claims' steps start from at s."""
        size = np.where(of_v, math.hypot(path.alpha(s), path.sigma(s)), np.where(of_f, path.alpha(s), 0.0))
        return np.where(from_point, path.alpha(s) * C + path.sigma(s) * N, size)

    def evaluate(sigma: float, x: np.ndarray) -> np.ndarray:
        """The x0 that makes each claim's quantity the wanted polynomial. Where λ is infinite no polynomial has a value, and no claim of
        order > 1 may read one."""
        lam = path.half_logsnr(sigma)
        at = np.where(ratio, _ratio(path, sigma), lam if math.isfinite(lam) else math.nan)
        wanted = np.where(absent, 1.0, at[:, None] - roots).prod(1)
        wanted[~np.isfinite(wanted)] = 0.0
        wanted[one_point], wanted[of_noise] = C, N
        for form, here in by_form.items():
            if here.any() and path.alpha(sigma) > 0:
                wanted = np.where(here, _prescribed(path, form, sigma, wanted, x), wanted)
        if way is not None and of_f.any() and path.alpha(sigma) > 0:  # f = e^{∫s} (g + B), x0 = (1-l) y - f
            l = way.blocks[0][0].value(np.array([lam]))[0, 0]  # noqa: E741
            for i, (claim, _) in enumerate(cases):
                if of_f[i] and sigma in claim.nodes:
                    _, to_s, drift, _ = along(way, path.half_logsnr(claim.sigma_from), lam)
                    wanted[i] = (1 - l) * x[i] / path.alpha(sigma) - math.exp(to_s) * (wanted[i] + drift)
        return wanted

    def restore(state: str, s: float, position: int) -> None:
        """The exact state at s for the claims still to come, so that no error of earlier steps travels to them."""
        to_come = first >= position
        registers[state] = np.where(to_come, exact(s), registers.get(state, zero))
        noise[state] = np.where(to_come, 0.0, noise.get(state, zero))

    registers: dict[str, np.ndarray] = {"x": exact(opening.sigma_from)}
    noise = {"x": zero}  # a bound of the rounding in each register; large coefficients are no defect
    at: dict[str, float] = {"x": opening.sigma_from}  # the sigma each state has come to
    stop = claims[-1].last + (begin + BLOCK >= len(tape.claims) and claims[-1].last < len(tape.records))  # the last arrival, too
    for position in range(opening.first, stop + 1):
        if position in arrivals:
            at[arrivals[position].register] = arrivals[position].sigma_to
        for i in ends.get(position, ()):
            claim, k = cases[i]
            want, got = _expected(path, claim, k, way), registers.get(claim.register, unwritten)[i]
            allowed = TOLERANCE * max(1.0, abs(want), path.sigma(claim.sigma_from)) + noise.get(claim.register, zero)[i]
            if not abs(got - want) <= allowed:
                raise TapeError(
                    f"{tape.solver}: the step {claim.sigma_from:g} -> {claim.sigma_to:g} gives {got:.12g} on evaluations "
                    f"of degree {k} in λ where {want:.12g} is right"
                )
        if position == stop:
            break
        if position in starts:
            restore("x", starts[position], position)
        record = tape.records[position]
        if isinstance(record, Eval):
            if at.get(record.src) != record.sigma:
                raise TapeError(f"{tape.solver}: register {record.src} is evaluated at {record.sigma:g}, but holds {at.get(record.src)}")
            restore(record.src, record.sigma, position)
            registers[record.dst] = evaluate(record.sigma, registers[record.src])
            noise[record.dst] = ROUNDING * np.abs(registers[record.dst])
        elif isinstance(record, Arrive):
            if at.get(record.x) != tape.sigmas[record.step]:
                raise TapeError(f"{tape.solver}: {record.x} arrives at step {record.step}, but holds {at.get(record.x)}")
        elif isinstance(record, Affine):
            at.pop(record.dst, None)  # it has left; its claim says where it comes to
            known = [(name, w) for name, w in record.terms if name in registers]  # before the block: what only earlier claims read
            if len(known) < len(record.terms) and position >= claims[0].first:
                raise TapeError(f"{tape.solver}: the step to {claims[0].sigma_to:g} or one after it reads what was written long before")
            registers[record.dst], noise[record.dst] = (
                sum((w * registers[name] for name, w in known), zero + float(record.bias)),  # type: ignore[arg-type]
                sum((abs(w) * (ROUNDING * np.abs(registers[name]) + noise[name]) for name, w in known), zero),  # type: ignore[arg-type]
            )
