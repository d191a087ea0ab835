"""DPM_Solver_v3, the official call signatures of DPM-Solver-v3: every golden vector of the official code, and what its README writes."""

import inspect
import io
import json
import math
import re
import zipfile

import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers.official_model import model_wrapper
from dpm_solver_ext.solvers.official_schedule import NoiseScheduleVP
from dpm_solver_ext.solvers.official_v3 import DPM_Solver_v3
from dpm_solver_ext.solvers.path import VE, VP
from dpm_solver_ext.solvers.statistics import Statistics
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit.grids import fine_end
from dpm_solver_ext.tests.unit.test_official import BETAS, EDM, network

RECORDS = {r["key"]: r for r in json.loads((models.DATA / "golden.json").read_text()) if r["impl"] == "dpm_solver_v3"}
SCHEDULE = NoiseScheduleVP("discrete", betas=BETAS)
LINEAR = NoiseScheduleVP("linear")


def ems():
    """The recorded statistics: l, s, b, each (61, 2, 2, 2)."""
    return tuple(models.golden()[f"ems.{name}"] for name in "lsb")


def points(times):
    """Where on the grid of the statistics, 0…60, recorded times lie."""
    first, last, *lam = SCHEDULE.marginal_lambda(np.array([1.0, 0.001, *times]))
    return 60 * (np.array(lam) - first) / (last - first)


@pytest.mark.parametrize("library", ["torch", "numpy"])
@pytest.mark.parametrize("key", RECORDS)
def test_golden(key, library):
    """Every recorded run of the official code to 1e-6 of its size, network times to 1e-9; and as many calls as steps.

    Even λ steps (8 on 60 intervals) fall in the middle of two points four times, where the official code's choice is its rounding's: those
    runs are repeated by the indexes that it printed, here read off the recorded times.
    """
    record, data, calls = RECORDS[key], models.golden(), []
    indexes = None
    if record["skip_type"] == "logSNR":
        found = points(data[key + ".t"] / 1000 + 1 / 1000)
        indexes = [*np.round(found).astype(int).tolist(), 60]
        assert np.abs(found - indexes[:-1]).max() < 1e-9 and np.abs(np.array(indexes) - np.linspace(0, 60, 9)).max() <= 0.5
    x = torch.from_numpy(data["toy.noise"]) if library == "torch" else data["toy.noise"]
    solver = DPM_Solver_v3(
        ems(), SCHEDULE, record["steps"], skip_type=record["skip_type"], degenerated=record["degenerated"], indexes=indexes
    )
    model_fn = model_wrapper(network({"problem": "toy"}, SCHEDULE, calls), SCHEDULE)
    options = {name: record[name] for name in ("order", "p_pseudo", "c_pseudo", "lower_order_final")}
    out = solver.sample(x, model_fn, use_corrector="half" if record["half"] else record["use_corrector"], **options)
    assert type(out) is type(x) and out.dtype == x.dtype and len(calls) == record["nfe"]
    np.testing.assert_allclose(calls, data[key + ".t"], rtol=0, atol=1e-9)
    want = data[key + ".out"]
    np.testing.assert_allclose(np.asarray(out), want, rtol=0, atol=1e-6 * max(1.0, np.abs(want).max()))


def test_every_golden_key_is_run():
    """The list above is the whole of what was recorded of the official v3 code: 21 runs."""
    assert len(RECORDS) == 21


def test_steps_snap_to_the_grid_unless_exact():
    """Network times lie on the grid of the statistics, the nearest points to those asked for; with exact=True they are those asked for."""
    calls = []
    model_fn = model_wrapper(network({"problem": "toy"}, SCHEDULE, calls), SCHEDULE)
    x = models.golden()["toy.noise"]
    for skip_type, asked in (("time_uniform", np.linspace(1, 0.001, 9)), ("time_quadratic", np.linspace(1, 0.001**0.5, 9) ** 2)):
        for exact in (False, True):
            calls.clear()
            DPM_Solver_v3(ems(), SCHEDULE, 8, skip_type=skip_type, exact=exact).sample(x, model_fn, 2, False, True, True, True)
            went, wish = points(np.array(calls) / 1000 + 1 / 1000), points(asked[:-1])
            np.testing.assert_allclose(went, wish if exact else np.round(wish), rtol=0, atol=1e-8)


def test_skip_type_edm():
    """Even in (σ/α)^(1/7), on a schedule of the user's own with α = 1 from 80 to 0.002."""
    calls = []

    def model_fn(x, t):
        calls.append(float(t[0]))
        return (x - 0.4) * t[0] / (t[0] ** 2 + 0.25)

    solver = DPM_Solver_v3(Statistics.closed_form(0.5), EDM(), 9, t_start=80.0, t_end=0.002, skip_type="edm")
    x = np.random.default_rng(1).standard_normal((2, 4)) * 80
    out = solver.sample(x, model_fn, 3, False, True, True, True)
    np.testing.assert_allclose(calls, (np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 10) ** 7)[:-1], rtol=1e-12)
    want = models.Gaussian().solution(VE, x, 80.0, 0.002)
    np.testing.assert_allclose(out, want, rtol=0, atol=0.05)


def test_exact_converges_and_the_official_sums_do_not():
    """Even λ steps with the recorded statistics: from 59 steps, each with a point of the grid of its own, the official sums are left with
    a floor of 1.5e-3 where exact=True has 6e-4, from 5.6e-3 at 30 steps; no more steps fit on the grid."""
    x = models.golden()["toy.noise"]
    s, t = (math.exp(-float(v)) for v in SCHEDULE.marginal_lambda(np.array([1.0, 0.001])))
    right = fine_end(VP, models.toy(), x.reshape(4, 8), s, t, 300)
    model_fn = model_wrapper(network({"problem": "toy"}, SCHEDULE, []), SCHEDULE)

    def error(steps, exact):
        end = DPM_Solver_v3(ems(), SCHEDULE, steps, exact=exact).sample(x, model_fn, 2, False, False, False, True)
        return float(np.sqrt(np.mean((end.reshape(4, 8) - right) ** 2)))

    fine = error(59, True)
    assert fine < 0.5 * error(59, False) and fine < 0.3 * error(30, True)
    with pytest.raises(ValueError, match=r"steps is 61, but two of them fall on one of the 61 points .* exact=True"):
        error(61, False)


@pytest.mark.parametrize("exact", [False, True])
def test_half(exact):
    """half corrects where t > 0.5, as the official code does against its README; with exact=True where t ≤ 0.5. use_corrector="half" is
    the same; the states before each step come back."""
    x, calls = models.golden()["toy.noise"], []
    model_fn = model_wrapper(network({"problem": "toy"}, SCHEDULE, calls), SCHEDULE)
    solver = DPM_Solver_v3(ems(), SCHEDULE, 8, skip_type="time_uniform", exact=exact)

    def states(use_corrector, half):
        calls.clear()
        out, states = solver.sample(x, model_fn, 2, False, use_corrector, True, False, half, True)
        assert len(states) == 8 and np.array_equal(states[0], x)
        return [*states, out]

    none, full, half, same = states(False, False), states(True, False), states(True, True), states("half", False)
    np.testing.assert_array_equal(half, same)
    times = np.array(calls[:8]) / 1000 + 1 / 1000
    first = np.argmax(times <= 0.5)  # the first state in the second half
    assert 2 < first < 6
    early = none if exact else full  # what the first half of the run is like
    for i in range(1, first):
        np.testing.assert_array_equal(half[i], early[i])
    assert not np.array_equal(half[first], (full if not exact else none)[first])


def gaussian_fn(x, t):
    """The noise of Gaussian data on the linear schedule."""
    s = math.exp(-float(LINEAR.marginal_lambda(t[0] if isinstance(t, np.ndarray) else t[0].numpy())))
    return (x - VP.alpha(s) * models.Gaussian().denoise(VP, x, s)) / VP.sigma(s)


NAMES = "x model_fn order p_pseudo use_corrector c_pseudo lower_order_final".split()


def test_signatures():
    """Parameters in the official order, of both codes: (x, model_fn, …, half, return_intermediate) in the root of the repository,
    (model_fn, x, …, return_intermediate) in its EDM code."""
    names = list(inspect.signature(DPM_Solver_v3.__init__).parameters)[1:9]
    assert names == "statistics_dir noise_schedule steps t_start t_end skip_type degenerated device".split()
    names = list(inspect.signature(DPM_Solver_v3.sample).parameters)[1:8]
    assert names == NAMES
    solver, x = DPM_Solver_v3(Statistics.closed_form(), LINEAR, 6, 1.0, 1e-3, "time_uniform", False, "cuda"), np.ones((2, 3))
    rest = (2, False, True, True, True)
    want, states = solver.sample(x, gaussian_fn, *rest, return_intermediate=True)
    for got in (
        solver.sample(x, gaussian_fn, *rest, False, True),
        solver.sample(gaussian_fn, x, *rest, True),
        solver.sample(
            model_fn=gaussian_fn, x=x, order=2, p_pseudo=0, use_corrector=1, c_pseudo=1, lower_order_final=1, return_intermediate=1
        ),
    ):
        np.testing.assert_array_equal(got[0], want)
        np.testing.assert_array_equal(got[1], states)
    # a run whose states are asked for cannot join a correction with the step after it: the same but for rounding
    np.testing.assert_allclose(solver.sample(gaussian_fn, x, *rest), want, rtol=1e-14)
    np.testing.assert_array_equal(solver.sample(x, gaussian_fn, *rest, True), solver.sample(x, gaussian_fn, *rest, half=True))
    for bad in ((x, gaussian_fn, *rest, False, True, 1), (gaussian_fn, x, *rest, True, False)):
        with pytest.raises(ValueError, match="1 values too many by position"):
            solver.sample(*bad)


def test_own_statistics_need_no_grid():
    """Statistics know their λ: no snapping, whatever `exact` says; degenerated, they are DPM-Solver++ with the corrected start."""
    from dpm_solver_ext.solvers.official import DPM_Solver

    x = np.random.default_rng(2).standard_normal((3, 5))
    options = {"t_end": 1e-3, "steps": 9, "skip_type": "logSNR"}
    runs = [DPM_Solver_v3(Statistics.closed_form(), LINEAR, exact=exact, **options) for exact in (False, True)]
    a, b = (run.sample(x, gaussian_fn, 2, False, False, False, True) for run in runs)
    np.testing.assert_array_equal(a, b)
    want = DPM_Solver(gaussian_fn, LINEAR, exact=True).sample(x, order=3, solver_type="taylor", **options)
    for source in (Statistics.closed_form(), (np.zeros((9, 5)),) * 3):
        got = DPM_Solver_v3(source, LINEAR, degenerated=True, exact=True, **options).sample(x, gaussian_fn, 3, False, False, False, True)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_arrays_of_length_one_spread():
    """(n + 1, C, 1, 1) is one set of statistics a channel, (n + 1, 1, 1, 1) one for all: the same as written out, at any size."""
    rng, x = np.random.default_rng(3), np.random.default_rng(4).standard_normal((2, 3, 4, 6))
    for shape in ((11, 3, 1, 1), (11, 1, 1, 1)):
        arrays = [0.3 + 0.1 * rng.random(shape), -0.5 + 0.1 * rng.random(shape), 0.1 * rng.random(shape)]
        for exact in (False, True):
            small, large = (
                DPM_Solver_v3(
                    [np.broadcast_to(a, (11, *wide)) for a in arrays], LINEAR, 4, t_end=0.01, skip_type="time_uniform", exact=exact
                )
                for wide in (shape[1:], (3, 4, 6))
            )
            got, want = (solver.sample(x, gaussian_fn, 2, False, True, True, True) for solver in (small, large))
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_half_precision_and_callback():
    """The network sees the state's dtype and the result has it, on torch; the callback sees each evaluation."""
    seen, shown = [], []

    def model_fn(x, t):
        seen.append((x.dtype, t.dtype, tuple(t.shape)))
        return torch.tanh(x)

    x = torch.from_numpy(models.golden()["toy.noise"]).half()
    out = DPM_Solver_v3(ems(), SCHEDULE, 5, skip_type="time_uniform").sample(
        x, model_fn, 2, False, True, True, True, callback=lambda step, x, x0: shown.append((step, x.dtype, x0.dtype, x.shape))
    )
    assert out.dtype == torch.float16 and set(seen) == {(torch.float16, torch.float32, (4,))} and bool(torch.isfinite(out).all())
    assert shown == [(i, torch.float16, torch.float16, x.shape) for i in range(5)]


# --- the folder -----------------------------------------------------------------------------------------------------------------------


def folder(path, l=None, s=None, b=None):
    path.mkdir(exist_ok=True)
    arrays = [recorded if a is None else a for a, recorded in zip((l, s, b), ems(), strict=True)]
    np.savez(path / "l.npz", l=arrays[0])
    np.savez(path / "sb.npz", s=arrays[1], b=arrays[2])
    return path


def test_a_folder_is_the_arrays(tmp_path):
    """The official l.npz and sb.npz, also compressed, in float32 and in Fortran's order."""
    x, model_fn = models.golden()["toy.noise"], model_wrapper(network({"problem": "toy"}, SCHEDULE, []), SCHEDULE)
    want = DPM_Solver_v3(ems(), SCHEDULE, 6).sample(x, model_fn, 2, False, True, True, True)
    place = folder(tmp_path / "a")
    np.testing.assert_array_equal(DPM_Solver_v3(place, SCHEDULE, 6).sample(x, model_fn, 2, False, True, True, True), want)
    l, s, b = ems()
    np.savez_compressed(place / "l.npz", l=np.asfortranarray(l))
    np.savez_compressed(place / "sb.npz", s=s.astype(np.float32), b=b)
    got = DPM_Solver_v3(str(place), SCHEDULE, 6).sample(x, model_fn, 2, False, True, True, True)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def npz(name, raw):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"{name}.npy", raw)
    return out.getvalue()


def npy(shape, descr="<f8", body=b""):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"shape": shape, "fortran_order": False, "descr": descr})
    return out.getvalue() + body


HOSTILE = {
    "missing": None,
    "empty": b"",
    "no zip": b"x" * 500,
    "another array": npz("m", npy((2,), body=bytes(16))),
    "no npy": npz("l", b"hello"),
    "pickle": npz("l", npy((1,), "|O", b"cos\nsystem\n(S'true'\ntR.")),
    "integers": npz("l", npy((2,), "<i8", bytes(16))),
    "complex": npz("l", npy((2,), "<c16", bytes(32))),
    "cut off": npz("l", npy((61, 2, 2, 2), body=bytes(80))),
    "longer than its header says": npz("l", npy((2,), body=bytes(80))),
    "huge in its header only": npz("l", npy((1 << 40, 1 << 20), body=bytes(80))),
    "a future version": npz("l", b"\x93NUMPY\x09\x00" + bytes(50)),
    "damaged": npz("l", npy((61, 2, 2, 2), body=bytes(61 * 64))).replace(bytes(100), b"\x01" * 100, 1),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files(what, tmp_path):
    """One ValueError sentence that names the file, at once, and nothing unpickled or allocated by a header's word."""
    place = folder(tmp_path)
    if HOSTILE[what] is None:
        (place / "l.npz").unlink()
    else:
        (place / "l.npz").write_bytes(HOSTILE[what])
    with pytest.raises(ValueError, match=r"^statistics_dir: .*l\.npz cannot be used \(.*\); give a folder") as error:
        DPM_Solver_v3(place, SCHEDULE)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300 + len(str(tmp_path))


def test_a_file_that_unpacks_to_too_much(tmp_path, monkeypatch):
    """The size that the archive states is checked before it is unpacked."""
    from dpm_solver_ext.solvers import official_ems

    monkeypatch.setattr(official_ems, "ARRAY_LIMIT", 1000)
    with pytest.raises(ValueError, match=r"its array l has 0 MiB, more than 0"):
        DPM_Solver_v3(folder(tmp_path), SCHEDULE)


L, S, B = ems()
X = np.zeros((1, 2, 2, 2))
SAMPLE = {"order": 2, "p_pseudo": False, "use_corrector": True, "c_pseudo": True, "lower_order_final": True}
WRONG = {
    "statistics_dir is a int": ({"statistics_dir": 3}, {}),
    "statistics_dir is a tuple": ({"statistics_dir": (L, S)}, {}),
    "arrays of one shape": ({"statistics_dir": (L, S, B[:-1])}, {}),
    "arrays l, s, b hold float64, float64, int64": ({"statistics_dir": (L, S, np.zeros(L.shape, int))}, {}),
    "hold NaN": ({"statistics_dir": (L, S, B * np.nan)}, {}),
    "l has shape (1, 2, 2, 2)": ({"statistics_dir": (L[:1], S[:1], B[:1])}, {}),
    "skip_type is 'karras'": ({"skip_type": "karras"}, {}),
    "steps is 2.5": ({"steps": 2.5}, {}),
    "steps is 0": ({"steps": 0}, {}),
    "degenerated is 'no'": ({"degenerated": "no"}, {}),
    "exact is 3": ({"exact": 3}, {}),
    "indexes are for official arrays": ({"exact": True, "indexes": [0, 30, 60], "steps": 2}, {}),
    "steps + 1 = 3 numbers": ({"indexes": [0, 30, 59], "steps": 2}, {}),
    "t_start is 0.2 and t_end 0.4": ({"t_start": 0.2, "t_end": 0.4}, {}),
    "t_end is -1": ({"t_end": -1}, {}),
    "order is 4": ({}, {"order": 4}),
    "order is True": ({}, {"order": True}),
    "p_pseudo is 'yes'": ({}, {"p_pseudo": "yes"}),
    "use_corrector is 'full'": ({}, {"use_corrector": "full"}),
    "lower_order_final is 2": ({}, {"lower_order_final": 2}),
    "model_fn is None": ({}, {"model_fn": None}),
    "x is a list": ({}, {"x": [1.0]}),
    "x has dtype int64": ({}, {"x": np.zeros((1, 2, 2, 2), int)}),
    "The statistics are for latents of the size (2, 2, 2), but this latent is (1, 2, 3, 3)": ({}, {"x": np.zeros((1, 2, 3, 3))}),
}


@pytest.mark.parametrize("message", WRONG)
def test_bad_input_is_one_sentence(message):
    """Named option, value and mend, before the model is called."""
    made, sampled = WRONG[message]

    def model_fn(x, t):
        raise AssertionError("called")

    with pytest.raises(ValueError, match=re.escape(message)) as error:
        solver = DPM_Solver_v3(**({"statistics_dir": (L, S, B), "noise_schedule": SCHEDULE, "steps": 5} | made))
        solver.sample(**({"x": X, "model_fn": model_fn} | SAMPLE | sampled))
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_no_grid_from_an_open_end():
    """At zero terminal SNR λ begins at -∞, where arrays have no even λ; one's own Statistics run from there."""
    betas = np.linspace(0.001, 0.2, 100)
    table = np.cumprod(1 - betas)
    schedule = NoiseScheduleVP(alphas_cumprod=(table - table[-1]) / (table[0] - table[-1]) * table[0], clipped_lambda=None)
    v_model = model_wrapper(lambda x, t: 0.1 * x, schedule, "v")
    with pytest.raises(ValueError, match="λ goes from -inf"):
        DPM_Solver_v3(ems(), schedule, skip_type="time_uniform").sample(np.ones((1, 2, 2, 2)), v_model, **SAMPLE)
    out = DPM_Solver_v3(Statistics.closed_form(), schedule, skip_type="time_uniform").sample(np.ones((1, 2, 2, 2)), v_model, **SAMPLE)
    assert np.isfinite(out).all()
