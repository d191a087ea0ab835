"""Brownian noise by interval: the host's own numbers for item 0, one path an item, increments that add up."""

import math
import sys
import warnings

import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers import schedule
from dpm_solver_ext.solvers.noise import Tree, brownian, item_seeds

SIGMAS = schedule.karras(10, 14.614642, 0.0291675)
RANGES = {
    "sd": SIGMAS,
    "edm": schedule.karras(18, 80.0, 0.002),
    "flow": [1.0, 0.9, 0.5, 0.2, 0.001, 0.0],
    "zsnr": [4519.0, 20.0, 1.0, 0.03, 0],
}
SEEDS = [0, 7, -3, 2**63 + 11, 2**64 - 1]


def blank(kind, *shape, dtype="float32"):
    return torch.zeros(shape, dtype=getattr(torch, dtype)) if kind == "torch" else np.zeros(shape, dtype)


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("seed", [0, 7, 2**63 + 11])
def test_item_0_is_the_hosts_run_at_batch_1(name, seed):
    """Every step of a run draws what the hosts' BrownianTreeNoiseSampler draws for that seed at batch 1, to float32 rounding of the
    sigmas. The class is diffusers' copy of k-diffusion's; ComfyUI's is run by tests/comfy."""
    from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler

    sigmas = [float(np.float32(s)) for s in RANGES[name]]
    x = torch.zeros(3, 4, 8, 8)
    ours, theirs = brownian(x, sigmas, seed), BrownianTreeNoiseSampler(x[:1], sigmas[-2], sigmas[0], seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tree's own, about its rounded ends
        for a, b in zip(sigmas[:-2], sigmas[1:-1], strict=True):
            torch.testing.assert_close(ours(a, b)[:1], theirs(a, b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
@pytest.mark.parametrize("seed", SEEDS)
def test_items_do_not_know_the_batch(kind, seed):
    """Item i is the same in every batch that holds it, differs from its neighbours, and item 0 is the batch-1 run."""
    draws = {n: np.asarray(brownian(blank(kind, n, 4, 6), SIGMAS, seed)(SIGMAS[2], SIGMAS[3])) for n in (1, 2, 5)}
    for n in (1, 2):
        np.testing.assert_array_equal(draws[n], draws[5][:n])
    flat = draws[5].reshape(5, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(5)).max() < 0.9
    assert len({row.tobytes() for row in flat}) == 5


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_seed_lists_and_neighbouring_seeds(kind):
    """A list gives each item its own seed (WebUI); item 1 of seed s is not item 0 of s + 1; negative seeds count modulo 2**64."""
    one = lambda s: np.asarray(brownian(blank(kind, 1, 9), SIGMAS, s)(3.0, 2.0))  # noqa: E731
    both = np.asarray(brownian(blank(kind, 2, 9), SIGMAS, [8, 3])(3.0, 2.0))
    np.testing.assert_array_equal(both, np.concatenate([one(8), one(3)]))
    pair = np.asarray(brownian(blank(kind, 2, 9), SIGMAS, 8)(3.0, 2.0))
    assert not np.array_equal(pair[1:], one(9))
    np.testing.assert_array_equal(one(-1), one(2**64 - 1))
    assert not np.array_equal(one(2**63 + 1), one(1))
    assert item_seeds(np.int64(5), 3)[0] == 5 and len(set(item_seeds(5, 1000))) == 1000


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_no_seed_is_fresh_noise(kind):
    """None draws anew each time; on torch it follows torch.manual_seed, as the hosts' sampler does."""
    draw = lambda: np.asarray(brownian(blank(kind, 1, 50), SIGMAS, None)(3.0, 2.0))  # noqa: E731
    torch.manual_seed(1)
    first = draw()
    assert not np.array_equal(first, draw())
    torch.manual_seed(1)
    assert np.array_equal(first, draw()) is (kind == "torch")


@pytest.mark.parametrize("kind", ["torch", "numpy"])
@pytest.mark.parametrize("name", RANGES)
def test_increments_add_up(kind, name):
    """Over s → m → t the increments add to that of s → t, for stages in any order of calls; the sign follows the direction."""
    sigmas = RANGES[name]
    noise = brownian(blank(kind, 2, 3, 5, dtype="float64"), sigmas, 4)
    again = brownian(blank(kind, 2, 3, 5, dtype="float64"), sigmas, 4)
    increment = lambda source, a, b: np.asarray(source(a, b)) * math.sqrt(abs(a - b))  # noqa: E731
    for s, t in zip(sigmas[:-2], sigmas[1:-1], strict=True):
        m, l = math.sqrt(s * t), 0.3 * s + 0.7 * t
        whole = increment(noise, s, t)
        # torchsde knows sigmas to 1e-6 and we hand it rounded ones, so that sums are exact there, too
        for mid in (m, l):
            np.testing.assert_allclose(increment(noise, s, mid) + increment(noise, mid, t), whole, rtol=0, atol=1e-9)
        np.testing.assert_allclose(increment(noise, t, s), -whole, rtol=0, atol=0)
        np.testing.assert_allclose(increment(again, m, t), increment(noise, m, t), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
@pytest.mark.parametrize("name", RANGES)
def test_is_brownian_in_sigma(kind, name):
    """Over 4096 elements: unit variance on every interval, no mean, disjoint intervals independent, a stage's interval correlated with
    its step by the root of the share it covers. Bounds are five standard deviations of the estimates."""
    sigmas = RANGES[name]
    n = 4096
    noise = brownian(blank(kind, 1, n), sigmas, 12)
    five = 5 / math.sqrt(n)
    steps = [np.asarray(noise(a, b))[0] for a, b in zip(sigmas[:-2], sigmas[1:-1], strict=True)]
    corr = np.array(steps) @ np.array(steps).T / n
    assert np.abs(np.diag(corr) - 1).max() < five * math.sqrt(2)
    assert np.abs(corr - np.diag(np.diag(corr))).max() < five
    assert max(abs(s.mean()) for s in steps) < five
    kurtosis = np.mean(np.concatenate(steps) ** 4) / 3
    assert abs(kurtosis - 1) < 5 * math.sqrt(96 / 9 / (n * len(steps)))
    for (a, b), step in zip(zip(sigmas[:-2], sigmas[1:-1], strict=True), steps, strict=True):
        for share in (0.1, 0.5, 0.9):
            mid = a + share * (b - a)
            part, rest = np.asarray(noise(a, mid))[0], np.asarray(noise(mid, b))[0]
            assert abs(np.mean(part * step) - math.sqrt(share)) < five
            assert abs(np.mean(part * rest)) < five
            assert abs(np.mean(part**2) - 1) < five * math.sqrt(2)


@pytest.mark.parametrize("seed", [0, 3, 1234567])
def test_is_not_the_initial_noise(seed):
    """No step's noise is correlated with the initial noise of the same seed, as hosts draw that (torch and NumPy generators)."""
    n = 4096
    first = torch.randn(1, n, generator=torch.Generator().manual_seed(seed)).numpy()[0]
    other = np.random.default_rng(seed).standard_normal(n)
    for kind in ("torch", "numpy"):
        noise = brownian(blank(kind, 1, n), SIGMAS, seed)
        for a, b in zip(SIGMAS[:-2], SIGMAS[1:-1], strict=True):
            drawn = np.asarray(noise(a, b))[0]
            assert max(abs(np.mean(drawn * first)), abs(np.mean(drawn * other))) < 5 / math.sqrt(n)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_intervals_shorter_than_the_tree_can_tell(kind):
    """Sigmas 2e-7 apart, also at both ends of the range and with no range at all beside them, still get finite unit noise, no warning."""
    n = 4096
    for sigmas, a, b in (
        ([1.0, 0.5000002, 0.5, 0.1], 0.5000002, 0.5),
        ([1.0000002, 1.0, 0.1], 1.0000002, 1.0),
        ([1.0, 0.1000003, 0.1000001, 0.0], 0.1000003, 0.1000001),
        ([0.3000003, 0.3, 0.0], 0.3000003, 0.3),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawn = np.asarray(brownian(blank(kind, 1, n), sigmas, 2)(a, b))
        assert abs(drawn.std() - 1) < 5 / math.sqrt(2 * n)


def test_dtypes_and_device():
    """Shape, dtype and device are those of x; half precision is the float32 draw, rounded; NumPy stays in its dtype."""
    full = brownian(torch.zeros(2, 3, 4), SIGMAS, 1)(3.0, 2.0)
    for dtype in (torch.float16, torch.bfloat16):
        got = brownian(torch.zeros(2, 3, 4, dtype=dtype), SIGMAS, 1)(3.0, 2.0)
        assert got.dtype is dtype and torch.equal(got, full.to(dtype))
    assert brownian(torch.zeros(2, 3, dtype=torch.float64), SIGMAS, 1)(3.0, 2.0).dtype is torch.float64
    assert brownian(np.zeros((2, 3), np.float32), SIGMAS, 1)(3.0, 2.0).dtype == np.float32
    assert brownian(torch.zeros(2, 3, device="meta"), SIGMAS, 1)(3.0, 2.0).device.type == "meta"
    assert brownian(torch.zeros(1, 1, 640), SIGMAS, 1)(3.0, 2.0).shape == (1, 1, 640)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_an_empty_batch(kind):
    """A batch of 0 has noise of its shape and dtype; wrong intervals are told all the same."""
    x = blank(kind, 0, 3)
    for seed in (1, None, []):
        noise = brownian(x, SIGMAS, seed)
        got = noise(3.0, 2.0)
        assert got.shape == x.shape and got.dtype == x.dtype
        with pytest.raises(ValueError, match="no interval"):
            noise(20.0, 1.0)


def test_the_global_generators_are_left_alone():
    """Drawing does not move torch's or NumPy's global generators, so nothing else in a host changes."""
    torch.manual_seed(3)
    np.random.seed(3)
    want = torch.rand(3), np.random.rand(3)
    torch.manual_seed(3)
    np.random.seed(3)
    for kind in ("torch", "numpy"):
        brownian(blank(kind, 2, 5), SIGMAS, 1)(3.0, 2.0)
    assert torch.equal(torch.rand(3), want[0]) and np.array_equal(np.random.rand(3), want[1])


def test_jax():
    """JAX arrays take NumPy's noise in their own dtype, also under jit."""
    jax = pytest.importorskip("jax")
    x = jax.numpy.zeros((2, 3), dtype="bfloat16")
    want = np.asarray(brownian(np.zeros((2, 3), np.float32), SIGMAS, 1)(3.0, 2.0))
    step = lambda y: y + brownian(y, SIGMAS, 1)(3.0, 2.0)  # noqa: E731
    for f in (step, jax.jit(step)):
        assert f(x).dtype == x.dtype
        np.testing.assert_allclose(np.asarray(f(x), np.float32), want, rtol=1e-2)


def test_the_tree_does_not_mind_the_order_of_calls():
    """W(t) is a function of the seed and t: asked in another order, and often enough to forget, it is the same to the last bit."""
    points = np.exp(np.random.default_rng(0).uniform(math.log(0.03), math.log(4519.0), 40))
    one, two = Tree((3,), 0.03, 4519.0, 9), Tree((3,), 0.03, 4519.0, 9)
    first = {t: one.at(t).copy() for t in points}
    for t in sorted(points):
        assert np.array_equal(two.at(t), first[t])
    assert len(one.known) < 10
    assert np.array_equal(one.at(0.03), np.zeros(3))


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_bad_input_is_one_sentence(kind):
    """Intervals outside the range, sigma 0, no length, seeds that do not fit, no range: each names the value and the mend."""
    x = blank(kind, 2, 3)
    noise = brownian(x, SIGMAS, 1)
    for a, b in ((20.0, 1.0), (1.0, 0.0), (1.0, 1.0), (1.0, 0.01), (math.nan, 1.0)):
        with pytest.raises(ValueError, match=r"no interval within 0.0291675…14.6146"):
            noise(a, b)
    for seed, words in (([1, 2, 3], "3 seeds for a batch of 2"), (1.5, "seed 1.5 is no integer"), (["a", "b"], "seed 'a' is no integer")):
        with pytest.raises(ValueError, match=words):
            brownian(x, SIGMAS, seed)
    for sigmas in ([], [0.0], [math.inf, 1.0]):
        with pytest.raises(ValueError, match="span no finite range"):
            brownian(x, sigmas, 1)


def test_without_torchsde_there_is_one_sentence(monkeypatch):
    """The library imports without torchsde; asking for torch noise then names the package."""
    monkeypatch.setitem(sys.modules, "torchsde", None)
    with pytest.raises(ImportError, match=r"pip install torchsde"):
        brownian(torch.zeros(1, 2), SIGMAS, 1)
    assert brownian(np.zeros((1, 2)), SIGMAS, 1)(3.0, 2.0).shape == (1, 2)
