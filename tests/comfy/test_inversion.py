"""Encoding a picture as noise: sigmas that rise, made by the host's FlipSigmas, through the host's SamplerCustom."""

import itertools

import pytest
import torch

KINDS = ("eps", "zsnr", "edm", "flux", "wan")
FLOWS = ("sd3", "flux", "wan")


def rising(host, build_node, patcher, kind, steps, **widgets):
    """Our Scheduler node, then FlipSigmas; on a flow model from 0.999, because the host cannot return a latent from 1."""
    top = {"sigma_max": 0.999} if kind in FLOWS else {}
    sigmas = build_node("DPMSolverSchedulerExt", steps=steps, model=patcher, **{"schedule": "logSNR"} | top | widgets)
    return sigmas, host.nodes_custom.FlipSigmas.execute(sigmas).args[0]


def custom(host, analytic, patcher, how, sigmas, latent, cfg=1.0):
    """The node SamplerCustom without noise; `how` is a sampler or the name of one."""
    solver = analytic.sampler(how) if isinstance(how, str) else how
    out = host.nodes_custom.SamplerCustom.execute(
        patcher, False, 1, cfg, analytic.cond(0.75), analytic.cond(-0.25), solver, sigmas, {"samples": latent}
    )
    return out.args[0]["samples"]


def picture(analytic, patcher, seed=4):
    """A latent that the law could have made."""
    shape = analytic.latent_shape(patcher)
    x = 0.75 + 0.5 * analytic.noise_for(shape, seed)
    return patcher.model.process_latent_out(x)


def relative(patcher, a, b):
    a, b = (patcher.model.process_latent_in(t.double()) for t in (a, b))
    return float((a - b).pow(2).mean().sqrt() / b.pow(2).mean().sqrt())


@pytest.mark.parametrize("kind, final_sigma", [*((kind, "sigma_min") for kind in KINDS), ("eps", "zero"), ("flux", "zero")])
def test_encode_and_decode(host, analytic, build_node, ode, kind, final_sigma):
    """The noise is the exact one of that picture, and sampling from it gives the picture back; with FlipSigmas' 0.0001 and from
    sigma_min."""
    patcher = analytic.build(kind)
    latent = picture(analytic, patcher)
    falling, sigmas = rising(host, build_node, patcher, kind, 40, final_sigma=final_sigma)
    noise = custom(host, analytic, patcher, ode, sigmas, latent)
    assert len(analytic.network(patcher).calls) == 40
    exact = analytic.exact(patcher, sigmas, torch.zeros_like(latent), latent=latent)
    bound = 0.15 if final_sigma == "zero" and kind == "flux" else 0.05  # the step from 0.0001 is most of the way
    assert relative(patcher, noise, exact) < bound
    back = custom(host, analytic, patcher, ode, falling, noise)
    assert relative(patcher, back, latent) < bound


MULTISTEP = ("dpm_auto_ext", "dpmpp_2m_ext", "dpmpp_3m_ext", "unipc_ext")
# widgets of the advanced node, which is auto as dropped
ADVANCED = ({}, {"order": 3}, {"order": 4, "start": "extra"}, {"final_rule": "none"}, {"algorithm": "dpmsolver"}, {"corrector": "none"})


@pytest.mark.parametrize("schedule", ["karras", "exponential"])
@pytest.mark.parametrize("how", [*MULTISTEP, *ADVANCED], ids=str)
def test_up_to_zero_terminal_snr(host, analytic, build_node, how, schedule):
    """Few steps that rise to sigma 4519, where λ is -8.4: each plans, proves itself, and brings the picture back. karras has one λ step of
    1.4 there at 10 steps."""
    patcher = analytic.build("zsnr")
    latent = picture(analytic, patcher)
    how = how if isinstance(how, str) else build_node("DPMSolverSamplerAdvancedExt", **how)
    for final_sigma, steps in itertools.product(("sigma_min", "zero"), (10, 20)):
        falling, sigmas = rising(host, build_node, patcher, "zsnr", steps, schedule=schedule, final_sigma=final_sigma)
        assert sigmas[-1] > 4000
        noise = custom(host, analytic, patcher, how, sigmas, latent)
        bound = {"karras": {10: 0.37, 20: 0.12}, "exponential": {10: 0.07, 20: 0.025}}[schedule][steps]  # the worst, noise prediction: .33
        assert relative(patcher, noise, analytic.exact(patcher, sigmas, torch.zeros_like(latent), latent=latent)) < bound
        assert relative(patcher, custom(host, analytic, patcher, how, falling, noise), latent) < bound


@pytest.mark.parametrize("kind", ["eps", "edm", "sd3"])
def test_adaptive_encode(host, analytic, build_node, kind):
    """The adaptive solver runs both ways, too."""
    patcher = analytic.build(kind)
    latent = picture(analytic, patcher)
    falling, sigmas = rising(host, build_node, patcher, kind, 20, final_sigma="sigma_min")
    noise = custom(host, analytic, patcher, "dpm_adaptive_ext", sigmas, latent)
    assert relative(patcher, noise, analytic.exact(patcher, sigmas, torch.zeros_like(latent), latent=latent)) < 0.05
    assert relative(patcher, custom(host, analytic, patcher, "dpm_adaptive_ext", falling, noise), latent) < 0.05


@pytest.mark.parametrize("kind", ["eps", "sd3"])
def test_editing(host, analytic, build_node, kind):
    """Encoding under one prompt and decoding under another moves the picture as the law says, and keeps what the prompts share: each
    element stays at its quantile."""
    patcher = analytic.build(kind)
    latent = picture(analytic, patcher)
    falling, sigmas = rising(host, build_node, patcher, kind, 40, final_sigma="sigma_min")
    noise = custom(host, analytic, patcher, "unipc_ext", sigmas, latent)
    out = analytic.sample(patcher, "unipc_ext", falling, torch.zeros_like(noise), latent=noise, mu=-0.5)
    moved = patcher.model.process_latent_in(out) - patcher.model.process_latent_in(latent)
    assert (moved + 1.25).abs().max() < 0.1


def refused(host, analytic, patcher, how, sigmas, sentence):
    """The run ends in one sentence, before the first model call."""
    with pytest.raises(ValueError, match=sentence):
        custom(host, analytic, patcher, how, sigmas, picture(analytic, patcher))
    assert not analytic.network(patcher).calls


def test_to_pure_noise_of_a_flow_model(host, analytic, steady):
    """At sigma 1 the host would divide by 0 after the run: one sentence with the mend."""
    patcher = analytic.build("flux")
    sigmas = host.nodes_custom.FlipSigmas.execute(analytic.schedule(patcher, "simple", 10)).args[0]
    assert sigmas[-1] == 1
    refused(host, analytic, patcher, steady, sigmas, r"^[^\n]*sigma_max 0.999[^\n]*$")


def test_noise_on_the_way_to_noise(host, analytic, build_node, sde):
    """An image is encoded without fresh noise: an SDE sampler with rising sigmas is one sentence naming eta."""
    patcher = analytic.build("eps")
    _, sigmas = rising(host, build_node, patcher, "eps", 10)
    refused(host, analytic, patcher, sde, sigmas, r"^eta is 1[^\n]*set eta to 0[^\n]*$")


def test_flipped_zero_is_no_warning(host, analytic, build_node, caplog):
    """FlipSigmas' 0.0001 lies below every model's table and is nobody's mistake."""
    patcher = analytic.build("eps")
    _, sigmas = rising(host, build_node, patcher, "eps", 10)
    assert float(sigmas[0]) == pytest.approx(1e-4)
    custom(host, analytic, patcher, "dpm_auto_ext", sigmas, picture(analytic, patcher))
    assert not [r for r in caplog.records if "DPM-Solver" in r.getMessage()]
