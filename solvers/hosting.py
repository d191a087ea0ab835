"""What every host's adapter needs around a run: warnings said once, plans kept, the adaptive solver along a host's schedule, and schedules
that end at the model's least noise."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .path import PATHS, Path

if TYPE_CHECKING:
    from .tape import Tape

log = logging.getLogger("dpm_solver_ext")
LARGE = 10_000  # coefficients of a bin each, as with statistics for each element: such a tape is not kept
_told: set[str] = set()


def tell(sentence: str) -> None:
    """Log a warning, each sentence once in the life of the process."""
    if sentence not in _told:
        _told.add(sentence)
        log.warning("DPM-Solver (ext): %s", sentence)


@functools.lru_cache(maxsize=64)
def _kept(path: str, sigmas: tuple[float, ...], options: tuple[tuple[str, object], ...]) -> "Tape":
    from .presets import plan  # what only a run needs is imported by it, not when the host starts

    return plan(PATHS[path], sigmas, **dict(options))  # type: ignore[arg-type]


def planned(path: Path, sigmas: Sequence[float], options: dict[str, Any]) -> "Tape":
    """`plan(path, sigmas, **options)`, kept for the next run unless its coefficients take much memory. Its notes are said once."""
    statistics = options.get("statistics")
    large = statistics is not None and statistics.l[0].size > LARGE
    make = _kept.__wrapped__ if large else _kept
    tape = make(path.name, tuple(sigmas), tuple(sorted(options.items(), key=lambda item: item[0])))
    for note in tape.notes:
        tell(note)
    return tape


@functools.lru_cache(maxsize=8)
def ending_on_x0(statistics: Any) -> Any:
    """The same statistics for a run whose last step ends with the prediction: there a mask has put the latent that it keeps."""
    return dataclasses.replace(statistics, tail="x0")


def adapt(
    path: Path,
    denoise: Callable[[Any, float], Any],
    x: Any,
    sigmas: Sequence[float],
    sigma_min: float,
    *,
    project: Callable[[Any, float], Any] | None = None,
    show: Callable[[int, float, Any, Any], None] | None = None,
    advance: Callable[[int], Any] | None = None,
    **options: Any,
) -> Any:
    """The adaptive solver between the ends of `sigmas`, whose steps only count its progress in λ. `sigma_min` stands for the last level
    above 0 where `sigmas` has none. `show(step, sigma, x, x0)` once an accepted attempt; `advance(n)` as n more steps are done.
    """
    from .adaptive import adaptive

    low = next((s for s in reversed(sigmas[1:]) if s > 0), sigma_min)
    ends = {"sigma_last": low} if sigmas[-1] == 0 and low < 0.9 * sigmas[0] else {}
    steps, sigma, done, said = len(sigmas) - 1, sigmas[0], 0, 0

    def forward(to: int) -> None:
        nonlocal said
        if advance is not None and to > said:
            advance(to - said)
        said = max(to, said)

    def report(fraction, info):
        nonlocal sigma, done
        sigma, done = info.sigmas[-1], min(int(fraction * steps), steps - 1)
        forward(done)

    def mark(step, state, x0):
        if show is not None:
            show(done, sigma, state, x0)

    out, _ = adaptive(path, denoise, x, sigmas[0], sigmas[-1], project=project, mark=mark, report=report, **ends, **options)
    forward(steps)
    return out


def ending_at(make: Callable[[int], Sequence[float]], steps: int, sigma_min: float) -> list[float]:
    """A schedule of `steps` steps like those of `make(steps)`, which end at 0, but to sigma_min: its last step is one of its own where
    `make` visits sigma_min before 0, else the step to 0 ends there."""
    sigmas = list(make(steps))
    if not sigmas or sigmas[-1] > 0:
        return sigmas
    if steps > 1 and sigmas[-2] <= sigma_min * (1 + 1e-6):
        return list(make(steps + 1))[:-1]
    return [*sigmas[:-1], sigma_min]
