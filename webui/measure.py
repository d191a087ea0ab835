"""A long run on the loaded checkpoint, where the host would paint: calibration and tuning.

The host itself runs its text to image, with its own loading of the checkpoint, LoRAs, prompts and guidance, up to where a sampler of ours
would begin; there the work is done in its place (`samplers.ExtSampler`), on the very denoiser that a picture would get. No picture is
decoded (but for live previews, where they are on) or saved, and scripts of the txt2img tab do not run.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..solvers.path import FLOW
from .options import BadOption

WORK = "dpm_solver_ext_work"  # on the host's processing object: what to do in place of painting
SAMPLER = "DPM-Solver++ 2M (ext)"  # any entry of ours; its sampler hands over to the work
CONDITIONS = ("cond", "uncond", "image_cond")  # what the denoiser is given a row for each latent of
STEPS = 20  # of the run that the host believes it makes


@dataclass(frozen=True)
class Use:
    """What the model is measured for: `prompts` are dealt over the samples in turn, sizes are in pixels, `batch` latents go at once."""

    prompts: tuple[str, ...]
    negative: str
    cfg: float
    width: int
    height: int
    batch: int

    @classmethod
    def checked(cls, prompts: Any, negative: Any, cfg: Any, width: Any, height: Any, batch: Any) -> "Use":
        """Of what the tab has: `prompts` is a text, a prompt a line. BadOption, one sentence that names the field."""
        lines = tuple(line.strip() for line in str(prompts or "").splitlines() if line.strip())
        if not lines:
            raise BadOption(
                "Prompts to measure with is empty; write at least one prompt like those that you will paint, each on a line of its own."
            )
        sizes = [whole(name, value, 64, 4096) for name, value in (("Width to measure with", width), ("Height to measure with", height))]
        return cls(
            lines,
            str(negative or ""),
            number("CFG to measure with", cfg, 0, 100),
            *(size // 8 * 8 for size in sizes),
            whole("Latents at once", batch, 1, 64),
        )


def number(name: str, value: Any, least: float, most: float) -> float:
    """`value` as a number. BadOption, one sentence, if it is none or outside the range."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
        raise BadOption(f"{name} is {value!r}; type a number from {least:g} to {most:g}.")
    return float(value)


def whole(name: str, value: Any, least: int, most: int) -> int:
    """`value` as a whole number; gradio's sliders give floats. BadOption as of `number`."""
    if number(name, value, least, most) != int(value):
        raise BadOption(f"{name} is {value!r}; type a whole number from {least} to {most}.")
    return int(value)


class Watch:
    """What a run tells while it goes on, and whether it shall stop. Written by the thread that runs, read by the page."""

    def __init__(self, what: str):
        self.what, self.text, self.stop, self.ended = what, "waiting for the WebUI to be free …", threading.Event(), threading.Event()
        self.outcome: Any = None
        self.error: BaseException | None = None
        self.first = 0
        self.start = time.monotonic()

    def begin(self, done: int) -> None:
        """The run begins, with `done` of its model calls made before."""
        self.first, self.start = done, time.monotonic()

    def __call__(self, done: int, total: int, more: str = "", most: str = "") -> None:
        """`done` of `total` (`most`: "at most ") model calls of one picture are made."""
        from modules import shared  # the host's

        left = (time.monotonic() - self.start) / max(1, done - self.first) * max(0, total - done)
        minutes, seconds = divmod(round(left), 60)
        time_left = f", {most}{minutes}:{seconds:02} left" if done > self.first else ""
        self.text = f"{self.what}: {done:,} of {most}{total:,} model calls{time_left}{more}"
        shared.state.sampling_steps, shared.state.sampling_step = total, min(done, total)  # the host's own progress
        shared.state.textinfo = self.text


class Measured:
    """The denoiser of a run of the host, for any number of latents at once, each with one of the prompts."""

    def __init__(self, model: Any, x: Any, extra: dict[str, Any], use: Use, watch: Watch):
        from .model import checkpoint_of, networks_of, path_of, prediction_of, range_of_model, time_map_of

        wrap = model.inner_model
        self.model, self.extra, self.use, self.watch = model, {**extra, "s_min_uncond": 0.0}, use, watch
        self.shape, self.device, self.ids, self.made = tuple(x.shape[1:]), x.device, [0], 0
        self.wrap, self.path, self.clock = wrap, path_of(wrap), time_map_of(wrap)
        self.top, self.low = float(wrap.sigmas[-1]), float(wrap.sigmas[0])
        # some hosts round other noise levels to those of the table, which would be measured instead
        self.table = None if self.path is FLOW else [float(s) for s in wrap.sigmas]
        words = {"checkpoint": checkpoint_of(), "prediction type": prediction_of(wrap), "guidance": f"{use.cfg:g}"}
        self.words = {name: value for name, value in words.items() if value} | {
            "LoRAs": networks_of(getattr(model, "p", None)), "noise": self.path.name, "sigma range": range_of_model(wrap),
        }  # fmt: skip
        if any(len(parts) > 1 for parts in _timelines(extra.get("cond"), extra.get("uncond"))):
            raise BadOption("Prompts to measure with, or the negative one, have a part that changes ([a:b:0.5]); write prompts that stay.")

    def begin(self, ids: Sequence[int]) -> None:
        """The next calls are for these samples."""
        self.ids = list(ids)

    def __call__(self, state: Any, sigma: float) -> Any:
        """x0 after guidance of states (b, ...) of the samples that `begin` was told; sample i has prompt i mod their number."""
        if self.watch.stop.is_set():
            from modules import sd_samplers_common  # the host's

            raise sd_samplers_common.InterruptedException
        self.made += len(state)
        rows = [i % len(self.use.prompts) for i in self.ids]
        chosen = {name: _rows(value, rows) if name in CONDITIONS else value for name, value in self.extra.items()}
        # the host counts model calls and skips guidance in the first of a run, if it is set to
        self.model.step = max(0, (self.model.total_steps or 1) - 1)
        return self.model(state, state.new_full([len(state)], sigma), **chosen)


def _timelines(cond: Any, uncond: Any):
    """The schedules of the host's prompts: what stays has one entry."""
    for parts in getattr(cond, "batch", None) or ():
        for part in parts:
            yield part.schedules
    if isinstance(uncond, list):
        yield from uncond


def _rows(thing: Any, rows: Sequence[int]) -> Any:
    """These rows of the host's conditions: an object with a list `batch`, a list, or a tensor; others have none."""
    if hasattr(thing, "batch"):
        return type(thing)(shape=(len(rows),), batch=[thing.batch[row] for row in rows])
    if isinstance(thing, list):
        return [thing[row] for row in rows]
    return thing[list(rows)] if getattr(thing, "ndim", 0) else thing


def code_of(*things: Any) -> str:
    """Eight hexadecimal digits of numbers, texts and containers of them."""
    return hashlib.sha256(json.dumps(things, sort_keys=True).encode()).hexdigest()[:8]


def halving(run: Callable[[int], Any], batch: int) -> Any:
    """`run(batch)`, again with half of them where the memory is not enough."""
    import torch

    from ..solvers.hosting import log

    while True:
        try:
            return run(batch)
        except torch.cuda.OutOfMemoryError:
            if batch == 1:
                raise
            batch //= 2
            log.warning("DPM-Solver (ext): not enough memory, so it goes on with %d latents at once.", batch)
        torch.cuda.empty_cache()


def on_the_model(use: Use, watch: Watch, work: Callable[[Measured], Any]) -> Any:
    """`work` of the loaded checkpoint for this use; None if the host or the user interrupted it. Only for the thread that may paint."""
    import torch
    from modules import extra_networks, paths, processing, scripts, shared  # the host's

    networks = [_networks(extra_networks, prompt) for prompt in use.prompts]
    if any(names != networks[0] for names in networks):
        raise BadOption(
            "Prompts to measure with name different LoRAs, but one run has those of its first prompt; write the same on every line."
        )
    found: list[Any] = []

    class Blank(list):
        """What the host takes for pictures, so that it decodes none."""

        already_decoded = True

    class Work(processing.StableDiffusionProcessingTxt2Img):
        def sample(self, *args, **more):
            super().sample(*args, **more)
            return Blank(torch.zeros(3, 8, 8) for _ in self.prompts)

    def instead(model: Any, x: Any, extra: dict[str, Any]) -> Any:
        found.append(None)
        found[0] = work(Measured(model, x, extra, use, watch))
        return x

    # as many prompts as latents go at once, so that the host makes room for them
    prompts = [use.prompts[i % len(use.prompts)] for i in range(max(use.batch, len(use.prompts)))]
    p = Work(
        sd_model=shared.sd_model, prompt=prompts, negative_prompt=use.negative, seed=0, steps=STEPS, sampler_name=SAMPLER,
        scheduler="Automatic", cfg_scale=use.cfg, width=use.width, height=use.height, batch_size=len(prompts), n_iter=1,
        do_not_save_samples=True, do_not_save_grid=True, restore_faces=False,
    )  # fmt: skip
    last = Path(paths.data_path, "params.txt")  # what the host brings back of the last picture
    before = last.read_bytes() if last.is_file() else None
    try:
        p.scripts = scripts.ScriptRunner()  # of no scripts; one host asks without looking whether there is one
        setattr(p, WORK, instead)
        processing.process_images(p)
    finally:
        p.close()
        if before is not None and last.read_bytes() != before:
            last.write_bytes(before)
    if not found and not watch.stop.is_set() and not shared.state.interrupted:
        raise BadOption("the samplers of this extension are not in the WebUI's list; the console says why.")
    return found[0] if found else None


def _networks(extra_networks: Any, prompt: str) -> dict[str, list[Any]]:
    _, found = extra_networks.parse_prompt(prompt)
    return {kind: [net.items for net in nets] for kind, nets in found.items()}


def run(watch: Watch, do: Callable[[], Any]) -> None:
    """`do()` when the host is free, as its own Generate does; what comes of it is in `watch`. Returns at once: a thread does it."""

    def caught() -> None:
        try:
            if not watch.stop.is_set():
                watch.outcome = do()
        except BaseException as error:  # noqa: BLE001 - whatever it is: the page shows it, and the host's thread lives on
            watch.error = error

    def queued() -> None:
        try:
            from modules import call_queue, shared  # the host's

            with call_queue.queue_lock:
                shared.state.begin(job="dpm_solver_ext")
                try:
                    _on_main_thread(caught)
                finally:
                    shared.state.end()
        except Exception as error:  # of a host that has moved
            watch.error = watch.error or error
        finally:
            watch.ended.set()

    threading.Thread(target=queued, name="dpm_solver_ext", daemon=True).start()


def _on_main_thread(do: Callable[[], Any]) -> None:
    """Forge and reForge paint in one thread, where moving models is faster."""
    try:
        from modules_forge import main_thread  # the host's
    except ImportError:
        do()
        return
    main_thread.run_and_wait_result(do)
