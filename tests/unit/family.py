"""Every solver of the project with the order of convergence it claims: the rows of benchmarks/orders.py and of test_order.

A row plans a run of n steps on a grid of λ: `grid(path, n)` gives n + 1 sigmas. Claims are for finite λ ends and steps that go to 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dpm_solver_ext.solvers.choices import FAMILY, PRESETS
from dpm_solver_ext.solvers.path import Path
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.singlestep import fast_orders, plan_singlestep
from dpm_solver_ext.solvers.tape import Tape
from dpm_solver_ext.tests.unit.grids import smooth_statistics

Grid = Callable[[Path, int], list[float]]


@dataclass(frozen=True)
class Row:
    """A solver: its group and name in the table, the order it claims, its options, and how a run of n steps is planned."""

    group: str
    name: str
    claimed: int
    options: dict = field(default_factory=dict)
    make: Callable[[Path, Grid, int, dict], Tape] = lambda path, grid, n, o: plan(path, grid(path, n), **o)
    note: str = ""
    counts: tuple[int, ...] = ()  # the steps that test_order needs, if not its usual ones

    def tape(self, path: Path, grid: Grid, n: int) -> Tape:
        return self.make(path, grid, n, self.options)


def fast(rest: int) -> Callable[[Path, Grid, int, dict], Tape]:
    """DPM-Solver-fast on its outer grid, with evaluations ≡ `rest` (mod 3), n steps in all."""

    def make(path, grid, n, options):
        orders = fast_orders(3 * (n - 1) + rest, 3)
        return plan_singlestep(path, grid(path, len(orders)), orders=orders, order=3, **options)

    return make


def on_own_sigmas(path, grid, n, options):
    """Method singlestep on a schedule of 3n - 1 evaluations, whose own sigmas are the stages."""
    return plan(path, grid(path, 3 * n - 1), method="singlestep", order=3, **options)


def backwards(path, grid, n, options):
    """From the image's end to the noise's: rising sigmas."""
    return plan(path, grid(path, n)[::-1], **options)


STATISTICS = smooth_statistics("element", (8,))  # for the states of the order tests, (batch, 8)


def v3(path, grid, n, options):
    """DPM-Solver-v3 with statistics that differ over elements and λ, the same for every n."""
    return plan(path, grid(path, n), algorithm="dpmsolver-v3", statistics=STATISTICS, **options)


def v3_backwards(path, grid, n, options):
    return plan(path, grid(path, n)[::-1], algorithm="dpmsolver-v3", statistics=STATISTICS, **options)


def _v3_rows():
    multi, pc = "multistep", "predictor-corrector"
    yield Row(multi, "DPM-Solver-v3 1", 1, {"order": 1}, v3)
    yield Row(multi, "DPM-Solver-v3 2", 2, {"order": 2}, v3)
    yield Row(multi, "DPM-Solver-v3 2, taylor", 2, {"order": 2, "solver_type": "taylor"}, v3)
    yield Row(multi, "DPM-Solver-v3 3", 3, {"order": 3}, v3)
    yield Row(multi, "DPM-Solver-v3 3, final rule none", 3, {"order": 3, "final_rule": "none"}, v3)
    yield Row(multi, "DPM-Solver-v3 3, official start", 2, {"order": 3, "start": "official"}, v3, "first-order first step")
    yield Row(multi, "DPM-Solver-v3 3, pseudo", 2, {"order": 3, "solver_type": "pseudo"}, v3, "pseudo orders are order 2")
    yield Row(pc, "DPM-Solver-v3 2, unipc", 3, {"order": 2, "corrector": "unipc"}, v3)
    yield Row(pc, "DPM-Solver-v3 3, unipc", 3, {"order": 3, "corrector": "unipc", "final_rule": "none"}, v3, "its start limits it")
    extra = {"order": 3, "corrector": "unipc", "start": "extra"}
    yield Row(pc, "DPM-Solver-v3 3, unipc, extra start", 4, extra, v3, "2 more evaluations", (120, 200))
    yield Row(pc, "DPM-Solver-v3 3, corrector v3", 3, {"order": 3, "corrector": "v3"}, v3)
    yield Row(pc, "DPM-Solver-v3 1, corrector v3_pseudo", 2, {"order": 1, "corrector": "v3_pseudo"}, v3)
    note = "pseudo orders are order 2"
    yield Row(pc, "DPM-Solver-v3 2, corrector v3_pseudo", 2, {"order": 2, "corrector": "v3_pseudo"}, v3, note, (72, 120))
    for order in (1, 2, 3):
        yield Row("inverse (rising sigmas)", f"DPM-Solver-v3 {order}", order, {"order": order}, v3_backwards)
    yield Row("inverse (rising sigmas)", "DPM-Solver-v3 2, corrector", 3, {"order": 2, "corrector": "unipc"}, v3_backwards)


NAMES = {"dpmsolver++": "DPM-Solver++", "dpmsolver": "DPM-Solver", "dpmsolver-v": "v form"}
OFFICIAL = {"start": "official", "final_rule": "none"}


def _rows():
    for a, label in NAMES.items():
        multi, single, uni, pc = "multistep", "singlestep", "UniPC", "predictor-corrector"
        yield Row(multi, f"{label} 1", 1, {"algorithm": a, "order": 1})
        yield Row(multi, f"{label} 2", 2, {"algorithm": a, "order": 2})
        yield Row(multi, f"{label} 2, taylor", 2, {"algorithm": a, "order": 2, "solver_type": "taylor"})
        yield Row(multi, f"{label} 3", 3, {"algorithm": a, "order": 3})
        yield Row(multi, f"{label} 3, final rule none", 3, {"algorithm": a, "order": 3, "final_rule": "none"})
        yield Row(multi, f"{label} 3, official start", 2, {"algorithm": a, "order": 3, "start": "official"}, note="first-order first step")
        yield Row(multi, f"{label} 4", 3, {"algorithm": a, "order": 4, "final_rule": "none"}, note="its start limits it")
        if a != "dpmsolver-v":
            official = {"algorithm": a, "order": 3, "solver_type": "official"}
            yield Row(multi, f"{label} 3, official", 2, official | OFFICIAL, note="the official code: half the second derivative")
            note = "even with our start"
            yield Row(multi, f"{label} 3, official weights", 2, official | {"final_rule": "none"}, note=note)
        fixed = {"algorithm": a, "method": "singlestep_fixed"}
        yield Row(single, f"{label} 1S", 1, fixed | {"order": 1})
        yield Row(single, f"{label} 2S", 2, fixed | {"order": 2})
        yield Row(single, f"{label} 2S, taylor", 2, fixed | {"order": 2, "solver_type": "taylor"})
        yield Row(single, f"{label} 2S, r1 = 0.3", 2, fixed | {"order": 2, "r1": 0.3})
        yield Row(single, f"{label} 3S", 3, fixed | {"order": 3})
        yield Row(single, f"{label} 3S, taylor", 3, fixed | {"order": 3, "solver_type": "taylor"})
        for r1, r2 in ((0.5, 0.8), (0.2, 0.9), (0.25, 0.5)):
            yield Row(single, f"{label} 3S, r = {r1}, {r2}", 3, fixed | {"order": 3, "r1": r1, "r2": r2})
        free = fixed | {"order": 3, "r1": 0.5, "r2": 0.8}
        yield Row(single, f"{label} 3S, r = 0.5, 0.8, official", 2, free | {"solver_type": "official"}, note="right for r2 = 2/3 only")
        note = "its polynomial, the papers' stage"
        yield Row(single, f"{label} 3S, r = 0.5, 0.8, official taylor", 2, free | {"solver_type": "official_taylor"}, note=note)
        yield Row(single, f"{label} fast, 3n - 1 evaluations", 3, {"algorithm": a}, fast(2), note="ends with a step of order 2")
        yield Row(single, f"{label} fast, 3n evaluations", 2, {"algorithm": a}, fast(3), note="ends with a step of order 1")
        yield Row(single, f"{label} fast, 3n - 2 evaluations", 2, {"algorithm": a}, fast(1), note="ends with a step of order 1")
        yield Row(single, f"{label} fast on the schedule's own sigmas", 3, {"algorithm": a}, on_own_sigmas, note="3n - 1 evaluations")
        group = pc if a == "dpmsolver-v" else uni
        for order, claimed, note in ((1, 2, ""), (2, 3, ""), (3, 3, "its start limits it"), (4, 3, "its start limits it")):
            for solver_type, kind in (("bh1", "bh1"), ("dpmsolver", "bh2"), ("taylor", "vary")):
                options = {"algorithm": a, "order": order, "solver_type": solver_type, "corrector": "unipc", "final_rule": "none"}
                if a != "dpmsolver-v" or solver_type == "taylor":
                    yield Row(group, f"{label} {order}" + (f", {kind}" if a != "dpmsolver-v" else ""), claimed, options, note=note)
        yield Row(group, f"{label} 2, smooth rule", 3, {"algorithm": a, "order": 2, "corrector": "unipc"})
        yield Row(group, f"{label} 3, smooth rule", 3, {"algorithm": a, "order": 3, "corrector": "unipc"})
        for order in (3, 4):
            options = {"algorithm": a, "order": order, "corrector": "unipc", "start": "extra"}
            note = f"{(order - 1) * (order - 2)} more evaluations"
            yield Row(group, f"{label} {order}, extra start", order + 1, options, note=note)
        if a != "dpmsolver-v":
            for order in (2, 3):
                options = {"algorithm": a, "order": order, "solver_type": "taylor", "corrector": "official"} | OFFICIAL
                yield Row(uni, f"{label} {order}, official vary_coeff", 1, options, note="the official code's fault")
            sde = {"algorithm": a, "eta": 0.0} | OFFICIAL
            yield Row("SDE at eta = 0", f"{label} 1 SDE", 1, sde | {"order": 1})
            yield Row("SDE at eta = 0", f"{label} 2M SDE, midpoint", 2, sde | {"order": 2})
            yield Row("SDE at eta = 0", f"{label} 2M SDE, heun", 2, sde | {"order": 2, "solver_type": "taylor"})
            official = sde | {"order": 3, "solver_type": "official_taylor"}
            yield Row("SDE at eta = 0", f"{label} 3M SDE, k-diffusion's", 2, official, note="half the second derivative")
            yield Row("SDE at eta = 0", f"{label} 3M SDE", 3, sde | {"order": 3, "start": "corrected"})
            yield Row("SDE at eta = 0", f"{label} 2S SDE", 2, fixed | {"order": 2, "eta": 0.0, "noise_rule": "ancestral"})
            for order in (2, 3):
                options = fixed | {"order": order, "eta": 0.0, "noise_rule": "renoise"}
                yield Row("SDE at eta = 0", f"{label} {order}S ancestral", order, options)
        inverse = "inverse (rising sigmas)"
        for order in (1, 2, 3):
            yield Row(inverse, f"{label} {order}", order, {"algorithm": a, "order": order}, backwards)
        for order in (2, 3):
            yield Row(inverse, f"{label} {order}S", order, fixed | {"order": order}, backwards)
        yield Row(inverse, f"{label} 2, corrector", 3, {"algorithm": a, "order": 2, "corrector": "unipc"}, backwards)
    yield from _v3_rows()
    for name, options in (PRESETS | FAMILY).items():
        claimed = {"auto": 3, "dpmpp_2m": 2, "dpmpp_3m": 3, "unipc": 3, "dpm_solver_v3": 3}.get(name)
        if claimed:
            yield Row("presets", name, claimed, options)


GROUPS = ("presets", "multistep", "singlestep", "UniPC", "predictor-corrector", "SDE at eta = 0", "inverse (rising sigmas)")
ROWS = sorted(_rows(), key=lambda row: GROUPS.index(row.group))
