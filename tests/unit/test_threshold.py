"""Dynamic thresholding: the quantile is exact for every size, layout and library, and the official runs with it come out."""

import json
import math

import numpy as np
import pytest
import torch
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.path import VP
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.threshold import dynamic_threshold, make_project
from dpm_solver_ext.tests import models
from hypothesis import given
from hypothesis import strategies as st
from scipy import fft


def official(x0, ratio=0.995, max_value=1.0):
    """The definition, by torch.quantile."""
    s = torch.quantile(x0.abs().reshape(len(x0), -1), ratio, dim=1).clamp(min=max_value)
    s = s.reshape(-1, *[1] * (x0.ndim - 1))
    return x0.clamp(-s, s) / s


def batch(*shape, scale=2.0, seed=0):
    return np.random.default_rng(seed).standard_normal(shape) * scale


@given(
    st.integers(1, 3), st.integers(1, 300), st.one_of(st.just(1.0), st.floats(1e-3, 1.0)), st.floats(0.05, 3.0), st.integers(0, 9)
)  # fmt: skip
def test_is_the_official_one(items, n, ratio, max_value, seed):
    """Equal to the definition by torch.quantile to 1e-7, in float64, for any size, ratio and max value, in torch and in NumPy."""
    x0 = torch.from_numpy(batch(items, n, seed=seed))
    want = official(x0, ratio, max_value)
    got = dynamic_threshold(x0, ratio, max_value)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-7)
    np.testing.assert_allclose(dynamic_threshold(x0.numpy(), ratio, max_value), want.numpy(), rtol=0, atol=1e-7)


def test_more_elements_than_torch_quantile_takes():
    """2**24 + 5 elements, where torch.quantile raises: equal to numpy.quantile."""
    x0 = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 2**24 + 5), dtype=np.float32))
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(x0, 0.995, dim=1)
    s = float(np.quantile(x0.abs().numpy().astype(np.float64), 0.995))
    got = dynamic_threshold(x0)
    assert s > 2  # else nothing would be clipped
    torch.testing.assert_close(got, x0.clamp(-s, s) / s, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 4, 5, 6, 7), (2, 1, 640), (1, 3, 8, 8), (3, 7), (5,)])
def test_layouts(shape):
    """Images, video, packed latents, one item, vectors: per item the same as on its flat values; the layout comes back."""
    x0 = batch(*shape)
    flat = np.stack([dynamic_threshold(item.reshape(1, -1))[0].reshape(item.shape) for item in x0])
    for got in (dynamic_threshold(x0), dynamic_threshold(torch.from_numpy(x0)).numpy()):
        assert got.shape == shape
        np.testing.assert_allclose(got, flat, rtol=0, atol=1e-12)


def test_memory_layout_does_not_matter():
    """channels_last and sliced tensors give what contiguous ones give."""
    x0 = torch.from_numpy(batch(2, 3, 8, 8))
    want = dynamic_threshold(x0)
    assert torch.equal(dynamic_threshold(x0.to(memory_format=torch.channels_last)), want)
    assert torch.equal(dynamic_threshold(torch.cat([x0, x0], 3)[..., :8]), want)


def test_elements_and_items_are_exchangeable():
    """Shuffled elements give the shuffled result; an item does not see the others."""
    x0 = batch(3, 500)
    order = np.random.default_rng(2).permutation(500)
    np.testing.assert_array_equal(dynamic_threshold(x0[:, order]), dynamic_threshold(x0)[:, order])
    loud = np.concatenate([x0[:1], 100 * x0[1:]])
    for a, b in ((x0, loud), (torch.from_numpy(x0), torch.from_numpy(loud))):
        assert (dynamic_threshold(b)[0] == dynamic_threshold(a)[0]).all()
        assert (dynamic_threshold(a[:1])[0] == dynamic_threshold(a)[0]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    """The result of half precision is that of the same values in float32, rounded once."""
    x0 = torch.from_numpy(batch(2, 3, 32, 32)).to(dtype)
    got = dynamic_threshold(x0)
    assert got.dtype is dtype
    assert torch.equal(got, dynamic_threshold(x0.float()).to(dtype))
    if dtype is torch.float16:
        assert np.array_equal(dynamic_threshold(x0.numpy()), dynamic_threshold(x0.float().numpy()).astype(np.float16))


def test_float32_keeps_its_dtype():
    """NumPy must not promote to float64, and both libraries agree to float32 rounding."""
    x0 = batch(2, 3, 16, 16).astype(np.float32)
    got = dynamic_threshold(x0)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, dynamic_threshold(torch.from_numpy(x0)).numpy(), rtol=0, atol=1e-6)


def test_jax_arrays():
    """JAX arrays, also under jit, give NumPy's values and stay JAX's own; bfloat16 as in torch."""
    jax = pytest.importorskip("jax")
    x0 = batch(2, 3, 16, 16).astype(np.float32)
    for f in (dynamic_threshold, jax.jit(dynamic_threshold)):
        got = f(jax.numpy.asarray(x0))
        assert isinstance(got, jax.Array) and got.dtype == np.float32
        np.testing.assert_allclose(np.asarray(got), dynamic_threshold(x0), rtol=0, atol=1e-6)
    half = jax.numpy.asarray(x0, dtype="bfloat16")
    assert dynamic_threshold(half).dtype == half.dtype


def test_quiet_items_are_only_scaled():
    """With s at its floor 1 a prediction inside -1…1 is returned as it is; 0.5 doubles it; the ceiling 1 is plain clipping."""
    quiet = np.clip(batch(2, 100, scale=0.1), -0.4, 0.4)
    np.testing.assert_array_equal(dynamic_threshold(quiet), quiet)
    np.testing.assert_array_equal(dynamic_threshold(quiet, max_value=0.5), 2 * quiet)
    loud = batch(2, 100)
    np.testing.assert_array_equal(dynamic_threshold(loud, ceiling=1.0), np.clip(loud, -1, 1))
    np.testing.assert_array_equal(dynamic_threshold(torch.from_numpy(loud), ceiling=1.0), np.clip(loud, -1, 1))
    np.testing.assert_array_equal(dynamic_threshold(np.zeros((0, 4))), np.zeros((0, 4)))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"ratio": 0.0}, ("ratio is 0", "0.995")),
        ({"ratio": 1.01}, ("ratio is 1.01", "up to 1")),
        ({"ratio": math.nan}, ("ratio is nan",)),
        ({"max_value": 0.0}, ("max_value is 0", "positive")),
        ({"max_value": -1.0}, ("max_value is -1",)),
        ({"max_value": math.inf}, ("max_value is inf",)),
        ({"ceiling": 0.5}, ("ceiling is 0.5", "max_value 1")),
    ],
)
def test_bad_values_are_one_sentence(options, words):
    """The sentence names the option and its value, already when the hook is made."""
    with pytest.raises(ValueError) as error:
        make_project(**options)
    assert all(word in str(error.value) for word in words) and str(error.value).endswith(".")
    with pytest.raises(ValueError):
        dynamic_threshold(np.ones((1, 4)), **options)


def sd_grid(steps):
    """The official 'discrete' schedule, time_uniform: σ/α at even times from 1 to 1/1000, log α linear between its 1000 places."""
    betas = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
    log_alpha = np.interp(np.linspace(1.0, 1e-3, steps + 1), np.linspace(0, 1, 1001)[1:], 0.5 * np.log(1 - betas).cumsum())
    return [math.sqrt(math.expm1(-2 * v)) for v in log_alpha]


GOLDEN = [r for r in json.loads((models.DATA / "golden.json").read_text()) if ".thr" in r["key"]]


@pytest.mark.parametrize("record", GOLDEN, ids=lambda r: r["key"])
def test_golden_runs(record):
    """The official float64 runs with thresholding come out of our executor with this hook, on torch, to 1e-9."""
    assert len(GOLDEN) == 3
    data = models.golden()
    if "mini" in record["problem"]:  # its model is given in the DCT basis of the last two axes, thresholding acts on pixels
        model, noise = models.image_like(), data["mini.noise"]
        there = lambda a: fft.dctn(a, axes=(2, 3), norm="ortho").reshape(len(a), -1)  # noqa: E731
        back = lambda c: fft.idctn(c.reshape(noise.shape), axes=(2, 3), norm="ortho")  # noqa: E731
    else:
        model, noise = models.toy(), data["toy.noise"]
        there, back = (lambda a: a.reshape(len(a), -1)), (lambda c: c.reshape(noise.shape))
    kind = "official" if record["order"] == 3 else "dpmsolver"
    tape = plan(VP, sd_grid(record["steps"]), order=record["order"], solver_type=kind, start="official", final_rule="official")
    project = make_project(0.995, record["mx"])
    calls = []

    def denoise(x, s):
        calls.append(s)
        return torch.from_numpy(back(model.denoise(VP, there(x.numpy()), s)).copy())

    got = execute(tape, denoise, torch.from_numpy(noise), project=project)
    assert len(calls) == record["nfe"]
    np.testing.assert_allclose(got.numpy(), data[record["key"] + ".out"], rtol=0, atol=1e-9)
