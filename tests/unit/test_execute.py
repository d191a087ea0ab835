"""The executor: same numbers on every array type, hooks, no write into the caller's arrays, no synchronisation, stated cost."""

import math

import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers.choices import PRESETS
from dpm_solver_ext.solvers.execute import execute, walk
from dpm_solver_ext.solvers.lower import cheaper
from dpm_solver_ext.solvers.path import FLOW, PATHS, VE
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.schedule import karras
from dpm_solver_ext.solvers.sums import combine
from dpm_solver_ext.solvers.sums import unit as unit_beside
from dpm_solver_ext.solvers.tape import Affine, Arrive, Eval, Mark, Noise, Tape
from dpm_solver_ext.tests import models
from dpm_solver_ext.tests.unit.grids import TAPES, VARIANTS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

OPTIONS = [
    *(dict(p) for p in TAPES.values()),
    *VARIANTS,
    {"algorithm": "dpmsolver", "order": 4, "corrector": "unipc", "start": "extra"},
    {"algorithm": "dpmsolver", "order": 3, "eta": 0.5},
    {"order": 3, "method": "singlestep_fixed", "eta": 0.7, "noise_rule": "renoise"},
]
SHAPE = (2, 3, 4, 5)


def grid(path, n: int = 10) -> list[float]:
    return karras(n, 14.6, 0.03) if path is VE else [1 - i / n for i in range(n)] + [0.0]


def gaussian(path):
    """A denoiser of plain arithmetic, for NumPy and torch alike."""
    model = models.Gaussian()
    return lambda x, s: model.denoise(path, x, s)


def unit(x):
    """A noise source for runs from x: the same numbers in NumPy and torch, in the dtype and on the device of x."""

    def noise(a, b):
        n = np.random.default_rng(round(1e6 * b)).standard_normal(SHAPE)
        return n.astype(x.dtype) if isinstance(x, np.ndarray) else torch.from_numpy(n).to(x)

    return noise


def start(path, dtype=torch.float64) -> torch.Tensor:
    x = torch.from_numpy(np.random.default_rng(5).standard_normal(SHAPE)) * path.sigma(grid(path)[0])
    return x.to(dtype)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(map(str, o.values())))
@pytest.mark.parametrize("name", ["ve", "flow"])
def test_torch_equals_numpy(name, options):
    """float64 torch equals NumPy to 1e-12, float32 torch to 1e-5: guards the lerp and in-place forms of an affine record."""
    path = PATHS[name]
    tape = plan(path, grid(path), **options)
    x = start(path)
    exact = execute(tape, gaussian(path), x.numpy(), noise=unit(x.numpy()))
    double = execute(tape, gaussian(path), x, noise=unit(x))
    assert isinstance(exact, np.ndarray) and double.dtype == torch.float64
    np.testing.assert_allclose(double.numpy(), exact, rtol=0, atol=1e-12 * max(1, abs(exact).max()))
    single = execute(tape, gaussian(path), x.float(), noise=unit(x.float()))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), exact, rtol=0, atol=1e-5 * max(1, abs(exact).max()))


def test_numpy_keeps_float32():
    """Python-float coefficients do not promote a float32 NumPy state."""
    tape = plan(FLOW, grid(FLOW), order=3)
    assert execute(tape, gaussian(FLOW), start(FLOW).float().numpy()).dtype == np.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_states_are_kept_in_float32(dtype):
    """A half-precision latent is float32 for the model and the history, and half again only at the end: rounding does not pile up."""
    tape = plan(FLOW, grid(FLOW, 30), order=2)
    x = start(FLOW, dtype)
    seen = []

    def denoise(y, s):
        seen.append(y.dtype)
        return gaussian(FLOW)(y, s).to(dtype)  # a host's model answers in its own precision

    marks = []
    out = execute(tape, denoise, x, mark=lambda step, y, d: marks.append((y.dtype, d.dtype)))
    assert out.dtype == dtype and set(seen) == {torch.float32}
    assert set(marks) == {(torch.float32, torch.float32)}
    exact = execute(tape, gaussian(FLOW), x.double())
    ulp = torch.finfo(dtype).eps * exact.abs().max()
    assert (out.double() - exact).abs().max() < 1.5 * ulp, "more than the rounding of the model's answers and of the result"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(map(str, o.values())))
def test_the_callers_state_is_never_written(options, dtype):
    """x is bit for bit what it was, and neither the result nor any marked state shares its memory unless it is x itself unchanged."""
    for path in (VE, FLOW):
        x = start(path, dtype)
        before = x.clone()
        out = execute(plan(path, grid(path, 6), **options), gaussian(path), x, noise=unit(x))
        assert torch.equal(x, before) and x._version == 0
        assert out.data_ptr() != x.data_ptr()


def test_predictions_are_never_written():
    """A model that hands out the same buffer's view, or its input, gets it back unwritten: hosts cache predictions."""
    kept = []

    def denoise(y, s):
        d = gaussian(FLOW)(y, s)
        kept.append((d, d.clone()))
        return d

    for options in OPTIONS:
        execute(plan(FLOW, grid(FLOW, 6), **options), denoise, start(FLOW), noise=unit(start(FLOW)))
    assert len(kept) > 50 and all(torch.equal(a, b) for a, b in kept)


def test_a_step_that_does_nothing():
    """A record that copies x (weight 1, one term) makes a new tensor: an in-place callback on it must not reach the caller's."""
    tape = Tape("copy", "ve", (1.0, 0.5), (Affine("x", (("x", 1.0),)),), ())
    x = torch.ones(3)
    out = execute(tape, gaussian(VE), x)
    assert torch.equal(out, x) and out.data_ptr() != x.data_ptr()
    for w in (0.25, -1.0):
        assert torch.equal(execute(Tape("scale", "ve", (1.0, 0.5), (Affine("x", (("x", w),)),), ()), gaussian(VE), x), w * x)


SUMS = [(0.3, 0.7), (0.2, 1.1, -0.3), (1.0, -0.5, 0.5), (2.0, -0.9, -0.1), (5.0, -4.0), (-0.5, 0.75, 0.75), (0.4, 0.4), (0.0, 1.0)]


@pytest.mark.parametrize("weights", SUMS)
def test_affine_records_are_their_sum(weights):
    """Sums that reach 1 (lerp) or not, cancelling and large weights: equal to the plain weighted sum to 1e-14, inputs unwritten."""
    torch.manual_seed(0)
    arrays = [torch.randn(7, dtype=torch.float64) for _ in weights]
    before = [a.clone() for a in arrays]
    evals = tuple(Eval(f"d{i}", "x", float(10 - i)) for i in range(1, len(weights)))
    record = Affine("x", tuple((f"d{i}" if i else "x", w) for i, w in enumerate(weights)))
    answers = iter(arrays[1:])
    out = execute(Tape("sum", "ve", (10.0, 1.0), (*evals, record), ()), lambda x, s: next(answers), arrays[0])
    want = sum(w * a for w, a in zip(weights, before, strict=True))
    assert (out - want).abs().max() < 1e-14 * 20
    assert all(torch.equal(a, b) for a, b in zip(arrays, before, strict=True))


# --- hooks ----------------------------------------------------------------------------------------------------------------------------


def test_hooks_are_called_in_order():
    """Each evaluation: denoise, then project on its result at that sigma; then mark with the state it was made at and the projected x0."""
    log = []
    sigmas = grid(FLOW, 4)
    x = start(FLOW)

    def denoise(y, s):
        log.append(("denoise", s, y))
        return gaussian(FLOW)(y, s)

    def project(d, s):
        log.append(("project", s, d))
        return d.clamp(-0.1, 0.1)

    def mark(step, y, d):
        log.append(("mark", step, y, d))

    execute(plan(FLOW, sigmas, order=2), denoise, x, project=project, mark=mark)
    assert [e[0] for e in log] == ["denoise", "project", "mark"] * 4
    for i, s in enumerate(sigmas[:-1]):
        asked, cut, done = log[3 * i : 3 * i + 3]
        assert asked[1] == cut[1] == s and done[1] == i
        assert done[2] is asked[2], "the state the evaluation was made at"
        assert torch.equal(done[3], cut[2].clamp(-0.1, 0.1)), "the prediction in use"
    assert log[0][2] is x


def test_project_is_used():
    """With every prediction replaced by a constant c the run ends at c: a projection that is called and dropped fails. (But for
    DPM-Solver-v3, which ends where such data of its statistics would.)"""
    for options in (o for o in OPTIONS if o.get("algorithm") != "dpmsolver-v3"):
        x, tape = start(FLOW), plan(FLOW, grid(FLOW, 5), **options)
        out = execute(tape, gaussian(FLOW), x, project=lambda d, s: torch.full_like(d, 0.375), noise=unit(x))
        assert (out - 0.375).abs().max() < 1e-12


def noisy() -> Tape:
    """One stochastic step, by hand: x = 0.5 x + 0.5 d + 0.25 noise."""
    return Tape(
        "by hand",
        "ve",
        (2.0, 1.0),
        (Eval("d", "x", 2.0), Mark(0, "x", "d"), Affine("x", (("x", 0.5), ("d", 0.5))), Noise("x", 0.25, 2.0, 1.0)),
        (),
    )


@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_noise_hook(library):
    """A Noise record asks for its interval once and adds coefficient times what it gets."""
    x = torch.full((4,), 3.0, dtype=torch.float64)
    n = torch.arange(4.0, dtype=torch.float64)
    if library == "numpy":
        x, n = x.numpy(), n.numpy()
    asked = []

    def noise(a, b):
        asked.append((a, b))
        return n

    out = execute(noisy(), lambda y, s: y - 1, x, noise=noise)
    assert asked == [(2.0, 1.0)]
    assert np.allclose(np.asarray(out), 2.5 + 0.25 * np.arange(4.0), atol=1e-15)
    assert np.array_equal(np.asarray(n), np.arange(4.0)) and float(x[0]) == 3.0


def test_noise_goes_into_a_fresh_sum_only():
    """In place where the sum before it is nobody else's; a state that a hook has seen in between stays as it was seen."""
    for between in ((), (Arrive(1, "x"),)):
        records = (Eval("d", "x", 2.0), Affine("x", (("x", 0.5), ("d", 0.5))), *between, Noise("x", 0.25, 2.0, 1.0))
        tape, seen, n = Tape("by hand", "ve", (2.0, 1.0), records, ()), [], torch.arange(4.0)
        arrive = (lambda y, s, i, seen=seen: seen.append((y, 1 * y))) if between else None
        with Ledger(16) as book:
            out = execute(tape, lambda y, s: y - 1, torch.full((4,), 3.0), noise=lambda a, b, n=n: n, arrive=arrive)
        assert torch.allclose(out, 2.5 + 0.25 * n) and torch.equal(n, torch.arange(4.0)) and all(torch.equal(a, b) for a, b in seen)
        assert len(seen) == len(between) and ("add_" in book.names) == (not between)


def test_a_missing_noise_source_is_one_sentence():
    """A tape with noise and no source says so in one sentence, not by a TypeError inside."""
    with pytest.raises(ValueError, match=r"^by hand adds noise, but no noise source was given; pass noise=.*\.$"):
        execute(noisy(), lambda y, s: y, torch.ones(2))


def test_interrupts_propagate():
    """An exception from mark (a host's interrupt), denoise or project stops the run at once and reaches the caller, BaseException too."""

    class Interrupt(BaseException):
        pass

    calls = []

    def mark(step, x, d):
        if step == 2:
            raise Interrupt

    def denoise(y, s):
        calls.append(s)
        return y

    with pytest.raises(Interrupt):
        execute(plan(VE, grid(VE)), denoise, start(VE), mark=mark)
    assert calls == grid(VE)[:3]


# --- arrivals and the generator -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(map(str, o.values())))
def test_every_sigma_is_arrived_at(options):
    """The hook arrive sees the state at each sigma in order, the last being the result; hooks that return None change nothing but
    the rounding of corrected states, which are sums of their own then."""
    sigmas, x, seen = grid(VE, 7), start(VE), []
    tape = plan(VE, sigmas, **options)
    plain = execute(tape, gaussian(VE), x, noise=unit(x))
    out = execute(tape, gaussian(VE), x, noise=unit(x), arrive=lambda y, s, step: seen.append((step, s, y.clone())))
    assert (out - plain).abs().max() < 1e-13
    steps = [step for step, _, _ in seen]
    inner = options.get("method") == "singlestep" and options.get("order", 2) > 1  # a step over several sigmas arrives at its end
    assert steps == sorted(set(steps)) and (inner or steps == list(range(8))) and steps[0] == 0 and steps[-1] == 7
    assert [s for _, s, _ in seen] == [sigmas[i] for i in steps]
    assert torch.equal(seen[0][2], x) and torch.equal(seen[-1][2], out)


def test_arrivals_are_corrected_states():
    """With a corrector the state at a sigma arrives after its correction; without one, it is what the next evaluation is made at."""
    for options, same in (({"order": 3, "start": "official"}, True), ({"order": 3, "corrector": "unipc"}, False)):
        asked, seen = [], []

        def denoise(y, s, asked=asked):
            asked.append(y.clone())
            return gaussian(VE)(y, s)

        execute(plan(VE, grid(VE, 6), **options), denoise, start(VE), arrive=lambda y, s, step, seen=seen: seen.append(y.clone()))
        assert torch.equal(asked[0], seen[0]) and len(asked) == 6 and len(seen) == 7
        assert [torch.equal(a, b) for a, b in zip(asked[1:], seen[1:], strict=False)] == [same] * 5


@pytest.mark.parametrize("options", [{"order": 3}, {"order": 2, "method": "singlestep_fixed"}, {"corrector": "unipc"}], ids=str)
def test_a_state_replaced_on_arrival_is_used(options):
    """What arrive returns is the state from there on, at every step and at the last; the caller's x stays as it was."""
    x, sigmas = start(VE), grid(VE, 5)
    before = x.clone()
    last = execute(plan(VE, sigmas, **options), gaussian(VE), x, arrive=lambda y, s, step: y + 1 if step == 5 else None)
    assert (last - execute(plan(VE, sigmas, **options), gaussian(VE), x) - 1).abs().max() < 1e-13
    for step in range(5):
        fixed = torch.full_like(x, 2.0)
        swap = lambda y, s, i, step=step, fixed=fixed: fixed if i == step else None  # noqa: E731
        ends = [execute(plan(VE, sigmas, **options), lambda y, s: 0 * y, other, arrive=swap) for other in (x, 3 * x)]
        assert torch.equal(*ends), "of the state before nothing is left"  # with predictions of 0 all states are multiples of x
    assert torch.equal(x, before) and torch.equal(fixed, torch.full_like(x, 2.0))


def test_walk_hands_out_states_and_takes_predictions():
    """Driven by hand the generator gives execute's result: it yields (state, sigma), is sent x0, or [x0], and returns the final state."""
    for options in OPTIONS[:14]:
        tape, x = plan(FLOW, grid(FLOW, 5), **options), start(FLOW)
        for wrap in (lambda d: d, lambda d: [d]):
            run = walk(tape, x, noise=unit(x))
            sigmas = []
            state, sigma = next(run)
            try:
                while True:
                    sigmas.append(sigma)
                    state, sigma = run.send(wrap(gaussian(FLOW)(state, sigma)))
            except StopIteration as end:
                assert torch.equal(end.value, execute(tape, gaussian(FLOW), x, noise=unit(x)))
            assert sigmas == [r.sigma for r in tape.records if isinstance(r, Eval)]


def test_walk_takes_a_changed_state():
    """Sent [x0, state], the run goes on from that state (an inpainting host changes it between steps); the list is emptied."""
    tape, x = plan(VE, grid(VE, 4), order=2, start="official"), start(VE)
    run = walk(tape, x)
    state, sigma = next(run)
    answer = [gaussian(VE)(2 * state, sigma), 2 * state]
    run.send(answer)
    assert answer == []
    run.close()
    other = walk(tape, 2 * x)
    state, sigma = next(other)
    state, _ = other.send(gaussian(VE)(state, sigma))
    again = walk(tape, x)
    first, sigma = next(again)
    changed, _ = again.send([gaussian(VE)(2 * first, sigma), 2 * first])
    assert torch.equal(state, changed)


# --- cost -----------------------------------------------------------------------------------------------------------------------------

SYNCHRONISING = (
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "nonzero",
    "equal",
    "_to_copy",
    "copy_",
    "masked_select",
    "unique",
    "allclose",
)


class Ledger(TorchDispatchMode):
    """Every kernel outside the model: its name and the bytes it reads and writes, in units of the state."""

    def __init__(self, unit: int):
        super().__init__()
        self.unit, self.names, self.passes, self.off = unit, [], [], False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not self.off and func._schema.name not in ("aten::view", "aten::_unsafe_view"):  # a view is no kernel
            size = lambda tree: sum(t.numel() * t.element_size() for t in tree_leaves(tree) if isinstance(t, torch.Tensor))  # noqa: E731
            self.names.append(func._schema.name.removeprefix("aten::"))
            self.passes.append((size((args, kwargs)) + size(out)) / self.unit)
        return out


def ledger(path, n, watched=True, items=SHAPE[0], **options) -> Ledger:
    """Of a run on the meta device, where a state of 1 MB costs nothing and is summed as on a GPU."""
    x = torch.empty((items, 16, 128, 128), device="meta")
    book = Ledger(x.numel() * x.element_size())

    def denoise(y, s):
        book.off = True
        d = gaussian(path)(y, s)
        book.off = False
        return d

    def noise(a, b):
        book.off = True
        n = torch.empty_like(x)
        book.off = False
        return n

    tape = plan(path, grid(path, n), **options)
    arrive = (lambda y, s, step: None) if watched else None
    with book:
        execute(tape, denoise, x, mark=lambda step, y, d: None, arrive=arrive, noise=noise)
    return book


MEASURING = {"addcmul_", "sum", "linalg_vector_norm", "div", "nan_to_num", "clamp"}


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(map(str, o.values())))
@pytest.mark.parametrize("n", [10, 24])
def test_no_synchronisation(n, options):
    """No operator that reads a value back or copies between devices, in 10 steps or 24: on a GPU each would stall the queue."""
    for path in (VE, FLOW):
        names = ledger(path, n, **options).names
        assert len(names) >= n - 1
        assert not [name for name in names if any(name == s or name.startswith(s + ".") for s in SYNCHRONISING)]
        listed = {"new_ones", "lerp", "lerp_", "mul", "add", "add_", "addr", "clone"} | (
            MEASURING if options.get("slopes") == "measured" else set()
        )
        assert set(names) <= listed, "a kernel that the docstring does not list"


def test_the_ledger_sees_synchronisation():
    """The counter of the test above is alive: a float() on a tensor and a comparison are seen."""
    book = Ledger(1)
    with book:
        x = torch.ones(2)
        float(x[0])
        torch.equal(x, x)
        bool((x > 0).all())
    assert {"_local_scalar_dense", "equal"} <= set(book.names)


@pytest.mark.parametrize("name", ["ve", "flow"])
def test_two_m_costs_two_kernels_and_six_passes(name):
    """DPM-Solver++ 2M: 2 kernels and 6 tensor passes a step with history, 1 and 3 at the first-order ends, as execute.py states."""
    path = PATHS[name]
    kernels = {}
    for n in (20, 40):
        book = ledger(path, n, **PRESETS["dpmpp_2m"])
        assert set(book.names) <= {"new_ones", "addr", "lerp", "lerp_", "clone"} and book.names.count("addr") < 2, (
            "once a run, of one number"
        )
        kernels[n] = (len(book.names), sum(book.passes))
    assert kernels[40][0] - kernels[20][0] == 2 * 20, "2 kernels a step"
    assert kernels[40][1] - kernels[20][1] == 6 * 20, "6 passes a step"
    assert kernels[20][0] <= 2 * 20 + 2 and kernels[20][1] <= 6 * 20 + 2, "a number once a run besides"


# Tensor passes a step where nobody waits for arrivals; in brackets what reading all once and writing all once would take.
PASSES = {
    "dpmpp_2m": 6,  # (4)
    "dpmpp_3m": 9,  # (5)
    "unipc": 9,  # (5)
    "auto": 18,  # (7)
    "dpm_solver_v3": 12,  # (6)
    "dpmpp_2m_sde": 9,  # (5)
    "dpmpp_3m_sde": 12,  # (6)
    "dpmpp_2s": 4.5,  # (3.5)
    "dpmpp_3s": 6,  # (4)
    "dpm_fast": 6,  # (4)
}


@pytest.mark.parametrize("name", PASSES)
def test_passes_of_a_step(name):
    """What benchmarks/cost.py measures in ComfyUI: a correction and the step after it are one sum, a stored evaluation costs one kernel.
    Somebody who waits for arrivals gets the corrected states, and pays for them."""
    cost = {w: [sum(ledger(VE, n, w, items=1, **TAPES[name]).passes) for n in (24, 48)] for w in (False, True)}
    assert (cost[False][1] - cost[False][0]) / 24 == pytest.approx(PASSES[name], abs=1e-3), "beside numbers of an item"
    dearer = "corrector" in TAPES[name] or name in ("dpmpp_3m", "dpm_fast")
    assert (cost[True][1] > cost[False][1]) == dearer, "the corrected states are made, and all evaluations stored"


def test_several_items_are_measured_in_two_passes_more():
    """<a, b> of several items takes an array of products; of one it is one kernel."""
    one, more = (ledger(VE, 12, False, items=k, **PRESETS["auto"]).names for k in (1, 2))
    measures = one.count("linalg_vector_norm")
    assert one.count("dot") == more.count("sum") == measures > 5 and more.count("dot") == one.count("sum") == 0


def test_a_cheaper_tape_is_the_same_sum():
    """By hand: a store, a correction and a step after a mark, and the store's register used again: the same end from fewer records."""
    records = (
        Eval("d", "x", 2.0), Mark(0, "x", "d"), Affine("v", (("x", 0.5), ("d", -4.0))), Affine("x", (("x", 1.0), ("v", 0.25))),
        Affine("x", (("x", 0.5), ("v", 3.0), ("d", 2.0))), Eval("e", "x", 1.0), Affine("x", (("e", 1.0), ("v", 2.0))),
        Affine("v", (("e", 3.0),)), Affine("y", (("v", 1.0),)), Affine("x", (("x", 1.0), ("y", 1.0))),
    )  # fmt: skip
    tape, x = Tape("by hand", "ve", (2.0, 0.0), records, ()), torch.tensor([3.0, -1.0], dtype=torch.float64)
    made = cheaper(tape)
    assert tape.records == records and cheaper(tape) is made and len(made.records) == 7
    assert made.records[2] == Affine("v", (("d", 1.0), ("x", -0.125))), "in units of its largest weight"
    assert made.records[-1] == Affine("x", (("x", 1.0), ("e", 3.0))), "what no later step reads is not stored"
    marked = []
    out = execute(tape, lambda y, s: y * y + s, x, mark=lambda step, y, d: marked.append(y.tolist()))
    d = x * x + 2
    v = 0.5 * x - 4 * d
    state = 0.5 * (x + 0.25 * v) + 3 * v + 2 * d
    assert torch.allclose(out, 4 * (state * state + 1) + 2 * v, rtol=1e-14, atol=0) and marked == [[3.0, -1.0]]


def test_cost_of_an_affine_record():
    """n terms cost 3(n-1) passes in n-1 kernels, as execute.py says: coefficients that sum to 1, one of which is 1, or neither."""
    for weights in ((0.4, 0.6), (0.5, 0.7, -0.2), (0.5, 0.7, -0.2, 0.0), (0.4, 0.4), (0.4, 0.4, 0.4), (0.4, 1.0, 0.4), (5.0, -4.0)):
        evals = tuple(Eval(f"d{i}", "x", float(10 - i)) for i in range(1, len(weights)))
        record = Affine("x", tuple((f"d{i}" if i else "x", w) for i, w in enumerate(weights)))
        arrays = [torch.ones(2**18) for _ in weights]
        answers = iter(arrays[1:])
        with Ledger(arrays[0].numel() * arrays[0].element_size()) as book:
            execute(Tape("sum", "ve", (10.0, 1.0), (*evals, record), ()), lambda x, s, a=answers: next(a), arrays[0])
        assert book.names[:2] == ["new_ones", "addr"], "one number once a run, beside x: it is counted as if it read x"
        del book.names[:2], book.passes[:2]
        assert (round(sum(book.passes), 2), len(book.names)) == (3 * len(weights) - 3, len(weights) - 1), (weights, book.names)


@pytest.mark.parametrize("shape", [(), (0,), (5,), (1, 3, 4, 5), (2, 3, 4, 5)], ids=str)
def test_sums_of_any_shape_and_layout(shape):
    """Two weights that neither sum to 1 nor hold one, of arrays of any shape, in other layouts, and with gradients: the plain sum."""
    torch.manual_seed(0)
    a, b = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    want, one = 0.3 * a - 1.7 * b, a.new_ones(1)
    arrays = [(a, b)]
    if len(shape) == 4:
        arrays += [(a.to(memory_format=torch.channels_last), b), (a, b.mT.contiguous().mT)]
    for p, q in arrays:
        p = p.requires_grad_()
        total = combine([(0.3, p), (-1.7, q)], one)
        assert total.shape == want.shape and torch.allclose(total, want, rtol=1e-15, atol=1e-15)
        assert torch.allclose(combine([(0.3, p), (-1.7, q)]), want, rtol=1e-15, atol=1e-15), "where a kernel for two is not known"
        (grad,) = torch.autograd.grad(total.sum(), p)
        assert torch.equal(grad, torch.full_like(a, 0.3))


@pytest.mark.parametrize("when", ["the whole run", "from the second sum on"])
def test_autocast_leaves_the_state_alone(when):
    """A1111 samples within torch.autocast("cuda"), which does matrix products, `addr` among them, in half precision: no state may become
    that. On tensors without values, as a machine without a GPU has them."""
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        a, b = (torch.empty(1, 4, 64, 64, device="cuda") for _ in range(2))
        one = unit_beside(a)
        assert one is not None and combine([(0.7, a), (0.9, b)], one).dtype == torch.float32
        torch.set_autocast_enabled("cuda", True)  # torch.autocast itself does nothing where there is no GPU
        try:
            assert a.view(1, -1).addr(a.new_ones(1), b.view(-1)).dtype == torch.float16, "the ruler: this is what must not happen"
            one = unit_beside(a) if when == "the whole run" else one
            for weights in ((0.7, 0.9), (0.7, 0.3), (0.7, 1.0)):
                assert combine(list(zip(weights, (a, b), strict=True)), one).dtype == torch.float32
        finally:
            torch.set_autocast_enabled("cuda", False)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(map(str, o.values())))
def test_no_operator_of_a_run_is_autocast(options):
    """The same of all that a run calls: its records' results are float32 throughout, as `mark` and the end see them."""
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        x = torch.empty(2, 4, 32, 32, device="cuda")
        seen = []
        torch.set_autocast_enabled("cuda", True)
        try:
            out = execute(
                plan(VE, grid(VE), **options),
                lambda y, s: y * 0.9,
                x,
                noise=lambda a, b: torch.empty_like(x),
                mark=lambda i, y, d: seen.extend([y.dtype, d.dtype]),
            )
        finally:
            torch.set_autocast_enabled("cuda", False)
        assert {out.dtype, *seen} == {torch.float32}


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(map(str, o.values())))
def test_runs_without_values(options):
    """The whole run works on the meta device, where no tensor has a value: proof that nothing is read."""
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.empty(SHAPE, device="meta", dtype=dtype)
        out = execute(plan(FLOW, grid(FLOW), **options), gaussian(FLOW), x, noise=unit(x))
        assert out.device.type == "meta" and out.shape == SHAPE and out.dtype == dtype


def test_gradients_are_the_hosts_business():
    """Under autograd the result carries the gradient to x: in-place kernels act on fresh tensors only (needed for guidance by gradient)."""
    for options in OPTIONS:
        x, tape = start(FLOW)[:1].requires_grad_(), plan(FLOW, grid(FLOW, 5), **options)

        def end(y, tape=tape):
            return execute(tape, gaussian(FLOW), y, noise=lambda a, b: unit(y)(a, b)[:1])

        (grad,) = torch.autograd.grad(end(x).sum(), x)
        step = 1e-5 * torch.ones_like(grad)
        with torch.no_grad():
            slope = float((end(x + step) - end(x - step)).sum() / 2e-5)
        assert math.isclose(float(grad.sum()), slope, rel_tol=1e-5, abs_tol=1e-7), options


def test_what_cannot_run_is_said_before_the_first_model_call():
    """No noise source for a tape that adds noise, or a state of integers: one sentence, and the model has not been called."""
    called = []
    noisy, plain = plan(VE, [8.0, 4.0, 0.0], eta=1.0), plan(VE, [8.0, 4.0, 0.0])
    with pytest.raises(ValueError, match="no noise source"):
        execute(noisy, lambda x, s: called.append(s), np.zeros((1, 4)))
    for x in (np.zeros((1, 4), dtype=np.int64), torch.zeros(1, 4, dtype=torch.int32)):
        with pytest.raises(ValueError, match="x holds int"):
            execute(plain, lambda x, s: called.append(s), x)
    assert called == []


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_half_precision_state_is_float32_in_between(kind):
    """float16 in and out, float32 states for the model, whatever the model returns, in NumPy as in torch."""
    seen = []

    def denoise(x, s):
        seen.append(str(x.dtype).rpartition(".")[2])
        return (x * 0.5).half() if kind == "torch" else (x * 0.5).astype(np.float16)

    x = np.ones((2, 3), dtype=np.float16)
    out = execute(plan(VE, [8.0, 4.0, 1.0, 0.1]), denoise, torch.from_numpy(x) if kind == "torch" else x)
    assert set(seen) == {"float32"} and str(out.dtype).rpartition(".")[2] == "float16"


def test_a_prediction_of_another_shape_is_refused():
    """It would broadcast: a model that answers for one item of two, or with no array, gets one sentence."""
    tape = plan(VE, [8.0, 4.0, 0.0])
    for x in (np.zeros((2, 3)), torch.zeros(2, 3)):
        with pytest.raises(ValueError, match=r"prediction is of shape \(1, 3\), the state of shape \(2, 3\)"):
            execute(tape, lambda x, s: x[:1], x)
        with pytest.raises(ValueError, match="prediction is a tuple"):
            execute(tape, lambda x, s: (x,), x)
