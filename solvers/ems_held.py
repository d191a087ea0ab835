"""What there is of a calibration that was made before, or begun."""

import logging
from collections.abc import Mapping
from pathlib import Path

from .ems import Moments
from .ems_calibrate import cost
from .ems_file import load_ems
from .folders import part_of

log = logging.getLogger("dpm_solver_ext")


def held(file: Path) -> Moments | None:
    """`file` or its unfinished part, whichever has more; what cannot be read is said, and not used."""
    found: list[Moments] = []
    for path in (file, part_of(file)):
        if path.is_file():
            try:
                found.append(load_ems(path))
            except ValueError as error:
                log.warning("DPM-Solver (ext): %s is not used and will be replaced: %s", path.name, error)
    return max(found, key=lambda m: (len(m.ids), m.pending is not None), default=None)


def paid(moments: Moments | None, wanted: set[tuple[int, int]], nodes: int, probes: int, lead: bool) -> int:
    """Sample-evaluations that `moments` save of a calibration of the samples `wanted`."""
    if moments is None:
        return 0
    done = cost(len(wanted & set(moments.ids)), nodes, probes, lead)
    if moments.pending is not None and set(moments.pending.ids) <= wanted:
        done += len(moments.pending.ids) * cost(1, moments.pending.node, probes, lead)
    return done


def check_settings(moments: Moments, settings: Mapping[str, str], file: Path) -> None:
    """ValueError, one sentence, where `moments` were made with other `settings`; what they do not say is no difference."""
    other = [name for name in settings if moments.metadata.get(name, settings[name]) != settings[name]]
    if other:
        made = ", ".join(f"{name} {moments.metadata[name]}" for name in other)
        raise ValueError(f"file_name leads to {file.name}, which was made for {made:.300}; choose another name, or remove the file.")
