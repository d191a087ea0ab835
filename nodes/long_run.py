"""What the long runs of this pack share in this host: progress, and as many latents at once as fit."""

import logging
import time
from collections.abc import Callable
from typing import Any

import comfy.model_management as management
import comfy.utils
from tqdm.auto import tqdm

log = logging.getLogger("dpm_solver_ext")
MOST = 8  # latents at once: more is hardly faster anywhere
SHARE = 0.8  # of the free memory


def batch_of(model, shape: tuple[int, ...], device) -> int:
    """How many latents at once fit into the memory that is free now that the model is loaded; with guidance each is two."""
    need = model.memory_required([2, *shape])
    return max(1, min(MOST, int(SHARE * management.get_free_memory(device) / max(need, 1))))


def halving(run: Callable[[int], Any], batch: int, what: str) -> Any:
    """`run(batch)`, again with half of them where the memory is not enough; `what` it is, for people."""
    while True:
        try:
            return run(batch)
        except management.OOM_EXCEPTION as error:  # of old versions of torch: every exception
            if batch == 1 or isinstance(error, (management.InterruptProcessingException, ValueError)):
                raise
            batch //= 2
            log.warning("DPM-Solver (ext): not enough memory, so the %s goes on with %d latents at once.", what, batch)
        management.soft_empty_cache()


class Pace:
    """Progress of `total` model calls of one picture: the node's bar, the console's, and a text on the node about once a second."""

    def __init__(self, total: int, done: int, unit: str, what: str, show: Callable[[str], None] | None):
        self.total, self.first, self.show = total, done, show
        self.node_bar = comfy.utils.ProgressBar(total)
        self.console_bar = tqdm(total=total, initial=min(done, total), unit=unit, desc=what)
        self.start = self.told = time.monotonic()

    def __enter__(self) -> "Pace":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.console_bar.close()

    def __call__(self, done: int, text: Callable[[str], str]) -> None:
        """`done` calls are; `text(minutes:seconds left)` is what the node shows."""
        self.console_bar.update(done - self.console_bar.n)
        self.node_bar.update_absolute(done, self.total)
        now = time.monotonic()
        if self.show is not None and now - self.told >= 1:
            self.told = now
            left = (now - self.start) / max(1, done - self.first) * (self.total - done)
            minutes, seconds = divmod(round(left), 60)
            self.show(text(f"{minutes}:{seconds:02}"))

    def end(self, text: str) -> None:
        """The bar to its end, where the run may come sooner, and a last text."""
        self.node_bar.update_absolute(self.total, self.total)
        self.say(text)

    def say(self, text: str) -> None:
        if self.show is not None:
            self.show(text)
