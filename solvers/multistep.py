"""Multistep DPM-Solver and DPM-Solver++ of orders 1 to 3: one evaluation a step, as a tape.

Sources: DPM-Solver++ (arXiv 2211.01095, algorithm 2 and appendix B) in the form "x0", DPM-Solver (arXiv 2206.00927) in the form
"eps", and our own "dpmsolver-v" in the form "v"; the polynomial through the last `order` evaluations in λ, integrated as `step` says.

Two things differ from the official code, and each has a switch back:

- `start="corrected"`: when the second evaluation is there, the first step is taken again with both (a trapezoid rule, no extra
  evaluation), so that order 3 converges at order 3 (measured 3.0) where the first-order start leaves it at 2.
- `final_rule="smooth"`: the order falls with the sizes of the λ steps, not at a step count; see `fades`.

With an infinite end (σ = 0, flow σ = 1) a polynomial in λ has no value there: the step next to it is of order 1 in the x0 form,
and the measured order over the whole run is 1.7 to 2.2 whatever `order` says ("dpmsolver-v" of order 2 from flow σ = 1: 1.3). Tried
at flow σ = 1, on mixtures: a second step linear in α/σ through the infinite node halves the error from 60 steps on and doubles it at
8 to 20 with guidance 7.5; polynomials in -log σ, finite there, are better on even sigmas without guidance and worse on every schedule
that suits flow models. So λ stays, and the one evaluation at the end serves the corrected start only. "dpmsolver-v" takes the last
step to σ = 0 on x0, as the others do at first order: that is not the limit of its own steps to small σ (3e-2 apart on a mixture).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from .path import Path
from .proof import check
from .step import FORM, check_options, form_of, is_open, node_weights, state_weight, terms_of, value
from .tape import Affine, Claim, Eval, Mark, Record, Tape


def fades(h: float, before: Sequence[float], order: int) -> list[float]:
    """The smooth rule: factors of the terms of orders 1, 2, 3 for a λ step h after the steps `before` (newest first).

    A slope taken over the last step h₁ is trusted over twice its length; beyond, its term falls by 1 + h²/2 ((h/2h₁)² - 1). That is
    nearly order 1 for a last finite step far longer than the one before it, where extrapolation does the harm, and exactly order 2
    on karras (from 4 steps). The second derivative needs small steps besides, 1 + h², and falls with the step before last in the
    same way: differences between two points that nearly coincide would amplify the rounding of a half-precision model. All factors
    go to 1 with h, so the order stays. Chosen on mixtures with guidance 1 to 7.5, 5 to 30 steps: tests/unit/test_step_counts.py
    holds the smoothness in the number of steps.
    """
    factors = [1.0]
    for earlier, own in zip(before[: order - 1], (0.0, 1.0), strict=False):
        factors.append(factors[-1] / (1 + h * h / 2 * max(0.0, (h / (2 * earlier)) ** 2 - 1)) / (1 + own * h * h))
    return factors


def plan_multistep(
    path: Path,
    sigmas: Sequence[float],
    *,
    algorithm: str = "dpmsolver++",
    order: int = 2,
    solver_type: str = "dpmsolver",
    start: str = "corrected",
    final_rule: str = "smooth",
) -> Tape:
    """Plan a run along `sigmas` (host's numbers, strictly falling, the last may be 0).

    `algorithm` "dpmsolver++" (data prediction), "dpmsolver" (noise prediction) or "dpmsolver-v" (v-prediction); `order` 1…3;
    `solver_type` "dpmsolver" or "taylor", which differ at order 2 only, and not for "dpmsolver-v", which is always exact
    ("official" also copies the official third-order weights, for parity); `start`
    "corrected" or "official"; `final_rule` "smooth", "official" (order drops over the last steps of runs of less than 10 steps)
    or "none". ValueError, one sentence, if a value is out of range. The tape has been checked.
    """
    check_options(algorithm=algorithm, order=order, solver_type=solver_type, start=start, final_rule=final_rule)
    sigmas = tuple(float(s) for s in sigmas)
    path.validate(sigmas)
    steps = len(sigmas) - 1
    lam = [path.half_logsnr(s) for s in sigmas]
    records: list[Record] = []
    claims: list[Claim] = []
    for i in range(steps):
        s, t = sigmas[i], sigmas[i + 1]
        first = len(records)
        records += [Eval(f"d{i}", "x", s), Mark(i, "x", f"d{i}")]
        form = form_of(algorithm, path, s, t)
        # stored for the steps to come and for the corrected start; the last step of a run to σ = 0 is on x0
        if FORM[algorithm] != "x0" and not is_open(path, s) and (form != "x0" or i == 1 or i < steps - 1):
            of_x, of_x0 = value(path, FORM[algorithm], s)
            records.append(Affine(f"v{i}", (("x", of_x), (f"d{i}", of_x0))))
        prefix = "d" if form == "x0" else "v"
        if i == 1 and order > 1 and start == "corrected":
            record, claim = _corrected_start(path, sigmas, algorithm)
            records.append(record)
            first = len(records)
            claims.append(replace(claim, last=first))
        nodes, factors = _stencil(path, sigmas, lam, i, form, order, solver_type, final_rule)
        if form == "v" and order > 1 and i > 0 and is_open(path, sigmas[i - 1]):
            form, prefix = "x0", "d"  # the one node left is still near the open end, where x0 is the smoother quantity
        rule = "taylor" if form == "v" else solver_type
        weights = node_weights(path, form, s, t, nodes, rule, factors)
        stored = [f"{prefix}{i - j}" for j in range(len(nodes))]
        records.append(Affine("x", terms_of("x", state_weight(path, form, s, t), stored, weights)))
        claims.append(Claim(first, len(records), s, t, form, rule, tuple(nodes), tuple(factors)))
    options = {"algorithm": algorithm, "order": order, "solver_type": solver_type, "start": start, "final_rule": final_rule}
    return check(Tape(f"multistep {algorithm} order {order}", path.name, sigmas, tuple(records), tuple(claims), tuple(options.items())))


def _stencil(path, sigmas, lam, i, form, order, solver_type, final_rule):
    """The nodes of step i, newest first, and the fades of their terms."""
    p = min(order, i + 1)
    steps, h = len(sigmas) - 1, lam[i + 1] - lam[i]
    if final_rule == "official" and steps < 10:
        p = min(p, steps - i)
    if math.isinf(h) and (form == "x0" or solver_type != "taylor" or final_rule == "smooth"):
        p = 1
    while p > 1 and (math.isinf(lam[i - p + 1]) or (form != "x0" and is_open(path, sigmas[i - p + 1]))):
        p -= 1
    factors = [1.0] * p
    if final_rule == "smooth" and p > 1:
        factors = fades(h, [lam[i - j] - lam[i - j - 1] for j in range(p - 1)], p)
        while factors[-1] < 1e-6:
            factors.pop()
    return [sigmas[i - j] for j in range(len(factors))], factors


def _corrected_start(path, sigmas, algorithm):
    """The first step taken again, now that two evaluations are there: x += fade · (second-order step - first-order step).

    The fade 1/(1 + h²) keeps a long first step from being corrected by more than two evaluations can tell; it leaves the order.
    From λ = -∞ the trapezoid is in α/σ, where the integral is finite: x_t/σ_t - x_s/σ_s = ∫ x0 d(α/σ).
    """
    s, t = sigmas[0], sigmas[1]
    if path.alpha(s) == 0 or (FORM[algorithm] != "x0" and is_open(path, s)):
        form, rule, fade = "x0", "ratio", 1.0
        change = (path.alpha(t) - path.sigma(t) * path.alpha(s) / path.sigma(s)) / 2
        change = [-change, change]
    else:
        form, rule, fade = FORM[algorithm], "taylor", 1 / (1 + (path.half_logsnr(t) - path.half_logsnr(s)) ** 2)
        first, both = (node_weights(path, form, s, t, nodes, rule, [1.0, fade][: len(nodes)]) for nodes in ([s], [s, t]))
        change = [both[0] - first[0], both[1]]
    prefix = "d" if form == "x0" else "v"
    terms = (("x", 1.0), (f"{prefix}0", change[0]), (f"{prefix}1", change[1]))
    return Affine("x", terms), Claim(0, 0, s, t, form, rule, (s, t), (1.0, fade))
