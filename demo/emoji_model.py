"""The demo's network: a class-conditional denoiser for 32x32 RGB emoji with 1.75 million parameters.

Images are (B, 3, H, W) in [-1, 1], H and W multiples of 4 (trained at 32). `denoise` is the EDM form (Karras et al.,
arXiv 2206.00364, section 5): the network sees a unit-variance input and predicts a unit-variance target at every noise level.
Class `UNCONDITIONAL` stands for "any emoji": it was trained by dropping labels, so classifier-free guidance works.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 96  # Unicode subgroups of the training set
UNCONDITIONAL = CLASSES
SIGMA_DATA = 0.5  # standard deviation of the data that the preconditioning assumes
WEIGHTS = Path(__file__).resolve().parent / "emoji.safetensors"
GROUPS, HEADS, PATCH = 8, 4, 2
# Parameter names are one letter where the published weights have one: a file that is trained once is read for ever.


class ResBlock(nn.Module):
    """Two convolutions; the embedding (B, e) scales and shifts between them. The last starts at zero: the block starts as its shortcut."""

    def __init__(self, inputs: int, outputs: int, embedding: int):
        super().__init__()
        self.n1, self.c1 = nn.GroupNorm(GROUPS, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.e = nn.Linear(embedding, 2 * outputs)
        self.n2, self.c2 = nn.GroupNorm(GROUPS, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.sk = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.c2.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.e(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.n2(self.c1(F.silu(self.n1(x))))
        return self.sk(x) + self.c2(F.silu(torch.addcmul(h + shift, h, scale)))


class SelfAttention(nn.Module):
    """Every position looks at every other, in `HEADS` heads; added to the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.n = nn.GroupNorm(GROUPS, channels)
        self.q = nn.Conv2d(channels, 3 * channels, 1)  # queries, keys, values
        self.o = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.o.weight)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        parts = self.q(self.n(x)).view(batch, 3, HEADS, channels // HEADS, height * width).transpose(3, 4)
        mixed = F.scaled_dot_product_attention(parts[:, 0], parts[:, 1], parts[:, 2])
        return x + self.o(mixed.transpose(2, 3).reshape(x.shape))


class EmojiNet(nn.Module):
    """A U-Net of two resolutions on 2x2 patches: (B, 3, H, W) -> (B, 12, H/2, W/2) -> ... -> (B, 3, H, W)."""

    def __init__(self, channels: int = 64, embedding: int = 192):
        super().__init__()
        c, e = channels, embedding
        self.emb = nn.Embedding(CLASSES + 1, e)
        self.t = nn.Sequential(nn.Linear(64, e), nn.SiLU(), nn.Linear(e, e))
        self.i = nn.Conv2d(3 * PATCH**2, c, 3, padding=1)
        self.d1, self.d2, self.a2 = ResBlock(c, c, e), ResBlock(c, 2 * c, e), SelfAttention(2 * c)
        self.m, self.am = ResBlock(2 * c, 2 * c, e), SelfAttention(2 * c)
        self.u2, self.u1, self.u1b = ResBlock(4 * c, 2 * c, e), ResBlock(3 * c, c, e), ResBlock(c, c, e)
        self.o = nn.Sequential(nn.GroupNorm(GROUPS, c), nn.SiLU(), nn.Conv2d(c, 3 * PATCH**2, 3, padding=1))

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor) -> Tensor:
        """Raw network: `x` (B, 3, H, W) of unit variance, `c_noise` (B,) = log(sigma)/4.

        `label` is (B,) int64 in 0..CLASSES, or (B, CLASSES + 1) weights of a mixture of classes.
        """
        frequency = torch.exp(torch.linspace(0, math.log(200), 32, device=x.device, dtype=x.dtype))
        angle = c_noise[:, None] * frequency
        named = label @ self.emb.weight if label.ndim == 2 else self.emb(label)
        e = F.silu(self.t(torch.cat([angle.sin(), angle.cos()], dim=1)) + named)
        fine = self.d1(self.i(F.pixel_unshuffle(x, PATCH)), e)
        coarse = self.a2(self.d2(F.avg_pool2d(fine, 2), e))
        h = self.u2(torch.cat([self.am(self.m(coarse, e)), coarse], dim=1), e)
        h = self.u1(torch.cat([F.interpolate(h, scale_factor=2.0, mode="nearest"), fine], dim=1), e)
        return F.pixel_shuffle(self.o(self.u1b(h, e)), PATCH)


def denoise(net: nn.Module, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
    """E[x0 | x] for x = x0 + sigma*n: `x` (B, 3, H, W), `sigma` (B,) > 0, `label` as in `EmojiNet.forward`. Returns (B, 3, H, W)."""
    s = sigma.view(-1, 1, 1, 1)
    variance = s**2 + SIGMA_DATA**2
    c_skip, c_out, c_in = SIGMA_DATA**2 / variance, s * SIGMA_DATA * variance.rsqrt(), variance.rsqrt()
    return c_skip * x + c_out * net(c_in * x, sigma.log() / 4, label)


def class_names(path: Path | str = WEIGHTS) -> list[str]:
    """Names of the classes in order, from the header of a safetensors file written by train.py."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        names = json.loads(file.metadata()["classes"])
    if len(names) != CLASSES:
        raise ValueError(f"{path} names {len(names)} classes, the network has {CLASSES}")
    return names


def load(path: Path | str = WEIGHTS) -> tuple[EmojiNet, list[str]]:
    """(network in fp32 and eval mode, names of the classes in order) from a safetensors file written by train.py."""
    from safetensors.torch import load_file

    net = EmojiNet()
    net.load_state_dict({key: value.float() for key, value in load_file(str(path)).items()})
    return net.eval().requires_grad_(False), class_names(path)
