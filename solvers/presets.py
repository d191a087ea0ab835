"""One call for all planners, the same in every host."""

import math
from collections.abc import Sequence
from dataclasses import replace

from .choices import check_options
from .notes import idle
from .path import Path
from .statistics import Statistics
from .tape import Tape


def plan(
    path: Path,
    sigmas: Sequence[float],
    *,
    algorithm: str = "dpmsolver++",
    order: int = 2,
    method: str = "multistep",
    solver_type: str = "dpmsolver",
    start: str = "corrected",
    final_rule: str = "smooth",
    corrector: str = "none",
    eta: float = 0.0,
    s_noise: float = 1.0,
    noise_rule: str = "sde",
    r1: float | None = None,
    r2: float | None = None,
    statistics: Statistics | None = None,
    corrector_range: tuple[float, float] = (0.0, math.inf),
    slopes: str = "planned",
) -> Tape:
    """Plan by `method`: "multistep", see `plan_multistep`; "singlestep", see `plan_fast`: one evaluation a sigma; or
    "singlestep_fixed", see `plan_singlestep`: `order` evaluations a step.

    A corrector, a noise_rule or stages that the method does not have are an error; other options that cannot act are checked, do nothing
    and are said in the tape's notes (`notes.idle`).
    """
    own = {
        "method": method, "start": start, "final_rule": final_rule, "corrector": corrector, "noise_rule": noise_rule, "r1": r1, "r2": r2,
        "slopes": slopes,
    }  # fmt: skip
    from .multistep import plan_multistep  # here: hosts import the names above when they start, and plan later
    from .singlestep import plan_fast, plan_singlestep

    check_options(**own)
    common = {"algorithm": algorithm, "order": order, "solver_type": solver_type, "eta": eta, "s_noise": s_noise}
    if method == "multistep":
        for name, value, plain in (("noise_rule", noise_rule, "sde"), ("r1", r1, None), ("r2", r2, None)):
            if value != plain:
                raise ValueError(f"{name} is {value}, but method multistep has none; set it to {plain}, or method to singlestep_fixed.")
        tape = plan_multistep(
            path, sigmas, start=start, final_rule=final_rule, corrector=corrector, statistics=statistics, corrector_range=corrector_range,
            slopes=slopes, **common,
        )  # fmt: skip
    elif statistics is not None and algorithm != "dpmsolver-v3":
        raise ValueError(f"algorithm is {algorithm}, which has no use for statistics; set it to dpmsolver-v3, or leave them out.")
    elif corrector != "none" or slopes != "planned":
        what, value, plain = ("corrector", corrector, "none") if corrector != "none" else ("slopes", slopes, "planned")
        raise ValueError(f"{what} is {value}, which method {method} does not have; set it to {plain}, or method to multistep.")
    elif method == "singlestep_fixed":
        tape = plan_singlestep(path, sigmas, noise_rule=noise_rule, r1=r1, r2=r2, **common)
    elif r1 is not None or r2 is not None:
        raise ValueError("r1 and r2 are for method singlestep_fixed; the stages of singlestep are the schedule's own sigmas.")
    else:
        tape = plan_fast(path, sigmas, noise_rule=noise_rule, **common)
    return replace(tape, notes=(*idle({**own, **common}).values(), *tape.notes))
