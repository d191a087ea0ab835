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
    guider = getattr(model, "inner_model", None)
    said = adapter.foreign(made or {}, guider, f"the steps of {label} were tuned", "tune for this use, or expect less of them")
    if gains and not same_levels(sigmas.tolist(), made_for):
        gains = ()
        said.append(f"{label} was tuned for other sigmas than this run has, so its gains are off; connect its own sigmas to use them.")
        adapter.tell(said[-1])
    elif gains and extra_args.get("denoise_mask") is not None:
        gains = ()
        said.append(f"{label} has gains, which would change what a mask keeps, so they are off in this run.")
        adapter.tell(said[-1])
    if gains:
        left = iter(gains)

        def predict(state, sigma, **kwargs):
            x0 = model(state, sigma, **kwargs)
            gain = next(left, 1.0)
            return x0 if gain == 1.0 else x0 * gain

        inner = Proxy(model, predict)
    else:
        inner = model
    if sampler_function is adapter.sample:
        sampler_options = {**sampler_options, "said": said}
    elif callback is not None and guider is not None:
        _announce(guider, sampler_function, sigmas, said)
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


def _announce(guider, function, sigmas, said: list[str]) -> None:
    """Tell the plot in the browser of a run with a sampler that is not ours, which does not tell of itself."""
    from .page import announce

    levels, sampling = sigmas.tolist(), guider.inner_model.model_sampling
    name = getattr(function, "__name__", "sampler").removeprefix("sample_").removesuffix("_function")
    announce(sampling, adapter.path_of(sampling), levels, None, {}, levels[:-1], said, name)
