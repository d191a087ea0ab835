"""Published step tables for known models, as schedules: what others searched with the model itself, so that nobody has to search again.

The numbers are results that the papers' authors published; no code was taken. Where they were read:
- Align Your Steps (arXiv 2404.14507, Sabour, Fidler, Kreis): 10 steps, from NVIDIA's quick-start guide
  research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html (SD 1.5) and diffusers 0.42's AysSchedules (Apache-2.0; SDXL, SVD).
- GITS (arXiv 2405.11326, Chen, Zhou, Wang, Shen, Lyu): 2 to 20 steps at their coefficient for Stable Diffusion, 1.20, as
  leejet/stable-diffusion.cpp (MIT) has the authors' numbers. They prove to be hundredths of Stable Diffusion's clock and are written so.
- OptimalSteps (arXiv 2503.21774, Pei, Hu, Gu; code MIT): FLUX at 10 steps and Wan at 20, the authors' numbers as
  mcmonkeyprojects/SwarmUI (MIT) has them.
- The table that hosts list beside those for Chroma, 40 steps, is a formula to every one of its digits, and is made by it here: flow times
  0.001 + 0.999 s with s even in λ from -4.8 to 3, and the end.
The authors of GITS and OptimalSteps first gave these numbers in their pull requests to ComfyUI (3769 and 7584), which is GPL and to which
SwarmUI points; what is here was checked number by number against the two MIT sources.
"""

import bisect
import functools
import math
from collections.abc import Sequence

from .path import FLOW, VE, Path
from .schedule import check_steps, exponential, linspace, sd_time_map

# name: (path, model, unit, rows). A row is one run from the most noise to the least, in places of Stable Diffusion's clock of which its
# end is `unit`, or in sigmas (unit 0). Hosts put 0 for the last value, as `table` does.
TABLES: dict[str, tuple[Path, str, int, tuple[Sequence[float], ...]]] = {
    "ays_sd15": (VE, "Stable Diffusion 1.5", 999, ((999, 850, 736, 645, 545, 455, 343, 233, 124, 24, 0),)),
    "ays_sdxl": (VE, "SDXL", 999, ((999, 845, 730, 587, 443, 310, 193, 116, 53, 13, 0),)),
    "ays_svd": (VE, "Stable Video Diffusion", 0, ((700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),)),
    "gits_sd15": (VE, "Stable Diffusion 1.5", 100, (
        (100, 29, 0),
        (100, 49, 18, 0),
        (100, 61, 33, 11, 0),
        (100, 66, 42, 21, 6, 0),
        (100, 83, 57, 34, 15, 3, 0),
        (100, 83, 62, 42, 23, 8, 1, 0),
        (100, 83, 62, 45, 29, 15, 6, 1, 0),
        (100, 83, 66, 50, 34, 21, 11, 4, 1, 0),
        (100, 83, 66, 51, 38, 27, 17, 9, 4, 1, 0),
        (100, 83, 67, 54, 42, 30, 21, 13, 7, 3, 1, 0),
        (100, 83, 68, 56, 45, 34, 25, 17, 11, 6, 3, 1, 0),
        (100, 86, 71, 61, 49, 38, 29, 21, 15, 10, 6, 3, 1, 0),
        (100, 86, 71, 62, 50, 40, 31, 23, 17, 12, 8, 5, 3, 1, 0),
        (100, 88, 78, 68, 58, 48, 38, 30, 23, 17, 12, 8, 5, 3, 1, 0),
        (100, 88, 78, 68, 58, 48, 38, 30, 23, 17, 13, 9, 6, 4, 2, 1, 0),
        (100, 88, 78, 68, 58, 48, 38, 30, 23, 17, 13, 10, 7, 5, 3, 2, 1, 0),
        (100, 88, 78, 68, 59, 50, 41, 33, 26, 20, 15, 11, 8, 6, 4, 3, 2, 1, 0),
        (100, 88, 78, 68, 59, 50, 42, 34, 27, 21, 16, 12, 9, 7, 5, 4, 3, 2, 1, 0),
        (100, 88, 78, 68, 59, 50, 42, 34, 27, 21, 17, 13, 10, 8, 6, 5, 4, 3, 2, 1, 0),
    )),
    "oss_flux": (FLOW, "FLUX", 0, ((0.9968, 0.9886, 0.9819, 0.975, 0.966, 0.9471, 0.9158, 0.8287, 0.5512, 0.2808, 0.001),)),
    "oss_wan": (FLOW, "Wan", 0, (
        (1.0, 0.997, 0.995, 0.993, 0.991, 0.989, 0.987, 0.985, 0.98, 0.975, 0.973, 0.968, 0.96, 0.946, 0.927, 0.902, 0.864, 0.776, 0.539,
         0.208, 0.001),
    )),
    "oss_chroma": (FLOW, "Chroma", 0, ((*(0.001 + 0.999 * FLOW.from_half_logsnr(lam) for lam in linspace(-4.8, 3.0, 40)), 0.001),)),
}  # fmt: skip


@functools.lru_cache(maxsize=64)
def published(name: str, steps: int) -> tuple[float, ...]:
    """The published run of `steps` steps, or the nearest to it: falling sigmas on the table's path, the last of them the least noise."""
    _, _, unit, rows = TABLES[name]
    row = min(rows, key=lambda r: abs(len(r) - 1 - steps))
    clock = sd_time_map()
    return tuple(clock(place / unit) for place in row) if unit else tuple(row)


def table(name: str, steps: int, path: Path | None = None, sigma_max: float | None = None, sigma_min: float | None = None) -> list[float]:
    """Schedule `name` (a key of TABLES): steps + 1 falling sigmas on `path`, from sigma_max to 0; without these the table's own.

    A table is read as a curve over its steps, of which a run of n takes n even parts: exact where n was published, and every other
    value of it at half the count. Between the steps it is log-linear in sigma, as the paper of Align Your Steps has it; on flow models
    linear in sigma, because that comes out better beyond the published count (with FLUX's table at 20 steps: 0.4 to 0.8 times the error
    of log-linear or even in λ on mixtures) and the same within 5 % below it.

    The first value is always sigma_max. A sigma_max below the table's first value cuts the curve there, and what is left gets the steps;
    so does a sigma_min above the level that the table's last step starts from (the table's very end is replaced by 0 or sigma_min anyway).
    A range beyond the table is not filled, because the table has no steps to spend there; one that holds less than one of the table's own
    steps is divided evenly in log sigma. On a path of the other kind (a flow model's table on Stable Diffusion) levels are those of the
    same signal-to-noise ratio.
    """
    check_steps(steps)
    if name not in TABLES:
        raise ValueError(f"table is {name!r}; choose one of {', '.join(TABLES)}.")
    home = TABLES[name][0]
    path = path or home
    curve = published(name, steps)
    top = _moved(curve[0], home, path) if sigma_max is None else sigma_max
    low = _moved(curve[-1], home, path) if sigma_min is None else sigma_min
    a, b, floor = _place(curve, home, _moved(top, path, home)), len(curve) - 1.0, _place(curve, home, _moved(low, path, home))
    if floor <= b - 1 or a + (b - a) * (steps - 1) / steps > floor:
        b = floor
    if floor - a < 1:
        return exponential(steps, top, low)
    return [top, *(_moved(_value(curve, home, a + (b - a) * i / steps), home, path) for i in range(1, steps)), 0.0]


def _moved(s: float, here: Path, there: Path) -> float:
    """The sigma on path `there` with the signal-to-noise ratio of s on `here`."""
    same = (here is FLOW) == (there is FLOW)  # VE and VP count in σ/α alike
    return s if same else there.from_half_logsnr(here.half_logsnr(s))


def _place(curve: Sequence[float], home: Path, s: float) -> float:
    """Where on the curve the level s lies, 0…steps; the nearest end outside."""
    if s >= curve[0]:
        return 0.0
    if s <= curve[-1]:
        return len(curve) - 1.0
    i = bisect.bisect_right(curve, -s, key=lambda v: -v) - 1
    a, b = curve[i], curve[i + 1]
    return i + ((a - s) / (a - b) if home is FLOW else math.log(a / s) / math.log(a / b))


def _value(curve: Sequence[float], home: Path, place: float) -> float:
    """The level at a place of the curve: the inverse of `_place`."""
    i = min(int(place), len(curve) - 2)
    a, b, part = curve[i], curve[i + 1], place - i
    if part == 0:
        return a
    return a + (b - a) * part if home is FLOW else a * (b / a) ** part
