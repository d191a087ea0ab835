"""What several solver tests share: the hosts' schedules as sigmas, exact references, runs in NumPy."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from dpm_solver_ext.solvers import schedule
from dpm_solver_ext.solvers.choices import CHOICES, FAMILY, PRESETS
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.path import PATHS, VE, Path
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.statistics import Statistics
from dpm_solver_ext.solvers.tape import Affine, Blend, Coefficient, Measure, Tape
from dpm_solver_ext.tests import models

SD = schedule.sd_time_map()
SINGLESTEP = tuple(a for a in CHOICES["algorithm"] if a != "dpmsolver-v3")  # the algorithms that every method has
VARIANTS = [
    {"algorithm": a, "order": o, "method": m}
    for a in CHOICES["algorithm"]
    for o in (1, 2, 3)
    for m in (CHOICES["method"] if a in SINGLESTEP else ("multistep",))
]
RANGE = {"ve": (SD(1.0), SD(0.0)), "flow": (1.0, 0.001)}  # sigma_max, sigma_min of SD 1.5, and of a flow model's table
TAPES = {name: options for name, options in (PRESETS | FAMILY).items() if options.get("method") != "adaptive"}
SILENT = {name: options for name, options in TAPES.items() if not options.get("eta")}  # without noise
MODELS = {
    "toy": lambda: models.toy(),
    "toy cfg 4": lambda: models.toy(4),
    "image": lambda: models.image_like(),
    "image cfg 7.5": lambda: models.image_like(7.5),
}


def flow_shift(t: float, shift: float) -> float:
    """SD3's resolution shift of a flow time in 0…1."""
    return shift * t / (1 + (shift - 1) * t)


def comfy_normal(path: Path, steps: int, shift: float = 1.0, sgm: bool = False) -> list[float]:
    """ComfyUI's `normal` (and `sgm_uniform`): evenly spaced in the model's time, then 0."""
    if path.name == "flow":
        top, low, sigma = 1.0, 0.001, lambda t: flow_shift(t, shift)  # SD3's table begins at 1/1000
    else:
        top, low, sigma = 1.0, 0.0, SD
    n = steps + 1 if sgm else steps
    times = [top + (low - top) * i / (n - 1) for i in range(n)] if n > 1 else [top]
    return [sigma(t) for t in (times[:-1] if sgm else times)] + [0.0]


SCHEDULES = {
    "karras": lambda path, n: schedule.karras(n, *RANGE[path.name]),
    "logSNR": lambda path, n: schedule.log_snr(path, n, *RANGE[path.name]),
    "normal": comfy_normal,
    "sgm_uniform": lambda path, n: comfy_normal(path, n, sgm=True),
}


def smooth_statistics(kind: str, bins: tuple[int, ...], seed: int = 3, bias: bool = True) -> Statistics:
    """l, s and b for the tests, λ -1 to 3: somewhat like those of a model, smooth in λ, and different in every bin."""
    rng, lam = np.random.default_rng(seed), np.linspace(-1.0, 3.0, 17)
    at = lam.reshape(-1, *[1] * len(bins))
    u = lambda low, high: low + (high - low) * rng.random(bins)  # noqa: E731
    l = 1 / (1 + u(0.3, 1.5) * np.exp(2 * at)) + u(-0.1, 0.1) * np.sin(at * u(0.5, 1.5))
    s = -u(0.2, 0.9) + u(-0.3, 0.3) * np.cos(at * u(0.5, 1.5))
    b = bias * u(-0.3, 0.3) * np.exp(-0.5 * at)
    if kind == "radial":
        b[:, :, 1:] = 0
    return Statistics(kind, lam, l, s, b)


def run(path: Path, model, sigmas, x, noise=None, **options) -> np.ndarray:
    """Plan and execute on `model` (a `denoise(path, x, s)` method)."""
    return execute(plan(path, sigmas, **options), lambda y, s: model.denoise(path, y, s), x, noise=noise)


def fine_end(path: Path, model, x, s: float, t: float = 0.0, steps: int = 250) -> np.ndarray:
    """The probability-flow ODE from s to t by classical Runge-Kutta 4 in log σ/α: no code of the solvers but Path.

    Every path is a variance-exploding one after division by α; at λ = -∞ the state is n to first order in α (an error of α²).
    To σ = 0 it stops at σ/α = 1e-4, where x0 is the state's limit to 1e-7.
    """
    ratio = lambda r: path.sigma(r) / path.alpha(r)  # noqa: E731
    if path.alpha(s) == 0:
        r = path.from_half_logsnr(-11.0)
        x, s = path.alpha(r) * model.denoise(path, x, s) + path.sigma(r) / path.sigma(s) * x, r
    y = x / path.alpha(s)
    low = 1e-4 if t == 0 else ratio(t)
    grid = np.exp(np.linspace(math.log(ratio(s)), math.log(low), steps + 1))
    h = math.log(grid[1] / grid[0])
    slope = lambda y, v: y - model.denoise(VE, y, v)  # noqa: E731  dy/d(log σ)
    for a, b in zip(grid[:-1], grid[1:], strict=True):
        mid = math.sqrt(a * b)
        k1 = slope(y, a)
        k2 = slope(y + h / 2 * k1, mid)
        k3 = slope(y + h / 2 * k2, mid)
        k4 = slope(y + h * k3, b)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return model.denoise(VE, y, low) if t == 0 else path.alpha(t) * y


@functools.cache
def problem(name: str, path_name: str, batch: int = 64) -> tuple[object, np.ndarray, np.ndarray]:
    """(model, start states, exact ends) of `batch` runs over the full range of a path; the ends were computed finely."""
    model, path = MODELS[name](), PATHS[path_name]
    width = model.mu.shape[1]
    s = RANGE[path_name][0]
    x = np.random.default_rng(7).standard_normal((batch, width)) * path.sigma(s)
    return model, x, fine_end(path, model, x, s)


def errors(ends: np.ndarray, right: np.ndarray) -> float:
    """Median over states of the rms error."""
    return float(np.median(np.sqrt(np.mean((ends - right) ** 2, axis=1))))


def at(tape: Tape, trust: float | Mapping[str, float]) -> Tape:
    """The tape with every trust, or each by its register, set to a number: a plan without measuring. A step is trusted by the last
    `Measure` among its records."""
    known = trust if isinstance(trust, Mapping) else {r.dst: trust for r in tape.records if isinstance(r, Measure)}
    place, records, latest = [0], [], [""]
    for r in tape.records:
        if isinstance(r, Affine):
            r = replace(r, terms=tuple([(name, _fixed(w, known)) for name, w in r.terms]))
        records += [r] * (not isinstance(r, Measure))
        place.append(len(records))
        latest.append(r.dst if isinstance(r, Measure) else latest[-1])
    claims = []
    for c in tape.claims:
        trusted = known.get(latest[c.last], math.nan) if c.trusted else 1.0  # by none: nothing holds
        claims.append(
            replace(c, first=place[c.first], last=place[c.last], fades=(*c.fades[:1], *(trusted * f for f in c.fades[1:])), trusted=False)
        )
    return replace(tape, records=tuple(records), claims=tuple(claims))


def _fixed(w: Coefficient, known: Mapping[str, float]) -> Coefficient:
    return w.base + sum([known[name] * factor for name, factor in w.parts]) if isinstance(w, Blend) else w
