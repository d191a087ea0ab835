"""From the WebUI's sampler call (k-diffusion's convention) to a planned tape, or to the adaptive solver, and back."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tqdm.auto import tqdm

from ..solvers.arrays import widened
from ..solvers.hosting import adapt, ending_on_x0, planned
from . import files
from .entries import Entry
from .foreign import say, warn
from .model import path_of
from .options import NO_FILE, BadOption, labelled

PLANNED = ("final_rule", "solver_type", "eta", "s_noise")  # options that `plan` has under the same name


@torch.no_grad()
def run(
    entry: Entry, values: dict[str, Any], model, x, sigmas, extra_args=None, callback=None, disable=None, noise=None, seeds=None
) -> Any:
    """Run the solver of `entry` with checked option `values` (`options.options_of`).

    `model(x, sigma, **extra_args)`, the host's CFGDenoiser, returns the data prediction after guidance; x (batch, ...) is in the host's
    scaling, `sigmas` (steps + 1,) falls. `noise(sigma, sigma_next)` is the host's noise_sampler; without it items draw from `seeds`, one
    each, so that a batch's pictures are the single ones. `callback` is called once a step, as k-diffusion does.

    BadOption, one sentence, before the first model call. What the model raises goes through: the host interrupts and skips by that, and
    its refiner puts another model behind `model` in the middle of a run, so nothing of the model is kept.
    """
    if len(sigmas) < 2:
        return x
    called = False

    def seen(state, sigma, **arguments):
        nonlocal called
        called = True
        return model(state, sigma, **arguments)

    try:
        return _run(entry, values, model, seen, x, sigmas, {} if extra_args is None else extra_args, callback, disable, noise, seeds)
    except ValueError as error:
        if called or isinstance(error, BadOption):
            raise
        raise BadOption(labelled(str(error))) from error


def _run(entry, values, model, call, x, sigmas, extra_args, callback, disable, noise, seeds) -> Any:
    """`run`; `call` is `model`, counted."""
    levels, wrap = tuple(sigmas.tolist()), model.inner_model
    path, project = path_of(wrap), _project(model, values)
    path.validate(levels)
    options = _options(entry, values, model, extra_args)
    tape = None if entry.adaptive else planned(path, levels, options)
    gains = _gains(values, options, tape, model, levels, extra_args)
    if not bool(torch.isfinite(x).all()):
        raise ValueError("The latent holds NaN or infinite values; a VAE in half precision is the usual cause, so try --no-half-vae.")
    batch = x.new_ones([x.shape[0]], dtype=torch.float32)

    left = iter(gains)

    def denoise(state, sigma):
        x0, gain = call(state, batch * sigma, **extra_args), next(left, 1.0)
        return x0 if gain == 1.0 else x0 * gain

    def show(step, sigma, state, x0):
        if callback is not None:
            sigma = torch.as_tensor(sigma)
            callback({"x": state, "i": step, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})

    with tqdm(total=len(levels) - 1, disable=disable) as bar:
        if tape is None:
            return adapt(path, denoise, x, levels, float(wrap.sigmas[0]), project=project, show=show, advance=bar.update, **options)

        def mark(step, state, x0):
            show(step, sigmas[step], state, x0)
            bar.update()

        from ..solvers.execute import execute  # what only a run needs is imported by it, not when the host starts
        from ..solvers.tape import Noise

        draw = _noise(x, levels, noise, seeds) if any(isinstance(record, Noise) for record in tape.records) else None
        return execute(tape, denoise, x, mark=mark, project=project, noise=draw)


def plan_options(entry: Entry, values: dict[str, Any], masked: bool = False) -> dict[str, Any]:
    """The options of `plan`, or of the adaptive solver, for checked option `values`."""
    if entry.adaptive:
        return {k: v for k, v in entry.solver.items() if k != "method"} | {k: values[k] for k in ("solver_type", "rtol", "atol")}
    options = {**entry.solver, **{name: values[name] for name in PLANNED if name in values}}
    if not options.get("eta"):
        options.pop("noise_rule", None)  # without noise there is no rule for it
    if values.get("statistics", NO_FILE) != NO_FILE:
        found = files.statistics(values["statistics"])
        options["statistics"] = ending_on_x0(found) if masked else found
    return options


def _options(entry: Entry, values: dict[str, Any], model: Any, extra_args: dict[str, Any]) -> dict[str, Any]:
    """The same for this run; statistics of another use are said."""
    options = plan_options(entry, values, getattr(model, "mask", None) is not None)
    if (found := options.get("statistics")) is not None:
        warn(found.metadata, f"the statistics {found.label}", "made", "calibrate", model, extra_args)
    return options


def _gains(
    values: dict[str, Any], options: dict[str, Any], tape: Any, model: Any, levels: Sequence[float], extra_args: dict[str, Any]
) -> Any:
    """The gains of the file of tuned steps, if there is one and they are right for this run; what is not as tuned is said."""
    if (name := values.get("tuned", NO_FILE)) == NO_FILE:
        return ()
    from ..solvers.tape import Eval
    from .tuned import gains

    made = {word: value for word, value in files.tuned(name)[1].items() if word != "sigma range"}  # `tuned.levels` has looked at it
    warn(made, f"the steps of {name}", "tuned", "tune", model, extra_args)
    whole = {**options, "thresholding": values["thresholding"]}
    calls, masked = sum(isinstance(record, Eval) for record in tape.records), getattr(model, "mask", None) is not None
    found, note = gains(name, whole, values.get("statistics", NO_FILE), levels, calls, masked)
    if note:
        say(model.p, note)
    return found


def _noise(x: Any, levels: Sequence[float], given: Any, seeds: Sequence[int] | None) -> Callable[[float, float], Any]:
    """Unit noise of an interval for a state like x: from the host's noise_sampler, or a Brownian path of each item's own."""
    if given is None:
        from ..solvers.noise import brownian

        return brownian(widened(x), levels, list(seeds) if seeds is not None and len(seeds) == x.shape[0] else None)

    def draw(sigma_from: float, sigma_to: float) -> torch.Tensor:
        return given(*(torch.full((), s, device=x.device) for s in (sigma_from, sigma_to)))  # torch.tensor would wait for the device

    return draw


def _project(model: Any, values: dict[str, Any]) -> Callable[[Any, float], Any] | None:
    """The thresholding hook; None for "off". Where the mask keeps the picture it does not act."""
    if values["thresholding"] == "off":
        return None
    from ..solvers.threshold import make_project

    threshold = make_project(values["threshold_ratio"], values["threshold_max"])

    def project(x0: torch.Tensor, sigma: float) -> torch.Tensor:
        new, made_anew = threshold(x0, sigma), getattr(model, "nmask", None)
        return new if made_anew is None else x0.lerp(new, made_anew.to(x0))

    return project
