"""An analytic diffusion model inside the real ComfyUI: the end of every ODE run is known in closed form.

Data law: every element of x0 is drawn alone from a scalar Gaussian mixture whose parts all move with mu, and mu comes from the
conditioning. Two exact statements follow, for every parameterisation the host has (eps, v, EDM, flow, ...):

* the denoiser E[x0 | x] is a weighted sum over the parts (`Law.denoise`);
* the probability-flow ODE of a scalar law keeps quantiles, so the run from (alpha_s, sigma_s) to (alpha_t, sigma_t) ends where the
  cumulative distribution has the value that it had at the start (`Law.transport`; one part: a linear map).

The denoiser is the `diffusion_model` of a real BaseModel in a real ModelPatcher, so everything between the node and the network is
ComfyUI's own: conditioning, CFG, masks, ranges, dtype casts, latent formats. Import this file only when `comfy` is importable.

Latents are (B, C, ...) tensors in the latent format of the kind; sigma is k-diffusion's, flow models have alpha = 1 - sigma, all others
alpha = 1.
"""

import dataclasses
import math
import time

import comfy.conds
import comfy.controlnet
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.supported_models_base
import torch

MU_POS, MU_NEG = 0.75, -0.25  # exact in bfloat16: the conditioning is cast to the model's dtype on the way in


@dataclasses.dataclass(frozen=True)
class Law:
    """Scalar Gaussian mixture sum_k weights[k] N(mu + means[k], stds[k]^2), the same for every element."""

    weights: tuple = (1.0,)
    means: tuple = (0.0,)
    stds: tuple = (0.5,)

    def _parts(self, like):
        make = lambda v: torch.tensor(v, dtype=like.dtype, device=like.device).view(-1, *[1] * like.ndim)  # noqa: E731
        return make(self.weights), make(self.means), make(self.stds)

    def denoise(self, x, alpha, sigma, mu):
        """E[x0 | alpha x0 + sigma n = x]; alpha, sigma, mu broadcast against x."""
        w, m, s = self._parts(x)
        m = m + mu
        var = alpha**2 * s**2 + sigma**2
        gap = x - alpha * m
        logits = w.log() - 0.5 * var.log() - 0.5 * gap**2 / var
        return (logits.softmax(0) * (m + alpha * s**2 * gap / var)).sum(0)

    def transport(self, x, start, end, mu):
        """Exact ODE end: x at start = (alpha, sigma) carried to end = (alpha, sigma). float64 in and out."""
        x = x.double()
        (a0, s0), (a1, s1) = start, end
        w, m, s = self._parts(x)
        m, std0, std1 = m + mu, (a0**2 * s**2 + s0**2).sqrt(), (a1**2 * s**2 + s1**2).sqrt()
        if len(self.weights) == 1:
            return (a1 * m + std1 / std0 * (x - a0 * m)).squeeze(0)
        cdf = lambda y, a, std: (w * torch.special.ndtr((y - a * m) / std)).sum(0)  # noqa: E731
        goal = cdf(x, a0, std0)
        low, high = (a1 * m - 9 * std1).amin(0).expand_as(x), (a1 * m + 9 * std1).amax(0).expand_as(x)
        for _ in range(64):
            mid = (low + high) / 2
            below = cdf(mid, a1, std1) < goal
            low, high = torch.where(below, mid, low), torch.where(below, high, mid)
        return (low + high) / 2


GAUSS = Law()
MIXTURE = Law(weights=(0.35, 0.65), means=(-0.9, 0.5), stds=(0.15, 0.3))

# name -> (host model type, sampling settings, latent format, how the network's output is parameterised)
KINDS = {
    "eps": ("EPS", {}, "SD15", "eps"),
    "v": ("V_PREDICTION", {}, "SD15", "v"),
    "zsnr": ("V_PREDICTION", {"zsnr": True}, "SD15", "v"),
    "edm": ("EDM", {"sigma_data": 0.5, "sigma_max": 120.0, "sigma_min": 0.002}, "SDXL_Playground_2_5", "edm"),
    "v_edm": ("V_PREDICTION_EDM", {"sigma_data": 1.0, "sigma_max": 500.0, "sigma_min": 0.03}, "StableAudio1", "v"),
    "cascade": ("STABLE_CASCADE", {"shift": 2.0}, "SC_Prior", "eps"),
    "sd3": ("FLOW", {"shift": 3.0}, "SD3", "eps"),
    "aura": ("FLOW", {"multiplier": 1.0, "shift": 1.73}, "SDXL", "eps"),
    "over": ("FLOW", {"shift": 1.84}, "SD3", "eps"),  # float32 makes its sigma_max 1.0000001
    "flux": ("FLUX", {"shift": 1.15}, "Flux", "eps"),
    "flux_half": ("FLUX", {"shift": 0.5}, "Flux", "eps"),
    "schnell": ("FLOW", {"multiplier": 1.0, "shift": 1.0}, "Flux", "eps"),
    "wan": ("FLOW", {"shift": 8.0}, "Wan21", "eps"),
    "cosmos": ("FLOW_COSMOS", {"sigma_data": 1.0, "sigma_max": 80.0, "sigma_min": 0.002}, "Cosmos1CV8x8x8", "cosmos"),
}


class Network(torch.nn.Module):
    """The denoiser as the host sees a network: called with the scaled input, answers in its own parameterisation, in its own dtype.

    `calls` has one entry per call: dict(sigma, mu, shape). `delay` seconds are slept per call; `on_call(index)` runs before one.
    """

    def __init__(self, law, output, flow, sigma_data, dtype):
        super().__init__()
        self.law, self.output, self.flow, self.sigma_data, self.dtype = law, output, flow, sigma_data, dtype
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=dtype), requires_grad=False)
        self.calls, self.delay, self.on_call = [], 0.0, None

    def forward(self, x, timesteps, context=None, control=None, transformer_options=None, **_):
        comfy.model_management.throw_exception_if_processing_interrupted()  # comfy.ops does this in every layer of a real network
        if self.on_call is not None:
            self.on_call(len(self.calls))
        if self.delay:
            time.sleep(self.delay)
        first = x[0] if isinstance(x, list) else x
        # the raw sigma: `timesteps` went through the discrete models' rounding. One entry per latent of ONE conditioning.
        sigma = transformer_options["sigmas"].float()
        sigma = sigma.repeat(first.shape[0] // sigma.shape[0])
        mu = context.float().mean(dim=(1, 2))
        if control is not None:
            mu = mu + control["output"][0].float().flatten(1).mean(1)
        self.calls.append({"sigma": float(sigma[0]), "mu": tuple(round(v, 4) for v in mu.tolist()), "shape": tuple(first.shape)})
        if isinstance(x, list):  # nested latents (audio with video): one tensor per part
            return [self._one(part, sigma, mu) for part in x]
        return self._one(x, sigma, mu)

    def _one(self, xc, sigma, mu):
        view = (-1, *[1] * (xc.ndim - 1))
        sigma, mu, xc, data = sigma.view(view), mu.view(view), xc.float(), self.sigma_data
        if self.flow:
            return ((xc - self.law.denoise(xc, 1 - sigma, sigma, mu)) / sigma).to(self.dtype)
        if self.output == "cosmos":
            t = sigma / (sigma + 1)
            x = xc / (1 - t)
            return ((xc - self.law.denoise(x, 1.0, sigma, mu)) / t).to(self.dtype)
        norm = (sigma**2 + data**2).sqrt()
        x = xc * norm
        x0 = self.law.denoise(x, 1.0, sigma, mu)
        if self.output == "eps":
            out = (x - x0) / sigma
        else:
            out = (x * data**2 / norm**2 - x0) * norm / (sigma * data)
        return (-out if self.output == "edm" else out).to(self.dtype)


class _NestedModel(comfy.model_base.BaseModel):
    """Hands the parts' shapes to the network, which is what a model for nested latents must do in this host (no built-in one does yet)."""

    def extra_conds(self, **kwargs):
        out = super().extra_conds(**kwargs)
        out["latent_shapes"] = comfy.conds.CONDConstant(kwargs["latent_shapes"])
        return out


class ShiftControl(comfy.controlnet.ControlBase):
    """A ControlNet without weights: adds the mean of its hint image times its strength to mu, within its percent range."""

    def copy(self):
        twin = ShiftControl()
        self.copy_to(twin)
        return twin

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        previous = None
        if self.previous_controlnet is not None:
            previous = self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
        if float(t[0]) > self.timestep_range[0] or float(t[0]) < self.timestep_range[1]:
            return previous
        shift = self.cond_hint_original.float().mean() * torch.ones(x_noisy.shape[0], 1, device=x_noisy.device)
        return self.control_merge({"input": [], "middle": [], "output": [shift]}, previous, output_dtype=None)


def build(kind="eps", law=GAUSS, dtype=torch.float32, latent=None, nested=False):
    """ModelPatcher of the analytic model. kind: a key of KINDS; latent: a class name in comfy.latent_formats instead of the kind's own."""
    model_type, settings, latent_format, output = KINDS[kind]
    config = comfy.supported_models_base.BASE({"disable_unet_model_creation": True})
    config.sampling_settings = dict(settings)
    config.latent_format = getattr(comfy.latent_formats, latent or latent_format)()
    config.memory_usage_factor = 0.01
    config.set_inference_dtype(dtype, None)
    base = _NestedModel if nested else comfy.model_base.BaseModel
    model = base(config, model_type=comfy.model_base.ModelType[model_type], device=torch.device("cpu"))
    flow = isinstance(model.model_sampling, comfy.model_sampling.CONST)
    model.diffusion_model = Network(law, output, flow, getattr(model.model_sampling, "sigma_data", 1.0), dtype)
    model.eval()
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=comfy.model_management.unet_offload_device())


def cond(mu):
    """Conditioning whose mean is mu, in the form that CLIPTextEncode returns."""
    return [[torch.full((1, 7, 16), float(mu)), {}]]


def network(patcher):
    return patcher.model.diffusion_model


def latent_shape(patcher, batch=1, size=(8, 8)):
    """(B, C, ...) for the patcher's latent format; one size per spatial axis, as many as the format has."""
    fmt = patcher.model.latent_format
    dims = getattr(fmt, "latent_dimensions", 2)
    return (batch, fmt.latent_channels, *({1: (64,), 2: size, 3: (3, *size)}[dims]))


def noise_for(shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def sampler(name, **options):
    """The host's SAMPLER object for a dropdown name."""
    return comfy.samplers.ksampler(name, options) if options else comfy.samplers.sampler_object(name)


def schedule(patcher, name, steps):
    return comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), name, steps)


def sample(
    patcher, how, sigmas, noise, latent=None, mu=MU_POS, mu_neg=MU_NEG, cfg=1.0, mask=None, callback=None, positive=None, negative=None,
    seed=0,
):  # fmt: skip
    """One real run, what the node SamplerCustom does. how: dropdown name or SAMPLER object. Returns the LATENT tensor of the host."""
    latent = torch.zeros_like(noise) if latent is None else latent
    return comfy.sample.sample_custom(
        patcher, noise, cfg, sampler(how) if isinstance(how, str) else how, sigmas, positive or cond(mu), negative or cond(mu_neg),
        latent, noise_mask=mask, callback=callback, disable_pbar=True, seed=seed)  # fmt: skip


def exact(patcher, sigmas, noise, latent=None, mu=MU_POS, mu_neg=MU_NEG, cfg=1.0):
    """What `sample` returns when the ODE is solved exactly, in float64. With guidance only for one Gaussian: there it moves the mean."""
    law, ms = network(patcher).law, patcher.get_model_object("model_sampling")
    assert cfg == 1.0 or len(law.weights) == 1
    noise, sigmas = noise.double(), sigmas.cpu()
    latent = torch.zeros_like(noise) if latent is None else patcher.model.process_latent_in(latent.double())
    first, last = float(sigmas[0]), float(sigmas[-1])
    top = float(ms.sigma_max)
    x = ms.noise_scaling(sigmas[0].double(), noise.clone(), latent, math.isclose(top, first, rel_tol=1e-5) or first > top)
    flow = isinstance(ms, comfy.model_sampling.CONST)
    alpha = lambda s: 1 - s if flow else 1.0  # noqa: E731
    x = law.transport(x, (alpha(first), first), (alpha(last), last), mu_neg + cfg * (mu - mu_neg))
    return patcher.model.process_latent_out(ms.inverse_noise_scaling(sigmas[-1].double(), x))


def error(patcher, out, sigmas, noise, **how):
    """rms distance of a run's LATENT from the exact end, in the model's own latent scale."""
    gap = patcher.model.process_latent_in(out.double()) - patcher.model.process_latent_in(exact(patcher, sigmas, noise, **how))
    return float(gap.pow(2).mean().sqrt())


def run(name, scheduler, steps, kind="eps", law=GAUSS, batch=1, size=(8, 8), seed=0, dtype=torch.float32, **how):
    """(rms error, number of model calls) of one dropdown sampler on one schedule; the commonest thing that the tests need."""
    patcher = build(kind, law, dtype)
    sigmas, noise = schedule(patcher, scheduler, steps), noise_for(latent_shape(patcher, batch, size), seed)
    out = sample(patcher, name, sigmas, noise, **how)
    return error(patcher, out, sigmas, noise, **how), len(network(patcher).calls)
