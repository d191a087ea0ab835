"""What the plot is told of a tape: every model call once, at its place, with the order of the step that it serves."""

import json

import pytest
from dpm_solver_ext import FLOW, VE, plan
from dpm_solver_ext.solvers import outline as module
from dpm_solver_ext.solvers.choices import FAMILY, PRESETS
from dpm_solver_ext.solvers.outline import outline, outline_of_calls
from dpm_solver_ext.solvers.schedule import karras
from dpm_solver_ext.solvers.tape import Eval

SIGMAS = karras(8, 14.6, 0.03)
GRIDS = {"ve": (VE, SIGMAS), "flow": (FLOW, [1.0, 0.9, 0.75, 0.5, 0.3, 0.1, 0.0]), "rising": (VE, [0.03, 0.1, 0.5, 2.0, 9.0])}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("method", ["multistep", "singlestep", "singlestep_fixed"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "dpmsolver", "dpmsolver-v"])
def test_every_call_has_its_step(grid, method, order, algorithm):
    """The calls are the tape's evaluations in their order; steps follow each other, every one is served, and each ends where it says."""
    path, sigmas = GRIDS[grid]
    tape = plan(path, sigmas, method=method, order=order, algorithm=algorithm)
    found = outline(tape)
    calls = found["calls"]
    assert [c["sigma"] for c in calls] == [r.sigma for r in tape.records if isinstance(r, Eval)]
    assert [c["call"] for c in calls] == list(range(found["evaluations"]))
    steps = [c["step"] for c in calls]
    assert steps == sorted(steps) and set(steps) == set(range(max(steps) + 1))
    ends = {c["step"]: c["to"] for c in calls}
    assert ends[max(steps)] == sigmas[-1] and len(set(ends.values())) == len(ends)
    if method == "singlestep_fixed" and grid == "ve":
        assert steps == sorted([*range(7)] * order + [7]), "order calls a step, one in the last, to sigma 0"
    json.dumps(found, allow_nan=False)


def test_orders_of_known_runs():
    """DPM-Solver++(2M) with its official start: 1, 2, …, 2, 1. The preset auto corrects each step but the last. 3M starts up over two."""
    orders = {name: [c["order"] for c in outline(plan(VE, SIGMAS, **PRESETS[name]))["calls"]] for name in PRESETS}
    assert orders["dpmpp_2m"] == [1, 2, 2, 2, 2, 2, 2, 1]
    auto = outline(plan(VE, SIGMAS, **PRESETS["auto"]))["calls"]
    assert [c["predicted"] is not None for c in auto] == [True] * 7 + [False]
    assert all(c["order"] > c["predicted"] for c in auto[:-1])
    third = outline(plan(VE, SIGMAS, **PRESETS["dpmpp_3m"]))
    assert third["top"] == 3 and [c["part"] for c in third["calls"]] == ["start", "start", "", "", "", "", "", "final"]


def test_measured_slopes_are_marked():
    """With slopes measured each step that a slope goes into is marked, but not the first nor the last, which have none; where sigmas rise,
    at order 3 and with planned slopes no step is, though the option may say so."""
    assert [c["measured"] for c in outline(plan(VE, SIGMAS, **PRESETS["auto"]))["calls"]] == [False, *[True] * 6, False]
    asked = {"algorithm": "dpmsolver++", "slopes": "measured"}
    others = [plan(VE, GRIDS["rising"][1], **asked), plan(VE, SIGMAS, **asked, order=3), plan(VE, SIGMAS, **PRESETS["dpmpp_2m"])]
    assert not any(c["measured"] for tape in others for c in outline(tape)["calls"])
    assert dict(others[1].options)["slopes"] == "measured"
    assert not outline_of_calls(VE, SIGMAS[:-1], SIGMAS, None, "euler")["calls"][0]["measured"]


def test_parts_of_a_singlestep_run():
    """8 calls at order 3 are 3 + 3 + 1 + 1: the last two steps follow fewer calls."""
    calls = outline(plan(VE, SIGMAS, **FAMILY["dpmpp_3s"]))["calls"]
    assert [(c["step"], c["part"]) for c in calls] == [(0, "")] * 3 + [(1, "")] * 3 + [(2, "final"), (3, "final")]


def test_infinite_ends_have_no_number():
    found = outline(plan(*GRIDS["flow"]))
    assert found["calls"][0]["lam"] is None and found["first"] == [1.0, None] and found["last"] == [0.0, None]
    assert found["calls"][1]["lam"] == pytest.approx(FLOW.half_logsnr(0.9))


def test_long_runs_are_thinned(monkeypatch):
    """The count stays true, the first and the last call stay listed."""
    monkeypatch.setattr(module, "MOST", 5)
    found = outline(plan(VE, karras(20, 14.6, 0.03)))
    assert found["evaluations"] == 20 and [c["call"] for c in found["calls"]] == [0, 5, 10, 14, 19]


def test_runs_without_a_tape():
    found = outline_of_calls(VE, [9.0, 3.0, 4.0], [9.0, 0.0], 3, "adaptive")
    assert [c["sigma"] for c in found["calls"]] == [9.0, 3.0, 4.0] and found["evaluations"] == 3 and found["last"] == [0.0, None]
    assert {c["order"] for c in found["calls"]} == {3.0}
    assert {c["order"] for c in outline_of_calls(VE, [9.0], [9.0, 0.0], None, "euler")["calls"]} == {None}
