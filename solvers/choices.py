"""The solvers by name and the values of their options: what a host's lists need when it starts, long before anything is planned."""

import math

PRESETS: dict[str, dict[str, object]] = {
    "auto": {"algorithm": "dpmsolver-v", "order": 2, "corrector": "unipc", "slopes": "measured"},
    "dpmpp_2m": {"algorithm": "dpmsolver++", "order": 2, "start": "official"},
    "dpmpp_3m": {"algorithm": "dpmsolver++", "order": 3},
}
# The papers' other solvers by the names that users of the hosts know.
FAMILY: dict[str, dict[str, object]] = {
    "dpmpp_2s": {"algorithm": "dpmsolver++", "order": 2, "method": "singlestep"},
    "dpmpp_3s": {"algorithm": "dpmsolver++", "order": 3, "method": "singlestep"},
    "dpm_fast": {"algorithm": "dpmsolver", "order": 3, "method": "singlestep"},
    "dpm_adaptive": {"algorithm": "dpmsolver", "order": 3, "method": "adaptive"},  # the one that is no tape: see `adaptive`
    "unipc": {"algorithm": "dpmsolver++", "order": 2, "corrector": "unipc"},
    "dpmpp_2m_sde": {"algorithm": "dpmsolver++", "order": 2, "start": "official", "eta": 1.0},
    "dpmpp_3m_sde": {"algorithm": "dpmsolver++", "order": 3, "start": "official", "eta": 1.0},
    "dpmpp_sde": {"algorithm": "dpmsolver++", "order": 2, "method": "singlestep_fixed", "eta": 1.0, "noise_rule": "ancestral"},
    "dpm_solver_v3": {"algorithm": "dpmsolver-v3", "order": 2, "corrector": "unipc"},
}

FORM = {"dpmsolver++": "x0", "dpmsolver": "eps", "dpmsolver-v": "v", "dpmsolver-v3": "f"}
CHOICES: dict[str, tuple[object, ...]] = {
    "algorithm": tuple(FORM),
    "order": (1, 2, 3, 4),
    "method": ("multistep", "singlestep", "singlestep_fixed"),
    "solver_type": ("dpmsolver", "taylor", "official", "bh1", "official_taylor", "pseudo"),
    "start": ("corrected", "official", "extra"),
    "final_rule": ("smooth", "official", "none"),
    "corrector": ("none", "unipc", "official", "v3", "v3_pseudo"),
    "slopes": ("planned", "measured"),
    "noise_rule": ("sde", "ancestral", "renoise", "renoise_flow"),
}


def check_options(**options: object) -> None:
    """One ValueError sentence, naming the option, the value and the choices, if any of them is out of range."""
    for name, value in options.items():
        if name in ("eta", "s_noise"):
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value!r}; type a number from 0 up, 1 is the papers' value.")
        elif name in ("r1", "r2"):
            if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1):
                raise ValueError(f"{name} is {value!r}; a stage lies inside its step, so type a number between 0 and 1.")
        elif name not in CHOICES:
            raise ValueError(f"{name} is no option; the options are {', '.join(CHOICES)}, eta, s_noise, r1, r2.")
        elif value not in CHOICES[name] or isinstance(value, float):
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(str, CHOICES[name]))}.")
