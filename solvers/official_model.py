"""model_wrapper: any diffusion network as the noise prediction ε(x, t) that DPM_Solver takes, with guidance, as in the official code.

A network's output is affine in (x0, ε) with x_t = α x0 + σ ε (DPM-Solver++, arXiv 2211.01095, table 2; v: arXiv 2202.00512):

    "noise" ε        "x_start" x0        "v" α ε - σ x0        "score" -ε/σ

so classifier-free guidance may be taken on the output itself. DPM_Solver asks for x0 at times known on the host, which spares the detour
over ε (it divides by α, which is 0 at zero terminal SNR) and rounding in half precision.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import cast, full, joined, namespace
from .sums import combine

MODEL_TYPES = ("noise", "x_start", "v", "score")
GUIDANCE_TYPES = ("uncond", "classifier", "classifier-free")


class ModelFn:
    """What `model_wrapper` returns: `model_fn(x, t_continuous)` is ε, shape of x; t has shape (batch,), (1,) or ()."""

    def __init__(
        self, model, noise_schedule, model_type="noise", model_kwargs=None, guidance_type="uncond", condition=None,
        unconditional_condition=None, guidance_scale=1.0, classifier_fn=None, classifier_kwargs=None,
    ):  # fmt: skip
        self.model, self.schedule, self.kind, self.kwargs = model, noise_schedule, model_type, model_kwargs or {}
        self.guidance, self.condition, self.unconditional = guidance_type, condition, unconditional_condition
        self.scale, self.classifier, self.classifier_kwargs = guidance_scale, classifier_fn, classifier_kwargs or {}

    def __call__(self, x: Any, t_continuous: Any) -> Any:
        t = full(x, (), t_continuous) if isinstance(t_continuous, (int, float)) else t_continuous
        xp, t = namespace(x), namespace(x).broadcast_to(t.reshape((-1,)), (x.shape[0],))
        alpha, sigma = xp.exp(self.schedule.marginal_log_mean_coeff(t)), self.schedule.marginal_std(t)
        alpha, sigma = (v.reshape((-1,) + (1,) * (x.ndim - 1)) for v in (alpha, sigma))
        of_x, of_output = {
            "noise": lambda: (None, 1.0),
            "x_start": lambda: (1 / sigma, -alpha / sigma),
            "v": lambda: (sigma, alpha),
            "score": lambda: (None, -sigma),
        }[self.kind]()
        output, gradient = self.outputs(x, self.label(t))
        terms = ((of_output, output), (of_x, x), (-self.scale * sigma, gradient))
        return sum(w * a for w, a in terms if w is not None and a is not None)

    def label(self, t: Any) -> Any:
        """The network's own time: t of a continuous schedule, 1000 (t - 1/N) of a discrete one, which is 0…999 for N = 1000."""
        discrete = getattr(self.schedule, "schedule", None) == "discrete"
        return (t - 1.0 / self.schedule.total_N) * 1000.0 if discrete else t

    def outputs(self, x: Any, label: Any) -> tuple[Any, Any]:
        """(guided output of the network, ∇_x log p(condition | x) or None) at labels of shape (batch,)."""
        if self.guidance == "classifier":
            return self._output(x, label, None), self._gradient(x, label)
        if self.guidance == "uncond":
            return self._output(x, label, None), None
        if self.scale == 1.0 or self.unconditional is None:
            return self._output(x, label, self.condition), None
        both = self._output(joined(x, x), joined(label, label), joined(self.unconditional, self.condition))
        without, given = both[: x.shape[0]], both[x.shape[0] :]
        return without + self.scale * (given - without), None

    def data(self, x: Any, state: Any, label: Any, alpha: float, sigma: float) -> Any:
        """x0 in the precision of `state`, which is x before it was narrowed for the network; at a time known on the host."""
        if alpha == 0 and (self.kind in ("noise", "score") or self.guidance == "classifier"):
            raise ValueError("At zero terminal SNR (α = 0) noise says nothing of the data; use an x_start or v model, or start later.")
        of_x, of_output = {
            "noise": lambda: (1 / alpha, -sigma / alpha),
            "x_start": lambda: (0.0, 1.0),
            "v": lambda: (alpha / (alpha**2 + sigma**2), -sigma / (alpha**2 + sigma**2)),
            "score": lambda: (1 / alpha, sigma**2 / alpha),
        }[self.kind]()
        output, gradient = self.outputs(x, label)
        terms = [(of_output, cast(output, state.dtype)), (of_x, state)]
        if gradient is not None:
            terms.append((self.scale * sigma**2 / alpha, cast(gradient, state.dtype)))
        return combine([(w, a) for w, a in terms if w])

    def _output(self, x, label, condition):
        out = self.model(x, label, **self.kwargs) if condition is None else self.model(x, label, condition, **self.kwargs)
        if not hasattr(out, "shape"):
            raise ValueError(
                f"The model returned a {type(out).__name__}; make it return the array itself, such as `.sample` of diffusers' models."
            )
        if tuple(out.shape) != tuple(x.shape):
            raise ValueError(f"The model returned shape {tuple(out.shape)} for x of {tuple(x.shape)}; drop a predicted variance.")
        return out

    def _gradient(self, x, label):
        classifier = self.classifier
        assert classifier is not None, "model_wrapper sees to that"

        def log_probability(y):
            return classifier(y, label, self.condition, **self.classifier_kwargs).sum()

        if hasattr(x, "new_full"):
            torch = sys.modules["torch"]
            with torch.enable_grad():
                leaf = x.detach().requires_grad_(True)
                return torch.autograd.grad(log_probability(leaf), leaf)[0]
        if namespace(x) is np:
            raise ValueError("guidance_type is 'classifier', which needs gradients, and NumPy has none; give x as a torch or JAX array.")
        return sys.modules["jax"].grad(log_probability)(x)


def model_wrapper(
    model: Callable[..., Any],
    noise_schedule: Any,
    model_type: str = "noise",
    model_kwargs: dict[str, Any] | None = None,
    guidance_type: str = "uncond",
    condition: Any = None,
    unconditional_condition: Any = None,
    guidance_scale: float = 1.0,
    classifier_fn: Callable[..., Any] | None = None,
    classifier_kwargs: dict[str, Any] | None = None,
) -> ModelFn:
    """The noise prediction model_fn(x, t_continuous) of a network.

    `model(x, label, **model_kwargs)`, or `model(x, label, cond, **model_kwargs)` where there is a condition, returns what `model_type`
    says, shape of x; label has shape (batch,): see `ModelFn.label`. `guidance_type`:

    - "uncond": the network alone
    - "classifier": ε - guidance_scale σ_t ∇_x log p, where `classifier_fn(x, label, condition, **classifier_kwargs)` gives log p per
      item; the gradient is torch's or JAX's
    - "classifier-free": ε_u + guidance_scale (ε_c - ε_u), both in one call on a doubled batch, unconditional first; conditions are
      arrays, or dicts and lists of them. One call with the condition where the scale is 1 or there is no `unconditional_condition`

    Raises ValueError, one sentence, for an unknown type or a missing classifier; warns where guidance was asked for and cannot act, which
    runs unguided, as the official code does without a word.
    """
    for name, value, choices in (("model_type", model_type, MODEL_TYPES), ("guidance_type", guidance_type, GUIDANCE_TYPES)):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; choose {', '.join(choices[:-1])} or {choices[-1]}.")
    if guidance_type == "classifier" and classifier_fn is None:
        raise ValueError("guidance_type is 'classifier', but classifier_fn is None; give the function whose gradient guides.")
    if guidance_type == "uncond" and condition is not None:
        warnings.warn(
            "guidance_type is 'uncond', so condition and guidance_scale have no effect; set it to classifier-free, or leave them out.",
            stacklevel=2,
        )
    if guidance_type == "classifier-free" and condition is None:
        warnings.warn(
            "guidance_type is 'classifier-free', but condition is None, so nothing guides; give it, or set guidance_type to uncond.",
            stacklevel=2,
        )
    elif guidance_type == "classifier-free" and unconditional_condition is None and guidance_scale != 1:
        warnings.warn(
            f"guidance_scale is {guidance_scale}, but without unconditional_condition it has no effect; give it, or set the scale to 1.",
            stacklevel=2,
        )
    return ModelFn(
        model, noise_schedule, model_type, model_kwargs, guidance_type, condition, unconditional_condition, guidance_scale, classifier_fn,
        classifier_kwargs,
    )  # fmt: skip
