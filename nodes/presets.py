"""One-click presets: what they set in which node, and why, in measured words. Nothing here needs a host or a model.

Every figure is in `FIGURES` and is that of benchmarks/results/bench.json: `measured` says how, and a test holds the two together. Who has
run `make bench` anew pastes what that test prints.
"""

import math
from collections.abc import Mapping, Sequence

from ..solvers.choices import FAMILY, PRESETS
from .register import SAMPLERS, SCHEDULERS

# family: (for whom, as the label says it; the name of its problems in bench.md)
FAMILIES = {
    "sd": ("SD 1.5, SDXL", "VP"),
    "v": ("v-prediction", "v"),
    "edm": ("EDM", "EDM"),
    "flow": ("SD3, Flux, Wan", "flow"),
}
# preset: (steps, the counts of bench.md that stand for them, what it is for)
LEVELS: dict[str, tuple[int, tuple[int, ...], str]] = {
    "fast": (6, (6,), "for a look at what a prompt gives"),
    "quality": (12, (10, 15), "for a picture to keep"),
    "exact": (25, (20,), "for what no further step would change to the eye"),
}
# (solver, schedule) of a family's presets: the pair of ours with the least error there
PAIRS = dict.fromkeys(FAMILIES, ("auto", "auto"))
# (family, preset): (error over that of the best built-in pair of each case, the worst of the cases, how many they are, the error of the
# best single built-in pair over the same, which pair that is)
FIGURES: dict[tuple[str, str], tuple[float, float, int, float, str]] = {
    ("sd", "fast"): (0.82, 1.54, 6, 1.4, "ipndm + karras"),
    ("sd", "quality"): (0.63, 1.29, 12, 1.51, "ipndm + karras"),
    ("sd", "exact"): (0.81, 1.37, 6, 1.47, "uni_pc_bh2 + karras"),
    ("v", "fast"): (0.75, 1.01, 4, 1.06, "ipndm + beta"),
    ("v", "quality"): (0.29, 0.72, 7, 1.09, "ipndm + beta"),
    ("v", "exact"): (0.18, 0.27, 3, 1.06, "ipndm + beta"),
    ("edm", "fast"): (0.51, 0.74, 4, 1.64, "ipndm + normal"),
    ("edm", "quality"): (0.3, 0.69, 7, 1.49, "ipndm + karras"),
    ("edm", "exact"): (0.46, 0.55, 3, 1.27, "uni_pc_bh2 + normal"),
    ("flow", "fast"): (0.74, 1.38, 5, 1.55, "ipndm + beta"),
    ("flow", "quality"): (0.65, 1.01, 10, 1.43, "ipndm + beta"),
    ("flow", "exact"): (1.04, 1.7, 5, 1.44, "ipndm + beta"),
}
REST: dict[str, object] = {
    "method": "multistep", "solver_type": "dpmsolver", "start": "corrected", "final_rule": "smooth", "corrector": "none", "eta": 0.0,
    "slopes": "auto",
}  # fmt: skip


def table() -> list[dict[str, object]]:
    """All presets for the page: `id`, `label`, `family`, `level`, `reason`, and `widgets`, by the id of a node {name: value}."""
    return [
        {
            "id": f"{level}.{family}", "label": f"{level} {LEVELS[level][0]} ({FAMILIES[family][0]})", "family": family, "level": level,
            "reason": reason(family, level), "widgets": widgets(family, level),
        }
        for family in FAMILIES
        for level in LEVELS
    ]  # fmt: skip


def widgets(family: str, level: str) -> dict[str, dict[str, object]]:
    """By the id of a node, ours or ComfyUI's own, the widgets that the preset sets and their values."""
    (solver, schedule), steps = PAIRS[family], LEVELS[level][0]
    sampler_name = next(name for name, preset in SAMPLERS.items() if preset == solver)
    scheduler = next(name for name, known in SCHEDULERS.items() if known == schedule)
    ksampler = {"steps": steps, "sampler_name": sampler_name, "scheduler": scheduler}
    return {
        "KSampler": ksampler, "KSamplerAdvanced": ksampler, "KSamplerSelect": {"sampler_name": sampler_name},
        "BasicScheduler": {"steps": steps, "scheduler": scheduler}, "DPMSolverSchedulerExt": {"schedule": schedule, "steps": steps},
        "DPMSolverSamplerExt": {"preset": solver}, "DPMSolverSamplerAdvancedExt": REST | _by_hand(solver),
    }  # fmt: skip


def _by_hand(solver: str) -> dict[str, object]:
    """A solver's options as the advanced node has them, whose slopes are those of its algorithm where they are on auto."""
    return {name: value for name, value in (PRESETS | FAMILY)[solver].items() if name != "slopes"}


def reason(family: str, level: str) -> str:
    """Why: what it is for, and its error beside the built-in samplers'."""
    steps, counts, purpose = LEVELS[level]
    solver, schedule = PAIRS[family]
    ratio, worst, cases, single, pair = FIGURES[family, level]
    at = " and ".join(map(str, counts))
    return (
        f"{steps} model calls with {solver} and the schedule {schedule}, {purpose}. Measured at {at} calls in {cases} cases: {ratio:.2f} × "
        f"the error of each case's best built-in pair on average, {worst:.2f} × in the worst; the best single built-in pair, {pair}, has "
        f"{single:.2f} ×. See benchmarks/results/bench.md, {FAMILIES[family][1]}. One undo takes it back."
    )


def measured(
    errors: Mapping[str, Mapping[str, Mapping[str, float]]], family: str, counts: Sequence[int]
) -> dict[str, tuple[float, float, int]]:
    """{pair: (geometric mean of its error over that of the best built-in pair, the largest, cases)} of the pairs that ran in all cases.

    `errors` is {problem: {pair: {count: error}}} of bench.json; a case is a problem of this family at one of `counts`.
    """
    ratios: dict[str, list[float]] = {}
    cases = 0
    for problem, rows in errors.items():
        for count in map(str, counts) if f", {FAMILIES[family][1]}, " in problem else ():
            built_in = [row[count] for pair, row in rows.items() if count in row and not _ours(pair)]
            cases += bool(built_in)
            for pair, row in rows.items() if built_in else ():
                if count in row:
                    ratios.setdefault(pair, []).append(row[count] / min(built_in))
    return {pair: (math.exp(sum(map(math.log, r)) / cases), max(r), cases) for pair, r in ratios.items() if len(r) == cases}


def _ours(pair: str) -> bool:
    return any(f"{name} +" in pair for name in SAMPLERS)
