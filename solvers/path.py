"""Diffusion paths: what a sigma of the host means.

On every path x = α(s)·x0 + σ(s)·ε with standard normal ε, where s is the host's number ("sigma" in k-diffusion). The coordinate
of the solvers is the half-logSNR λ = log(α/σ) (arXiv 2206.00927, section 2). Everything here is float64 on the host.

Both ends are exact: s = 0 is λ = +∞; flow s = 1 and variance-preserving s = ∞ are λ = -∞. No value is nudged away from them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

ULPS = 1e-5  # hosts compute a flow model's shift in float32, which makes 1.0000001 of 1: that is the end, too


@dataclass(frozen=True)
class Path:
    """One noise path; use the instances VE, FLOW and VP, or `PATHS[name]`.

    | name | α(s) | σ(s) | hosts |
    | --- | --- | --- | --- |
    | ve | 1 | s | EPS, v-prediction and EDM models under k-diffusion |
    | flow | 1 - s | s | rectified flow: SD3, AuraFlow, Flux |
    | vp | 1/√(1+s²) | s/√(1+s²) | the papers' own scaling, s = σ/α |
    """

    name: str

    def alpha(self, s: float) -> float:
        """Factor of the data at s."""
        if self.name == "ve":
            return 1.0
        if self.name == "flow":
            return max(0.0, 1.0 - s)
        return 0.0 if math.isinf(s) else 1.0 / math.hypot(1.0, s)

    def sigma(self, s: float) -> float:
        """Standard deviation of the noise at s."""
        if self.name == "vp":
            return 1.0 if math.isinf(s) else s / math.hypot(1.0, s)
        return s

    def half_logsnr(self, s: float) -> float:
        """λ(s) = log(α/σ); ±inf at the ends."""
        if s == 0:
            return math.inf
        if self.name != "flow":
            return -math.log(s)
        return -math.inf if s >= 1 else math.log1p(-s) - math.log(s)

    def from_half_logsnr(self, lam: float) -> float:
        """The s with half-logSNR λ: the inverse of `half_logsnr`."""
        if self.name != "flow":
            return math.inf if lam == -math.inf else math.exp(-lam)
        return 1.0 / (1.0 + math.exp(lam)) if lam < 0 else math.exp(-lam) / (1.0 + math.exp(-lam))

    def validate(self, sigmas: Sequence[float]) -> None:
        """Raise one ValueError sentence unless `sigmas` can be followed: finite, ≥ 0, flow ≤ 1, and strictly falling (an image is made)
        or strictly rising from above 0 (an image is encoded as noise)."""
        for i, s in enumerate(sigmas):
            where = f"sigmas[{i}] is {s:.9g}"
            if math.isnan(s) or (math.isinf(s) and self.name != "vp"):
                raise ValueError(f"sigmas: {where}; every sigma must be a finite number, so check the node that made them.")
            if s < 0:
                raise ValueError(f"sigmas: {where}; a noise level cannot be negative, so use values from the largest down to 0.")
            if self.name == "flow" and s > 1 + ULPS:
                raise ValueError(f"sigmas: {where}, but a flow model's noise levels lie in 0…1; use a scheduler made for this model.")
        pairs = list(zip(sigmas, sigmas[1:], strict=False))
        for i, (a, b) in enumerate(pairs):
            if self.half_logsnr(a) == self.half_logsnr(b):
                raise ValueError(f"sigmas: sigmas[{i}] and sigmas[{i + 1}] are both {b:g}; remove one, they must strictly fall or rise.")
        if pairs and rising(sigmas):
            if sigmas[0] == 0:
                raise ValueError(
                    "sigmas: they rise from 0, where no noise is there to grow; start at the model's least sigma (final_sigma sigma_min)."
                )
            if any(a > b for a, b in pairs):
                i = next(i for i, (a, b) in enumerate(pairs) if a > b)
                raise ValueError(f"sigmas: they rise, but fall from {sigmas[i]:g} to {sigmas[i + 1]:g} at step {i}; sort them one way.")
        elif any(a < b for a, b in pairs):
            i = next(i for i, (a, b) in enumerate(pairs) if a < b)
            raise ValueError(f"sigmas: they rise from {sigmas[i]:g} to {sigmas[i + 1]:g} at step {i}; sort them to fall.")


class Levels:
    """A path's α, σ and λ at some sigmas, looked up where they are asked for again and again."""

    def __init__(self, path: Path, sigmas: Sequence[float]):
        self.name = path.name
        self.alpha = {s: path.alpha(s) for s in sigmas}.__getitem__
        self.sigma = {s: path.sigma(s) for s in sigmas}.__getitem__
        self.half_logsnr = {s: path.half_logsnr(s) for s in sigmas}.__getitem__


def rising(sigmas: Sequence[float]) -> bool:
    """Whether a run goes from image to noise."""
    return len(sigmas) > 1 and sigmas[1] > sigmas[0]


VE, FLOW, VP = Path("ve"), Path("flow"), Path("vp")
PATHS = {p.name: p for p in (VE, FLOW, VP)}
