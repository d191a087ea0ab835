"""Multistep DPM-Solver and DPM-Solver++ of orders 1 to 4, with a corrector and with noise: one evaluation a step, as a tape.

Sources: DPM-Solver++ (arXiv 2211.01095, algorithm 2 and appendix B) in the form "x0", DPM-Solver (arXiv 2206.00927) in the form
"eps", our own "dpmsolver-v" in the form "v", and DPM-Solver-v3 (arXiv 2310.13268) in the form "f"; the polynomial through the last
`order` evaluations in λ, integrated as `step` and `v3` say.
With `eta` > 0 they are SDE-DPM-Solver and SDE-DPM-Solver++ (the 2M and 3M SDE samplers); with a corrector UniPC, see `unipc`.

Two things differ from the official code, and each has a switch back:

- `start="corrected"`: when the second evaluation is there, the first step is taken again with both (a trapezoid rule, no extra
  evaluation), so that order 3 converges at order 3 (measured 3.0) where the first-order start leaves it at 2.
- `final_rule="smooth"`: the order falls with the sizes of the λ steps, not at a step count; see module `fades`.

With an infinite end (σ = 0, flow σ = 1) a polynomial in λ has no value there: the step next to it is of order 1 in the x0 form,
and the measured order over the whole run is 1.7 to 2.2 whatever `order` says ("dpmsolver-v" of order 2 from flow σ = 1: 1.3). Tried
at flow σ = 1, on mixtures: a second step linear in α/σ through the infinite node halves the error from 60 steps on and doubles it at
8 to 20 with guidance 7.5; polynomials in -log σ, finite there, are better on even sigmas without guidance and worse on every schedule
that suits flow models. So λ stays, and the one evaluation at the end serves the corrected start only. "dpmsolver-v" takes the last
step to σ = 0 on x0, as the others do at first order: that is not the limit of its own steps to small σ (3e-2 apart on a mixture).
"""

import math
from collections.abc import Sequence

from .choices import check_options
from .multistep_plan import Plan
from .path import Path, rising
from .proof import check
from .statistics import Statistics
from .stencils import Options
from .step import check_noise
from .tape import Tape

V3_TYPES = ("dpmsolver", "taylor", "pseudo")  # what solver_type may be with algorithm dpmsolver-v3


def plan_multistep(
    path: Path,
    sigmas: Sequence[float],
    *,
    algorithm: str = "dpmsolver++",
    order: int = 2,
    solver_type: str = "dpmsolver",
    start: str = "corrected",
    final_rule: str = "smooth",
    corrector: str = "none",
    eta: float = 0.0,
    s_noise: float = 1.0,
    statistics: Statistics | None = None,
    corrector_range: tuple[float, float] = (0.0, math.inf),
    slopes: str = "planned",
) -> Tape:
    """Plan a run along `sigmas` (host's numbers, strictly falling, the last may be 0; or strictly rising from above 0, which encodes an
    image as noise, eta = 0).

    `algorithm` "dpmsolver++" (data prediction), "dpmsolver" (noise prediction), "dpmsolver-v" (v-prediction) or "dpmsolver-v3" (with
    `statistics`, see `ems`; without them `Statistics.closed_form`); `order` 1…4;
    `solver_type` "dpmsolver", "taylor" or "bh1", which differ at order 2 only, and not for "dpmsolver-v", which is always exact
    ("official" and "official_taylor" are the first two with the official third-order weights, for parity), or "pseudo" as in
    DPM-Solver-v3's pseudo-order methods (order 2 whatever `order` says); `start`
    "corrected", "official" or "extra" (with a corrector of order p ≥ 3: (p-1)(p-2) more evaluations make the run of order p + 1);
    `final_rule` "smooth", "official" (order drops over the last steps of runs of less than 10 steps; of every run with a corrector)
    or "none"; `corrector` "none", "unipc", "official" (UniPC's faulty vary_coeff, for parity), "v3" (through as many evaluations as the
    prediction had, the newest in the place of the oldest) or "v3_pseudo" (one more, pseudo order), acting where sigma lies in
    `corrector_range`. `eta` 0 is the ODE, 1 the papers' SDE; `s_noise` scales the noise. `slopes` "measured" scales what goes beyond order
    1 in a prediction by how well slopes have held in the run itself, see `trust`, at order 2; where sigmas rise they are planned
    (measured, encodings to pure noise come back a quarter worse).
    ValueError, one sentence, if a value is out of range. The tape has been checked.
    """
    options = {
        "algorithm": algorithm, "order": order, "solver_type": solver_type, "start": start, "final_rule": final_rule,
        "corrector": corrector, "eta": eta, "s_noise": s_noise,
    } | ({"slopes": slopes} if slopes != "planned" else {})  # fmt: skip
    check_options(**options)
    if statistics is not None and algorithm != "dpmsolver-v3":
        raise ValueError(f"algorithm is {algorithm}, which has no use for statistics; set it to dpmsolver-v3, or leave them out.")
    if statistics is not None and not isinstance(statistics, Statistics):
        raise ValueError(f"statistics is a {type(statistics).__name__}; give Statistics, as fit(moments) makes them of a calibration.")
    if algorithm == "dpmsolver-v3":
        statistics = statistics or Statistics.closed_form()
        if solver_type not in V3_TYPES:
            raise ValueError(
                f"solver_type is {solver_type}, which algorithm dpmsolver-v3 does not have; choose one of {', '.join(V3_TYPES)}."
            )
        if corrector == "official":
            raise ValueError("corrector is official, which is UniPC's and not for algorithm dpmsolver-v3; choose unipc, v3 or v3_pseudo.")
        options["statistics"] = statistics.label or statistics.kind
    corrector_range = (float(corrector_range[0]), float(corrector_range[1]))
    if corrector_range != (0.0, math.inf):
        options["corrector_range"] = list(corrector_range)
    sigmas = tuple(float(s) for s in sigmas)
    path.validate(sigmas)
    check_noise(algorithm, eta, "sde", rising(sigmas))
    if eta and corrector != "none":
        raise ValueError(f"corrector is {corrector} with eta {eta:g}, but needs a path without noise; set corrector to none or eta to 0.")
    if slopes == "measured" and (eta or algorithm == "dpmsolver-v3"):
        what = f"eta {eta:g}" if eta else f"algorithm {algorithm}"
        raise ValueError(f"slopes is measured with {what}, which has planned ones only; set slopes to planned.")
    how = Options(algorithm, order, solver_type, start, final_rule, corrector, eta, s_noise, statistics, corrector_range)
    plan = Plan(path, sigmas, how, slopes == "measured" and order == 2)
    name = f"multistep {algorithm} order {order}" + (", UniPC" if corrector != "none" else "") + (f", eta {eta:g}" if eta else "")
    return check(Tape(name, path.name, sigmas, tuple(plan.records), tuple(plan.claims), tuple(options.items()), plan.notes(), statistics))
