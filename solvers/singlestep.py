"""Singlestep DPM-Solver and DPM-Solver++ of orders 1 to 3: `order` evaluations a step, none remembered, as a tape.

Sources: DPM-Solver-2 and -3 (arXiv 2206.00927, algorithms 1 and 2), DPM-Solver++(2S) (arXiv 2211.01095, algorithm 1), and their
third-order data-prediction form in the official code. The stages lie at λ_s + r1·h and λ_s + r2·h, between the host's sigmas.

A step with an infinite end (to σ = 0, from flow σ = 1) is of order 1 and costs one evaluation.
"""

import math
from collections.abc import Sequence

from .path import Path
from .proof import check
from .step import check_options, form_of, node_weights, state_weight, terms_of, value
from .tape import Affine, Claim, Eval, Mark, Record, Tape

FRACTIONS = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}


def plan_singlestep(
    path: Path, sigmas: Sequence[float], *, algorithm: str = "dpmsolver++", order: int = 2, solver_type: str = "dpmsolver"
) -> Tape:
    """Plan a run along `sigmas` (host's numbers, strictly falling, the last may be 0): order·(steps with finite ends) evaluations.

    `solver_type` "dpmsolver" ends order 3 with the line through the first and the last stage (right to order 3 since r2 = 2/3) and
    order 2 with the slope's value half-way; "taylor" integrates the polynomial through all stages. ValueError, one sentence, if a
    value is out of range. The tape has been checked.
    """
    check_options(algorithm=algorithm, order=order, solver_type=solver_type)
    sigmas = tuple(float(s) for s in sigmas)
    path.validate(sigmas)
    records: list[Record] = []
    claims: list[Claim] = []
    for i, (s, t) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        first = len(records)
        lam_s, h = path.half_logsnr(s), path.half_logsnr(t) - path.half_logsnr(s)
        form = form_of(algorithm, path, s, t)
        stages = [s] if math.isinf(h) else [s] + [path.from_half_logsnr(lam_s + r * h) for r in FRACTIONS[order]]
        values = []
        for j, sigma in enumerate(stages):
            state = f"y{j}" if j else "x"
            if j:
                nodes = stages[:j]  # the line through all that is known carries the state to the next stage
                _step(path, form, s, sigma, nodes, "taylor", values, state, first, records, claims)
            values.append(f"d{j}")
            records.append(Eval(f"d{j}", state, sigma))
            if j == 0:
                records.append(Mark(i, "x", "d0"))
            if form != "x0":
                of_x, of_x0 = value(path, form, sigma)
                records.append(Affine(f"v{j}", ((state, of_x), (f"d{j}", of_x0))))
                values[-1] = f"v{j}"
        rule = solver_type if len(stages) == 2 and form != "v" else "taylor"
        if len(stages) == 3 and solver_type != "taylor":
            stages, values = stages[::2], values[::2]
        _step(path, form, s, t, stages, rule, values, "x", first, records, claims)
    options = {"algorithm": algorithm, "order": order, "solver_type": solver_type}
    return check(Tape(f"singlestep {algorithm} order {order}", path.name, sigmas, tuple(records), tuple(claims), tuple(options.items())))


def _step(path, form, s, t, nodes, rule, values, dst, first, records, claims):
    """Append the record that leads from x at s to `dst` at t through the values at `nodes`, and its claim."""
    fades = (1.0,) * len(nodes)
    weights = node_weights(path, form, s, t, nodes, rule, fades)
    records.append(Affine(dst, terms_of("x", state_weight(path, form, s, t), values, weights)))
    claims.append(Claim(first, len(records), s, t, form, rule, tuple(nodes), fades, dst))
