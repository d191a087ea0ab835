"""The sampler nodes' widgets as options of `adapter.sample`: which of them act together, said before the run."""

import torch

from ..solvers.adaptive import walk_adaptive
from ..solvers.path import VE
from ..solvers.presets import plan
from ..solvers.step import CHOICES
from .adapter import THRESHOLDING, tell

METHODS = (*CHOICES["method"], "adaptive")
TAPES = CHOICES["method"]
STAGED = ("singlestep", "singlestep_fixed")
# widget: (the methods it acts with, its value that asks for nothing, whether any other value without them is an error)
ACTS: dict[str, tuple[tuple[object, ...], object, bool]] = {
    "start": (("multistep",), "corrected", False),
    "final_rule": (("multistep",), "smooth", False),
    "corrector": (("multistep",), "none", True),
    "eta": (TAPES, 0.0, True),
    "s_noise": (TAPES, 1.0, False),
    "noise_rule": (STAGED, "sde", True),
    "r1": (("singlestep_fixed",), 0.0, True),
    "r2": (("singlestep_fixed",), 0.0, True),
    "rtol": (("adaptive",), 0.05, False),
    "atol": (("adaptive",), 0.0078, False),
    "safety": (("adaptive",), 0.0, False),
    "max_evaluations": (("adaptive",), 1000, False),
}


def prepare(**widgets: object) -> dict[str, object]:
    """The options for `sample`. ValueError, one sentence with the widget's name, for what cannot be done on any model or schedule; a
    warning, each once, for a widget that cannot act. r1, r2 and safety 0 stand for the solver's own."""
    options = dict(widgets)
    method = options.get("method", "multistep")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(map(str, METHODS))}.")
    for name, (methods, idle, needed) in ACTS.items():
        value = options.get(name, idle)
        if method not in methods:
            where = f"{name} is {value}, which acts with method {' or '.join(map(str, methods))} only"
            if value != idle and needed:
                raise ValueError(f"{where}; set it to {idle}, or method to {methods[-1]}.")
            if value != idle:
                tell(f"{where}, not with {method}.")
            options.pop(name, None)
        elif name in ("r1", "r2", "safety") and value == 0:
            options.pop(name, None)
    if not options.get("eta"):
        for name, idle in (("s_noise", 1.0), ("noise_rule", "sde")):
            if options.pop(name, idle) != idle:
                tell(f"{name} is {widgets[name]}, which acts with eta above 0 only.")
    if options.get("algorithm") == "dpmsolver-v" and options.get("solver_type", "dpmsolver") != "dpmsolver":
        tell(f"solver_type is {options['solver_type']}, which makes no difference with algorithm dpmsolver-v.")
    threshold = _threshold(options)
    if method == "adaptive":
        run = walk_adaptive(VE, torch.zeros(1), 8.0, 1.0, **{k: v for k, v in options.items() if k != "method"})  # type: ignore[arg-type]
        next(run)
        run.close()
    else:
        plan(VE, (8.0, 4.0, 2.0, 1.0), **options)  # type: ignore[arg-type]
    return options | threshold


def _threshold(options: dict[str, object]) -> dict[str, object]:
    """Takes the thresholding widgets out of the options and returns them, checked; nothing if off."""
    kind, ratio, least = (options.pop(k, v) for k, v in (("thresholding", "off"), ("threshold_ratio", 0.995), ("threshold_max", 1.0)))
    if kind not in THRESHOLDING:
        raise ValueError(f"thresholding is {kind!r}; choose one of {', '.join(THRESHOLDING)}.")
    if not 0 < ratio <= 1:
        raise ValueError(f"threshold_ratio is {ratio:g}; it is a share of the pixels above 0 and up to 1, 0.995 as a rule.")
    if not 0 < least < float("inf"):
        raise ValueError(f"threshold_max is {least:g}; type a number above 0, 1 as a rule.")
    if kind == "off":
        for name, value, idle in (("threshold_ratio", ratio, 0.995), ("threshold_max", least, 1.0)):
            if value != idle:
                tell(f"{name} is {value:g}, which acts with thresholding only; thresholding is off.")
        return {}
    return {"thresholding": kind, "threshold_ratio": ratio, "threshold_max": least}
