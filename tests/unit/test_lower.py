"""A tape made cheaper: the same sums to rounding, of fewer passes, and only where what they are told by is still there."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers.choices import FAMILY, PRESETS
from dpm_solver_ext.solvers.direct import added, passes, without_stores
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.lower import cheaper, lowered
from dpm_solver_ext.solvers.path import FLOW, VE
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.schedule import karras
from dpm_solver_ext.solvers.tape import Affine, Blend, Eval, Mark, Measure, Noise, Tape
from dpm_solver_ext.tests.unit.grids import TAPES, VARIANTS

OPTIONS = [*(dict(p) for p in TAPES.values()), *VARIANTS, {"order": 2, "slopes": "measured"}]
X0 = np.array([[3.0, -1.0, 0.5], [0.1, 2.0, -4.0]])


def model(x, s):
    """A network that is neither linear nor smooth."""
    return np.tanh(x) * (1 + np.sin(3 * x / (1 + s))) / (1 + 0.3 * s)


def noise(a, b):
    return np.random.default_rng(round(1e6 * b)).standard_normal(X0.shape)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(map(str, o.values())))
def test_the_same_run_at_no_more_cost(options):
    """To the rounding of float64, in NumPy: no part of it knows torch. No sum is dearer, no more registers are alive."""
    for path, sigmas in ((VE, karras(9, 14.6, 0.03)), (FLOW, [1 - i / 9 for i in range(10)]), (VE, [4519.0, 300.0, 20.0, 2.0, 0.2, 0.0])):
        tape = plan(path, sigmas, **options)
        made, x = cheaper(tape), X0 * sigmas[0]
        seen = []
        for arrive in (None, lambda *_: None):  # who waits for arrivals gets the tape as it is
            seen.append(states := [])
            states.append(execute(tape, model, x, noise=noise, mark=lambda i, y, d, to=states: to.append(y), arrive=arrive))
        scale = 1e-12 * max(float(np.abs(y).max()) for y in seen[1])
        assert len(seen[0]) == len(sigmas)
        assert all(np.abs(a - b).max() < scale for a, b in zip(*seen, strict=True)), "what is shown, and the end, are the same"
        assert passes(made.records) <= passes(tape.records) and made.peak_registers <= tape.peak_registers


def test_measured_slopes_weigh_changes_only():
    """In full swing auto's sums read the state, one stored evaluation, and two changes: only these have weights of each item."""
    made = cheaper(plan(VE, karras(12, 14.6, 0.03), **PRESETS["auto"]))
    sums = [r for r in made.records if isinstance(r, Affine) and r.dst == "x" and any(isinstance(w, Blend) for _, w in r.terms)]
    assert len(sums) > 8
    for r in sums[1:-1]:
        assert sorted((name.rstrip("0123456789"), isinstance(w, Blend)) for name, w in r.terms) == [
            ("change", True), ("change", True), ("v", False), ("x", False)
        ]  # fmt: skip
        assert all(len(w.parts) == 1 for _, w in r.terms if isinstance(w, Blend)), "no trust is left that only rounding made"
    assert made.peak_registers == 6


def test_units_are_exact():
    """The largest weight of a stored evaluation is 1, not a rounding beside it, which would cost a kernel."""
    for options in (PRESETS["auto"], TAPES["dpm_solver_v3"]):
        for n in range(4, 40):
            stores = [r for r in cheaper(plan(VE, karras(n, 14.6, 0.03), **options)).records if isinstance(r, (Affine, Measure))]
            stores = [r for r in stores if isinstance(r, Measure) or r.dst.startswith("v")]
            assert len(stores) >= n - 2 and all(r.terms[0][1] == 1.0 for r in stores)


def singlestep(*between) -> list:
    """y = x/2 + v/2 with v = d - x stored, `between`, and x = x + y/4 - v: without v, x is of x, d and y."""
    return [
        Eval("d", "x", 4.0), Mark(0, "x", "d"), Affine("v", (("d", 1.0), ("x", -1.0))), Affine("y", (("x", 0.5), ("v", 0.5))),
        *between, Affine("x", (("x", 0.25), ("y", 0.25), ("v", -1.0))),
    ]  # fmt: skip


def test_a_store_is_left_out_where_its_parts_are_there():
    """v is left out, and stays where a part of it is overwritten before a sum that reads it, or where somebody else reads it."""
    told = without_stores(singlestep())
    assert [r.dst for r in told if isinstance(r, Affine)] == ["x"] and dict(told[-1].terms) == {"x": 1.25, "d": -0.875}
    for between in (
        [Noise("d", 1.0, 4.0, 2.0)],
        [Eval("d", "y", 2.0), Mark(1, "y", "d")],
        [Affine("d", (("d", 2.0),))],
        [Mark(1, "y", "v")],
        [Eval("e", "v", 2.0)],
        [Measure("t", "c", (("v", 1.0), ("y", -1.0)), "v", 0.0, 1.0, 3.0, 0.5, 0.3)],
    ):
        told = without_stores(singlestep(*between))
        assert "v" in [r.dst for r in told if isinstance(r, Affine)], between
    bias = [replace(r, bias=1.0) if isinstance(r, Affine) and r.dst == "v" else r for r in singlestep()]
    assert "v" in [r.dst for r in without_stores(bias) if isinstance(r, Affine)]


def test_a_store_of_a_store_stays_with_it():
    """w is made of v, and a part of v is overwritten in between: both stay, and nothing reads a register that is not there."""
    records = [
        Eval("d", "x", 4.0), Affine("v", (("d", 1.0), ("x", -1.0))), Affine("x", (("x", 0.5), ("v", 0.5))), Eval("e", "x", 2.0),
        Affine("w", (("v", 1.0), ("e", 1.0))), Affine("x", (("x", 1.0), ("w", -0.5))),
    ]  # fmt: skip
    tape = Tape("by hand", "ve", (4.0, 1.0), tuple(without_stores(records)), ())
    x, d = X0, model(X0, 4.0)
    e = model(0.5 * d, 2.0)
    end = execute(tape, model, x, arrive=lambda *_: None)
    assert np.allclose(end, 0.5 * d - 0.5 * (d - x + e), rtol=1e-13, atol=1e-13) and "v" in [getattr(r, "dst", "") for r in tape.records]


@pytest.mark.parametrize("overwritten", ["c", "d"])
def test_changes_that_are_overwritten_tell_nothing(overwritten):
    """A blend of two trusts, by hand, in NumPy and torch: the older evaluation is told by change and newer one while both lie there."""
    lie = Affine(overwritten, (("d", 0.25), ("e", 0.5)))
    blend = Blend(0.5, (("t", 0.25), ("u", -0.125)))
    records = (
        Eval("d", "x", 4.0), Affine("y", (("x", 0.5), ("d", 0.5))), Eval("e", "y", 2.0),
        Measure("t", "c", (("d", 1.0), ("e", -0.5)), "e", -3.0, 10.0, 3.0, 0.5, 0.3),
        Measure("u", "b", (("d", 1.0), ("x", -0.5)), "d", 1.8, 1.0, 0.0, 3.0, 2.0), lie,
        Affine("x", (("x", 0.5), ("d", 1.0), ("e", blend), ("c", Blend(0.0, (("u", 1.0),))))),
    )  # fmt: skip
    tape = Tape("by hand", "ve", (4.0, 1.0), records, ())

    def along(a, b):
        return ((a * b).sum(1) / (b * b).sum(1))[:, None]

    d = model(X0, 4.0)
    e = model(0.5 * X0 + 0.5 * d, 2.0)
    c, lied = d - 0.5 * e, 0.25 * d + 0.5 * e
    tau, pi = 10 * along(c, e) - 3, along(d - 0.5 * X0, d) + 1.8
    t = np.clip(1 + 3 * np.minimum(tau, 0), 0, 1) + np.minimum(0.5 * np.maximum(tau - 1, 0), 0.3)
    u = 1 + np.clip(3 * (pi - 1), 0, 2)
    want = 0.5 * X0 + (lied if overwritten == "d" else d) + (0.5 + 0.25 * t - 0.125 * u) * e + u * (lied if overwritten == "c" else c)
    assert np.ptp(t) > 0.1 and np.ptp(u) > 0.1, "the trusts differ"
    for arrive in (None, lambda *_: None):
        assert np.allclose(execute(tape, model, X0, arrive=arrive), want, rtol=1e-13, atol=1e-13)
        end = execute(tape, lambda y, s: torch.from_numpy(model(y.numpy(), s)), torch.from_numpy(X0), arrive=arrive)
        assert np.allclose(end.numpy(), want, rtol=1e-13, atol=1e-13)


def test_dearer_is_not_taken():
    """A store that many sums read is cheaper than its parts in each of them."""
    parts = [Affine("v", tuple((f"d{i}", 1.0 + i) for i in range(4)))]
    records = [Eval(f"d{i}", "x", 9.0 - i) for i in range(4)] + parts + [Affine(f"y{i}", (("x", 1.0), ("v", 2.0 + i))) for i in range(3)]
    records += [r for i in range(3) for r in (Eval("e", f"y{i}", 3.0 - i / 9), Affine("x", (("x", 0.5), ("e", 0.5))))]
    assert without_stores(records) is records


def test_what_nobody_reads_is_not_made():
    """auto's last correction, where the run ends at the last evaluation; all else of the tape is needed."""
    made = cheaper(plan(VE, karras(6, 14.6, 0.03), **PRESETS["auto"])).records
    assert isinstance(made[-1], Affine) and made[-1].terms == (("d5", 1.0),) and isinstance(made[-2], Mark)
    tape = Tape("by hand", "ve", (2.0, 1.0), (Eval("d", "x", 2.0), Affine("y", (("d", 1.0),)), Noise("y", 1.0, 2.0, 1.0)), ())
    assert len(cheaper(tape).records) == 3, "noise reads what it adds to"


def test_terms_are_added():
    """One term for each register; of a difference that is only rounding nothing is left, of a blend no part of it."""
    third = 1 / 3
    assert added([("a", 0.1), ("b", 1.0), ("a", 0.2)]) == (("a", 0.1 + 0.2), ("b", 1.0))
    assert added([("a", third), ("b", 1.0), ("a", third * 3e-16 - third)]) == (("b", 1.0),)
    mixed = added([("a", Blend(1.0, (("t", third), ("u", 1.0)))), ("a", Blend(third - 1.0, (("t", -third * (1 + 3e-16)),)))])
    assert mixed == (("a", Blend(1.0 + (third - 1.0), (("u", 1.0),))),)
    assert added([("a", 0.0), ("b", 1e-300)]) == (("a", 0.0), ("b", 1e-300)), "what stands alone stays as it is"
    assert len(added([("a", 1.0), ("a", -1.0)])) == 1, "a sum has a term"


@pytest.mark.parametrize("library", ["numpy", "torch", "torch, several items"])
def test_one_bad_number_stays_where_it_is(library):
    """A model that answers one NaN spoils that element, not the trust of its item: all others are finite; other items do not notice."""
    sigmas = karras(8, 14.6, 0.03)
    tape, x = plan(VE, sigmas, **PRESETS["auto"]), X0[: 2 if "several" in library else 1] * sigmas[0]

    def bad(y, s, at=sigmas[3]):
        d = model(np.asarray(y), s)
        if s == at:
            d[0, 1] = math.nan
        return d if library == "numpy" else torch.from_numpy(d)

    end = np.asarray(execute(tape, bad, x if library == "numpy" else torch.from_numpy(x)))
    assert np.isnan(end[0, 1]) and np.isfinite(np.delete(end.ravel(), 1)).all()
    good = np.asarray(execute(tape, model, x))
    assert np.array_equal(end[1:], good[1:]) if library == "numpy" else np.allclose(end[1:], good[1:], rtol=1e-12)


@pytest.mark.parametrize("name", ["auto", "unipc", "dpm_fast"])
def test_the_work_grows_with_the_steps_and_no_faster(name):
    """A schedule of 400 steps is made cheaper with four times the calls of one of 100: it is waited for before the first model call."""

    def calls(steps):
        records, seen = plan(VE, karras(steps, 14.6, 0.03), **{**PRESETS, **FAMILY}[name]).records, []
        sys.setprofile(lambda frame, event, arg: seen.append(event) if "call" in event else None)
        try:
            lowered(records)
        finally:
            sys.setprofile(None)
        return len(seen)

    calls(10)  # what is set up once
    assert calls(400) < 5 * calls(100)
