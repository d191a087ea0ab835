"""The host's model for `tune_schedule`: guided by several prompts in turn, and the host's own samplers run on it."""

from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management as management
import comfy.samplers
import torch

from ..solvers.tune import State
from .tune_choice import Choice
from .tune_code import controls_of
from .tuned_sampler import Proxy

SEEDS = (7, 8)  # for the check whether a sampler adds noise


class Guider(comfy.samplers.CFGGuider):
    """The host's guidance with several positive prompts, of which `use(k)` chooses one for the calls that follow."""

    def inner_sample(self, noise, latent_image, device, *args, **kwargs):
        first, others = self.conds, []
        controls = list(controls_of([c for conds in first.values() for c in conds]))
        try:
            for key in [k for k in first if k.startswith("positive_")]:
                conds = {"positive": first.pop(key), "negative": [dict(c) for c in first["negative"]]}
                others.append(comfy.samplers.process_conds(
                    self.inner_model, noise, conds, device, latent_image, None, kwargs.get("seed", 0),
                    latent_shapes=kwargs.get("latent_shapes"),
                ))  # fmt: skip
            self.others = others
            return super().inner_sample(noise, latent_image, device, *args, **kwargs)
        finally:
            self.use(0)
            self.others = []
            for control in controls:  # the host cleans those of the first prompt only, and none after an exception
                control.cleanup()

    def use(self, k: int) -> None:
        """Guide by prompt k."""
        if not hasattr(self, "first"):
            self.first = self.conds
        self.conds = self.others[k - 1] if k else self.first


class Host:
    """The wrapped model for `tune_schedule`: it counts, deals prompts over samples, and runs the host's samplers on `denoise`."""

    def __init__(self, wrapped, guider, extra_args: dict[str, Any], prompts: int, device: torch.device):
        self.wrapped, self.guider, self.extra, self.prompts, self.device = wrapped, guider, extra_args, prompts, device
        self.ids, self.made = [0], 0

    def begin(self, ids: list[int]) -> None:
        self.ids = list(ids)

    def denoise(self, state: torch.Tensor, sigma: float) -> torch.Tensor:
        """x0 of states (b, ...) of the samples that `begin` was told; sample i has prompt i mod their number."""
        self.made += len(state)
        level = state.new_full([len(state)], sigma)
        if self.prompts == 1:
            return self.wrapped(state, level, **self.extra)
        out = torch.empty_like(state)
        for k in range(self.prompts):
            rows = [row for row, i in enumerate(self.ids) if i % self.prompts == k]
            if rows:
                self.guider.use(k)
                out[rows] = self.wrapped(state[rows], level[rows], **self.extra).to(out)
        return out

    def solver(self, function: Callable[..., Any], options: dict[str, Any], seed: int | None = None):
        """A SAMPLER's function as (denoise, x, sigmas) -> end state, which takes x to the model's device."""
        extra = self.extra if seed is None else self.extra | {"seed": seed}
        plain = _hooks(extra.get("model_options"))

        def run(denoise, x, sigmas):
            def predict(state, sigma, **kwargs):
                if _hooks(kwargs.get("model_options", extra.get("model_options"))) != plain:
                    raise ValueError(
                        "sampler is of the CFG++ kind, which looks into the guidance of each model call; connect its plain form."
                    )
                return denoise(state.clone(), float(sigma.flatten()[0])).clone()

            x = x.to(self.device, copy=True)
            levels = torch.tensor(sigmas, dtype=torch.float32, device=x.device)
            options_of_model = extra.get("model_options", {})
            if "transformer_options" in options_of_model:  # some models look up where in the schedule they are
                options_of_model["transformer_options"]["sample_sigmas"] = levels
            return function(Proxy(self.wrapped, predict), x, levels, extra_args=dict(extra), callback=None, disable=True, **options)

        return run


def _hooks(options) -> int:
    """How many functions see each guided prediction."""
    return len((options or {}).get("sampler_post_cfg_function", ()))


def check_foreign(name: str, host: Host, choice: Choice, state: State, x: torch.Tensor, levels: Sequence[float]) -> None:
    """ValueError, one sentence, for a sampler that adds noise or chooses its own steps; five model calls of one picture at one call a
    step, because calls at states that were there before are not made again."""
    seen: list[tuple[torch.Tensor, float, torch.Tensor]] = []

    def denoise(at, sigma):
        management.throw_exception_if_processing_interrupted()
        for old, level, x0 in seen:
            if level == sigma and torch.equal(old, at):
                return x0
        x0 = host.denoise(at, sigma)
        state.evaluations += 1
        seen.append((at, sigma, x0))
        if len(seen) > 100:
            raise ValueError(f"sampler {name} makes more than 100 model calls in 3 steps; connect one that follows a schedule.")
        return x0

    def end(sigmas, seed):
        with torch.random.fork_rng(devices=[host.device] if host.device.type == "cuda" else []):
            torch.manual_seed(seed)
            return host.solver(choice.function, choice.options, seed)(denoise, x, sigmas)

    def same(a, b):
        return bool((a - b).abs().max() <= 1e-4 * a.abs().max())

    moved = list(levels)
    moved[1] = (levels[1] * levels[2]) ** 0.5
    first = end(levels, SEEDS[0])
    if not same(first, end(levels, SEEDS[1])):
        raise ValueError(f"sampler {name} adds noise of its own, so its steps have no one end to be tuned to; connect one without.")
    if same(first, end(moved, SEEDS[0])):
        raise ValueError(f"sampler {name} chooses its own steps and follows no schedule; connect another one.")
