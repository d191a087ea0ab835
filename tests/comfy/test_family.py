"""What the solvers of the family have of their own: counts of model calls, fresh noise, adaptive steps."""

import logging
import sys

import pytest
import torch

CALLS = {"dpmpp_sde_ext": 2}  # a step; all others 1
SDE_PRESETS = {  # preset: (the built-in of that name, what of the preset's options differs from it)
    "dpmpp_2m_sde": ("dpmpp_2m_sde", {"final_rule": "none"}),
    "dpmpp_3m_sde": ("dpmpp_3m_sde", {"final_rule": "none", "solver_type": "official_taylor"}),
    "dpmpp_sde": ("dpmpp_sde", {}),
}


def module(pack, name):
    """The pack's module nodes.<name>, as ComfyUI loaded it."""
    return sys.modules[f"{pack.module.__name__}.nodes.{name}"]


def distance(analytic, patcher, out, mu=0.75):
    """Kolmogorov-Smirnov distance of a run's elements from the law of the data."""
    law = analytic.network(patcher).law
    x = patcher.model.process_latent_in(out.double()).flatten()
    parts = zip(law.weights, law.means, law.stds, strict=True)
    u = sum(w * torch.special.ndtr((x - mu - m) / s) for w, m, s in parts).sort().values
    return float((u - torch.linspace(0, 1, len(u), dtype=u.dtype)).abs().max())


@pytest.mark.parametrize("kind", ["eps", "zsnr", "sd3"])
def test_model_calls(analytic, steady, kind):
    """`steps` means model calls: exactly as many, singlestep too; only dpmpp_sde_ext has two a step, one on the last (and on a flow
    model's first, from pure noise)."""
    patcher = analytic.build(kind)
    for steps in (1, 2, 3, 4, 5, 10, 11, 12):
        analytic.network(patcher).calls.clear()
        sigmas, noise = analytic.schedule(patcher, "simple", steps), analytic.noise_for(analytic.latent_shape(patcher))
        assert torch.isfinite(analytic.sample(patcher, steady, sigmas, noise)).all()
        expected = steps
        if steady == "dpmpp_sde_ext":
            expected = max(1, 2 * steps - 1 - (kind == "sd3" and steps > 1))
        assert len(analytic.network(patcher).calls) == expected, steps


@pytest.mark.parametrize("kind", ["eps", "edm", "sd3", "flux"])
def test_sde_ends_in_the_law_of_the_data(analytic, sde, kind):
    """Fresh noise changes which picture comes, not what pictures are likely: 16384 elements have the data's distribution, while their
    places have moved from where the ODE takes this noise."""
    patcher = analytic.build(kind, analytic.MIXTURE)
    channels = analytic.latent_shape(patcher)[1]
    sigmas, noise = analytic.schedule(patcher, "karras", 40), analytic.noise_for((1, channels, 64, 256 // channels))
    out = analytic.sample(patcher, sde, sigmas, noise)
    assert distance(analytic, patcher, out) < 0.04
    assert analytic.error(patcher, out, sigmas, noise) > 0.4


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_sde_batch_equals_singles(analytic, sde, kind):
    """The noise of item i depends on the seed and i only: a batch's first picture is that of batch 1, whatever else is in the batch; and
    two items with the same start are different pictures."""
    patcher = analytic.build(kind, analytic.MIXTURE)
    noise, sigmas = analytic.noise_for(analytic.latent_shape(patcher, 3)), analytic.schedule(patcher, "karras", 8)
    noise[2] = noise[1]
    three = analytic.sample(patcher, sde, sigmas, noise, seed=5)
    assert torch.allclose(three[:1], analytic.sample(patcher, sde, sigmas, noise[:1], seed=5), atol=1e-5)
    assert torch.allclose(three[:2], analytic.sample(patcher, sde, sigmas, noise[:2], seed=5), atol=1e-5)
    assert not torch.allclose(three[1], three[2], atol=0.1)


def test_sde_seed(analytic, sde):
    """The same seed repeats a picture to the bit; another seed, the same start: another picture."""
    patcher = analytic.build("eps", analytic.MIXTURE)
    noise, sigmas = analytic.noise_for(analytic.latent_shape(patcher)), analytic.schedule(patcher, "karras", 8)
    first = analytic.sample(patcher, sde, sigmas, noise, seed=1)
    assert torch.equal(first, analytic.sample(patcher, sde, sigmas, noise, seed=1))
    assert not torch.allclose(first, analytic.sample(patcher, sde, sigmas, noise, seed=2), atol=0.1)


def test_fresh_noise_is_not_the_first_noise(analytic, pack):
    """On the CPU the host's own ancestral samplers draw the numbers of the initial noise again, so that structure burns in. Ours have
    nothing in common with it, nor has one interval with another."""
    import comfy.sample
    from comfy.k_diffusion.sampling import default_noise_sampler

    x, seed, levels = torch.zeros(1, 4, 32, 32), 77, (14.6, 5.0, 2.0, 0.5, 0.0)
    first = comfy.sample.prepare_noise(x, seed)
    draw = module(pack, "adapter")._noise(x, levels, seed, None)
    drawn = [first, *(draw(a, b) for a, b in zip(levels[:3], levels[1:4], strict=True))]
    corr = torch.corrcoef(torch.stack([n.flatten() for n in drawn])) - torch.eye(4)
    assert corr.abs().max() < 0.06  # 4096 numbers: 4 standard deviations
    assert torch.equal(default_noise_sampler(x, seed)(None, None), first)  # the host's fault is still there


@pytest.mark.parametrize("preset", SDE_PRESETS)
@pytest.mark.parametrize("kind", ["eps", "edm", "sd3"])
def test_sde_equals_the_builtin(analytic, build_node, preset, kind):
    """At batch 1 the built-in's picture of the same seed: with its options to rounding, and on karras with the presets of 2M and dpmpp_sde,
    too. The preset dpmpp_3m_sde has the exact weight of the highest difference, the built-in half of it. On flow models from below 1,
    since the built-ins move the first sigma."""
    peer_name, difference = SDE_PRESETS[preset]
    patcher = analytic.build(kind, analytic.MIXTURE)
    sigmas, noise = analytic.schedule(patcher, "karras", 21)[1:], analytic.noise_for(analytic.latent_shape(patcher))
    preset_options = analytic.sampler(preset + "_ext").sampler_function.keywords
    widgets = {"algorithm": "dpmsolver++", "corrector": "none", **preset_options, **difference}
    ends = {}
    for name, how in {"peer": peer_name, "same": build_node("DPMSolverSamplerAdvancedExt", **widgets), "preset": preset + "_ext"}.items():
        ends[name] = patcher.model.process_latent_in(analytic.sample(patcher, how, sigmas, noise, seed=3))
    assert (ends["same"] - ends["peer"]).abs().max() < 5e-4
    gap = (ends["preset"] - ends["peer"]).abs().max()
    assert 1e-3 < gap < 1 if preset == "dpmpp_3m_sde" else gap < 5e-4


@pytest.mark.parametrize("kind", ["eps", "edm"])
def test_sde_of_order_three_is_not_worse_than_the_builtin(analytic, kind):
    """The noise is addressed by interval, so 300 steps follow the same path more finely: the end that 10 steps of the preset reach is
    nearer to theirs than that of the built-in."""
    patcher = analytic.build(kind, analytic.MIXTURE)
    noise = analytic.noise_for(analytic.latent_shape(patcher, size=(16, 16)))
    fine = analytic.sample(patcher, "dpmpp_2m_sde_ext", analytic.schedule(patcher, "karras", 300), noise, seed=3)
    gap = {}
    for name in ("dpmpp_3m_sde_ext", "dpmpp_3m_sde"):
        out = analytic.sample(patcher, name, analytic.schedule(patcher, "karras", 10), noise, seed=3)
        gap[name] = float((out - fine).pow(2).mean())
    assert gap["dpmpp_3m_sde_ext"] < gap["dpmpp_3m_sde"]


def test_noise_sampler_of_the_caller(analytic, sde):
    """Packs that call sample_<name> with k-diffusion's noise_sampler get their own noise used, for the intervals of the steps."""
    import comfy.samplers

    patcher = analytic.build("eps")
    noise, sigmas = analytic.noise_for(analytic.latent_shape(patcher)), analytic.schedule(patcher, "karras", 6)
    asked = []

    def zero(sigma, sigma_next):
        asked.append((float(sigma), float(sigma_next)))
        return torch.zeros_like(noise, device=patcher.load_device)

    how = comfy.samplers.ksampler(sde, {"noise_sampler": zero})
    quiet = analytic.sample(patcher, how, sigmas, noise)
    assert (sigmas[0].item(), sigmas[1].item()) == pytest.approx(next(a for a in asked if a[1] == pytest.approx(sigmas[1].item())))
    assert not torch.allclose(quiet, analytic.sample(patcher, sde, sigmas, noise), atol=0.1)
    none = analytic.sample(patcher, comfy.samplers.ksampler(sde, {"s_noise": 0.0}), sigmas, noise)
    assert torch.allclose(quiet, none, atol=1e-5)


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_sde_masks(analytic, sde, kind):
    """Inpainting: the kept part is kept to rounding although noise is added everywhere."""
    patcher = analytic.build(kind)
    shape = analytic.latent_shape(patcher)
    noise, latent, sigmas = analytic.noise_for(shape, 1), analytic.noise_for(shape, 2), analytic.schedule(patcher, "karras", 12)
    mask = torch.zeros(1, 1, *shape[2:])
    mask[..., : shape[-1] // 2] = 1
    out = analytic.sample(patcher, sde, sigmas, noise, latent=latent, mask=mask)
    assert (out - latent)[(mask == 0).expand(shape)].abs().max() < 1e-5 * latent.abs().max()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sde_low_precision(analytic, sde, dtype):
    """A latent in half precision gets the same noise, drawn in float32: the picture is that of float32 to rounding."""
    patcher, dtype = analytic.build("eps"), getattr(torch, dtype)
    sigmas, noise = analytic.schedule(patcher, "karras", 12), analytic.noise_for(analytic.latent_shape(patcher)).to(dtype)
    full, low = (patcher.model.process_latent_in(analytic.sample(patcher, sde, sigmas, n, cfg=2.0)) for n in (noise.float(), noise))
    assert (full - low).abs().max() < 8 * torch.finfo(dtype).eps * full.abs().max()


def test_unipc_is_worth_its_name(analytic):
    """With the same model calls the corrector is better than 2M where the model is smooth."""
    for kind in ("eps", "edm", "sd3"):
        for law in (analytic.GAUSS, analytic.MIXTURE):
            plain, corrected = (analytic.run(name, "karras", 14, kind, law=law)[0] for name in ("dpmpp_2m_ext", "unipc_ext"))
            assert corrected < 0.9 * plain, kind


@pytest.mark.parametrize("kind", ["eps", "v", "zsnr", "edm", "v_edm", "cosmos", "sd3", "aura", "flux", "flux_half", "schnell", "wan"])
@pytest.mark.parametrize("law", ["GAUSS", "MIXTURE"])
def test_adaptive(analytic, kind, law):
    """As near the exact end as its tolerance says, on every kind of model, whatever the number of steps says, and in a bounded number of
    model calls."""
    ends = {steps: analytic.run("dpm_adaptive_ext", "karras", steps, kind, law=getattr(analytic, law)) for steps in (15, 40)}
    assert ends[15] == ends[40]
    rms, calls = ends[15]
    assert rms < 0.03 and calls <= 60


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_adaptive_tolerance(analytic, build_node, kind):
    """Tighter rtol and atol: more model calls and a smaller error."""
    patcher = analytic.build(kind, analytic.MIXTURE)
    sigmas, noise = analytic.schedule(patcher, "karras", 20), analytic.noise_for(analytic.latent_shape(patcher))
    found = []
    for scale in (1.0, 0.1):
        how = build_node("DPMSolverSamplerAdvancedExt", **ADAPTIVE, rtol=0.05 * scale, atol=0.0078 * scale)
        analytic.network(patcher).calls.clear()
        rms = analytic.error(patcher, analytic.sample(patcher, how, sigmas, noise), sigmas, noise)
        found.append((rms, len(analytic.network(patcher).calls)))
    (loose, few), (tight, many) = found
    assert tight < 0.5 * loose and many > 1.3 * few


ADAPTIVE = {"algorithm": "dpmsolver", "order": 3, "method": "adaptive", "corrector": "none"}


@pytest.mark.parametrize("kind", ["eps", "sd3"])
@pytest.mark.parametrize("steps", [1, 2, 12, 500])
def test_adaptive_progress(analytic, kind, steps):
    """Hosts draw a bar of `steps` steps: the callback's index stays below it, never falls, and comes to the last; sigma falls."""
    patcher = analytic.build(kind)
    sigmas, noise = analytic.schedule(patcher, "karras", steps), analytic.noise_for(analytic.latent_shape(patcher))
    seen = []
    out = analytic.sample(patcher, "dpm_adaptive_ext", sigmas, noise, callback=lambda i, x0, x, total: seen.append((i, total, x0.cpu())))
    places = [i for i, _, _ in seen]
    assert places == sorted(places) and places[0] == 0 and places[-1] == steps - 1 and {t for _, t, _ in seen} == {steps}
    assert (seen[-1][2] - patcher.model.process_latent_in(out)).abs().max() < 0.05
    assert analytic.error(patcher, out, sigmas, noise) < 0.06


def test_adaptive_limit(analytic, build_node):
    """A tolerance that cannot be met in max_evaluations model calls is one sentence with the widget's name, and no more calls than that."""
    patcher = analytic.build("eps", analytic.MIXTURE)
    sigmas, noise = analytic.schedule(patcher, "karras", 20), analytic.noise_for(analytic.latent_shape(patcher))
    how = build_node("DPMSolverSamplerAdvancedExt", **ADAPTIVE, rtol=0.0, atol=1e-5, max_evaluations=30)
    with pytest.raises(RuntimeError, match=r"^[^\n]*max_evaluations is 30[^\n]*$"):
        analytic.sample(patcher, how, sigmas, noise)
    assert len(analytic.network(patcher).calls) <= 30


@pytest.mark.parametrize("denoise", [0.5, 0.2])
def test_adaptive_img2img_and_mask(analytic, denoise):
    """From the middle of the schedule, with half of the latent kept."""
    patcher = analytic.build("sd3")
    shape = analytic.latent_shape(patcher)
    noise, latent = analytic.noise_for(shape, 1), analytic.noise_for(shape, 2)
    sigmas = analytic.schedule(patcher, "karras", int(20 / denoise))[-21:]
    mask = torch.zeros(1, 1, *shape[2:])
    mask[..., : shape[-1] // 2] = 1
    out = analytic.sample(patcher, "dpm_adaptive_ext", sigmas, noise, latent=latent, mask=mask)
    keep = (mask == 0).expand(shape)
    assert (out - latent)[keep].abs().max() < 1e-5 * latent.abs().max()
    gap = patcher.model.process_latent_in(out.double()) - patcher.model.process_latent_in(
        analytic.exact(patcher, sigmas, noise, latent=latent)
    )
    assert gap[~keep].pow(2).mean().sqrt() < 0.05


def test_adaptive_says_what_it_does_with_the_schedule(analytic, pack, caplog):
    """That the inner noise levels of a schedule do not act is said, naming the widget, once and not at every run."""
    patcher = analytic.build("eps")
    sigmas, noise = analytic.schedule(patcher, "karras", 20), analytic.noise_for(analytic.latent_shape(patcher))
    sys.modules[f"{pack.module.__name__}.solvers.hosting"]._told.clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            analytic.sample(patcher, "dpm_adaptive_ext", sigmas, noise)
    (message,) = [r.getMessage() for r in caplog.records if "DPM-Solver" in r.getMessage()]
    assert "method adaptive" in message and "\n" not in message


def test_notes_are_shown_once(analytic, build_node, pack, caplog):
    """An order that the number of steps does not allow is said once, naming the widget and its value."""
    patcher = analytic.build("eps")
    sigmas, noise = analytic.schedule(patcher, "karras", 1), analytic.noise_for(analytic.latent_shape(patcher))
    sys.modules[f"{pack.module.__name__}.solvers.hosting"]._told.clear()
    how = build_node("DPMSolverSamplerExt", preset="custom", order=3)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            analytic.sample(patcher, how, sigmas, noise)
    (message,) = [r.getMessage() for r in caplog.records if "DPM-Solver" in r.getMessage()]
    assert "order is 3" in message and "1 step" in message
