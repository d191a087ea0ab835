"""A calibration inside ComfyUI's own sampling: the model, its patches and its conditioning are what a sampler would get."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import comfy.model_management as management
import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from tqdm.auto import tqdm

from ..solvers.ems import Moments
from ..solvers.ems_calibrate import calibrate, cost, node_sigmas
from ..solvers.ems_file import load_ems, save_ems
from ..solvers.ems_pool import usable_kind
from . import ems_files
from .adapter import path_of
from .ems_model import code_of, describe, differences

log = logging.getLogger("dpm_solver_ext")
MOST = 8  # latents at once: more is hardly faster anywhere
FEW = 4  # samples below which DPM-Solver-v3 was worse than without statistics
SHARE = 0.8  # of the free memory


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
    held = _held(file)
    if held is not None:
        made, now = differences(held.metadata, settings)
        other = [k for k in ("noise", "sigma range", "nodes", "probes") if held.metadata.get(k, settings[k]) != settings[k]]
        if made or other:
            raise ValueError(
                f"file_name leads to {file.name}, which was made for {made or ', '.join(f'{k} {held.metadata[k]}' for k in other)}; choose "
                "another name, or remove the file."
            )
        shape = held.shape
        empty = empty.new_zeros(1, *shape)
    wanted = {(seed, i) for i in range(samples)}
    ready = len(wanted & set(held.ids)) if held else 0
    total, done = (cost(n, len(sigmas), probes, lead) for n in (samples, ready))
    if held is not None and held.pending is not None and set(held.pending.ids) <= wanted:
        done += len(held.pending.ids) * cost(1, held.pending.node, probes, lead)
    count, each = f"{samples} sample{'s' * (samples != 1)}", f"{probes} probe{'s' * (probes != 1)} each"
    text = f"{count}, {len(sigmas)} noise levels, {each}: {total:,} sample-evaluations"
    if held is not None and ready == samples:
        log.info("DPM-Solver (ext): calibration of %s: %s, all of them in %s.", settings["model"], text, file.name)
        return held, file, f"0 sample-evaluations, {_samples(held)} in {file.name}"
    log.info("DPM-Solver (ext): calibration of %s: %s, %s of them done before.", settings["model"], text, f"{done:,}")
    if samples < FEW:
        log.info("DPM-Solver (ext): samples is %d; statistics of so few may do harm, so set it to %d or more.", samples, FEW)
    ems_files.check_writable(file)
    with _Keeper(held, file) as keep, tqdm(total=total, initial=done, unit="eval", desc="calibration") as bar:
        pace = _Pace(comfy.utils.ProgressBar(total), bar, done, show)

        def report(now: int, of: int, moments: Moments) -> None:
            keep(moments)
            pace(now, of)
            management.throw_exception_if_processing_interrupted()

        made = 0

        def run(wrapped, x, sigmas_of_run, extra_args=None, callback=None, disable=None):
            def denoise(state, sigma):
                nonlocal made
                made += state.shape[0]
                return wrapped(state, state.new_full([state.shape[0]], sigma), **(extra_args or {}))

            batch = min(samples, _batch(model, shape, x.device))
            while True:
                try:
                    keep.moments = calibrate(
                        denoise, path, shape, sigma_max=top, sigma_min=low, samples=samples, nodes=nodes, probes=probes, kind=kind,
                        seed=seed, batch=batch, table=table, moments=keep.moments, metadata=settings, report=report, device=x.device,
                        dtype=torch.float32,
                    )  # fmt: skip
                    return x
                except management.OOM_EXCEPTION as error:  # of old versions of torch: every exception
                    if batch == 1 or isinstance(error, (management.InterruptProcessingException, ValueError)):
                        raise
                    batch //= 2
                    log.warning("DPM-Solver (ext): not enough memory, so the calibration goes on with %d latents at once.", batch)
                management.soft_empty_cache()

        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        visited = torch.tensor([top] * lead + sigmas, dtype=torch.float32)
        guider.sample(torch.zeros_like(empty), empty, comfy.samplers.KSAMPLER(run), visited, disable_pbar=True, seed=seed)
    moments = keep.moments
    assert moments is not None
    return moments, file, f"{made:,} sample-evaluations, {_samples(moments)} in {file.name}"


def _samples(moments: Moments) -> str:
    return f"{len(moments.ids)} sample{'s' * (len(moments.ids) != 1)}"


def _batch(model, shape: tuple[int, ...], device) -> int:
    """How many latents at once fit into the memory that is free now that the model is loaded; with guidance each is two."""
    need = model.memory_required([2, *shape])
    return max(1, min(MOST, int(SHARE * management.get_free_memory(device) / max(need, 1))))


def _held(file: Path) -> Moments | None:
    """What is there of this calibration, the file or its unfinished part, whichever has more."""
    found: list[Moments] = []
    for path in (file, ems_files.part_of(file)):
        if path.is_file():
            try:
                found.append(load_ems(path))
            except ValueError as error:
                log.warning("DPM-Solver (ext): %s is not used and will be replaced: %s", path.name, error)
    return max(found, key=lambda m: (len(m.ids), m.pending is not None), default=None)


class _Keeper:
    """Writes what is measured to the part file every half minute and when the run is cut off, and to the file at the end."""

    EVERY = 30.0  # seconds

    def __init__(self, moments: Moments | None, file: Path):
        self.moments, self.file, self.written = moments, file, time.monotonic()

    def __enter__(self):
        return self

    def __call__(self, moments: Moments) -> None:
        self.moments = moments
        if time.monotonic() - self.written > self.EVERY:
            self._write(ems_files.part_of(self.file))

    def __exit__(self, kind, error, trace) -> None:
        if self.moments is None:
            return
        part = ems_files.part_of(self.file)
        if not kind:
            self._write(self.file)
            part.unlink(missing_ok=True)
            return
        try:
            self._write(part)
        except (OSError, ValueError) as problem:  # the user must read of what ended the run, not of this
            log.warning("DPM-Solver (ext): what was measured so far is lost, %s could not be written: %s", part, problem)

    def _write(self, path: Path) -> None:
        os.makedirs(path.parent, exist_ok=True)
        save_ems(self.moments, path)
        self.written = time.monotonic()


class _Pace:
    """Progress in sample-evaluations: the node's bar, the console's, and the time left as text."""

    def __init__(self, node_bar, console_bar, done: int, show: Callable[[str], None] | None):
        self.node_bar, self.console_bar, self.first, self.show = node_bar, console_bar, done, show
        self.start = self.told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        self.console_bar.update(done - self.console_bar.n)
        self.node_bar.update_absolute(done, total)
        now = time.monotonic()
        if self.show is not None and (now - self.told >= 1 or done == total):
            self.told = now
            left = (now - self.start) / max(1, done - self.first) * (total - done)
            minutes, seconds = divmod(round(left), 60)
            self.show(f"{done:,} of {total:,} sample-evaluations, {minutes}:{seconds:02} left")
