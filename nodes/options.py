"""The sampler nodes' widgets as options of `adapter.sample`: which of them act together, said before the run."""

import torch

from ..solvers.choices import CHOICES, PRESETS
from ..solvers.notes import idle
from ..solvers.path import VE
from .adapter import CORRECTOR_RANGE, THRESHOLDING, tell

METHODS = (*CHOICES["method"], "adaptive")
# widget: (the methods that have it, its value that asks for nothing); another value without them is an error
NEEDS: dict[str, tuple[tuple[object, ...], object]] = {
    "corrector": (("multistep",), "none"),
    "slopes": (("multistep",), "planned"),
    "eta": (CHOICES["method"], 0),
    "noise_rule": (("singlestep", "singlestep_fixed"), "sde"),
    "r1": (("singlestep_fixed",), 0),
    "r2": (("singlestep_fixed",), 0),
}
V3 = "dpmsolver-v3"
NO_NOISE = ("dpmsolver-v", V3)  # algorithms without an SDE form
# widget: its values that go with fresh noise, first the one to set it to
NOISY = {"corrector": ("none",), "slopes": ("auto", "planned"), "start": ("corrected", "official")}
SLOPES = ("auto", *CHOICES["slopes"])
DATA_STD = 1.0  # the default of `Statistics.closed_form`
ADAPTIVE = {"rtol": 0.05, "atol": 0.0078, "safety": 0, "max_evaluations": 1000}  # only method adaptive has these; their defaults


def prepare(**widgets: object) -> dict[str, object]:
    """The options for `sample`; a warning in the log, each once, for a widget that cannot act. ValueError as `settled`."""
    options, said = settled(**widgets)
    for sentence in said:
        tell(sentence)
    return options


def settled(**widgets: object) -> tuple[dict[str, object], list[str]]:
    """(the options for `sample`, sentences on widgets that cannot act). ValueError, one sentence with the widget's name, for what cannot
    be done on any model or schedule. r1, r2 and safety 0 stand for the solver's own.

    The advanced node is dropped with a corrector: where it cannot act, who changed another widget has not asked for it.
    """
    options: dict[str, object] = dict(widgets)
    said: list[str] = []
    method = options.get("method", "multistep")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(map(str, METHODS))}.")
    _fresh_noise(options)
    if options.get("corrector") == "unipc" and (method != "multistep" or options.get("eta")):
        said.append("corrector is unipc, which acts with method multistep and eta 0 only, so there is none in this run; set it to none.")
        options["corrector"] = "none"
    _slopes(options, said)
    for name, (methods, rest) in NEEDS.items():
        if method not in methods and (value := options.pop(name, rest)) != rest:
            where = f"{name} is {value}, which acts with method {' or '.join(map(str, methods))} only"
            raise ValueError(f"{where}; set it to {rest}, or method to {methods[0]}.")
    for name, rest in ADAPTIVE.items():
        if method != "adaptive" and (value := options.pop(name, rest)) != rest:
            said.append(f"{name} is {value}, which acts with method adaptive only, not with {method}.")
    for name in ("r1", "r2", "safety"):
        if options.get(name) == 0:
            del options[name]
    threshold = _threshold(options, said)
    half = _statistics(options, said)
    said += idle(options).values()
    if method == "adaptive":
        if options.get("algorithm") == V3:
            raise ValueError(f"algorithm is {V3}, which is a multistep solver; set method to multistep, or algorithm to dpmsolver.")
        for name in ("start", "final_rule", "s_noise"):
            options.pop(name, None)
        from ..solvers.adaptive import walk_adaptive

        run = walk_adaptive(VE, torch.zeros(1), 8.0, 1.0, **{k: v for k, v in options.items() if k != "method"})  # type: ignore[arg-type]
        next(run)
        run.close()
    else:
        from ..solvers.presets import plan

        plan(VE, (8.0, 4.0, 2.0, 1.0), **options)  # type: ignore[arg-type]
    return options | threshold | half, said


def _fresh_noise(options: dict[str, object]) -> None:
    """Says all that has to change for `eta` under an algorithm without an SDE form: one after the other they would be three errors."""
    eta, algorithm = options.get("eta"), options.get("algorithm")
    if not eta or algorithm not in NO_NOISE or options.get("method") == "adaptive":
        return
    wrong = [name for name, known in NOISY.items() if options.get(name, known[0]) not in known]
    what = [f"algorithm {algorithm}", *(f"{name} {options[name]}" for name in wrong)]
    mend = ["algorithm to dpmsolver++", *(f"{name} to {NOISY[name][0]}" for name in wrong)]
    ems = "" if options.get("ems") is None else "disconnect ems, "
    raise ValueError(f"eta is {eta:g}, but {_listed(what)} know{'s' * (not wrong)} no fresh noise; {ems}set {_listed(mend)}, or eta to 0.")


def _listed(words: list[str]) -> str:
    """A, B and C."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _slopes(options: dict[str, object], said: list[str]) -> None:
    """Turns the widget `slopes` into the option: "auto", also where there is no widget, means measured for what the preset auto is made
    of, so that other solvers stay those of the papers."""
    slopes, method, algorithm = options.get("slopes", SLOPES[0]), options.get("method", "multistep"), options.get("algorithm")
    if slopes not in SLOPES:
        raise ValueError(f"slopes is {slopes!r}; choose one of {', '.join(SLOPES)}.")
    able = method == "multistep" and not options.get("eta") and algorithm != V3
    if slopes == "auto":
        slopes = "planned"
        if able and all(options.get(name) == value for name, value in PRESETS["auto"].items() if name != "slopes"):
            slopes = "measured"
    elif slopes == "measured" and not able:
        what = f"method {method}" if method != "multistep" else f"eta {options['eta']:g}" if options.get("eta") else f"algorithm {V3}"
        said.append(f"slopes is measured, which does not act with {what}; set it to auto.")
        slopes = "planned"
    options["slopes"] = slopes


def _statistics(options: dict[str, object], said: list[str]) -> dict[str, object]:
    """Turns the widgets of DPM-Solver-v3 into the option `statistics`, and returns what of them waits for the model."""
    ems, std, reach = options.pop("ems", None), options.pop("data_std", DATA_STD), options.pop("corrector_range", "full")
    is_v3, corrector = options.get("algorithm") == V3, options.get("corrector", "none")
    if reach not in CORRECTOR_RANGE:
        raise ValueError(f"corrector_range is {reach!r}; choose one of {', '.join(CORRECTOR_RANGE)}.")
    if not 0 < std < float("inf"):
        raise ValueError(f"data_std is {std:g}; type a number above 0, 1 for normalised latents.")
    if ems is not None and not is_v3:
        raise ValueError(f"ems is connected, but algorithm is {options.get('algorithm')}; set algorithm to {V3}, or disconnect ems.")
    if is_v3 and ems is not None:
        options["statistics"] = ems
    elif is_v3 and std != DATA_STD:
        from ..solvers.statistics import Statistics

        options["statistics"] = Statistics.closed_form(std)
    if std != DATA_STD and (ems is not None or not is_v3):
        said.append(f"data_std is {std:g}, which acts with algorithm {V3} without ems only.")
    if reach == "full":
        return {}
    if corrector == "none":
        said.append(f"corrector_range is {reach}, but corrector is none, so there is nothing to limit.")
    return {"corrector_range": reach}


def _threshold(options: dict[str, object], said: list[str]) -> dict[str, object]:
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
                said.append(f"{name} is {value:g}, which acts with thresholding only; thresholding is off.")
        return {}
    return {"thresholding": kind, "threshold_ratio": ratio, "threshold_max": least}
