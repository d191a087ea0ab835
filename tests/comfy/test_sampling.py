"""Our dropdown samplers in the real sampling stack against exact ODE ends, and against the built-in DPM++ 2M as a peer."""

import pytest
import torch

SINGLE = ("dpmpp_2s_ext", "dpmpp_3s_ext", "dpm_fast_ext")  # no memory: at equal model calls less accurate on smooth models
KINDS = ("eps", "v", "zsnr", "edm", "v_edm", "cosmos", "sd3", "aura", "flux", "flux_half", "schnell", "wan")


@pytest.fixture(scope="module")
def peer_error(host):
    """peer_error(schedule, kind, law): rms of the built-in dpmpp_2m at 20 steps, computed once."""
    known = {}

    def look_up(*case):
        if case not in known:
            schedule, kind, law = case
            known[case] = host.analytic.run("dpmpp_2m", schedule, 20, kind, law=getattr(host.analytic, law))[0]
        return known[case]

    return look_up


@pytest.mark.parametrize("name", ["euler", "heun", "dpm_2", "lms", "ipndm", "res_multistep", "uni_pc", "dpmpp_2m"])
@pytest.mark.parametrize("kind, law", [("eps", "GAUSS"), ("eps", "MIXTURE"), ("sd3", "GAUSS"), ("sd3", "MIXTURE"), ("edm", "MIXTURE")])
def test_the_exact_end_is_the_hosts(analytic, name, kind, law):
    """The ruler itself: samplers that are not ours, of many families, go to what analytic.exact calls the end of the ODE."""
    rms, _ = analytic.run(name, "beta", 60, kind, law=getattr(analytic, law))
    assert rms < 0.05


@pytest.mark.parametrize("name, kind", [
    *(("dpm_auto_ext", kind) for kind in KINDS),
    *((name, kind) for name in ("dpmpp_2m_ext", "dpmpp_3m_ext", "unipc_ext", *SINGLE) for kind in ("eps", "edm", "flux")),
])  # fmt: skip
def test_gaussian_end(analytic, name, kind):
    """A wrong path, scaling or end shows as a distance from the exact end, whatever the number of steps: the run must come close and, with
    four times the steps, at least four times closer (or to what the one step from sigma_min to 0 leaves)."""
    coarse, calls = analytic.run(name, "karras", 25, kind)
    fine, _ = analytic.run(name, "karras", 100, kind)
    assert calls == 25
    assert coarse < (0.09 if name in SINGLE else 0.06) and fine < max(coarse / 4, 1e-3)


@pytest.mark.parametrize("kind", ["eps", "zsnr", "sd3", "flux"])
def test_mixture_end(analytic, ode, kind):
    """The same on a law whose denoiser is not linear in x: history terms and starts are exercised that cancel on a Gaussian."""
    coarse, _ = analytic.run(ode, "karras", 25, kind, law=analytic.MIXTURE)
    fine, _ = analytic.run(ode, "karras", 100, kind, law=analytic.MIXTURE)
    assert coarse < (0.15 if ode in SINGLE else 0.1) and fine < max(coarse / 4, 4e-3)


@pytest.mark.parametrize("kind", ["eps", "edm", "sd3", "flux"])
@pytest.mark.parametrize("schedule", ["karras", "exponential", "simple", "sgm_uniform", "normal", "beta"])
@pytest.mark.parametrize("law", ["GAUSS", "MIXTURE"])
def test_not_worse_than_the_builtin(analytic, peer_error, ours, kind, schedule, law):
    """Replacing dpmpp_2m by an entry of ours must not cost much accuracy on any of the host's schedules, at an everyday number of steps.
    The slack is the most that was measured: on a Gaussian the built-in's errors cancel; on flow models with karras and exponential (made
    for VE models) it profits from -log σ, which is finite at σ = 1 where λ is not; auto is made for its own schedule and for guidance."""
    mine, _ = analytic.run(ours, schedule, 20, kind, law=getattr(analytic, law))
    slack = 0.021 if ours == "dpm_auto_ext" else 0.008 if kind in ("eps", "edm") else 0.012
    if kind not in ("eps", "edm") and schedule in ("karras", "exponential"):
        slack = 0.05
    assert mine <= 1.1 * peer_error(schedule, kind, law) + slack


@pytest.mark.parametrize("steps", [2, 3, 4, 5, 8, 12, 20, 40])
@pytest.mark.parametrize("kind, cfg", [("eps", 1.0), ("eps", 7.0), ("v", 1.0)])
def test_karras_equals_the_builtin(analytic, steps, kind, cfg):
    """dpmpp_2m_ext promises the built-in's picture on karras (there its final-step rule has nothing to mend)."""
    patcher = analytic.build(kind, analytic.MIXTURE)
    sigmas, noise = analytic.schedule(patcher, "karras", steps), analytic.noise_for(analytic.latent_shape(patcher))
    ours = patcher.model.process_latent_in(analytic.sample(patcher, "dpmpp_2m_ext", sigmas, noise, cfg=cfg))
    peer = patcher.model.process_latent_in(analytic.sample(patcher, "dpmpp_2m", sigmas, noise, cfg=cfg))
    assert (ours - peer).abs().max() <= 1e-5 * max(1, peer.abs().max())  # guidance 7 makes values of 7


@pytest.mark.parametrize("kind", ["sd3", "aura", "flux"])
def test_flow_with_the_normal_schedule(analytic, kind):
    """The case that sends users away from DPM++ 2M on SD3 and Flux: `normal` ends in one huge λ step. The built-in must fail here, or the
    test shows nothing."""
    peer, _ = analytic.run("dpmpp_2m", "normal", 30, kind)
    assert peer > 0.04
    for ours, bound in {"dpm_auto_ext": 0.007, "dpmpp_2m_ext": 0.007, "dpmpp_3m_ext": 0.007, "unipc_ext": 0.007}.items():
        rms, calls = analytic.run(ours, "normal", 30, kind)
        assert rms <= bound and calls == 30, ours


def test_third_order_pays(analytic):
    """dpmpp_3m_ext is worth its entry only if order 3 shows in the host: on a smooth schedule it beats 2M clearly."""
    for law in (analytic.GAUSS, analytic.MIXTURE):
        second, third = (analytic.run(name, "karras", 20, "edm", law=law)[0] for name in ("dpmpp_2m_ext", "dpmpp_3m_ext"))
        assert third < 0.6 * second


@pytest.mark.parametrize("kind", ["eps", "zsnr", "sd3", "wan"])
def test_the_model_is_asked_at_the_hosts_sigmas(analytic, ode, kind):
    """Context windows and HunyuanVideo look a sigma up by equality: every evaluation is at the schedule's own fp32 value, in order, one
    per step, and never at 0."""
    patcher = analytic.build(kind)
    sigmas, noise = analytic.schedule(patcher, "normal", 14), analytic.noise_for(analytic.latent_shape(patcher))
    analytic.sample(patcher, ode, sigmas, noise)
    assert [c["sigma"] for c in analytic.network(patcher).calls] == sigmas[:-1].tolist()


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("kind", ["eps", "zsnr", "sd3", "flux"])
def test_few_steps(analytic, ode, kind, steps):
    """Distillation LoRAs run at 1-4 steps: nothing may divide by a step that is not there, and one step is the plain data prediction."""
    patcher = analytic.build(kind, analytic.MIXTURE)
    sigmas, noise = analytic.schedule(patcher, "simple", steps), analytic.noise_for(analytic.latent_shape(patcher))
    x0 = []
    out = analytic.sample(patcher, ode, sigmas, noise, callback=lambda step, denoised, x, total: x0.append(denoised.cpu()))
    assert torch.isfinite(out).all() and len(analytic.network(patcher).calls) == steps
    if steps == 1:
        assert torch.allclose(out, patcher.model.process_latent_out(x0[0]), atol=1e-5)
    else:
        assert analytic.error(patcher, out, sigmas, noise) < 0.6


@pytest.mark.parametrize(
    "schedule", ["simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal", "linear_quadratic", "kl_optimal"]
)
def test_every_builtin_schedule(analytic, ours, schedule):
    """Every schedule that the host can make at 2 to 24 steps runs, if its sigmas fall strictly."""
    for kind in ("eps", "zsnr", "sd3"):
        patcher = analytic.build(kind)
        noise = analytic.noise_for(analytic.latent_shape(patcher, size=(2, 2)))
        for steps in (2, 3, 7, 24):
            sigmas = analytic.schedule(patcher, schedule, steps)
            if not (sigmas.diff() < 0).all():  # the host's own schedules repeat values in places; those are bad input
                continue
            assert torch.isfinite(analytic.sample(patcher, ours, sigmas, noise)).all(), (kind, steps)


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_our_schedules_with_our_samplers(analytic, ours, our_schedule, kind):
    """The pair that the documentation recommends comes close to the exact end at 30 steps."""
    rms, calls = analytic.run(ours, our_schedule, 30, kind)
    assert rms < 0.03 and calls == 30


@pytest.mark.parametrize("kind", ["eps", "sd3", "edm"])
@pytest.mark.parametrize("cfg", [1.0, 7.0])
def test_guidance(analytic, ode, kind, cfg):
    """Guidance of a Gaussian moves its mean (mu_neg + cfg·(mu - mu_neg)): the exact end is known at any scale. cfg 1 costs one network call
    a step; cfg 7 has both conditionings in one."""
    patcher = analytic.build(kind)
    sigmas, noise = analytic.schedule(patcher, "karras", 25), analytic.noise_for(analytic.latent_shape(patcher))
    out = analytic.sample(patcher, ode, sigmas, noise, cfg=cfg)
    calls = analytic.network(patcher).calls
    assert len(calls) == 25 and {len(c["mu"]) for c in calls} == {1 if cfg == 1 else 2}
    assert analytic.error(patcher, out, sigmas, noise, cfg=cfg) < {"dpm_auto_ext": 0.04, "dpm_solver_v3_ext": 0.05}.get(ode, 0.03)
    assert analytic.error(patcher, out, sigmas, noise, cfg=cfg + 0.5) > 0.1  # the comparison can tell


@pytest.mark.parametrize("kind", ["eps", "zsnr", "sd3", "flux", "edm"])
@pytest.mark.parametrize("denoise", [0.5, 0.2])
def test_img2img(analytic, ode, kind, denoise):
    """denoise < 1: the run starts at the latent plus noise in the middle of the schedule, where flow models have alpha > 0."""
    import comfy.sample
    import comfy.samplers

    patcher = analytic.build(kind)
    shape = analytic.latent_shape(patcher)
    noise, latent = analytic.noise_for(shape, 1), 12 * analytic.noise_for(shape, 2)
    schedule = "exponential" if kind == "zsnr" else "karras"  # half of 40 karras steps from 4519 lie above 100
    host = comfy.samplers.KSampler(patcher, 20, patcher.load_device, ode, schedule, denoise)
    out = comfy.sample.sample(
        patcher, noise, 20, 1.0, ode, schedule, analytic.cond(0.75), analytic.cond(0.0), latent, denoise=denoise, disable_pbar=True, seed=0
    )
    assert len(host.sigmas) == 21 and len(analytic.network(patcher).calls) == 20
    rms = analytic.error(patcher, out, host.sigmas, noise, latent=latent)
    assert rms < 0.02
    assert analytic.error(patcher, out, host.sigmas, noise) > 2 * rms  # without the latent the end is another


@pytest.mark.parametrize("kind", ["eps", "zsnr", "sd3", "flux"])
def test_inpainting(analytic, ode, kind):
    """Mask 0 keeps the latent to rounding, although x is blended before every call; mask 1 is sampled as without a mask (each element is
    a law of its own)."""
    patcher = analytic.build(kind)
    shape = analytic.latent_shape(patcher)
    noise, latent = analytic.noise_for(shape, 1), analytic.noise_for(shape, 2)
    sigmas = analytic.schedule(patcher, "exponential" if kind == "zsnr" else "karras", 20)
    mask = torch.zeros(1, 1, *shape[2:])
    mask[..., : shape[-1] // 2] = 1
    out = analytic.sample(patcher, ode, sigmas, noise, latent=latent, mask=mask)
    scale = latent.abs().max()
    keep = (mask == 0).expand(shape)
    assert (out - latent)[keep].abs().max() < 1e-5 * scale
    end = analytic.exact(patcher, sigmas, noise, latent=latent)
    gap = patcher.model.process_latent_in(out.double()) - patcher.model.process_latent_in(end)
    assert gap[~keep].pow(2).mean().sqrt() < 0.05


def test_soft_and_changing_masks(analytic, ode):
    """Differential Diffusion changes the mask from step to step (denoise_mask_function): the run keeps what is never unmasked."""
    patcher = analytic.build("eps")
    shape = analytic.latent_shape(patcher)
    noise, latent = analytic.noise_for(shape, 1), analytic.noise_for(shape, 2)
    sigmas = analytic.schedule(patcher, "karras", 12)
    soft = torch.linspace(0, 1, shape[-1]).expand(1, 1, *shape[2:])
    seen = []

    def threshold(sigma, denoise_mask, extra_options):
        seen.append(float(sigma[0]))
        return (denoise_mask >= (sigma[0] / sigmas[0])).to(denoise_mask.dtype) * (denoise_mask > 0)

    patcher.set_model_denoise_mask_function(threshold)
    out = analytic.sample(patcher, ode, sigmas, noise, latent=latent, mask=soft)
    assert seen == sigmas[:-1].tolist() and torch.isfinite(out).all()
    assert torch.allclose(out[..., 0], latent[..., 0], atol=1e-4)
    assert not torch.allclose(out[..., -1], latent[..., -1], atol=0.1)


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_conditioning_ranges(host, analytic, ode, kind):
    """Two prompts over percent ranges (ConditioningSetTimestepRange): the network sees each exactly where the host's percent_to_sigma says,
    and the end is that of the two exact pieces."""
    patcher = analytic.build(kind)
    limits = host.nodes.ConditioningSetTimestepRange()
    switch = patcher.get_model_object("model_sampling").percent_to_sigma(0.55)
    positive = limits.set_range(analytic.cond(1.5), 0.0, 0.55)[0] + limits.set_range(analytic.cond(-0.5), 0.55, 1.0)[0]
    sigmas, noise = analytic.schedule(patcher, "karras", 40), analytic.noise_for(analytic.latent_shape(patcher))
    out = analytic.sample(patcher, ode, sigmas, noise, positive=positive)
    calls = analytic.network(patcher).calls
    assert [c["mu"] for c in calls] == [((1.5,) if s >= switch else (-0.5,)) for s in sigmas[:-1].tolist()]
    at = next(i for i, s in enumerate(sigmas.tolist()) if s < switch)
    law, flow = analytic.network(patcher).law, analytic.network(patcher).flow
    place = lambda s: (1 - float(s) if flow else 1.0, float(s))  # noqa: E731
    start = patcher.get_model_object("model_sampling").noise_scaling(sigmas[0], noise.double(), torch.zeros_like(noise), not flow)
    middle = law.transport(start, place(sigmas[0]), place(sigmas[at]), 1.5)
    end = law.transport(middle, place(sigmas[at]), place(sigmas[-1]), -0.5)
    gap = patcher.model.process_latent_in(out.double()) - end
    # the field jumps inside one step; 0.3 and more if a prompt acts at one sigma too many
    assert gap.pow(2).mean().sqrt() < (0.25 if ode in SINGLE else 0.15)
    if ode in SINGLE:  # the jump is inside a group of model calls
        return
    peer = patcher.model.process_latent_in(analytic.sample(patcher, "dpmpp_2m", sigmas, noise, positive=positive).double()) - end
    assert gap.pow(2).mean().sqrt() < 1.5 * peer.pow(2).mean().sqrt() + 0.01


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_controlnet_range(host, analytic, ode, kind):
    """A ControlNet through the real Apply node acts only between its start and end percent."""
    patcher = analytic.build(kind)
    positive, negative = host.nodes.ControlNetApplyAdvanced().apply_controlnet(
        analytic.cond(0.5), analytic.cond(0.0), analytic.ShiftControl(), torch.full((1, 8, 8, 3), 0.25), 1.0, 0.2, 0.7
    )
    sigmas, noise = analytic.schedule(patcher, "simple", 20), analytic.noise_for(analytic.latent_shape(patcher))
    out = analytic.sample(patcher, ode, sigmas, noise, positive=positive, negative=negative)
    to_sigma = patcher.get_model_object("model_sampling").percent_to_sigma
    inside = [to_sigma(0.7) <= s <= to_sigma(0.2) for s in sigmas[:-1].tolist()]
    assert [c["mu"] for c in analytic.network(patcher).calls] == [((0.75,) if i else (0.5,)) for i in inside]
    assert 0 < sum(inside) < 20 and torch.isfinite(out).all()


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_batch_equals_singles(analytic, ode, kind):
    """Nothing of a run depends on its neighbours in the batch."""
    patcher = analytic.build(kind, analytic.MIXTURE)
    noise, sigmas = analytic.noise_for(analytic.latent_shape(patcher, 3)), analytic.schedule(patcher, "karras", 12)
    together = analytic.sample(patcher, ode, sigmas, noise)
    for i in range(3):
        alone = analytic.sample(patcher, ode, sigmas, noise[i : i + 1])
        assert torch.allclose(together[i : i + 1], alone, atol=1e-5)


@pytest.mark.parametrize("kind, ndim", [("v_edm", 3), ("eps", 4), ("wan", 5), ("cosmos", 5)])
def test_latent_shapes(analytic, ode, kind, ndim):
    """Audio latents have three axes, video latents five; odd sizes and a batch of two."""
    patcher = analytic.build(kind)
    shape = {3: (2, 64, 37), 4: (2, 4, 5, 9), 5: (2, 16, 3, 5, 7)}[ndim]
    noise, sigmas = analytic.noise_for(shape), analytic.schedule(patcher, "karras", 25)
    out = analytic.sample(patcher, ode, sigmas, noise)
    assert out.shape == shape and analytic.error(patcher, out, sigmas, noise) < 0.04


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_nested_latents(analytic, ode, kind):
    """Audio with video: the host packs the parts to (B, 1, N) for the sampler and unpacks them for the network and the result."""
    import comfy.nested_tensor

    patcher = analytic.build(kind, nested=True)
    parts = [analytic.noise_for((2, 4, 3, 5, 7), 1), analytic.noise_for((2, 8, 11), 2)]
    noise = comfy.nested_tensor.NestedTensor(parts)
    latent = comfy.nested_tensor.NestedTensor([torch.zeros_like(p) for p in parts])
    sigmas = analytic.schedule(patcher, "karras", 25)
    out = analytic.sample(patcher, ode, sigmas, noise, latent=latent)
    assert out.is_nested and [t.shape for t in out.unbind()] == [p.shape for p in parts]
    assert analytic.network(patcher).calls[0]["shape"] == (2, 4, 3, 5, 7)
    for part, start in zip(out.unbind(), parts, strict=True):
        assert analytic.error(patcher, part, sigmas, start) < 0.02


@pytest.mark.parametrize("kind", ["eps", "sd3"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_latents(analytic, ours, kind, dtype):
    """The state is kept in fp32 when the latent is not: after 40 steps only the roundings at the model's door and at the end are left,
    while the built-in, which rounds its state at every step, has drifted further. The same rounded noise starts both runs."""
    patcher, dtype = analytic.build(kind), getattr(torch, dtype)
    sigmas, noise = analytic.schedule(patcher, "karras", 40), analytic.noise_for(analytic.latent_shape(patcher, size=(16, 16))).to(dtype)
    drift = {}
    for name in (ours, "dpmpp_2m"):
        full, low = (patcher.model.process_latent_in(analytic.sample(patcher, name, sigmas, n, cfg=2.0)) for n in (noise.float(), noise))
        drift[name] = float((full - low).pow(2).mean().sqrt() / full.pow(2).mean().sqrt())
    assert drift[ours] < torch.finfo(dtype).eps
    assert drift[ours] < drift["dpmpp_2m"]


@pytest.mark.parametrize("kind", ["eps", "zsnr", "sd3"])
def test_fp16_latents_without_guidance(analytic, ode, kind):
    """The host divides by counts that begin at 1e-37, which is 0 in fp16: with fp16 x and cfg 1 every built-in returns NaN. Asked with our
    fp32 state the host's sums are fp32 too, and the run works."""
    patcher = analytic.build(kind)
    sigmas, noise = analytic.schedule(patcher, "exponential", 20), analytic.noise_for(analytic.latent_shape(patcher)).half()
    assert torch.isnan(analytic.sample(patcher, "dpmpp_2m", sigmas, noise)).all()
    assert analytic.error(patcher, analytic.sample(patcher, ode, sigmas, noise), sigmas, noise) < 0.06


@pytest.mark.parametrize("kind", ["eps", "v", "sd3"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_models(analytic, ours, kind, dtype):
    """Weights in half precision round the network's answers; the sampler adds nothing to that beyond what the built-in shows."""
    dtype = getattr(torch, dtype)
    mine, _ = analytic.run(ours, "karras", 25, kind, dtype=dtype)
    peer, _ = analytic.run("dpmpp_2m", "karras", 25, kind, dtype=dtype)
    assert mine <= 1.3 * peer + 0.003


def test_context_windows(analytic, ode):
    """Context windows look the sigma up in sample_sigmas by equality and fail on any other: a real run over them ends where a plain one
    does (elements are independent, so windows change nothing)."""
    import comfy_extras.nodes_context_windows as windows
    from comfy.context_windows import ContextFuseMethods, ContextSchedules

    patcher = analytic.build("wan")
    noise, sigmas = analytic.noise_for((1, 16, 9, 4, 4)), analytic.schedule(patcher, "simple", 10)
    plain = analytic.sample(patcher, ode, sigmas, noise)
    windowed = windows.ContextWindowsManualNode.execute(
        patcher, 4, 1, ContextSchedules.STATIC_STANDARD, 1, False, ContextFuseMethods.PYRAMID, 2
    ).args[0]
    out = analytic.sample(windowed, ode, sigmas, noise)
    assert {c["shape"][2] for c in analytic.network(windowed).calls[10:]} == {4}
    assert torch.allclose(out, plain, atol=1e-4)


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_two_parts(host, analytic, ode, kind):
    """SplitSigmas with DisableNoise (two models, hires passes): the first part leaves the right amount of noise for the second."""
    patcher = analytic.build(kind)
    sigmas, noise = analytic.schedule(patcher, "karras", 40), analytic.noise_for(analytic.latent_shape(patcher))
    high, low = host.nodes_custom.SplitSigmas.execute(sigmas, 22).args
    half = analytic.sample(patcher, ode, high, noise)
    assert analytic.error(patcher, half, high, noise) < 0.03
    out = analytic.sample(patcher, ode, low, torch.zeros_like(noise), latent=half)
    assert len(analytic.network(patcher).calls) == 40
    assert analytic.error(patcher, out, sigmas, noise) < 0.03


def test_repeatable(analytic, ode):
    """The same inputs give the same bits, run after run, on one patcher: no state is kept between runs."""
    patcher = analytic.build("eps", analytic.MIXTURE)
    sigmas, noise = analytic.schedule(patcher, "karras", 9), analytic.noise_for(analytic.latent_shape(patcher))
    first = analytic.sample(patcher, ode, sigmas, noise)
    analytic.sample(patcher, ode, sigmas[3:], noise)
    assert torch.equal(first, analytic.sample(patcher, ode, sigmas, noise))


def test_model_sampling_patch(analytic, ours, host):
    """ModelSamplingSD3 / Flux nodes patch model_sampling on a clone: the path and the sigma range are those of the patched model."""
    import comfy_extras.nodes_model_advanced as advanced

    base = analytic.build("eps")
    patched = advanced.ModelSamplingSD3().patch(base, 3.0)[0]
    analytic.network(patched).flow = True
    sigmas, noise = analytic.schedule(patched, "normal", 30), analytic.noise_for(analytic.latent_shape(patched))
    assert float(sigmas[0]) == 1.0
    out = analytic.sample(patched, ours, sigmas, noise)
    assert analytic.error(patched, out, sigmas, noise) <= 0.007


def test_flow_sigma_max_a_rounding_above_one(analytic, ours):
    """float32 makes 1.0000001 of σ = 1 at one flow shift in twenty-five: the same end, with every schedule of the host and of ours."""
    import comfy.samplers

    assert float(analytic.schedule(analytic.build("over"), "simple", 4)[0]) > 1
    for schedule in comfy.samplers.SCHEDULER_NAMES:
        if schedule == "linear_quadratic":
            continue  # far from converged on this model with any sampler
        rms, calls = analytic.run(ours, schedule, 20, "over")
        assert rms < 0.06 and calls == 20, (schedule, rms, calls)
