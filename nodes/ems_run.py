"""A calibration inside ComfyUI's own sampling: the model, its patches and its conditioning are what a sampler would get."""

import logging
from collections.abc import Callable
from pathlib import Path

import comfy.model_management as management
import comfy.sample
import comfy.samplers
import torch

from ..solvers.ems import Moments
from ..solvers.ems_calibrate import calibrate, cost, node_sigmas
from ..solvers.ems_file import save_ems
from ..solvers.ems_held import held, paid
from ..solvers.ems_pool import usable_kind
from ..solvers.keep import Keeper
from . import ems_files
from .adapter import path_of
from .ems_model import code_of, describe, differences
from .long_run import Pace, batch_of, halving

log = logging.getLogger("dpm_solver_ext")
FEW = 4  # samples below which DPM-Solver-v3 was worse than without statistics


@torch.no_grad()
def measure(
    model, positive, negative, cfg: float, latent: dict, *, samples: int, nodes: int, probes: int, kind: str, seed: int, name: str,
    show: Callable[[str], None] | None = None,
) -> tuple[Moments, Path, str]:  # fmt: skip
    """Calibrate `model` as SamplerCustom would run it, on empty latents of the size of `latent`; (moments, their file, what was done).

    The file is `name` with a code of all settings but `samples`, the prompts, which are examples, and but for kind element the size: what
    is there already is not measured again, more samples are added to it, at its own size. Finished samples are kept when the run is
    interrupted or fails. `show(text)` is told the time left, about once a second.
    """
    if latent["samples"].is_nested:
        raise ValueError(
            "latent_image is a nest of several latents (video with sound); DPM-Solver-v3 can be calibrated on single ones only."
        )
    empty = comfy.sample.fix_empty_latent_channels(model, torch.zeros_like(latent["samples"][:1]))
    shape = tuple(empty.shape[1:])
    kind, note = usable_kind(kind, shape)
    if note:
        log.warning("DPM-Solver (ext): %s", note)
    sampling = model.get_model_object("model_sampling")
    path, top, low = path_of(sampling), float(sampling.sigma_max), float(sampling.sigma_min)
    # A discrete model rounds other noise levels to those of its table, which would be measured instead.
    table = sampling.sigmas.tolist() if any(c.__name__ == "ModelSamplingDiscrete" for c in type(sampling).__mro__) else None
    sigmas = node_sigmas(path, top, low, nodes, table)
    lead = path.half_logsnr(top) < path.half_logsnr(sigmas[0]) - 1e-6
    settings = describe(model, cfg) | {
        "noise": path.name, "sigma range": f"{low:.6g} to {top:.6g}", "nodes": str(nodes), "probes": str(probes),
    }  # fmt: skip
    file = ems_files.place(name, code_of(settings, shape if kind == "element" else (shape[0], len(shape)), kind, seed))
    old = held(file)
    if old is not None:
        made, now = differences(old.metadata, settings)
        other = [k for k in ("noise", "sigma range", "nodes", "probes") if old.metadata.get(k, settings[k]) != settings[k]]
        if made or other:
            raise ValueError(
                f"file_name leads to {file.name}, which was made for {made or ', '.join(f'{k} {old.metadata[k]}' for k in other)}; choose "
                "another name, or remove the file."
            )
        shape = old.shape
        empty = empty.new_zeros(1, *shape)
    wanted = {(seed, i) for i in range(samples)}
    total, done = cost(samples, len(sigmas), probes, lead), paid(old, wanted, len(sigmas), probes, lead)
    count, each = f"{samples} sample{'s' * (samples != 1)}", f"{probes} probe{'s' * (probes != 1)} each"
    text = f"{count}, {len(sigmas)} noise levels, {each}: {total:,} sample-evaluations"
    if old is not None and wanted <= set(old.ids):
        log.info("DPM-Solver (ext): calibration of %s: %s, all of them in %s.", settings["model"], text, file.name)
        return old, file, f"0 sample-evaluations, {_samples(old)} in {file.name}"
    log.info("DPM-Solver (ext): calibration of %s: %s, %s of them done before.", settings["model"], text, f"{done:,}")
    if samples < FEW:
        log.info("DPM-Solver (ext): samples is %d; statistics of so few may do harm, so set it to %d or more.", samples, FEW)
    ems_files.check_writable(file)
    with Keeper(old, file, save_ems) as keep, Pace(total, done, "eval", "calibration", show) as pace:

        def report(now: int, of: int, moments: Moments) -> None:
            keep.content = moments
            keep()
            pace(now, lambda left: f"{now:,} of {of:,} sample-evaluations, {left} left")
            management.throw_exception_if_processing_interrupted()

        made = 0

        def run(wrapped, x, sigmas_of_run, extra_args=None, callback=None, disable=None):
            def denoise(state, sigma):
                nonlocal made
                made += state.shape[0]
                return wrapped(state, state.new_full([state.shape[0]], sigma), **(extra_args or {}))

            def measured(batch: int) -> Moments:
                return calibrate(
                    denoise, path, shape, sigma_max=top, sigma_min=low, samples=samples, nodes=nodes, probes=probes, kind=kind, seed=seed,
                    batch=batch, table=table, moments=keep.content, metadata=settings, report=report, device=x.device, dtype=torch.float32,
                )  # fmt: skip

            keep.content = halving(measured, min(samples, batch_of(model, shape, x.device)), "calibration")
            return x

        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        visited = torch.tensor([top] * lead + sigmas, dtype=torch.float32)
        guider.sample(torch.zeros_like(empty), empty, comfy.samplers.KSAMPLER(run), visited, disable_pbar=True, seed=seed)
        moments = keep.content
        save_ems(moments, file)
        keep.finish()
        pace.end(f"{total:,} of {total:,} sample-evaluations, 0:00 left")
    return moments, file, f"{made:,} sample-evaluations, {_samples(moments)} in {file.name}"


def _samples(moments: Moments) -> str:
    return f"{len(moments.ids)} sample{'s' * (len(moments.ids) != 1)}"
