"""One singlestep step by two orders at once, the higher for the state and the lower for its error: DPM-Solver-12 and -23.

Source: DPM-Solver (arXiv 2206.00927, algorithm 3 and appendix C): the lower order costs no evaluation of its own. Stages as there.
"""

from .path import Path
from .proof import check
from .singlestep import FRACTIONS
from .step import form_of, node_weights, state_weight, terms_of, value
from .tape import Affine, Arrive, Claim, Eval, Mark, Record, Tape


def plan_pair(path: Path, s: float, t: float, *, algorithm: str, order: int, solver_type: str) -> Tape:
    """One step s → t (finite λ, falling or rising) by two orders that share their evaluations, checked: `order` leads to "x", `order`-1
    to "low", which arrives before it."""
    records: list[Record] = []
    claims: list[Claim] = []
    lam_s, h, form = path.half_logsnr(s), path.half_logsnr(t) - path.half_logsnr(s), form_of(algorithm, path, s, t)
    stages = (s, *(path.from_half_logsnr(lam_s + r * h) for r in FRACTIONS[order]))
    values: list[str] = []

    def step(dst: str, end: float, which: slice, rule: str) -> None:
        nodes = stages[which]
        weights = node_weights(path, form, s, end, nodes, rule, (1.0,) * len(nodes))
        records.append(Affine(dst, terms_of("x", state_weight(path, form, s, end), values[which], weights)))
        claims.append(Claim(0, len(records), s, end, form, rule, nodes, (1.0,) * len(nodes), dst))
        if dst == "low":
            records.append(Arrive(1, "low"))

    for j, sigma in enumerate(stages):
        state = f"y{j}" if j else "x"
        if j:
            step(state, sigma, slice(j), "taylor")
        values.append(f"d{j}")
        records.append(Eval(f"d{j}", state, sigma))
        if j == 0:
            records.append(Mark(0, "x", "d0"))
        if form != "x0":
            of_x, of_x0 = value(path, form, sigma)
            records.append(Affine(f"v{j}", ((state, of_x), (f"d{j}", of_x0))))
            values[-1] = f"v{j}"
    of_two = "taylor" if form == "v" else solver_type
    if order == 2:
        step("low", t, slice(1), "taylor")
        step("x", t, slice(2), of_two)
    else:
        step("low", t, slice(2), of_two)
        step("x", t, slice(None) if solver_type == "taylor" else slice(None, None, 2), "taylor")  # first and last: right, as r2 = 2/3
    return check(Tape(f"adaptive {algorithm} order {order}", path.name, (s, t), tuple(records), tuple(claims)))
