"""From ComfyUI's sampler call (the k-diffusion convention) to a planned tape, or to the adaptive solver, and back."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from tqdm.auto import tqdm

from ..solvers.arrays import widened
from ..solvers.hosting import adapt, ending_on_x0, planned, tell
from ..solvers.path import FLOW, VE, Path, rising
from ..solvers.schedule import TimeMap, sd_time_map, table_map

log = logging.getLogger("dpm_solver_ext")
THRESHOLDING = ("off", "dynamic", "dynamic_in_latent_space")
CORRECTOR_RANGE = ("full", "half")


def path_of(model_sampling) -> Path:
    """Rectified flow for ComfyUI's CONST; everything else there (EPS, V, EDM, X0, Cosmos) has variance-exploding sigmas."""
    return FLOW if any(c.__name__ == "CONST" for c in type(model_sampling).__mro__) else VE


def time_map_of(model_sampling) -> TimeMap | None:
    """The model's clock from its table of sigmas, log-linear (flow: linear) in between; None where it has no table."""
    table = getattr(model_sampling, "sigmas", None)
    if table is None or len(table) < 2:
        return None
    return table_map(table.tolist(), log=path_of(model_sampling) is not FLOW)


def of_model(options: dict[str, Any], model_sampling, masked: bool = False) -> dict[str, Any]:
    """`options` for `plan`: "half" of the corrector's range ends where the model's time is one half (arXiv 2310.13268, appendix)."""
    options = dict(options)
    if masked and options.get("statistics") is not None:
        options["statistics"] = ending_on_x0(options["statistics"])
    if (reach := options.pop("corrector_range", "full")) not in CORRECTOR_RANGE:
        raise ValueError(f"corrector_range is {reach!r}; choose one of {', '.join(CORRECTOR_RANGE)}.")
    if reach == "half":
        options["corrector_range"] = (0.0, (time_map_of(model_sampling) or sd_time_map())(0.5))
    return options


def foreign(made: Mapping[str, str], guider, what: str, remedy: str) -> list[str]:
    """One sentence, told in the log as well, where `what` was made for another model or another use of it than this run's; else none."""
    patcher = getattr(guider, "model_patcher", None)
    if not made or patcher is None:
        return []
    from .ems_model import describe, differences, guidance_of

    try:
        was, now = differences(made, describe(patcher, guidance_of(guider)))
    except (AttributeError, TypeError, RuntimeError):  # a model of another kind must paint all the same
        return []
    if not was:
        return []
    sentence = f"{what} for {was}, but this run has {now}; {remedy}."
    tell(sentence)
    return [sentence]


def _warn_outside(model_sampling, path: Path, levels: Sequence[float]) -> None:
    """One warning a run when a variance-exploding run leaves the noise levels the model knows; the end near 0 is no such level."""
    if path is FLOW:
        return
    top, low = float(model_sampling.sigma_max), float(model_sampling.sigma_min)
    inner = [s for s in (levels[1:] if rising(levels) else levels[:-1]) if s > top * 1.01 or s < low * 0.99]
    if inner:
        log.warning(
            "DPM-Solver (ext): sigmas go to %.4g, but this model knows %.4g to %.4g; it guesses there, so set the scheduler's sigma range.",
            max(inner, key=lambda s: max(s / top, low / s)), low, top,
        )  # fmt: skip


@torch.no_grad()
def sample(
    model, x, sigmas, extra_args=None, callback=None, disable=None, *, noise_sampler=None, thresholding="off", threshold_ratio=0.995,
    threshold_max=1.0, said: Sequence[str] = (), **options,
):  # fmt: skip
    """Run one solver as a ComfyUI sampler function.

    `model(x, sigma, **extra_args)` returns the data prediction; x (batch, ...) is in the host's scaling, `sigmas` (steps + 1,) falls, or
    rises to encode an image. `options` are those of `solvers.presets.plan` (corrector_range: "full" or "half"), or with
    method "adaptive" of `solvers.adaptive`.
    `noise_sampler(sigma, sigma_next)`, as in k-diffusion, replaces our own noise, which is addressed by extra_args["seed"] and the
    interval. `thresholding` clips predictions of pixels (`solvers.threshold`); where the mask keeps the picture it does not act. `said`:
    sentences on this run that the plot in the browser shows.

    Sigmas, the model's range and whether the latent is finite are read from the device before the first model call; the loop itself
    reads nothing back (but one number an attempt if adaptive). `callback` is called once a step as k-diffusion does. ValueError, one
    sentence, before the first model call.
    """
    if len(sigmas) < 2:
        return x
    levels = tuple(sigmas.tolist())
    base = model.inner_model.inner_model
    path = path_of(base.model_sampling)
    path.validate(levels)
    if rising(levels) and path.alpha(levels[-1]) < 1e-6:
        raise ValueError(
            "sigmas: they rise to 1, and there ComfyUI divides a flow model's latent by 1 - sigma = 0; end at 0.999, for instance with "
            "sigma_max 0.999 on DPM-Solver Scheduler (ext), or SetFirstSigma before FlipSigmas."
        )
    extra_args = extra_args or {}
    project = _project(base, x, extra_args.get("denoise_mask"), thresholding, threshold_ratio, threshold_max)
    is_adaptive = options.get("method") == "adaptive"
    masked = extra_args.get("denoise_mask") is not None
    tape = None if is_adaptive else planned(path, levels, of_model(options, base.model_sampling, masked))
    if not bool(torch.isfinite(x).all()):
        raise ValueError(
            "latent_image or noise holds NaN or infinite values; check the node that made it (a VAE in fp16 is the usual one)."
        )
    _warn_outside(base.model_sampling, path, levels)
    if (statistics := options.get("statistics")) is not None:
        made = f"the statistics {statistics.label} were made"
        said = [*foreign(statistics.metadata, model.inner_model, made, "calibrate for this use, or expect less of it"), *said]
    batch = x.new_ones([x.shape[0]], dtype=torch.float32)
    called: list[float] = []

    def ran() -> None:
        """Tell the plot in the browser, if this run is a node's."""
        if callback is not None:
            from .page import announce

            announce(base.model_sampling, path, levels, tape, options, called, said)

    def denoise(state, sigma):
        called.append(sigma)
        return model(state, batch * sigma, **extra_args)

    def show(step, sigma, state, x0):
        if callback is not None:
            sigma = torch.as_tensor(sigma)
            callback({"x": state, "i": step, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})

    with tqdm(total=len(levels) - 1, disable=disable) as bar:
        if tape is None:
            if len(levels) > 2:
                tell(
                    "method adaptive takes only the first noise level of the schedule and the last above 0; steps only count its progress."
                )
            least, options = float(base.model_sampling.sigma_min), {k: v for k, v in options.items() if k != "method"}
            out = adapt(path, denoise, x, levels, least, project=project, show=show, advance=bar.update, **options)
            ran()
            return out
        ran()

        def mark(step, state, x0):
            show(step, sigmas[step], state, x0)
            bar.update()

        from ..solvers.execute import execute
        from ..solvers.tape import Noise

        noise = _noise(x, levels, extra_args.get("seed"), noise_sampler) if any(isinstance(r, Noise) for r in tape.records) else None
        return execute(tape, denoise, x, mark=mark, project=project, noise=noise)


def _noise(x, levels, seed, noise_sampler) -> Callable[[float, float], torch.Tensor]:
    """Unit noise of an interval for a state like x: from a k-diffusion noise_sampler, or a Brownian path of each item's own."""
    if noise_sampler is None:
        from ..solvers.noise import brownian

        return brownian(widened(x), levels, seed)
    given = noise_sampler

    def draw(sigma_from: float, sigma_to: float) -> torch.Tensor:
        return given(*(torch.full((), s, device=x.device) for s in (sigma_from, sigma_to)))  # torch.tensor would wait for the device

    return draw


def _project(base, x, mask, thresholding: str, ratio: float, least: float) -> Callable[[torch.Tensor, float], torch.Tensor] | None:
    """The thresholding hook; None for "off". Pixels are thresholded in the values they have in the picture, outside the model."""
    if thresholding not in THRESHOLDING:
        raise ValueError(f"thresholding is {thresholding!r}; choose one of {', '.join(THRESHOLDING)}.")
    if thresholding == "off":
        return None
    from ..solvers.threshold import make_project

    threshold = make_project(ratio, least)
    fmt = getattr(base, "latent_format", None)
    pixels = getattr(fmt, "latent_channels", 0) == 3 and x.ndim > 3 and x.shape[1] == 3
    if not pixels and thresholding == "dynamic":
        raise ValueError(
            f"thresholding is dynamic, which is made for models of pixels, but this model has a latent space ({type(fmt).__name__}); set "
            "it to off, or to dynamic_in_latent_space if you mean it."
        )

    def project(x0: torch.Tensor, sigma: float) -> torch.Tensor:
        new = base.process_latent_in(threshold(base.process_latent_out(x0), sigma)) if pixels else threshold(x0, sigma)
        return new if mask is None else x0.lerp(new, mask.to(x0))

    return project
