"""The emoji network inside ComfyUI's own BaseModel and ModelPatcher, so that every sampler, scheduler, patch and preview works on it.

The host sees an epsilon-prediction model on Stable Diffusion's table of 1000 noise levels, 0.029..14.6, with a latent of three
channels: pixels in [-1, 1] less the mean colour of the training images. The offset matters: sampling begins with noise around
zero, and at sigma 14.6 that still tells the network how bright the picture is; without it the emoji come out dark.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models_base
import torch
from torch import Tensor

HERE = Path(__file__).resolve().parent
MEAN = (0.7104, 0.6040, 0.4662)  # of the training images, per channel, in [-1, 1]


def _beside_or_above(name: str) -> Path:
    for folder in (HERE, HERE.parent):
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"The emoji demo's {name} is neither in {HERE} nor in {HERE.parent}.")


def _network():
    """The module demo/emoji_model.py, under a name of our own: the folder above is not a package of the host."""
    name = "dpm_solver_ext_demo_emoji_model"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _beside_or_above("emoji_model.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


network = _network()
CLASSES = network.class_names(_beside_or_above("emoji.safetensors"))
UNCONDITIONAL = network.UNCONDITIONAL


class EmojiLatent(comfy.latent_formats.LatentFormat):
    """Pixels in [-1, 1] outside the model, less their mean inside; latent2rgb previews are the picture itself."""

    latent_channels = 3

    def __init__(self):
        self.latent_rgb_factors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        self.latent_rgb_factors_bias = list(MEAN)

    def _mean(self, latent: Tensor) -> Tensor:
        return torch.tensor(MEAN, dtype=latent.dtype, device=latent.device).view(1, 3, *[1] * (latent.ndim - 2))

    def process_in(self, latent: Tensor) -> Tensor:
        return latent - self._mean(latent)

    def process_out(self, latent: Tensor) -> Tensor:
        return latent + self._mean(latent)


class EmojiEps(torch.nn.Module):
    """What BaseModel calls: epsilon from the host's scaled input; the EDM network inside predicts the clean image."""

    def __init__(self, net: torch.nn.Module):
        super().__init__()
        self.net = net
        self.dtype = torch.float32
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.table: Tensor | None = None  # sigmas of the model, for a caller that gives a timestep only

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor, transformer_options=None, **kwargs) -> Tensor:
        """x (B, 3, H, W) = (noisy - mean) / sqrt(1 + sigma**2); context (B, tokens, CLASSES + 1) = weights of the classes."""
        sigma = (transformer_options or {}).get("sigmas")
        if sigma is None:
            sigma = self.table.to(x)[timestep.long()]
        # The host gives sigma once per latent, and calls with all conditionings in one batch. The timestep would be rounded.
        sigma = sigma.to(x).flatten()
        sigma = sigma.repeat(x.shape[0] // sigma.shape[0])
        s = sigma.view(-1, 1, 1, 1)
        noisy = x * (1 + s**2).sqrt()
        label = context.to(x).mean(dim=1)
        # What is missing to 1 is "no label": a zeroed conditioning is the unconditional one.
        label = label.clone()
        label[:, UNCONDITIONAL] += 1 - label.sum(dim=1)
        # Height and width must be multiples of 4; the border is cut off again.
        height, width = x.shape[-2:]
        pad = (0, -width % 4, 0, -height % 4)
        padded = torch.nn.functional.pad(noisy + self.mean, pad, mode="replicate") if any(pad) else noisy + self.mean
        clean = network.denoise(self.net, padded, sigma, label)[..., :height, :width] - self.mean
        return (noisy - clean) / s


class EmojiConfig(comfy.supported_models_base.BASE):
    """Settings ComfyUI asks of a model family; the sampling settings are Stable Diffusion's, which are the defaults."""

    unet_config = {}
    unet_extra_config = {}
    latent_format = EmojiLatent
    memory_usage_factor = 0.05
    supported_inference_dtypes = [torch.float32]


def build() -> comfy.model_patcher.ModelPatcher:
    """A MODEL: ModelPatcher around BaseModel around the network, fp32."""
    management = comfy.model_management
    config = EmojiConfig({"disable_unet_model_creation": True})
    config.set_inference_dtype(torch.float32, None)
    model = comfy.model_base.BaseModel(config, model_type=comfy.model_base.ModelType.EPS, device=management.unet_offload_device())
    net, _ = network.load(_beside_or_above("emoji.safetensors"))
    model.diffusion_model = EmojiEps(net).eval()
    model.diffusion_model.table = model.model_sampling.sigmas
    return comfy.model_patcher.ModelPatcher(
        model, load_device=management.get_torch_device(), offload_device=management.unet_offload_device()
    )
