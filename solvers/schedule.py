"""Step schedules: which noise levels a run visits. Plain functions from (path, steps, range) to falling lists of host sigmas.

Every schedule costs `steps` evaluations: steps + 1 values, the last of them 0. A *time map* τ → sigma, τ in 0…1 from the least to the
most noise, is the model's own clock (`sd_time_map` without a model); the papers' time is t = (1 + 999 τ)/1000.
"""

import bisect
import math
import re
from collections.abc import Callable, Sequence

from .path import VE, Path

TimeMap = Callable[[float], float]
TABLES = ("ays_sd15", "ays_sdxl", "ays_svd", "gits_sd15", "oss_flux", "oss_wan", "oss_chroma")  # published ones, in tables.py
NAMES = ("auto", "logSNR", "time_uniform", "time_quadratic", "karras", "exponential", "manual", *TABLES)
INFINITE = 7.0  # |λ| beyond this is an infinite end: zero terminal SNR comes as sigma ≈ 4519, λ = -8.4


def check_steps(steps: int) -> None:
    """One ValueError sentence unless there is a step to take."""
    if steps < 1:
        raise ValueError(f"steps is {steps}; at least one step is needed.")


def linspace(a: float, b: float, n: int) -> list[float]:
    """n evenly spaced values; the middle if n = 1."""
    return [a + (b - a) * i / (n - 1) for i in range(n)] if n > 1 else [(a + b) / 2] * n


def table_map(sigmas: Sequence[float], log: bool = True) -> TimeMap:
    """The clock of a model with a rising table of sigmas: τ runs over its places, log-linear (or linear) in between."""
    table = [math.log(s) for s in sigmas] if log else list(sigmas)
    last = len(table) - 1

    def sigma(tau: float) -> float:
        place = min(max(tau, 0.0), 1.0) * last
        low = min(int(place), last - 1)
        value = table[low] + (table[low + 1] - table[low]) * (place - low)
        return math.exp(value) if log else value

    return sigma


def sd_time_map() -> TimeMap:
    """Stable Diffusion's clock: betas = linspace(√0.00085, √0.012, 1000)², sigma = √((1-ᾱ)/ᾱ)."""
    table, product = [], 1.0
    for i in range(1000):
        product *= 1 - (math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * i / 999) ** 2
        table.append(math.sqrt((1 - product) / product))
    return table_map(table)


def _tau_of(time_map: TimeMap, sigma: float) -> float:
    """The τ whose sigma is nearest to `sigma`, by bisection on the rising map."""
    return bisect.bisect_left(range(2**40), sigma, key=lambda i: time_map(i / 2**40)) / 2**40


def time_uniform(steps: int, sigma_max: float, sigma_min: float, time_map: TimeMap, power: int = 1) -> list[float]:
    """Evenly spaced in t (power 1) or √t (power 2: more steps at low noise), as the official skip types; 0 stands for their last."""
    check_steps(steps)
    top, low = (((1 + 999 * _tau_of(time_map, s)) / 1000) ** (1 / power) for s in (sigma_max, sigma_min))
    inner = [time_map((1000 * t**power - 1) / 999) for t in linspace(top, low, steps + 1)[1:-1]]
    return [sigma_max, *inner, 0.0]


def log_snr(path: Path, steps: int, sigma_max: float, sigma_min: float, time_map: TimeMap | None = None) -> list[float]:
    """Evenly spaced in λ. An infinite end comes first or last, and the finite part spans the middle λ ± (2.5 + 0.55 ln(steps/5)).

    The middle is that of the model's clock (λ of τ = 1/2; 0 without one), so that shifted flow models are met where they work. The
    range widens with the steps as measured on mixtures over flow models, 5 to 30 steps: wider costs accuracy at few
    steps (±4.6 has 2.9 times the error of ±2.5 at 5), narrower leaves a floor at many.
    """
    check_steps(steps)
    lam_max, lam_min = path.half_logsnr(sigma_min), path.half_logsnr(sigma_max)
    middle = path.half_logsnr(time_map(0.5)) if time_map else 0.0
    reach = 2.5 + 0.55 * math.log(steps / 5)
    open_start = lam_min < -INFINITE
    a = max(lam_min, middle - reach) if open_start else lam_min
    b = min(lam_max, middle + reach) if open_start or lam_max > INFINITE else lam_max
    if not a < b:  # the range asked for lies outside the measured one
        a, b = max(lam_min, lam_max - 2 * reach) if open_start else lam_min, lam_max
    inner = [path.from_half_logsnr(lam) for lam in linspace(a, b, steps - open_start)]
    if not open_start:
        inner[0] = sigma_max
    return [sigma_max] * open_start + inner + [0.0]


def karras(steps: int, sigma_max: float, sigma_min: float, rho: float = 7.0) -> list[float]:
    """Evenly spaced in sigma^(1/ρ) (EDM, arXiv 2206.00364, eq. 5)."""
    check_steps(steps)
    a, b = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [sigma_max, *(v**rho for v in linspace(a, b, steps)[1:]), 0.0]


def exponential(steps: int, sigma_max: float, sigma_min: float) -> list[float]:
    """Evenly spaced in log sigma; after an infinite end (zero terminal SNR, sigma ≈ 4519) over the range of `log_snr`.

    A flow model's sigma = 1 is finite in log sigma: there it is the hosts' own schedule.
    """
    check_steps(steps)
    if -math.log(sigma_max) < -INFINITE:
        return log_snr(VE, steps, sigma_max, sigma_min)
    return [sigma_max, *(math.exp(v) for v in linspace(math.log(sigma_max), math.log(sigma_min), steps)[1:]), 0.0]


def auto(path: Path, steps: int, sigma_max: float, sigma_min: float, time_map: TimeMap) -> list[float]:
    """The measured default: even in arctan((r/10)^(1/3)), r = σ/α, down to 0.029 (1 + 125/steps²), never below the model's.

    Near the data that is karras with ρ = 3, far above r = 10 its mirror image: λ steps grow towards both ends, where a step's weight,
    sinφ cosφ with tanφ = r, falls (even in φ would be arctan(r)). More of both 3 and 10 does as well (4 and 30). Karras with ρ = 6 had 5
    to 8 % more error on a trained network (7 to 18 steps) and 17 % more on mixtures (5 to 40), with the preset "auto".
    Few steps do better to leave the least noise to the last step (with 6 times Stable Diffusion's sigma_min at 5 steps, 2.3 at 10, 1.3
    at 20); beyond 25 that end falls with 25/steps, so that the error goes to 0. A range longer than the ratio 45 (2.5 steps beyond 18)
    is entered in one step from sigma_max. For flow models with a shift (the ratio half-way on their clock) the upper end is shift^(1/2)
    and all else shift^(1/4) times that: nobody knows how far a model's detail moves with its shift, and karras as it was, with
    shift^(3/4) and shift^(1/2), had 19 % more error on data that do not move and 5 % less on data that move with it (shift 3).
    """

    def ratio(s: float) -> float:
        return path.sigma(s) / path.alpha(s) if path.alpha(s) > 0 else math.inf

    check_steps(steps)
    shift = ratio(time_map(0.5)) if path.name == "flow" else 1.0
    top, least = min(ratio(sigma_max), max(45.0, 2.5 * steps) * shift**0.5), ratio(sigma_min)
    if not least < top:  # the range asked for lies above the measured one
        top = min(ratio(sigma_max), 4 * least)
    low = max(least, min(0.0292 * min(1.0, 25 / steps) * (1 + 125 / steps**2) * shift**0.25, top / 4))
    middle = 10.0 * shift**0.25
    even = linspace(math.atan((top / middle) ** (1 / 3)), math.atan((low / middle) ** (1 / 3)), steps)[1:]
    inner = [path.from_half_logsnr(-math.log(middle * math.tan(u) ** 3)) for u in even]
    return [sigma_max, *inner, 0.0]


def manual(text: str) -> list[float]:
    """Sigmas typed by hand, separated by commas or spaces. ValueError, one sentence, names what cannot be read."""
    if "." not in text and re.search(r"\d,\d", text) and re.search(r"\d\s+\d", text):
        raise ValueError(f"manual_sigmas: {text!r} can be read in two ways; write decimals with a point, such as 14.6, 4.2, 1.1, 0.")
    values = []
    for word in text.replace(",", " ").replace(";", " ").split():
        try:
            values.append(float(word))
        except ValueError:
            raise ValueError(f"manual_sigmas: {word!r} is not a number; type falling sigmas such as 14.6, 4.2, 1.1, 0.") from None
        if not math.isfinite(values[-1]):
            raise ValueError(f"manual_sigmas: {word!r} is not a finite number; type falling sigmas such as 14.6, 4.2, 1.1, 0.")
    if len(values) < 2:
        raise ValueError(
            f"manual_sigmas has {len(values)} value{'s' * (len(values) != 1)}; type at least two falling sigmas such as 14.6, 4.2, 1.1, 0."
        )
    return values


def truncate(make: Callable[[int], Sequence[float]], steps: int, denoise: float) -> list[float]:
    """The last `steps` steps of a schedule of steps/denoise, as hosts do for image to image; none when denoise is 0."""
    if not 0 <= denoise <= 1:
        raise ValueError(f"denoise is {denoise:g}; it lies between 0 (keep the picture) and 1 (make it anew).")
    if denoise == 0:
        return []
    return list(make(max(steps, int(steps / denoise))))[-(steps + 1) :]
