"""From ComfyUI's sampler call (the k-diffusion convention) to a planned tape and back."""

import functools
import logging
from collections.abc import Sequence

import torch
from tqdm.auto import tqdm

from ..solvers.execute import execute
from ..solvers.path import FLOW, PATHS, VE, Path
from ..solvers.presets import plan
from ..solvers.schedule import TimeMap, table_map
from ..solvers.tape import Tape

log = logging.getLogger("dpm_solver_ext")


def path_of(model_sampling) -> Path:
    """Rectified flow for ComfyUI's CONST; everything else there (EPS, V, EDM, X0, Cosmos) has variance-exploding sigmas."""
    return FLOW if any(c.__name__ == "CONST" for c in type(model_sampling).__mro__) else VE


def time_map_of(model_sampling) -> TimeMap | None:
    """The model's clock from its table of sigmas, log-linear (flow: linear) in between; None where it has no table."""
    table = getattr(model_sampling, "sigmas", None)
    if table is None or len(table) < 2:
        return None
    return table_map(table.tolist(), log=path_of(model_sampling) is not FLOW)


@functools.lru_cache(maxsize=64)
def _plan(path: str, sigmas: tuple[float, ...], options: tuple[tuple[str, object], ...]) -> Tape:
    return plan(PATHS[path], sigmas, **dict(options))  # type: ignore[arg-type]


def _warn_outside(model_sampling, path: Path, levels: Sequence[float]) -> None:
    """One warning when a variance-exploding run leaves the noise levels the model knows."""
    if path is FLOW:
        return
    top, low = float(model_sampling.sigma_max), float(model_sampling.sigma_min)
    inner = [s for s in levels[:-1] if s > top * 1.01 or s < low * 0.99]
    if inner:
        log.warning(
            "DPM-Solver (ext): sigmas go to %.4g, but this model knows %.4g to %.4g; it guesses there, so set the scheduler's sigma range.",
            max(inner, key=lambda s: max(s / top, low / s)), low, top,
        )  # fmt: skip


@torch.no_grad()
def sample(model, x, sigmas, extra_args=None, callback=None, disable=None, **options):
    """Run one solver as a ComfyUI sampler function.

    `model(x, sigma, **extra_args)` returns the data prediction; x (batch, ...) is in the host's scaling, `sigmas` (steps + 1,) falls.
    `options` are those of `solvers.presets.plan`. Sigmas, the model's range and whether the latent is finite are read from the device
    before the first model call; the loop itself reads nothing back. `callback` is called once a step as k-diffusion does.
    """
    if len(sigmas) < 2:
        return x
    levels = tuple(sigmas.tolist())
    model_sampling = model.inner_model.inner_model.model_sampling
    path = path_of(model_sampling)
    tape = _plan(path.name, levels, tuple(sorted(options.items())))
    if not bool(torch.isfinite(x).all()):
        raise ValueError(
            "latent_image or noise holds NaN or infinite values; check the node that made it (a VAE in fp16 is the usual one)."
        )
    _warn_outside(model_sampling, path, levels)
    extra_args = extra_args or {}
    batch = x.new_ones([x.shape[0]], dtype=torch.float32)

    def denoise(state, sigma):
        return model(state, batch * sigma, **extra_args)

    with tqdm(total=len(levels) - 1, disable=disable) as bar:

        def mark(step, state, x0):
            if callback is not None:
                callback({"x": state, "i": step, "sigma": sigmas[step], "sigma_hat": sigmas[step], "denoised": x0})
            bar.update()

        return execute(tape, denoise, x, mark=mark)
