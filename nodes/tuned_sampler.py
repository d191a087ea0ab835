"""The sampler of tuned steps: any sampler in the k-diffusion convention, with a gain on each of its model calls."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..solvers.tune_use import same_levels
from . import adapter


class Proxy:
    """A model whose predictions come from `predict(x, sigma, **kwargs)`; samplers read all else of it from the host's own."""

    def __init__(self, model, predict: Callable[..., Any]):
        self._model, self._predict = model, predict

    def __call__(self, x, sigma, **kwargs):
        return self._predict(x, sigma, **kwargs)

    def __getattr__(self, name: str):
        return getattr(self._model, name)


def sample_tuned(
    model, x, sigmas, extra_args=None, callback=None, disable=None, *, sampler_function, sampler_options, gains: Sequence[float] = (),
    made_for: Sequence[float] = (), made: Mapping[str, str] | None = None, label: str = "",
):  # fmt: skip
    """Run `sampler_function` as the host would, with its k-th prediction multiplied by gains[k].

    The gains act on a run at the sigmas `made_for` only, and not with a mask, which must keep its part as it is; else one sentence says so
    and the run is that of the sampler alone. `made`: what the steps were tuned for, see `ems_model.describe`; a run of another kind gets a
    warning that names both. `label` is their name for people.
    """
    extra_args = extra_args or {}
    if made:
        _warn_foreign(made, label, getattr(model, "inner_model", None))
    if gains and not same_levels(sigmas.tolist(), made_for):
        gains = ()
        adapter.tell(f"{label} was tuned for other sigmas than this run has, so its gains are off; connect its own sigmas to use them.")
    elif gains and extra_args.get("denoise_mask") is not None:
        gains = ()
        adapter.tell(f"{label} has gains, which would change what a mask keeps, so they are off in this run.")
    if gains:
        left = iter(gains)

        def predict(state, sigma, **kwargs):
            x0 = model(state, sigma, **kwargs)
            gain = next(left, 1.0)
            return x0 if gain == 1.0 else x0 * gain

        inner = Proxy(model, predict)
    else:
        inner = model
    return sampler_function(inner, x, sigmas, extra_args=extra_args, callback=callback, disable=disable, **sampler_options)


def unwrapped(sampler):
    """(function, options) of a SAMPLER: the one inside of tuned steps and of partial functions."""
    function, options = sampler.sampler_function, dict(sampler.extra_options)
    while True:
        if function is sample_tuned:
            function, options = options["sampler_function"], dict(options["sampler_options"])
        elif isinstance(function, functools.partial) and not function.args:
            function, options = function.func, {**function.keywords, **options}
        else:
            return function, options


def own_options(sampler) -> dict[str, Any] | None:
    """The options of a SAMPLER of this pack; None for any other."""
    function, options = unwrapped(sampler)
    return options if function is adapter.sample else None


def _warn_foreign(made: Mapping[str, str], label: str, guider) -> None:
    """One warning where steps were tuned for another model or another use of it than this run's."""
    patcher = getattr(guider, "model_patcher", None)
    if patcher is None:
        return
    from .ems_model import describe, differences, guidance_of

    try:
        was, now = differences(made, describe(patcher, guidance_of(guider)))
    except (AttributeError, TypeError, RuntimeError):  # a model of another kind must paint all the same
        return
    if was:
        adapter.tell(f"the steps of {label} were tuned for {was}, but this run has {now}; tune for this use, or expect less of them.")
