"""Calibration measures what it should: on models whose statistics are known, in every scaling, kind, batch and order of work."""

import math

import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers import ems_paths
from dpm_solver_ext.solvers.ems import NAMES, Moments, merge
from dpm_solver_ext.solvers.ems_calibrate import calibrate, cost
from dpm_solver_ext.solvers.ems_fit import fit
from dpm_solver_ext.solvers.ems_paths import node_sigmas
from dpm_solver_ext.solvers.ems_pool import bins_of, usable_kind
from dpm_solver_ext.solvers.path import FLOW, VE, VP
from dpm_solver_ext.solvers.statistics import ring_map

SHAPE = (2, 9, 12)
RANGE = {"sigma_max": 12.0, "sigma_min": 0.05}
PATHS = {"ve": (VE, 12.0, 0.05), "vp": (VP, 12.0, 0.05), "flow": (FLOW, 12 / 13, 0.05 / 1.05)}


class Prompted:
    """Gaussian data whose mean differs with the sample, plus an offset that does not go away with the noise. Per bin of `variance`
    (broadcast against rfft2 coefficients, or elements): x0 = (1-l) (y - mean) + mean + offset, so f = -l mean - offset."""

    def __init__(self, path, variance, shape=SHAPE, offset=0.0, radial=True):
        self.path, self.variance, self.shape, self.offset, self.radial, self.calls, self.numbers = (
            path,
            variance,
            shape,
            offset,
            radial,
            0,
            [],
        )

    def begin(self, numbers):
        self.numbers = numbers
        self.mean = np.stack([np.random.default_rng([5, n]).standard_normal(self.shape) for n in numbers])

    def __call__(self, x, s):
        self.calls += 1
        alpha, sigma = self.path.alpha(s), self.path.sigma(s)
        gain = alpha * self.variance / (alpha**2 * self.variance + sigma**2)
        x = x - alpha * self.mean
        x = np.fft.irfft2(gain * np.fft.rfft2(x), self.shape[-2:]) if self.radial else gain * x
        return x + self.mean + self.offset


def curved(x, s):
    """A model without any symmetry: what is wrong with an order, a seed or a batch shows."""
    xp = torch if torch.is_tensor(x) else np
    return xp.tanh(0.3 * x + 0.2 * xp.roll(x, 1, -1)) / (1 + 0.1 * s) + 0.1


def measure(model, **options):
    options = {"samples": 3, "nodes": 8, "batch": 3, **RANGE, **options}
    return calibrate(model, options.pop("path", VE), options.pop("shape", SHAPE), **options)


def assert_equal(a, b, tolerance=1e-12):
    assert sorted(a.ids) == sorted(b.ids)
    for name in NAMES:
        scale = np.abs(b.sums[name]).max()
        assert np.abs(a.sums[name] - b.sums[name]).max() <= tolerance * scale, name


def ring_variance():
    return (0.04 + 0.02 * np.arange(33)[ring_map(*SHAPE[-2:])])[None] * np.array([1.0, 2.0])[:, None, None]


def test_l_of_gaussian_rings_is_exact():
    """Odd and even sizes: the probe's ratio is the denoiser's own gain in every ring that the size has."""
    for shape in (SHAPE, (2, 8, 7)):
        variance = (0.04 + 0.02 * np.arange(33)[ring_map(*shape[-2:])])[None] * np.ones((2, 1, 1))
        model = Prompted(VE, variance, shape)
        m = measure(model, begin=model.begin, shape=shape)
        ratio = np.divide(m.sums["zj"], m.sums["zz"], out=np.zeros_like(m.sums["zj"]), where=m.sums["zz"] > 0)
        rings = np.unique(ring_map(*shape[-2:]))
        exact = 1 / (1 + (0.04 + 0.02 * rings) * np.exp(2 * m.lam[:, None]))
        assert np.abs(ratio[:, :, rings] - exact[:, None]).max() < 1e-9


def test_fit_finds_l_s_and_b():
    """f = -l mean - offset has s = l'/l = -2 (1-l) and b = s offset; l and s up to the smoothing, b by the numbers of this very fit."""
    model = Prompted(VE, np.full((2, 9, 7), 0.25), offset=0.3)
    st = fit(measure(model, begin=model.begin, samples=8, nodes=60, batch=8))
    exact = 1 / (1 + 0.25 * np.exp(2 * st.lam))
    inner = slice(3, -3)
    assert np.abs(st.l[:, :, 5] - exact[:, None]).max() < 0.01
    assert np.abs(st.s[inner, :, 5] + 2 * (1 - exact[inner, None])).max() < 0.12
    mean = fit(measure(model, begin=model.begin, samples=8, nodes=60, batch=8), bias=False)
    assert not mean.b.any() and not st.b[:, :, 1:].any()
    wanted = st.s[..., 0] * 0.3  # up to what E f of eight means adds, which is small where l is
    assert np.abs(st.b[inner, :, 0] - wanted[inner])[-15:].max() < 0.02


def test_elements_and_channels():
    """element: every element's own l, exact (Rademacher probes on a diagonal); channel and scalar from it and from rings alike."""
    variance = np.linspace(0.01, 0.4, math.prod(SHAPE)).reshape(SHAPE)
    model = Prompted(VE, variance, radial=False)
    m = measure(model, kind="element", begin=model.begin)
    exact = 1 / (1 + variance * np.exp(2 * m.lam[:, None, None, None]))
    assert np.abs(m.sums["zj"] / m.sums["zz"] - exact).max() < 1e-9
    channel, scalar = m.as_kind("channel"), m.as_kind("scalar")
    assert np.abs(channel.sums["zj"] / channel.sums["zz"] - exact.mean(axis=(2, 3))).max() < 1e-9
    assert np.abs(scalar.sums["zj"] / scalar.sums["zz"] - exact.mean(axis=(1, 2, 3))).max() < 1e-9
    radial, direct = measure(model, begin=model.begin), measure(model, begin=model.begin, kind="channel")
    for name in ("u", "y", "uu", "uy", "yy", "n"):  # Parseval: the same samples, summed over frequencies
        assert np.allclose(radial.as_kind("channel").sums[name], direct.sums[name], rtol=1e-9), name
        assert np.allclose(radial.as_kind("scalar").sums[name], direct.sums[name].sum(1), rtol=1e-9), name
    for kind, shape in (("element", SHAPE), ("channel", (2,)), ("scalar", ())):
        st = fit(m, kind)
        assert st.kind == kind and st.l.shape == (8, *shape)


def test_the_same_numbers_in_every_scaling():
    """VE, VP and flow give the same moments, though the model sees three scalings of the state."""
    made = []
    for path, top, low in PATHS.values():
        model = Prompted(path, ring_variance(), offset=0.1)
        made.append(measure(model, path=path, sigma_max=top, sigma_min=low, begin=model.begin))
    for other in made[1:]:
        assert np.allclose(other.lam, made[0].lam)
        assert_equal(other, made[0], 1e-8)


def test_gaussian_data_fall_back():
    """Where f has no spread but the error of l, s is between -1 and 0, on any range; nothing warns."""
    for path, top in ((VE, 12.0), (FLOW, 1.0)):
        model = Prompted(path, np.full((2, 9, 7), 0.3))
        model.begin([0])
        model.mean = 0.4
        st = fit(measure(model, path=path, sigma_max=top, nodes=20))
        assert (st.s <= 0).all() and (st.s >= -1).all()


def test_paths_follow_the_models_equation():
    """Gaussian data: y goes with √(c² + e^{-2λ}) along every path. The error is of order 2 in the number of nodes, also from pure noise."""
    for path, top, low in PATHS.values():
        errors = []
        for nodes in (20, 40):
            model = Prompted(path, np.full((2, 9, 7), 0.25))
            model.mean = 0.0
            m = measure(model, path=path, sigma_max=top, sigma_min=low, nodes=nodes, probes=0)
            exact = np.sqrt(0.25 + np.exp(-2 * m.lam))
            size = np.sqrt(m.sums["yy"].sum(axis=(1, 2)))
            errors.append(abs(size[-1] / size[0] * exact[0] / exact[-1] - 1))
        assert errors[1] < 0.01 and 3 < errors[0] / errors[1] < 6, errors
    model = Prompted(FLOW, np.full((2, 9, 7), 0.25))
    model.mean = 0.0
    m = measure(model, path=FLOW, sigma_max=1.0, nodes=40, probes=0)
    size = np.sqrt(m.sums["yy"].sum(axis=(1, 2)) / m.sums["n"].sum(axis=(1, 2)))
    noise = math.sqrt(np.mean([ems_paths.random(ems_paths.NOISE, 0, n).standard_normal(SHAPE) ** 2 for n in range(3)]))
    assert abs(size[-1] / (noise * math.sqrt(0.25 + math.exp(-2 * m.lam[-1]))) - 1) < 0.01


def test_pure_noise_starts_with_a_step():
    """From flow sigma 1, one evaluation there that is in no sum, then the first node at λ = -4.6."""
    seen = []

    def model(x, s):
        seen.append(s)
        return curved(x, s)

    m = measure(model, path=FLOW, sigma_max=1.0, report=lambda *told: seen.append(told[:2]))
    assert seen[0] == 1.0 and abs(seen[2] - 0.99) < 1e-3 and abs(m.lam[0] + 4.6) < 1e-9
    assert seen[-1] == (51, 51) == (cost(3, 8, lead=True),) * 2
    assert cost(16, 20) == 640 and cost(2, 10, 3) == 80


def test_nodes_of_a_table():
    """Nodes of a model that rounds its time are its own sigmas, falling, each once."""
    table = [float(s) for s in np.geomspace(0.02, 20, 30)]
    sigmas = node_sigmas(VE, 12.0, 0.05, 40, table)
    assert set(np.round(sigmas, 9)) <= set(np.round(table, 9)) and sigmas == sorted(set(sigmas), reverse=True)
    assert len(sigmas) == sum(0.05 <= s <= 12 for s in table)
    with pytest.raises(ValueError, match=r"^table has 2 noise levels"):
        node_sigmas(VE, 12.0, 0.05, 10, [11.0, 3.0])


def test_torch_tensors_reach_the_model():
    """With a device the model gets float32 tensors, or those of dtype, and the moments are those of NumPy to that precision."""
    kinds = set()

    def model(x, s):
        kinds.add((type(x), x.dtype))
        return curved(x, s)

    assert_equal(measure(model, device="cpu"), measure(curved), 1e-3)
    assert_equal(measure(model, device="cpu", dtype=torch.float64), measure(curved), 1e-12)
    assert kinds == {(torch.Tensor, torch.float32), (torch.Tensor, torch.float64)}


def test_batches_parts_and_order_do_not_matter():
    """Noise and probes of a sample are its own: any batch, any split into samples, any order of adding gives the same moments."""
    whole = measure(curved, samples=5, batch=5, probes=2)
    assert_equal(measure(curved, samples=5, batch=2, probes=2), whole)
    parts = [measure(curved, ids=ids, probes=2) for ids in ([4, 1], [3], [0, 2])]
    assert_equal(merge(parts), whole)
    assert_equal(merge(parts[::-1]), whole)
    more = measure(curved, samples=3, probes=2)
    assert_equal(measure(curved, samples=5, probes=2, moments=more), whole)
    assert not np.allclose(measure(curved, seed=1).sums["uu"], measure(curved).sums["uu"])


@pytest.mark.parametrize("stop", range(0, 34, 3))
def test_interrupted_anywhere_it_goes_on(stop):
    """An exception from the model at any call: the moments go on at their node, with another batch; nothing is counted twice."""
    whole, held, calls = measure(curved, samples=4, batch=4, path=FLOW, sigma_max=1.0), [], 0

    def model(x, s):
        nonlocal calls
        calls += 1
        if calls > stop:
            raise InterruptedError
        return curved(x, s)

    def report(done, total, moments):
        held[:] = [done, total, moments]

    options = {"samples": 4, "batch": 2, "path": FLOW, "sigma_max": 1.0}
    with pytest.raises(InterruptedError):
        measure(model, report=report, **options)
    told = held[0] if held else 0
    first = []
    again = measure(
        curved, moments=held[2] if held else None, report=lambda done, *_: first.append(done), **options | {"batch": 3 if stop % 2 else 1}
    )
    assert_equal(again, whole)
    assert told - 2 * 2 < first[0] <= told + 2, "the evaluations of one node are lost, at most"
    assert again.pending is None


def test_kinds_that_latents_cannot_have():
    """Latents without channels or two spatial axes fall back, with a sentence; video is pooled over its frames."""
    assert usable_kind("radial", (4, 8, 8)) == ("radial", "")
    assert usable_kind("radial", (4, 5, 8, 8)) == ("radial", "")
    for kind, shape, used in (("radial", (64, 100), "channel"), ("radial", (4, 8, 1), "channel"), ("channel", (100,), "scalar")):
        got, sentence = usable_kind(kind, shape)
        assert got == used and used in sentence and kind in sentence and sentence.endswith(".")
    video = measure(curved, shape=(2, 3, 8, 6))
    assert video.kind == "radial" and video.sums["n"].shape == (8, 2, 33)
    assert (video.sums["n"].sum(axis=2) == 3 * 3 * 48).all() and (video.sums["n"][..., 0] == 9).all()
    assert measure(curved, shape=(3, 10)).kind == "channel"


def test_means_of_rings_are_per_pixel():
    """Samples that differ in their mean only: s and b of ring 0 are those of f = -l mean - 1, whatever the size of the latents."""
    for shape in (SHAPE, (2, 8, 20)):
        model = Prompted(VE, np.full((2, shape[1], shape[2] // 2 + 1), 0.25), shape, offset=1.0)

        def begin(numbers, model=model):
            model.mean = 3 * np.array([np.random.default_rng(n).standard_normal() for n in numbers])[:, None, None, None]

        st = fit(measure(model, shape=shape, nodes=60, samples=12, batch=12, begin=begin))
        exact, inner = -2 * (1 - 1 / (1 + 0.25 * np.exp(2 * st.lam))), slice(3, -3)
        assert np.abs(st.s[inner, :, 0] - exact[inner, None]).max() < 0.15
        assert np.abs(st.b[inner, :, 0] - exact[inner, None]).max() < 0.25
        assert not st.b[:, :, 1:].any()


@pytest.mark.parametrize(
    ("options", "begins"),
    [
        ({"samples": 0}, "samples is 0; give a whole number from 1"),
        ({"probes": -1}, "probes is -1;"),
        ({"batch": 2.5}, "batch is 2.5;"),
        ({"nodes": 3}, "nodes is 3;"),
        ({"seed": -1}, "seed is -1;"),
        ({"kind": "rings"}, "kind of statistics is 'rings';"),
        ({"shape": ()}, "shape is ();"),
        ({"sigma_min": 0.0}, "sigma_max is 12 and sigma_min 0;"),
        ({"sigma_min": 13.0}, "sigma_max is 12 and sigma_min 13;"),
    ],
)
def test_bad_options_are_told_before_any_call(options, begins):
    def never(x, s):
        raise AssertionError("the model was called")

    with pytest.raises(ValueError) as told:
        measure(never, **options)
    assert str(told.value).startswith(begins) and str(told.value).endswith(".")


def test_what_a_model_may_not_return():
    """A prediction of another shape, or with NaN, is one sentence, and what was measured before it stays."""
    with pytest.raises(ValueError, match=r"^The prediction is of shape \(3, 2, 9\)"):
        measure(lambda x, s: x[..., 0])
    held = []

    def model(x, s):
        return curved(x, s) if s > 0.1 else x * np.nan

    with pytest.raises(ValueError, match="NaN or infinite values; calibrate in a wider precision"):
        measure(model, report=lambda *told: held.append(told[2]))
    assert np.isfinite(held[-1].pending.sums["uu"]).all() and held[-1].pending.node > 3


def test_only_moments_of_one_setting_are_added():
    """One sentence that names both values; words that say who made it need not agree."""
    a = measure(curved, metadata={"model": "one", "cfg": "3", "made_by": "me"})
    for other, names in (
        (measure(curved, seed=1, metadata={"model": "two", "cfg": "3"}), ("model", "one", "two")),
        (measure(curved, seed=1, metadata={"model": "one"}), ("cfg", "3", "None")),
        (measure(curved, seed=1, kind="channel", metadata=a.metadata), ("kind", "radial", "channel")),
        (measure(curved, seed=1, shape=(2, 8, 8), metadata=a.metadata), ("latent size", "(2, 9, 12)", "(2, 8, 8)")),
        (measure(curved, seed=1, nodes=9, metadata=a.metadata), ("nodes", "8 from", "9 from")),
        (measure(curved, metadata=a.metadata), ("Sample 0 of seed 0 is in both",)),
    ):
        with pytest.raises(ValueError) as told:
            a + other
        assert all(name in str(told.value) for name in names) and str(told.value).endswith(".")
    with pytest.raises(ValueError, match="differ in model"):
        measure(curved, moments=a, metadata={"model": "two", "cfg": "3"})
    both = a + measure(curved, seed=1, metadata={"model": "one", "cfg": "3", "made_by": "you"})
    assert len(both.ids) == 6 and both.metadata["made_by"] == "me" and fit(both).metadata == both.metadata


def test_kinds_that_moments_cannot_give():
    for kind, wanted in (("radial", "element"), ("channel", "radial"), ("element", "radial"), ("scalar", "channel")):
        with pytest.raises(ValueError, match=f"^kind is {wanted}, but the statistics were measured as {kind}; choose {kind}"):
            measure(curved, kind=kind).as_kind(wanted)
    with pytest.raises(ValueError, match="^The statistics are of 0 samples"):
        fit(Moments("radial", SHAPE, np.linspace(-2, 2, 6)))
    with pytest.raises(ValueError, match="with probes of none"):
        fit(measure(curved, probes=0))
    assert bins_of("radial", SHAPE) == (2, 33)


def test_a_probe_is_not_its_paths_noise():
    """Hutchinson's probe must be independent of the state; the first one once had the phases of the noise that the path starts from."""
    states = []
    calibrate(
        lambda x, s: states.append(x.copy()) or 0 * x, VE, (1, 32, 32), sigma_max=10.0, sigma_min=0.1, samples=1, nodes=4, probes=1, seed=3
    )
    a, b = (np.fft.rfft2(v) for v in (states[0], states[1] - states[0]))
    assert abs((np.conj(a) * b / abs(a) / abs(b)).real.mean()) < 0.2
