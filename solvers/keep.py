"""What is measured in a long run is kept beside the file that it is for, so that an interrupted run goes on."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .folders import part_of
from .hosting import tell

log = logging.getLogger("dpm_solver_ext")
LEVELS = "levels of "  # words of a part file that begin so hold noise levels
SAME = 1e-5  # relative: another device rounds otherwise, another rule for a schedule differs by more


def words_of_levels(levels: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """Words for a part file's metadata: the noise levels, by name, that what is in it was measured at."""
    return {LEVELS + name: " ".join(f"{s:.7g}" for s in values) for name, values in levels.items()}


def same_start(words: Mapping[str, str], levels: Mapping[str, Sequence[float]]) -> bool:
    """Whether a part file with these words was measured at these very `levels`: else what is in it belongs to other ones."""
    if {name for name in words if name.startswith(LEVELS)} != {LEVELS + name for name in levels}:
        return False
    for name, values in levels.items():
        try:
            old = [float(s) for s in words[LEVELS + name].split()]
        except ValueError:
            return False
        if len(old) != len(values) or not all(math.isclose(a, b, rel_tol=SAME) for a, b in zip(old, values, strict=True)):
            return False
    return True


class Keeper:
    """Writes what is measured to the part file of `file`, every ten seconds and when the run is cut off.

    `save(content, path)` writes `content`, which is None while there is nothing to keep. Writing takes a twentieth of the time at most.
    """

    EVERY = 10.0  # seconds
    RATIO = 20.0

    def __init__(self, content: Any, file: Path, save: Callable[[Any, Path], None]):
        self.content, self.file, self.save = content, file, save
        self.written, self.took, self.done = time.monotonic(), 0.0, False

    def __enter__(self) -> "Keeper":
        return self

    def __call__(self, now: bool = False) -> None:
        """Write if it is time, or `now`."""
        if now or time.monotonic() - self.written > max(self.EVERY, self.RATIO * self.took):
            self.keep()

    def keep(self) -> None:
        """Write; a full disk does not end the run."""
        try:
            self._write(part_of(self.file))
        except (OSError, ValueError) as problem:
            self.written = time.monotonic()
            tell(f"what is measured for {self.file.name} cannot be kept while the run goes on: {problem}.")

    def finish(self, last: bool = True) -> None:
        """The outcome is in the file. The part goes, or (not `last`) stays for who goes on from there."""
        if last:
            part = part_of(self.file)
            try:
                part.unlink(missing_ok=True)
            except OSError as problem:  # what is said of the outcome must not be lost with it
                tell(f"{part.name} is not needed any more but cannot be removed: {problem}.")
        else:
            self.keep()
        self.done = True

    def __exit__(self, kind, error, trace) -> None:
        if self.done:
            return
        try:
            self._write(part_of(self.file))
        except (OSError, ValueError) as problem:  # the user must read of what ended the run, not of this
            log.warning("DPM-Solver (ext): what was measured so far is lost, %s could not be written: %s", self.file, problem)

    def _write(self, path: Path) -> None:
        if self.content is None:
            return
        begun = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.save(self.content, path)
        self.written = time.monotonic()
        self.took = self.written - begun
