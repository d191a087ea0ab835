"""Where an adaptive run begins and ends: its options checked, and the sigmas between which the step size is controlled."""

import math

from .path import ULPS, Path
from .stepsize import NORMS

# |λ| where the control begins and ends beside an infinite one, at atol ATOL. The first-order step beyond is in error by a multiple of
# e^{-2|λ|}: at 4.5 by 6e-5 to 2e-3 from λ = -∞ (more with guidance) and 2e-4 to 4e-4 to +∞, on the models above.
LAMBDA_END, ATOL = 4.5, 0.0078


def check_run(path, a, b, order, atol, rtol, h_init, h_max, norm, max_evaluations) -> None:
    """One ValueError sentence if a value is out of range."""
    for name, s in (("sigma_from", a), ("sigma_to", b)):
        top = 1 + ULPS if path.name == "flow" else math.inf
        if not 0 <= s <= top or (math.isinf(s) and path.name != "vp"):
            raise ValueError(f"{name} is {s!r}; a {path.name} path has noise levels from 0 {'to 1' if path.name == 'flow' else 'up'}.")
    if a == 0:
        raise ValueError("sigma_from is 0, where no noise is left to invert; start at the model's smallest sigma, such as 0.03.")
    if path.half_logsnr(a) == path.half_logsnr(b):
        raise ValueError(f"sigma_from and sigma_to are both {a:g}; there is nothing to do between them, so change one.")
    if not isinstance(order, int) or order not in (2, 3):
        raise ValueError(f"order is {order!r}; adaptive compares two orders, so choose 2 (orders 1 and 2) or 3 (2 and 3).")
    for name, v, usual in (("atol", atol, ATOL), ("h_init", h_init, 1.0), ("h_max", h_max, 2.0)):
        if not 0 < v < math.inf and (name, v) != ("h_max", math.inf):
            raise ValueError(f"{name} is {v!r}; choose a finite number above 0, such as {usual}.")
    if not 0 <= rtol < math.inf:
        raise ValueError(f"rtol is {rtol!r}; choose a finite number, 0 or more, such as 0.05.")
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}; choose one of {', '.join(NORMS)}.")
    if isinstance(max_evaluations, bool) or not isinstance(max_evaluations, int) or max_evaluations < order:
        raise ValueError(f"max_evaluations is {max_evaluations!r}; choose a whole number, {order} or more, such as 1000.")


def finite_ends(path: Path, a: float, b: float, first: float | None, last: float | None, atol: float) -> tuple[float, float]:
    """The sigmas between which the step size is controlled: a and b where λ is finite, else the given ones or the defaults."""
    ends = []
    for name, given, s in (("sigma_first", first, a), ("sigma_last", last, b)):
        lam = path.half_logsnr(s)
        if given is None:
            away = max(LAMBDA_END + math.log(ATOL / atol) / 2, 2.0)
            ends.append(path.from_half_logsnr(math.copysign(away, lam)) if math.isinf(lam) else s)
        elif math.isfinite(lam):
            raise ValueError(f"{name} is {given!r}, but the run's end at sigma {s:g} is finite and needs none; leave it out.")
        elif not (min(a, b) < given < max(a, b) and math.isfinite(path.half_logsnr(given))):
            raise ValueError(f"{name} is {given!r}; choose a noise level between {min(a, b):g} and {max(a, b):g}, or leave it out.")
        else:
            ends.append(given)
    if (ends[0] - ends[1]) * (a - b) > 0:
        return ends[0], ends[1]
    if first is not None or last is not None:
        raise ValueError(f"sigma_first {ends[0]:g} and sigma_last {ends[1]:g} do not follow each other from {a:g} to {b:g}; change one.")
    return (b, b) if math.isinf(path.half_logsnr(a)) else (a, a)  # all beyond the defaults: one step, which one end takes
