"""Dynamic thresholding: for models of pixels, by the host's latent format; an error on latents unless asked for."""

import pytest
import torch

ADVANCED = "DPMSolverSamplerAdvancedExt"


def runs(analytic, patcher, how, mu=2.0, **more):
    sigmas, noise = analytic.schedule(patcher, "karras", 12), analytic.noise_for(analytic.latent_shape(patcher))
    return analytic.sample(patcher, how, sigmas, noise, mu=mu, **more)


def pixels(analytic, kind="eps"):
    """The analytic model on Chroma Radiance's latent format: three channels that are the picture."""
    return analytic.build(kind, latent="ChromaRadiance")


@pytest.mark.parametrize("kind", ["eps", "sd3"])
@pytest.mark.parametrize("method", ["multistep", "singlestep", "singlestep_fixed", "adaptive"])
def test_pixels_stay_in_range(analytic, build_node, kind, method):
    """Predictions around 2 are brought back to -1…1, by every method; without thresholding they are not."""
    patcher = pixels(analytic, kind)
    options = {"method": method, "corrector": "unipc" if method == "multistep" else "none"}
    out = runs(analytic, patcher, build_node(ADVANCED, **options, thresholding="dynamic"))
    assert out.abs().max() <= 1 + 1e-5
    assert runs(analytic, patcher, build_node(ADVANCED, **options)).mean() > 1.5


def test_widgets_act(analytic, build_node):
    """threshold_ratio is the share of pixels kept, threshold_max the size below which nothing is clipped."""
    patcher = pixels(analytic)
    ends = {}
    for ratio, least in ((0.995, 1.0), (0.5, 1.0), (0.995, 4.0)):
        node = build_node(ADVANCED, thresholding="dynamic", threshold_ratio=ratio, threshold_max=least)
        ends[ratio, least] = runs(analytic, patcher, node)
    assert ends[0.5, 1.0].mean() > 1.1 * ends[0.995, 1.0].mean()  # more is clipped: more at the bound
    assert ends[0.995, 4.0].mean() < 0.7 * ends[0.995, 1.0].mean()  # divided by 4


@pytest.mark.parametrize("kind", ["eps", "sd3", "wan"])
def test_latents_need_consent(analytic, build_node, kind):
    """On a latent space it is one sentence naming the widget, before the model has cost a second; with consent it runs."""
    patcher = analytic.build(kind)
    with pytest.raises(ValueError, match=r"^thresholding is dynamic[^\n]*dynamic_in_latent_space[^\n]*$"):
        runs(analytic, patcher, build_node(ADVANCED, thresholding="dynamic"))
    assert not analytic.network(patcher).calls
    out = runs(analytic, patcher, build_node(ADVANCED, thresholding="dynamic_in_latent_space"))
    assert patcher.model.process_latent_in(out).abs().max() <= 1 + 1e-4


def test_nested_latents(analytic, build_node):
    """Packed latents (B, 1, N) have no channels to look at: with consent they are thresholded as a whole."""
    import comfy.nested_tensor

    patcher = analytic.build("sd3", nested=True)
    parts = [analytic.noise_for((2, 4, 3, 5, 7), 1), analytic.noise_for((2, 8, 11), 2)]
    noise = comfy.nested_tensor.NestedTensor(parts)
    latent = comfy.nested_tensor.NestedTensor([torch.zeros_like(p) for p in parts])
    sigmas = analytic.schedule(patcher, "karras", 8)
    how = build_node(ADVANCED, thresholding="dynamic_in_latent_space")
    out = analytic.sample(patcher, how, sigmas, noise, latent=latent, mu=2.0)
    assert all(patcher.model.process_latent_in(t).abs().max() <= 1 + 1e-4 for t in out.unbind())


def test_values_are_those_of_the_picture(analytic, build_node):
    """A latent format that shifts pixels (as the demo's) is thresholded outside the model, where the range is -1…1."""
    import comfy.latent_formats

    class Shifted(comfy.latent_formats.LatentFormat):
        latent_channels = 3

        def process_in(self, latent):
            return latent - 0.5

        def process_out(self, latent):
            return latent + 0.5

    patcher = pixels(analytic)
    patcher.model.latent_format = Shifted()
    out = runs(analytic, patcher, build_node(ADVANCED, thresholding="dynamic"))
    assert 0.9 < out.max() <= 1 + 1e-5


def test_the_mask_keeps_its_part(analytic, build_node):
    """Where the mask keeps the picture, thresholding does not touch it, even if it is out of range."""
    patcher = pixels(analytic)
    shape = analytic.latent_shape(patcher)
    latent, mask = 3 * analytic.noise_for(shape, 2), torch.zeros(1, 1, *shape[2:])
    mask[..., : shape[-1] // 2] = 1
    out = runs(analytic, patcher, build_node(ADVANCED, thresholding="dynamic"), latent=latent, mask=mask)
    keep = (mask == 0).expand(shape)
    assert torch.allclose(out[keep], latent[keep], atol=1e-4)
    assert out[~keep].abs().max() <= 1 + 1e-4
