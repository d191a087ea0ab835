"""One call for all planners, and the named choices of its options, the same in every host."""

from collections.abc import Sequence

from .multistep import plan_multistep
from .path import Path
from .singlestep import plan_singlestep
from .step import check_options
from .tape import Tape

PRESETS: dict[str, dict[str, object]] = {
    "auto": {"algorithm": "dpmsolver-v", "order": 3, "solver_type": "dpmsolver", "start": "corrected", "final_rule": "smooth"},
    "dpmpp_2m": {"algorithm": "dpmsolver++", "order": 2, "solver_type": "dpmsolver", "start": "official", "final_rule": "smooth"},
    "dpmpp_3m": {"algorithm": "dpmsolver++", "order": 3, "solver_type": "dpmsolver", "start": "corrected", "final_rule": "smooth"},
}


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
) -> Tape:
    """Plan by `method`: see `plan_multistep`, and `plan_singlestep`, which has neither start nor final rule."""
    check_options(method=method, start=start, final_rule=final_rule)
    if method == "singlestep":
        return plan_singlestep(path, sigmas, algorithm=algorithm, order=order, solver_type=solver_type)
    return plan_multistep(path, sigmas, algorithm=algorithm, order=order, solver_type=solver_type, start=start, final_rule=final_rule)
