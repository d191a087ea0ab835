"""Singlestep DPM-Solver and DPM-Solver++ of orders 1 to 3: `order` evaluations a step, none remembered, as a tape.

Sources: DPM-Solver-2 and -3 and DPM-Solver-fast (arXiv 2206.00927, algorithms 1 and 2, appendix), DPM-Solver++(2S) (arXiv 2211.01095,
algorithm 1), and their third-order data-prediction form in the official code. The stages lie at λ_s + r1·h and λ_s + r2·h.
With noise: SDE-DPM-Solver++(2S) (k-diffusion's dpmpp_sde), and any of them as an ancestral sampler.

A step with an infinite end (to σ = 0, to or from λ = -∞) is of order 1 and costs one evaluation.

Order 3 with free stages: the classical conditions Σ b_i = 1, Σ b_i r_i = 1/2, Σ b_i r_i² = 1/3 give the polynomial through all three
evaluations, and b_2 a_21 r_1 = 1/6 the slope of the second stage. The papers' stage integrates its line exactly, a_21 = r2²/2r1, which
meets the last condition for r2 = 2/3 only: other stages cost them an order. Ours scales that slope by γ = 1/(3 b_2 r2²).
"""

import math
from collections.abc import Sequence

from .choices import check_options
from .path import Path, rising
from .proof import check
from .step import ancestral_rate, check_noise, form_of, node_weights, noise_weight, state_weight, terms_of, value
from .tape import Affine, Arrive, Claim, Eval, Mark, Noise, Record, Tape

FRACTIONS = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}


def fast_orders(evaluations: int, order: int) -> list[int]:
    """The orders of DPM-Solver-fast's steps, that spend exactly `evaluations`: as many of `order` as fit, then lower ones."""
    if order < 3:
        return [order] * (evaluations // order) + [1] * (evaluations % order)
    thirds, rest = divmod(evaluations, 3)
    if rest:
        return [3] * thirds + [rest]
    return [3] * (thirds - 1) + [2, 1] if thirds else []


def plan_fast(path: Path, sigmas: Sequence[float], *, order: int = 3, **options) -> Tape:
    """DPM-Solver-fast along a host's schedule: one evaluation at each of `sigmas` but the last, and so `steps` of them in all.

    Groups of `order` evaluations make a step, whose stages are the schedule's own sigmas; a step with an infinite end has one, and a group
    of very uneven parts is split. Options as in `plan_singlestep`.
    """
    check_options(order=order, method="singlestep")
    sigmas = tuple(float(s) for s in sigmas)
    path.validate(sigmas)
    if len(sigmas) < 2:
        return _plan(path, sigmas, [], order=order, fast=True, **options)
    lam = [path.half_logsnr(s) for s in sigmas]
    a, b = int(math.isinf(lam[0])), len(sigmas) - 1 - int(len(sigmas) > 1 + math.isinf(lam[0]) and math.isinf(lam[-1]))
    groups, place = [], a
    for p in fast_orders(max(b - a, 0), order):
        groups += _parts(lam[place : place + p + 1])
        place += p
    orders = [1] * a + groups + [1] * (len(sigmas) - 1 - max(b, a))
    return _plan(path, sigmas, orders, order=order, fast=True, **options)


def _parts(lam: Sequence[float]) -> list[int]:
    """The orders of the steps that a group with these λ makes: one, or more where that would do harm.

    Two evaluations within a tenth of the step of each other, or a part five times its neighbour: their difference would carry five times
    the model's rounding and more. One part above 1.5 and three times its neighbour, as the last finite step of the hosts' `normal` and the
    first of an encoding from a small sigma: its slope is taken from a part that tells nothing of it (encoding from 1e-4, error 0.6 to 14
    without this).
    """
    parts = [abs(b - a) for a, b in zip(lam, lam[1:], strict=False)]
    for j in range(1, len(parts)):
        small, large = sorted(parts[j - 1 : j + 1])
        if small < 0.1 * sum(parts) or large > max(1.5, 3 * small) or large > 5 * small:
            return _parts(lam[: j + 1]) + _parts(lam[j:])
    return [len(parts)]


def plan_singlestep(
    path: Path,
    sigmas: Sequence[float],
    *,
    algorithm: str = "dpmsolver++",
    order: int = 2,
    solver_type: str = "dpmsolver",
    orders: Sequence[int] | None = None,
    stages: Sequence[Sequence[float]] | None = None,
    r1: float | None = None,
    r2: float | None = None,
    eta: float = 0.0,
    s_noise: float = 1.0,
    noise_rule: str = "sde",
) -> Tape:
    """Plan a run along `sigmas` (host's numbers, strictly falling, the last may be 0; or strictly rising from above 0, eta = 0).

    Every step is of `order`, or of its own of `orders`, and costs as many evaluations. Its stages lie at the fractions `r1` and `r2` of
    its λ step (1/2; 1/3 and 2/3), or at its own sigmas of `stages`. `solver_type` "dpmsolver" ends order 2 with the slope's value
    half-way, and order 3 with the line through the first and the last stage where r2 = 2/3; "taylor" integrates the polynomial through
    all stages; "official" takes the line wherever the stages lie, "official_taylor" the polynomial, both without γ, for parity (order 2
    unless r2 = 2/3).

    `eta` 0 is the ODE, 1 the papers' SDE, orders 1 and 2; `s_noise` scales the noise. `noise_rule` "sde": the rate of the SDE is eta;
    "ancestral": the noise of each step is eta times that of eta = 1 (k-diffusion's dpmpp_sde); "renoise": a step without noise to a lower
    sigma, then that noise (dpmpp_2s_ancestral, any order); "renoise_flow": ComfyUI's rule on flow models, whose step goes to
    σ_t (1 + (σ_t/σ_s - 1) eta). ValueError, one sentence, if a value is out of range. The tape has been checked.
    """
    return _plan(
        path, sigmas, orders, algorithm=algorithm, order=order, solver_type=solver_type, stages=stages, r1=r1, r2=r2,
        eta=eta, s_noise=s_noise, noise_rule=noise_rule,
    )  # fmt: skip


def _plan(
    path, sigmas, orders, *, algorithm="dpmsolver++", order=2, solver_type="dpmsolver", stages=None, r1=None, r2=None,
    eta=0.0, s_noise=1.0, noise_rule="sde", fast=False,
):  # fmt: skip
    options = {
        "algorithm": algorithm, "order": order, "solver_type": solver_type, "r1": r1, "r2": r2, "eta": eta, "s_noise": s_noise,
        "noise_rule": noise_rule,
    }  # fmt: skip
    check_options(**options)
    if order > 3:
        raise ValueError(f"order is {order}, but singlestep methods have orders 1 to 3; choose one of them, or method multistep.")
    if solver_type in ("bh1", "pseudo"):
        raise ValueError(f"solver_type is {solver_type}, which multistep solvers have; choose dpmsolver or taylor, or method multistep.")
    if algorithm == "dpmsolver-v3":
        raise ValueError("algorithm is dpmsolver-v3, which is a multistep solver; set method to multistep, or algorithm to dpmsolver++.")
    if r1 is not None and order == 3 and not r1 < (r2 or FRACTIONS[3][1]):
        raise ValueError(f"r1 is {r1:g} and r2 is {r2 or FRACTIONS[3][1]:g}; the stages follow each other, so make r1 the smaller.")
    sigmas = tuple(float(s) for s in sigmas)
    path.validate(sigmas)
    check_noise(algorithm, eta, noise_rule, rising(sigmas))
    if eta and order == 3 and not noise_rule.startswith("renoise"):
        raise ValueError(f"order is 3 with eta {eta:g}, but the SDE solvers have 1 and 2 here; set order to 2, or noise_rule to renoise.")
    orders = list(orders) if orders is not None else [order] * (len(sigmas) - 1)
    step = _Step(path, algorithm, solver_type, eta, s_noise, noise_rule, bool(fast))
    place = 0
    for i, p in enumerate(orders):
        first, last = (place, place + p) if fast else (i, i + 1)
        s, t = sigmas[first], sigmas[last]
        lam_s, h = path.half_logsnr(s), path.half_logsnr(t) - path.half_logsnr(s)
        if math.isinf(h) or abs(h) < 1e-9:  # no stages fit in
            inner: Sequence[float] = ()
        elif fast:
            inner = sigmas[first + 1 : last]
        elif stages is not None:
            inner = stages[i]
        else:
            middle = (FRACTIONS[p][0] if r1 is None else r1, FRACTIONS[p][-1] if r2 is None else r2)[: p - 1] if p > 1 else ()
            inner = [step.stage(lam_s, h, r) for r in middle]
        step.take(first, s, t, tuple(inner), last)
        place += p
    name = f"singlestep {algorithm} order {order}" + (", fast" if fast else "") + (f", eta {eta:g}" if eta else "")
    options = {"method": "singlestep" if fast else "singlestep_fixed", **options}
    return check(Tape(name, path.name, sigmas, tuple(step.records), tuple(step.claims), tuple(options.items())))


class _Step:
    """Takes the steps one by one; holds the records and claims so far."""

    def __init__(self, path, algorithm, solver_type, eta, s_noise, noise_rule, fast):
        self.path, self.algorithm, self.solver_type = path, algorithm, solver_type
        self.eta, self.s_noise, self.noise_rule, self.fast = eta, s_noise, noise_rule, fast
        self.records: list[Record] = []
        self.claims: list[Claim] = []

    def stage(self, lam_s: float, h: float, r: float) -> float:
        """The sigma at fraction r of a λ step."""
        return self.path.from_half_logsnr(lam_s + r * h)

    def take(self, index: int, s: float, t: float, inner: Sequence[float], arrival: int) -> None:
        """The step from s to t with stages at `inner`; host's step number `index`."""
        path, records, first = self.path, self.records, len(self.records)
        goal = self._down(s, t)
        if goal != t and inner:  # the stages divide the step that is taken without noise
            lam_s, h, h_goal = path.half_logsnr(s), path.half_logsnr(t) - path.half_logsnr(s), path.half_logsnr(goal) - path.half_logsnr(s)
            inner = [self.stage(lam_s, h_goal, (path.half_logsnr(n) - lam_s) / h) for n in inner]
        form = form_of(self.algorithm, path, s, t)
        if self.eta and path.sigma(t) == 0:
            form = "x0"  # the form "eps" would leave the noise of the last step in the picture
        nodes, values = [s, *inner], []
        fractions = [(path.half_logsnr(n) - path.half_logsnr(s)) / (path.half_logsnr(goal) - path.half_logsnr(s)) for n in inner]
        three, official = len(inner) == 2, self.solver_type.startswith("official")
        thirds = three and self.solver_type == "dpmsolver" and abs(fractions[1] - 2 / 3) < 1e-9
        line = thirds or (three and self.solver_type == "official")
        gamma = _stage_slope(*fractions) if three and not official else 1.0
        for j, sigma in enumerate(nodes):
            state = f"y{j}" if j else "x"
            if j:  # the line through all that is known carries the state to the next stage
                self._move(form, s, sigma, nodes[:j], "taylor", values, state, first, (1.0, gamma)[:j])
            records.append(Eval(f"d{j}", state, sigma))
            values.append(f"d{j}")
            if j == 0 or self.fast:
                records.append(Mark(index + j, state, f"d{j}"))
            if form != "x0":
                of_x, of_x0 = value(path, form, sigma)
                records.append(Affine(f"v{j}", ((state, of_x), (f"d{j}", of_x0))))
                values[-1] = f"v{j}"
            if not self.claims and j == 0:
                records.append(Arrive(0, "x"))  # what the model said of the start as it was is stored
        rule = self.solver_type if len(nodes) == 2 and form != "v" else "taylor"
        if line:
            nodes, values = nodes[::2], values[::2]
        self._move(form, s, goal, nodes, rule, values, "x", first, (1.0,) * len(nodes))
        if goal != t:
            first = len(records)
            scale = path.alpha(t) / path.alpha(goal)
            spread = math.sqrt(path.sigma(t) ** 2 - (scale * path.sigma(goal)) ** 2)
            records += [Affine("x", (("x", scale),)), Noise("x", self.s_noise * spread, s, t)]
            self.claims.append(Claim(first, len(records), goal, t, "x0", "renoise", (), (), eta=self.eta))
        records.append(Arrive(arrival, "x"))

    def _down(self, s: float, t: float) -> float:
        """Where the step without noise goes, if noise is added after it."""
        path = self.path
        h = path.half_logsnr(t) - path.half_logsnr(s)
        if not self._renoises(h) or path.sigma(t) == 0:
            return t
        if self.noise_rule == "renoise_flow":
            return t * (1 + (t / s - 1) * self.eta)
        extra = h if self.eta == 1 else -math.log1p(self.eta**2 * math.expm1(-2 * h)) / 2
        return path.from_half_logsnr(path.half_logsnr(t) + extra)

    def _renoises(self, h: float) -> bool:
        """From λ = -∞ the rule "ancestral" renoises too: no rate of an SDE keeps a part of the noise over an infinite step."""
        return self.eta > 0 and (self.noise_rule.startswith("renoise") or (self.noise_rule == "ancestral" and math.isinf(h)))

    def _move(self, form, s, t, nodes, rule, values, dst, first, fades):
        """Append the records that lead from x at s to `dst` at t through the values at `nodes`, and their claim."""
        path, h = self.path, self.path.half_logsnr(t) - self.path.half_logsnr(s)
        eta = 0.0 if self._renoises(h) else ancestral_rate(self.eta, h) if self.noise_rule == "ancestral" else self.eta
        weights = node_weights(path, form, s, t, nodes, rule, fades, eta)
        self.records.append(Affine(dst, terms_of("x", state_weight(path, form, s, t, eta), values, weights)))
        if eta and path.sigma(t) > 0:
            self.records.append(Noise(dst, self.s_noise * noise_weight(path, form, s, t, eta), s, t))
        self.claims.append(Claim(first, len(self.records), s, t, form, rule, tuple(nodes), tuple(fades), dst, eta=eta))


def _stage_slope(r1: float, r2: float) -> float:
    """γ of the module's text; 1 for r2 = 2/3. Where r1 nears 2/3, b_2 goes to 0 and γ is held at 2, at the cost of the order."""
    share = (1 / 3 - r1 / 2) / (r2 * (r2 - r1))
    return min(max(1 / (3 * share * r2 * r2), 0.5), 2.0) if share > 0 else 1.0
