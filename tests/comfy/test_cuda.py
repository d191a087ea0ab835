"""What only a GPU can show. `DPM_EXT_DEVICE=cuda pytest tests/comfy` runs all of this folder, servers too, on one; without it this file
is skipped."""

import os
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.skipif(os.environ.get("DPM_EXT_DEVICE") != "cuda", reason="needs a GPU; DPM_EXT_DEVICE=cuda")


@pytest.fixture
def model(analytic):
    """model(answer) is what a sampler gets from ComfyUI, of a Stable Diffusion model that answers `answer(x, call)`."""
    import comfy.model_sampling as ms

    sampling = type("VP", (ms.ModelSamplingDiscrete, ms.EPS), {})()

    def make(answer):
        calls = []

        def call(x, sigma, **_):
            calls.append(tuple(sigma.shape))
            return answer(x, len(calls))

        inner = SimpleNamespace(model_sampling=sampling, latent_format=None)
        call.inner_model = SimpleNamespace(inner_model=inner, model_sampling=sampling, model_patcher=None)
        call.model_sampling, call.calls = sampling, calls
        return call

    return make


def run(model, name, device="cuda", steps=12, noise=None):
    import comfy.k_diffusion.sampling as functions
    import comfy.samplers

    sigmas = comfy.samplers.calculate_sigmas(model.model_sampling, "karras", steps).to(device)
    noise = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(3)) if noise is None else noise
    x = noise.to(device) * sigmas[0]
    return getattr(functions, f"sample_{name}")(model, x, sigmas, extra_args={"seed": 5}, callback=None, disable=True)


def test_the_host_is_on_the_gpu(host):
    """The ruler: else everything here would pass on the CPU."""
    import comfy.model_management

    assert comfy.model_management.get_torch_device().type == "cuda"


def test_steps_wait_for_nothing(model, steady):
    """Between the first model call and the last the solver never makes the GPU's queue run empty: torch raises where it would."""
    answers = [torch.randn(2, 4, 32, 32, device="cuda") for _ in range(3)]
    calls = 12 if steady != "dpmpp_sde_ext" else 23

    def answer(x, call):
        torch.cuda.set_sync_debug_mode("error" if call < calls else "default")
        return answers[call % 3].clone()

    host = model(answer)
    try:
        run(host, steady)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(host.calls) == calls


def test_waiting_is_seen(model):
    """The ruler of the test above: a built-in that reads its sigmas back is caught."""

    def answer(x, call):
        torch.cuda.set_sync_debug_mode("error")
        return x * 0.9

    try:
        with pytest.raises(RuntimeError, match="synchronizing"):
            run(model(answer), "dpmpp_2m")
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_gpu_and_cpu_agree(model, steady):
    """The same picture from the same noise on both devices, for samplers with noise of their own, too."""

    def smooth(x, call):
        return torch.tanh(x) * 0.5

    gpu, cpu = run(model(smooth), steady), run(model(smooth), steady, "cpu")
    assert gpu.device.type == "cuda" and (gpu.cpu() - cpu).abs().max() < 2e-4


@pytest.mark.parametrize("allow", [True, False])
def test_tf32_does_not_touch_the_state(model, allow):
    """Hosts switch TF32 on for speed; a state summed with its ten bits would be visibly wrong after a few steps."""
    was = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allow
    try:
        gpu = run(model(lambda x, call: torch.tanh(x) * 0.5), "dpm_auto_ext")
    finally:
        torch.backends.cuda.matmul.allow_tf32 = was
    cpu = run(model(lambda x, call: torch.tanh(x) * 0.5), "dpm_auto_ext", "cpu")
    assert (gpu.cpu() - cpu).abs().max() < 2e-4
