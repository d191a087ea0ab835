"""DPM-Solver-v3 on statistics of every kind: what it must equal, its order, its proof, and the executor on frequencies.

The table of orders (`family`) has its rows on states of one axis; here are latents. Official figures: test_official_v3.
"""

import functools
import itertools
import json
import os
from dataclasses import replace

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers import proof
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.path import FLOW, PATHS, VE, VP
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.statistics import RINGS, Curve, Statistics, ring_map
from dpm_solver_ext.solvers.tape import Affine, Eval, Field, TapeError
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit import test_order as orders
from dpm_solver_ext.tests.unit.grids import smooth_statistics
from dpm_solver_ext.tests.unit.test_execute import SYNCHRONISING, Ledger

BINS = {"scalar": (), "channel": (2,), "radial": (2, RINGS), "element": (2, 2, 2)}  # for latents (batch, 2, 2, 2)
PLANS = {
    "ve": [14.6, 5.0, 2.5, 1.2, 0.5, 0.12, 0.0],
    "vp": [8.0, 5.0, 2.6, 1.2, 0.6, 0.3, 0.1],
    "flow": [1.0, 0.93, 0.84, 0.65, 0.4, 0.15, 0.0],
}


def v3(path, sigmas, statistics, **options):
    return plan(path, sigmas, algorithm="dpmsolver-v3", statistics=statistics, **options)


def constant(l, s):
    """l and s that change neither with λ nor over bins."""
    one = np.ones(2)
    return Statistics("scalar", np.array([-1.0, 1.0]), l * one, s * one, 0 * one, tail="constant")


def toy(path, shape=(4, 2, 2, 2)):
    """(denoise, states at σ = 1 times σ of the start) of the golden mixture as a latent."""
    model = models.toy()
    return lambda x, s: model.denoise(path, np.asarray(x).reshape(len(x), 8), s).reshape(np.shape(x))


def noise(shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


# --- what it must equal ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(("algorithm", "l", "s"), [("dpmsolver++", 1.0, 0.0), ("dpmsolver", 0.0, -1.0)])
def test_degenerate_statistics_are_the_older_solvers(algorithm, l, s, name):
    """l = 1, s = b = 0 is DPM-Solver++ and l = 0, s = -1, b = 0 DPM-Solver, to 1e-10: every order, weight, start, rule and corrector, on
    every path with its infinite ends, and encoding up to a finite λ."""
    path, denoise = PATHS[name], toy(PATHS[name])
    grids = PLANS[name], [t for t in PLANS[name][::-1] if 0 < path.alpha(t) and t > 0]
    choices = itertools.product((1, 2, 3, 4), ("dpmsolver", "taylor", "pseudo"), ("none", "unipc", "v3", "v3_pseudo"))
    for i, (order, solver_type, corrector) in enumerate(choices):
        if i % 5 > 2 and order > 2:
            continue
        sigmas, final_rule = grids[i % 2], ("smooth", "none")[i // 2 % 2]
        if (algorithm, solver_type, final_rule, sigmas[-1]) == ("dpmsolver", "taylor", "none", 0.0):
            continue  # there DPM-Solver takes its last step to σ = 0 at full order, ε being what it needs at the end
        options = {"order": order, "solver_type": solver_type, "corrector": corrector, "final_rule": final_rule}
        options["start"] = "extra" if corrector == "unipc" and order > 2 else "official" if final_rule == "none" else "corrected"
        x = noise((4, 2, 2, 2)) * path.sigma(sigmas[0])
        want = execute(plan(path, sigmas, algorithm=algorithm, **options), denoise, x)
        got = execute(v3(path, sigmas, constant(l, s), **options), denoise, x)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-10 * max(1, np.abs(want).max()), err_msg=str(options))


def spread(statistics, kind, bins):
    """Scalar statistics written out for every bin of another kind; b of rings is their mean's."""
    l, s, b = (np.broadcast_to(a.reshape(-1, *[1] * len(bins)), (len(a), *bins)).copy() for a in (statistics.l, statistics.s, statistics.b))
    if kind == "radial":
        b[:, :, 1:] = 0
    return Statistics(kind, statistics.lam, l, s, b)


SHAPES = [(3, 2, 2, 2), (1, 3, 5, 7), (2, 1, 8, 3), (2, 2, 3, 6, 9), (1, 2, 2, 2, 5, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_kinds_agree_where_their_statistics_do(shape, library):
    """The same l, s and b for every bin: scalar, channel, element and radial runs are one run, in latents of every size, odd, narrow and
    with axes of time; so b acts as one number on all elements and at frequency 0."""
    st = smooth_statistics("scalar", ())
    x = 3.0 * noise(shape)
    x = torch.from_numpy(x) if library == "torch" else x
    nonlinear = torch.tanh if library == "torch" else np.tanh
    kinds = {"channel": shape[1:2], "element": shape[1:], "radial": (shape[1], RINGS)}
    for options in ({"order": 3, "corrector": "unipc"}, {"order": 2, "corrector": "v3_pseudo", "solver_type": "taylor"}):
        ends = {}
        for kind, bins in ({"scalar": ()} | kinds | {"rings": (shape[1], 5)}).items():
            own = st if kind == "scalar" else spread(st, "radial" if kind == "rings" else kind, bins)
            ends[kind] = execute(v3(VE, PLANS["ve"], own, **options), lambda y, s: nonlinear(y) / (1 + s), x)
        for kind, end in ends.items():
            assert type(end) is type(x) and end.dtype == x.dtype and end.shape == x.shape
            np.testing.assert_allclose(np.asarray(end), np.asarray(ends["scalar"]), rtol=0, atol=1e-12 * 10, err_msg=kind)


def test_radial_statistics_solve_images_with_a_spectrum():
    """For Gaussian data with its own variance in every ring of frequencies, and a mean, l = 1/(1+c² e^{2λ}) and s = -2(1-l) leave nothing
    to integrate: three steps of order 1 land on the exact end, at any size. A ring in the wrong place, a weight on the wrong frequency
    or a transform scaled wrongly would be seen."""
    rng, knots = np.random.default_rng(2), np.linspace(-3, 3, 121)
    c, mean = rng.uniform(0.2, 2.0, (3, RINGS)), np.array([0.5, -1.0, 2.0])
    l = 1 / (1 + c**2 * np.exp(2 * knots)[:, None, None])
    st = Statistics("radial", knots, l, -2 * (1 - l), 0 * l)
    for shape, name in (((2, 3, 6, 10), "ve"), ((1, 3, 9, 5), "vp"), ((1, 3, 2, 7, 8), "flow")):
        path, rings, m = PATHS[name], ring_map(*shape[-2:]), mean.reshape(-1, *[1] * (len(shape) - 2))
        between = [1] * (len(shape) - 4)  # axes of time

        def filtered(x, gain, rings=rings, between=between):
            return np.fft.irfft2(np.fft.rfft2(x) * gain[:, rings].reshape(3, *between, *rings.shape), s=x.shape[-2:])

        def denoise(x, s, path=path, m=m, filtered=filtered):
            a, b = path.alpha(s), path.sigma(s)
            return m + filtered(x - a * m, a * c**2 / (a * a * c**2 + b * b))

        grid = [path.from_half_logsnr(v) for v in (-2.5, -1.0, 0.9, 2.5)]
        x = path.alpha(grid[0]) * m + noise(shape)
        first, last = (np.sqrt(path.alpha(r) ** 2 * c**2 + path.sigma(r) ** 2) for r in (grid[0], grid[-1]))
        want = path.alpha(grid[-1]) * m + filtered(x - path.alpha(grid[0]) * m, last / first)
        np.testing.assert_allclose(execute(v3(path, grid, st, order=1), denoise, x), want, rtol=0, atol=1e-5)


# --- order ----------------------------------------------------------------------------------------------------------------------------


def measured(path, statistics, counts, **options):
    """The order on the mixture of the table, its states as latents (16, 2, 2, 2)."""
    _, x, right = orders.problem("mixture", path.name)
    ends = [execute(v3(path, orders.grid(path, n), statistics, **options), toy(path), x.reshape(16, 2, 2, 2)) for n in counts]
    return orders.slope(counts, [orders.geometric(end.reshape(16, 8), right) for end in ends])


ROWS = [
    ("radial", VE, 2, {"order": 2}),
    ("radial", FLOW, 3, {"order": 3}),
    ("channel", VP, 3, {"order": 2, "corrector": "unipc"}),
    ("radial", VP, 3, {"order": 3, "corrector": "v3"}),
]


@pytest.mark.parametrize(("kind", "path", "claimed", "options"), ROWS)
def test_order_on_latents(kind, path, claimed, options):
    """Finite λ ends, statistics fixed and different in every bin, uneven steps that go to 0: the order is the claim's, in every basis."""
    found = measured(path, smooth_statistics(kind, BINS[kind]), (36, 60), **options)
    assert claimed - 0.4 < found < claimed + 0.5, found


def test_corrector_v3_of_order_two():
    """Order 2 and more: 2.5 here, 1.9 from 150 steps on."""
    found = measured(VE, smooth_statistics("scalar", ()), (100, 160), order=2, corrector="v3")
    assert found > 1.7


@pytest.mark.parametrize("order", [2, 3])
def test_convergence_to_sigma_zero(order):
    """From σ = 80 to 0 with l → 0 at the data, as models have it: the error falls about as steps², ever nearer to the exact end. The last
    finite σ (.006, .003) is short of the last knot."""
    counts, lam, c = (57, 113), np.linspace(-5.0, 8.0, 53)[:, None], np.array([0.7, 1.3])
    l = 1 / (1 + c**2 * np.exp(2 * lam))
    st = Statistics("channel", lam[:, 0], l, -0.5 + 0 * l, 0.2 * l)
    model, x = models.Gaussian(0.4, 0.25), 80.0 * noise((16, 2, 2, 2), 2) + 0.4
    right, wrong = model.solution(VE, x, 80.0, 0.0).reshape(16, 8), []
    for n in counts:
        tape = v3(VE, orders.open_grid(VE, n, 1.25), st, order=order)
        wrong.append(orders.geometric(execute(tape, lambda y, r: model.denoise(VE, y, r), x).reshape(16, 8), right))
    assert 1.6 < orders.slope(counts, wrong) < 2.6, wrong


# --- the proof ------------------------------------------------------------------------------------------------------------------------


def caught(tape):
    try:
        proof.check(tape)
    except TapeError as error:
        assert "\n" not in str(error)
        return True
    return False


def with_record(tape, place, record):
    return replace(tape, records=(*tape.records[:place], record, *tape.records[place + 1 :]))


@functools.cache
def tape_of(kind, corrector="unipc"):
    return v3(VE, [14.6, 3.0, 0.8, 0.2, 0.06, 0.0], smooth_statistics(kind, BINS[kind]), order=3, corrector=corrector, final_rule="none")


@pytest.mark.parametrize(
    ("kind", "corrector"), [("scalar", "v3_pseudo"), ("channel", "unipc"), ("radial", "none"), ("radial", "unipc"), ("element", "v3")]
)
def test_every_wrong_field_is_caught(kind, corrector):
    """Each coefficient of each record, the stored l among them, in turn a part in ten thousand off or shifted by one bin: TapeError. So is
    a bias left out, or a per cent off."""
    tape, tried = tape_of(kind, corrector), 0
    proof.check(tape)
    for place, record in enumerate(tape.records):
        if not isinstance(record, Affine):
            continue
        for i, (name, w) in enumerate(record.terms):
            if isinstance(w, Field):
                wrong = [Field(w.values * (1 + 1e-4)), Field(np.roll(w.values, 1))]
            else:
                wrong = [w * (1 + 1e-4)]
            for value in wrong:
                terms = (*record.terms[:i], (name, value), *record.terms[i + 1 :])
                assert caught(with_record(tape, place, replace(record, terms=terms))), (place, record, value)
                tried += 1
        if record.bias != 0.0:
            values = record.bias.values if isinstance(record.bias, Field) else record.bias
            for value in (0.0, Field(values * 1.01) if isinstance(record.bias, Field) else values * 1.01):
                assert caught(with_record(tape, place, replace(record, bias=value))), (place, record)
                tried += 1
    assert tried > 30


def test_other_statistics_are_caught():
    """Records made for other l, s or b than the tape's: each of them alone is noticed."""
    tape = tape_of("element")
    st = tape.statistics
    for name in ("l", "s", "b"):
        other = replace(st, **{name: getattr(st, name) + 1e-4 * np.sin(st.lam)[:, None, None, None]})
        assert caught(replace(tape, statistics=other)), name


# --- the executor ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BINS)
@pytest.mark.parametrize("name", PATHS)
def test_libraries_agree(kind, name):
    """float64 torch equals NumPy to 1e-12; float32 torch, NumPy and JAX, eagerly and (twice) under jax.jit, to 1e-5 of the size."""
    path = PATHS[name]
    tape = v3(path, PLANS[name], smooth_statistics(kind, BINS[kind]), order=2, corrector="unipc")
    x = noise((3, 2, 2, 2)) * path.sigma(PLANS[name][0])

    def denoise(y, s):
        tanh = torch.tanh if isinstance(y, torch.Tensor) else np.tanh if isinstance(y, np.ndarray) else jnp.tanh
        return 0.5 * y / (1 + s) + 0.3 * tanh(y)

    run = lambda y: execute(tape, denoise, y)  # noqa: E731
    want = run(x)
    scale = max(1, np.abs(want).max())
    np.testing.assert_allclose(run(torch.from_numpy(x)).numpy(), want, rtol=0, atol=1e-12 * scale)
    single = x.astype(np.float32)
    compiled = [(jnp.asarray, jax.jit(run))] if (name, kind) in (("ve", "element"), ("flow", "radial")) else []
    for make, call in ((torch.from_numpy, run), (np.asarray, run), (jnp.asarray, run), *compiled):
        end = call(make(single))
        assert str(end.dtype).rpartition(".")[2] == "float32" and tuple(end.shape) == x.shape
        np.testing.assert_allclose(np.asarray(end), want, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", BINS)
def test_half_precision_states(kind, dtype):
    """float32 between the evaluations, on frequencies too: what is lost is the rounding of the model's answers and of the result."""
    tape, seen = v3(VE, PLANS["ve"], smooth_statistics(kind, BINS[kind]), order=2), []
    x = (14.6 * torch.from_numpy(noise((2, 2, 2, 2)))).to(dtype)

    def denoise(y, s):
        seen.append(y.dtype)
        return torch.tanh(y.double()).to(dtype) if y.dtype != torch.float64 else torch.tanh(y)

    marks = []
    out = execute(tape, denoise, x, mark=lambda step, y, d: marks.append((y.dtype, d.dtype, y.shape)))
    assert out.dtype == dtype and set(seen) == {torch.float32} and set(marks) == {(torch.float32, torch.float32, x.shape)}
    exact = execute(tape, denoise, x.double())
    assert (out.double() - exact).abs().max() < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("kind", BINS)
def test_hooks_see_latents(kind):
    """Marks, arrivals and project get states and predictions of the latent's own, also where registers are frequencies; a state changed on
    arrival is the one that goes on; the caller's x is never written."""
    tape = v3(VE, PLANS["ve"], smooth_statistics(kind, BINS[kind]), order=3, corrector="unipc")
    x = torch.from_numpy(14.6 * noise((2, 2, 2, 2)))
    before, evaluated, marked, arrived = x.clone(), [], [], {}

    def denoise(y, s):
        evaluated.append(y.clone())
        return torch.tanh(y)

    def arrive(y, s, step):
        arrived[step] = y.clone()

    end = execute(tape, denoise, x, mark=lambda step, y, d: marked.append((y.clone(), d.clone())), arrive=arrive)
    for y, (state, d) in zip(evaluated, marked, strict=True):
        torch.testing.assert_close(state, y, rtol=0, atol=0)
        torch.testing.assert_close(d, torch.tanh(y), rtol=0, atol=0)
    assert sorted(arrived) == list(range(len(PLANS["ve"])))
    torch.testing.assert_close(arrived[len(PLANS["ve"]) - 1], end, rtol=0, atol=1e-14)
    assert torch.equal(x, before) and x._version == 0
    half = execute(tape, denoise, x, project=lambda d, s: d / 2)
    torch.testing.assert_close(half, execute(tape, lambda y, s: torch.tanh(y) / 2, x), rtol=0, atol=1e-14)
    marked.clear()
    moved = execute(tape, denoise, x, arrive=lambda y, s, step: y + 1 if step == 4 else None, mark=lambda *a: marked.append(a))
    assert (moved - end).abs().max() > 1e-3
    # from step 4 on it is what a run that comes there one higher does: the last arrival of a run that adds 1 at the end
    last = execute(tape, denoise, x, arrive=lambda y, s, step: y + 1 if step == len(PLANS["ve"]) - 1 else None)
    torch.testing.assert_close(last, end + 1, rtol=0, atol=1e-12)


def book_of(kind, n, **options):
    x = torch.from_numpy(noise((2, 2, 2, 2))).float()
    tape = v3(VE, [10.0 * (1 - i / n) ** 3 for i in range(n)] + [0.0], smooth_statistics(kind, BINS[kind], **options), order=2)
    book = Ledger(x.numel() * x.element_size())

    def denoise(y, s):
        book.off = True
        d = torch.tanh(y)
        book.off = False
        return d

    with book:
        execute(tape, denoise, x, mark=lambda step, y, d: None)
    return book


VIEWS = {"view", "select", "expand", "unsqueeze", "view_as_real", "view_as_complex"}  # of no cost on a device
# Kernels a step, without and with b. Rings: 2 transforms, and for each coefficient one that spreads it over the frequencies.
KERNELS = {"scalar": (4, 5), "channel": (5, 6), "element": (5, 6), "radial": (11, 16)}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", BINS)
def test_no_synchronisation_and_kernels_a_step(kind, bias):
    """What is read back or copied does not depend on the number of steps: the table of coefficients goes to the device once, before the
    first. A step of order 2 costs the kernels above, outside of the model."""
    books = {n: book_of(kind, n, bias=bias) for n in (12, 24)}
    slow = {n: [k for k in book.names if any(k == s or k.startswith(s + ".") for s in SYNCHRONISING)] for n, book in books.items()}
    assert slow[12] == slow[24] and len(slow[12]) <= 3, slow
    counts = {n: sum(k not in VIEWS for k in book.names) for n, book in books.items()}
    assert (counts[24] - counts[12]) / 12 == KERNELS[kind][bias]


@pytest.mark.parametrize("kind", BINS)
def test_runs_without_values_and_with_gradients(kind):
    """On the meta device nothing can be read; under autograd the end knows the start."""
    tape = v3(VE, PLANS["ve"], smooth_statistics(kind, BINS[kind]), order=2, corrector="unipc")
    empty = torch.empty((2, 2, 2, 2), device="meta", dtype=torch.bfloat16)
    out = execute(tape, lambda y, s: torch.tanh(y), empty)
    assert out.device.type == "meta" and out.shape == empty.shape and out.dtype == torch.bfloat16
    x = torch.from_numpy(noise((2, 2, 2, 2))).requires_grad_()
    (grad,) = torch.autograd.grad(execute(tape, lambda y, s: torch.tanh(y), x).sum(), x)
    assert bool(torch.isfinite(grad).all()) and float(grad.abs().sum()) > 0


WRONG = {
    "latents of 2 channels, but this latent is (1, 3, 4, 4)": ("radial", (1, 3, 4, 4)),
    "latents of 2 channels, but this latent is (1, 4)": ("channel", (1, 4)),
    "latents of the size (2, 2, 2), but this latent is (1, 2, 2, 4)": ("element", (1, 2, 2, 4)),
    "latents of the size (2, 2, 2), but this latent is (2,)": ("element", (2,)),
    "two spatial axes, but this one is (1, 2, 8)": ("radial", (1, 2, 8)),
    "two spatial axes, but this one is (1, 2, 8, 1)": ("radial", (1, 2, 8, 1)),
}


@pytest.mark.parametrize("message", WRONG)
def test_latents_that_do_not_fit(message):
    """One sentence with both sizes, before the model is called."""
    kind, shape = WRONG[message]
    tape = v3(VE, PLANS["ve"], smooth_statistics(kind, BINS[kind]))
    with pytest.raises(ValueError) as error:
        execute(tape, lambda y, s: 1 / 0, np.zeros(shape))
    assert message in str(error.value) and "\n" not in str(error.value) and str(error.value).endswith(".")


# --- tapes and statistics -------------------------------------------------------------------------------------------------------------


def test_a_tape_with_fields_as_text():
    """JSON names each Field by its size and hash and the statistics by theirs; the digest follows the numbers and not the objects; the
    summary shows the range of a weight. Registers: 4 for order 2, as with DPM-Solver."""
    st = smooth_statistics("radial", BINS["radial"])
    tape = v3(VE, PLANS["ve"], st, order=2)
    body = json.loads(tape.to_json())
    assert body["statistics"] == st.digest and len(st.digest) == 64
    fields = [w for r in body["records"] if r["op"] == "Affine" for _, w in r["terms"] if isinstance(w, dict)]
    assert len(fields) > 20 and all(w["bins"] == 2 * RINGS and len(w["sha256"]) == 64 for w in fields)
    assert any("bias" in r for r in body["records"])
    again = v3(VE, PLANS["ve"], smooth_statistics("radial", BINS["radial"]), order=2)
    other = v3(VE, PLANS["ve"], smooth_statistics("radial", BINS["radial"], seed=4), order=2)
    assert tape.digest == again.digest != other.digest
    assert tape.digest != v3(VE, PLANS["ve"], replace(st, b=0 * st.b), order=2).digest
    assert "…" in tape.summary() and tape.summary().count("order") >= len(PLANS["ve"]) - 1
    assert tape.peak_registers == plan(VE, PLANS["ve"], algorithm="dpmsolver", order=2).peak_registers == 4
    assert tape.evaluations == len([r for r in tape.records if isinstance(r, Eval)]) == len(PLANS["ve"]) - 1


def test_corrector_range():
    """The corrector acts where sigma lies in the range, ends included, and nowhere else."""
    st, sigmas = smooth_statistics("scalar", ()), PLANS["ve"]
    for corrector in ("unipc", "v3", "v3_pseudo"):
        tape = v3(VE, sigmas, st, order=2, corrector=corrector, corrector_range=(0.12, 2.5), start="official")
        twice = [c.sigma_to for before, c in zip(tape.claims, tape.claims[1:], strict=False) if before.sigma_to == c.sigma_to]
        assert twice == [s for s in sigmas if 0.12 <= s <= 2.5]


def test_what_v3_cannot_do_is_one_sentence():
    """Noise, another method, official UniPC's fault, statistics for another algorithm: named with the mend."""
    st, grid = Statistics.closed_form(), PLANS["ve"]
    for match, options in {
        "eta is 1": {"eta": 1.0},
        "which is a multistep solver": {"method": "singlestep"},
        "solver_type is bh1": {"solver_type": "bh1"},
        "corrector is official": {"corrector": "official"},
        "algorithm is dpmsolver": {"algorithm": "dpmsolver"},
    }.items():
        with pytest.raises(ValueError, match=match) as error:
            plan(VE, grid, **{"algorithm": "dpmsolver-v3", "statistics": st} | options)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_curves(shape):
    """Through its values, with a continuous slope, constant outside, and with the integral of just that."""
    rng = np.random.default_rng(4)
    knots = np.sort(rng.uniform(-2, 2, 9))
    values = rng.standard_normal((9, *shape))
    curve = Curve(knots, values)
    np.testing.assert_allclose(curve.value(knots), values, atol=1e-14)
    h = 1e-6
    left, right = (curve.value(knots) - curve.value(knots - h)) / h, (curve.value(knots + h) - curve.value(knots)) / h
    np.testing.assert_allclose(left[1:-1], right[1:-1], atol=1e-3)
    np.testing.assert_allclose(curve.value(np.array([-9.0, 9.0])), values[[0, -1]], atol=1e-14)
    fine = np.linspace(-4, 4, 80001)
    at = curve.value(fine)
    area = np.concatenate([np.zeros((1, *shape)), np.cumsum((at[1:] + at[:-1]) / 2, axis=0) * (fine[1] - fine[0])])
    found = curve.primitive(fine) - curve.primitive(fine[:1])
    np.testing.assert_allclose(found, area, atol=1e-6)


def test_curves_follow_smooth_functions():
    """Between the first and the last intervals, whose outer slopes are 0, the error falls as the third power of the distance of knots."""
    wrong = []
    for n in (20, 40):
        knots, at = np.linspace(-2, 2, n + 1), np.linspace(-1.75, 1.75, 997)
        wrong.append(np.abs(Curve(knots, np.tanh(knots)[:, None]).value(at)[:, 0] - np.tanh(at)).max())
    assert wrong[1] < wrong[0] / 6 and wrong[1] < 1e-4, wrong


@pytest.mark.parametrize(("height", "width"), [(2, 2), (8, 8), (7, 12), (64, 64), (96, 5)])
def test_rings(height, width):
    """0 for the mean alone, growing with the frequency, the same frequency the same ring whatever the size."""
    rings = ring_map(height, width)
    assert rings.shape == (height, width // 2 + 1) and rings[0, 0] == 0 and (rings == 0).sum() == 1 and rings.max() <= RINGS - 1
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    assert (np.diff(rings.ravel()[np.argsort(radius, axis=None)]) >= 0).all()
    if height % 2 == width % 2 == 0:  # fy, fx = 1/2
        assert rings[height // 2, 0] == ring_map(2, 2)[1, 0] and rings[height // 2, width // 2] == ring_map(2, 2)[1, 1] == RINGS - 1


def test_statistics_that_are_none():
    """One sentence each."""
    knots, one = np.linspace(-1, 1, 5), np.ones(5)
    for match, arguments in {
        "choose one of scalar": ("ring", knots, one, one, one),
        "of kind channel have knots": ("channel", knots, one, one, one),
        "l \\(5,\\), s \\(4,\\)": ("scalar", knots, one, one[:4], one),
        "rising": ("scalar", knots[::-1], one, one, one),
        "NaN": ("scalar", knots, one * np.nan, one, one),
    }.items():
        with pytest.raises(ValueError, match=match) as error:
            Statistics(*arguments)
        assert "\n" not in str(error.value)
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="data_std is"):
            Statistics.closed_form(bad)


def test_statistics_of_one_bin_know_their_latents():
    """One channel: the coefficients are plain numbers, and still the latent must have that one channel."""
    tape = v3(VE, [10.0, 2.0, 0.5], smooth_statistics("channel", (1,)))
    execute(tape, lambda y, s: 0 * y, np.ones((2, 1, 4)))
    with pytest.raises(ValueError, match=r"latents of 1 channels, but this latent is \(2, 3, 4\)"):
        execute(tape, lambda y, s: 0 * y, np.ones((2, 3, 4)))


def test_no_error_floor_below_the_last_knot():
    """Evaluations below the lowest calibrated noise level: l and s go on as a density's, so the run converges at order 2 all the same."""
    counts, lam, c = (40, 80, 160), np.linspace(-5.0, 2.5, 31)[:, None], np.array([0.7, 1.3])
    l = 1 / (1 + c**2 * np.exp(2 * lam))
    st = Statistics("channel", lam[:, 0], l, -0.5 + 0 * l, 0 * l)
    model, x, wrong = models.Gaussian(0.4, 0.25), noise((16, 2, 2, 2), 2), []
    right = model.solution(FLOW, x, 1.0, 0.0).reshape(16, 8)
    for n in counts:
        tape = v3(FLOW, [1 - i / n for i in range(n)] + [0.0], st, order=2)
        wrong.append(np.abs(execute(tape, lambda y, r: model.denoise(FLOW, y, r), x).reshape(16, 8) - right).max())
    assert wrong[1] < 0.45 * wrong[0] and wrong[2] < 0.45 * wrong[1], wrong


@pytest.mark.parametrize("how", ["short", "nan", "no bias", "bias"])
def test_corrupt_fields_of_many_bins_are_caught(how):
    """Radial statistics of four channels, as latents have: fields that do not fit, or a bias that is missing or too large."""
    st = smooth_statistics("radial", (4, 33))
    tape = v3(VE, [10.0, 4.0, 1.5, 0.5, 0.2], st, order=2)
    place, record = next((p, r) for p, r in enumerate(tape.records) if isinstance(r, Affine) and isinstance(r.bias, Field))
    values = record.terms[0][1].values
    wrong = {
        "short": {"terms": ((record.terms[0][0], Field(values[:-1])), *record.terms[1:])},
        "nan": {"terms": ((record.terms[0][0], Field(np.where(np.arange(len(values)) == 77, np.nan, values))), *record.terms[1:])},
        "no bias": {"bias": 0.0},
        "bias": {"bias": Field(1.01 * record.bias.values)},
    }[how]
    assert not caught(tape) and caught(with_record(tape, place, replace(record, **wrong)))
    assert caught(replace(tape, statistics=None))


def test_moments_are_no_statistics():
    """The natural slip, a calibration that was not fitted, is one sentence."""
    with pytest.raises(ValueError, match=r"^statistics is a dict; give Statistics, as fit\(moments\) makes them of a calibration\.$"):
        plan(VE, [10.0, 2.0, 0.5], algorithm="dpmsolver-v3", statistics={})
