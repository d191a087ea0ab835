"""Calibration on several GPUs or machines, with torch.distributed: every process makes its share of the samples, the sums are added.

Noise and probes of a sample come from its own numbers, so the result is that of one process, up to the order of float64 additions.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .ems import NAMES, Moments
from .ems_calibrate import calibrate
from .ems_file import load_ems, save_ems
from .path import Path


def spread(
    denoise: Callable[[Any, float], Any],
    path: Path,
    shape: Sequence[int],
    *,
    samples: int = 16,
    seed: int = 0,
    file: str | os.PathLike[str] | None = None,
    report: Callable[[int, int, Moments], None] | None = None,
    **options: Any,
) -> Moments:
    """`calibrate` by all processes of the default group, which must be initialised; every process gets all moments. Arguments as there.

    `file`, on a disk that all see: process 0 writes the moments there. Until then each keeps what it has finished beside it
    (`file`.part0, …); started again, by any number of processes, they go on with the samples that neither the file nor a part has.
    """
    import torch.distributed as dist

    rank, world = dist.get_rank(), dist.get_world_size()
    blank = calibrate(denoise, path, shape, seed=seed, ids=(), **options)
    before: list[Any] = [blank]
    if file is not None:
        if rank == 0:
            try:
                before = [_gathered(blank, os.fspath(file))]
            except (OSError, ValueError) as error:  # for all processes: the others wait for an answer
                before = [error]
        dist.broadcast_object_list(before, device=_device(dist))
        if isinstance(before[0], Exception):
            raise before[0]
    todo = [i for i in range(samples) if (seed, i) not in set(before[0].ids)]
    saved = [0]

    def tell(done: int, total: int, moments: Moments) -> None:
        if file is not None and len(moments.ids) > saved[0]:
            saved[0] = len(moments.ids)
            save_ems(moments, f"{os.fspath(file)}.part{rank}")
        if report is not None:
            report(done, total, moments)

    mine = calibrate(denoise, path, shape, seed=seed, ids=todo[rank::world], report=tell, **options)
    if file is not None and mine.ids:
        save_ems(mine, f"{os.fspath(file)}.part{rank}")  # before it waits for the others, one of which may have died
    total = before[0] + _summed(mine, dist, world)
    if file is not None:
        ended: list[Any] = [None]
        if rank == 0:
            try:
                save_ems(total, file)
                _remove_parts(os.fspath(file))
            except (OSError, ValueError) as error:
                ended = [error]
        dist.broadcast_object_list(ended, device=_device(dist))
        if ended[0] is not None:
            raise ended[0]
    return total


def _device(dist: Any) -> Any:
    """Where this group's backend wants its tensors."""
    import torch

    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def _summed(mine: Moments, dist: Any, world: int) -> Moments:
    """The sum of all processes' moments."""
    import torch

    sums = torch.from_numpy(np.stack([mine.sums[name] for name in NAMES])).to(_device(dist))
    dist.all_reduce(sums)
    ids: list[Any] = [None] * world
    dist.all_gather_object(ids, mine.ids)
    arrays = dict(zip(NAMES, sums.cpu().numpy(), strict=True))
    return Moments(mine.kind, mine.shape, mine.lam, dict(mine.metadata), sorted(i for part in ids for i in part), arrays)


def _gathered(blank: Moments, file: str) -> Moments:
    """`blank` with what `file` and its parts hold, put into `file`; ValueError, one sentence, if they are of other settings."""
    total = blank
    for name in [file, *_parts(file)]:
        if os.path.exists(name):
            part = load_ems(name)
            if not set(part.ids) <= set(total.ids):  # else a part that the file has already
                total = total + part
    if total.ids:
        save_ems(total, file)
    _remove_parts(file)
    return total


def _parts(file: str) -> list[str]:
    return sorted(name for name in glob.glob(glob.escape(file) + ".part*") if re.fullmatch(r"\.part\d+", name[len(file) :]))


def _remove_parts(file: str) -> None:
    for name in _parts(file):
        with contextlib.suppress(FileNotFoundError):
            os.remove(name)
