"""DPMSolverSampler behind the calls that CompVis' scripts make."""

import math
import warnings

import numpy as np
import pytest
import torch
from dpm_solver_ext.interop.ldm import DPMSolverSampler
from dpm_solver_ext.solvers.official import DPM_Solver
from dpm_solver_ext.solvers.official_schedule import NoiseScheduleVP

SHAPE = (4, 8, 8)
C, UC = torch.full((2, 3, 4), 0.5), torch.zeros(2, 3, 4)


class LatentDiffusion:
    """What a sampler sees of ldm's model; data are N(0.5·condition, 0.2) per element, exactly."""

    device = torch.device("cpu")

    def __init__(self, parameterization="eps"):
        self.betas = torch.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000, dtype=torch.float64) ** 2
        self.alphas_cumprod = torch.cumprod(1 - self.betas, 0)
        self.parameterization, self.seen = parameterization, []

    def apply_model(self, x, t, cond):
        self.seen.append((tuple(x.shape), float(t[0])))
        if isinstance(cond, dict):
            cond = cond["c_crossattn"]
        if isinstance(cond, list):
            cond = cond[0]
        mean = 0.5 * cond.mean((1, 2)).reshape(-1, 1, 1, 1)
        squared = torch.from_numpy(np.interp((t + 1).numpy(), np.arange(1, 1001), 0.5 * self.alphas_cumprod.log().numpy())).exp() ** 2
        a, s = (v.sqrt().reshape(-1, 1, 1, 1).to(x) for v in (squared, 1 - squared))
        x0 = mean + 0.2 * a * (x - a * mean) / (a * a * 0.2 + s * s)
        noise = (x - a * x0) / s
        return {"eps": noise, "v": a * noise - s * x0, "x0": x0}[self.parameterization]


def call(model, x_T, c=C, uc=UC, **options):
    """The call of scripts/txt2img.py."""
    return DPMSolverSampler(model).sample(
        S=10, conditioning=c, batch_size=2, shape=SHAPE, verbose=False, unconditional_guidance_scale=3.0, unconditional_conditioning=uc,
        eta=0.0, x_T=x_T, **options,
    )  # fmt: skip


def noise():
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_it_is_the_official_sampler():
    """10 evaluations of a doubled batch at 999 … 99.9, and the latents of DPM-Solver++ 2M with guidance done by hand."""
    model = LatentDiffusion()
    samples, nothing = call(model, noise())
    assert nothing is None and samples.dtype == torch.float32
    assert [shape for shape, _ in model.seen] == [(4, *SHAPE)] * 10
    np.testing.assert_allclose([t for _, t in model.seen], np.linspace(999, 0, 11)[:-1], rtol=0, atol=1e-3)
    schedule = NoiseScheduleVP(alphas_cumprod=model.alphas_cumprod)

    def guided(x, t):
        u, c = (model.apply_model(x, t * 1000 - 1, k) for k in (UC, C))
        return u + 3.0 * (c - u)

    torch.testing.assert_close(samples, DPM_Solver(guided, schedule).sample(noise(), 10), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: [c], lambda c: {"c_crossattn": [c]}], ids=["tensor", "list", "dict"])
def test_parameterizations_and_conditions(kind, wrap):
    """Every parameterization, and conditions as tensors, lists and ldm's dicts, give the same latents."""
    want, _ = call(LatentDiffusion(), noise())
    got, _ = call(LatentDiffusion(kind), noise(), wrap(C), wrap(UC))
    torch.testing.assert_close(got, want, rtol=0, atol=2e-5)


def test_without_x_T_the_start_is_drawn_by_torch():
    """As the original: torch.manual_seed decides; dtype and device are the table's."""
    torch.manual_seed(3)
    a, _ = call(LatentDiffusion(), None)
    torch.manual_seed(3)
    b, _ = call(LatentDiffusion(), None)
    assert torch.equal(a, b) and a.shape == (2, *SHAPE) and not torch.equal(a, call(LatentDiffusion(), None)[0])


def test_callbacks_and_intermediates():
    """callback(i) and img_callback(pred_x0, i) once a step; return_intermediate gives the states as the second value."""
    steps, pictures = [], []
    x, states = call(
        LatentDiffusion(),
        noise(),
        callback=steps.append,
        img_callback=lambda x0, i: pictures.append((i, x0.shape)),
        return_intermediate=True,
    )
    assert steps == list(range(10)) and pictures == [(i, (2, *SHAPE)) for i in range(10)]
    assert len(states) == 11 and torch.equal(states[-1], x)


def test_encode_and_back():
    """`encode` follows the ODE to the given part of the way; sampling from there returns the latents. The other way is adding noise."""
    sampler = DPMSolverSampler(LatentDiffusion(), exact=True)
    latents = 0.25 + 0.45 * noise()
    options = {"skip_type": "logSNR", "method": "singlestep", "order": 3}
    code, states = sampler.encode(40, latents, 0.6, C, **options)
    back, _ = sampler.sample(40, 2, SHAPE, C, x_T=code, t_start=sampler.ratio_to_time(0.6), **options)
    assert torch.equal(states[-1], code) and float((back - latents).abs().max()) < 0.02
    given = torch.ones_like(latents)
    a = float(sampler.noise_schedule.marginal_alpha(sampler.ratio_to_time(0.6)))
    torch.testing.assert_close(
        sampler.stochastic_encode(latents, 0.6, given), a * latents + math.sqrt(1 - a * a) * given, rtol=0, atol=1e-5
    )
    assert (sampler.ratio_to_time(0.0), sampler.ratio_to_time(1.0)) == (1 / 1000, 1.0)


def test_what_would_be_lost_is_said():
    """Options of the interface that cannot act warn or are refused; a batch of conditions of another size warns."""
    for name, value in (("eta", 1.0), ("temperature", 0.5), ("normals_sequence", [1]), ("ucg_schedule", [1])):
        with pytest.warns(UserWarning, match=f"{name} has no effect"):
            options = {"S": 2, "batch_size": 2, "shape": SHAPE, "conditioning": C, "x_T": noise(), name: value}
            DPMSolverSampler(LatentDiffusion()).sample(**options)
    for name in ("mask", "x0", "score_corrector"):
        with pytest.raises(ValueError, match=f"^{name} is not used.*correcting_xt_fn"):
            call(LatentDiffusion(), noise(), **{name: noise()})
    with pytest.warns(UserWarning, match="1 conditionings for a batch of 2"), pytest.warns(UserWarning, match="guidance_scale is 3.0"):
        call(LatentDiffusion(), noise(), C[:1].expand(1, 3, 4), None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no guidance asked for
        DPMSolverSampler(LatentDiffusion()).sample(S=2, batch_size=2, shape=SHAPE, conditioning=C, x_T=noise())
        without = LatentDiffusion()
        without.apply_model = lambda x, t, cond: 0.1 * x
        DPMSolverSampler(without).sample(S=2, batch_size=2, shape=SHAPE, x_T=noise())
    with pytest.raises(ValueError, match="parameterization is 'score'"):
        DPMSolverSampler(LatentDiffusion("score"))


def test_register_buffer():
    """Tensors go to the sampler's device, other values stay what they are."""
    sampler = DPMSolverSampler(LatentDiffusion())
    sampler.device = torch.device("meta")
    sampler.register_buffer("scale", torch.ones(2))
    sampler.register_buffer("name", "v")
    assert sampler.alphas_cumprod.device.type == "cpu" and sampler.scale.device.type == "meta" and sampler.name == "v"
