"""The options of the accordion, of the API and of the X/Y/Z axes: one table, and the check that every run makes.

Positions in `OPTIONS` are the arguments of the API and of saved requests: new ones go to the end, none is removed or moved.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..solvers.choices import CHOICES
from ..solvers.folders import EMS, TUNED
from .entries import Entry

ATTRIBUTE = "dpm_solver_ext"  # on the host's processing object: {option name: value} from the accordion or the API
AXES = "dpm_solver_ext_axes"  # likewise from the X/Y/Z plot, which goes before
NO_FILE = "none"
FILES = {"statistics": EMS, "tuned": TUNED}  # options whose values are files, and their folders


class BadOption(ValueError):
    """A value that cannot be used: the UI shows its sentence, the API answers with HTTP status 422."""

    def __init__(self, sentence: str):
        super().__init__(sentence)
        self.status_code, self.detail = 422, sentence  # the API looks into vars() of the exception


@dataclass(frozen=True)
class Option:
    """One option: a choice of texts, or a number from `least` to `most`."""

    name: str
    label: str
    default: str | float
    info: str
    choices: tuple[str, ...] = ()
    least: float = 0.0
    most: float = math.inf
    step: float = 0.01

    @property
    def key(self) -> str:
        """Its name in the infotext; the host's own grammar knows letters, digits, blanks, - and / there."""
        return "DPM-Solver " + self.name.replace("_", " ")

    @property
    def said(self) -> str:
        """What sentences call it: as the page has it, and as the API."""
        return f"{self.label} ({self.name})"

    def check(self, value: Any) -> Any:
        """`value` as text or float. BadOption, one sentence, if it is none of the choices or outside the range."""
        if isinstance(self.default, str):
            if self.choices and value not in self.choices:
                raise BadOption(f"{self.said} is {value!r}; choose one of {', '.join(self.choices)}.")
            if not isinstance(value, str):
                raise BadOption(f"{self.said} is {value!r}; give a text, {self.default!r} as a rule.")
            return value
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not self.least <= value <= self.most:
            raise BadOption(f"{self.said} is {value!r}; type a number from {self.least:g} to {self.most:g}, {self.default:g} as a rule.")
        return float(value)

    def acts(self, entry: Entry, thresholding: object) -> bool:
        """Whether a run of `entry` can depend on it, with this value of the option thresholding; the others are hidden, not used and not
        in the infotext."""
        solver = entry.solver
        if self.name in ("threshold_ratio", "threshold_max"):
            return thresholding != "off"
        if self.name == "final_rule":
            return solver.get("method", "multistep") == "multistep"
        if self.name == "solver_type":
            return solver["algorithm"] != "dpmsolver-v"
        if self.name in ("eta", "s_noise"):
            return entry.noisy
        if self.name == "statistics":
            return solver["algorithm"] == "dpmsolver-v3"
        if self.name in ("rtol", "atol"):
            return entry.adaptive
        if self.name == "tuned":
            return not entry.adaptive
        return True


OPTIONS = (
    Option(
        "final_rule", "Order of the last steps", "smooth", choices=tuple(map(str, CHOICES["final_rule"])),
        info="How the last steps are kept from overshooting. smooth: lower order where a step is far longer than the one before. official: "
        "lower order in runs below 10 steps. none: the pure formula.",
    ),
    Option(
        "solver_type", "Solver type", "dpmsolver", choices=tuple(map(str, CHOICES["solver_type"])),
        info="Leave it, unless you match another program. dpmsolver: as the papers (midpoint of the SDE samplers, bh2 of UniPC). taylor: "
        "heun of the SDE samplers. bh1: UniPC's other one. official, official_taylor: the official third-order weights. pseudo: v3 only.",
    ),
    Option(
        "thresholding", "Dynamic thresholding", "off", choices=("off", "dynamic_in_latent_space"),
        info="Made for models that paint pixels. In a latent space, as here, it brings every prediction within -1…1, which mutes colours "
        "and contrast: a rescue for a burnt CFG at most.",
    ),
    Option(
        "threshold_ratio", "Thresholding: share kept", 0.995, least=0.01, most=1.0, step=0.001,
        info="With thresholding: the share of values that are not clipped. Lower it if colours still burn out.",
    ),
    Option(
        "threshold_max", "Thresholding: least size", 1.0, least=0.01, most=100.0, step=0.01,
        info="With thresholding: predictions below this size are not clipped; then all are divided by what they were clipped to.",
    ),
    Option(
        "eta", "Fresh noise (eta)", 1.0, least=0.0, most=2.0, step=0.05,
        info="How much of the noise is replaced by fresh noise on the way. 1: the SDE samplers as they are known, for 20 steps and more. "
        "0: none, the picture follows from the seed's first noise alone.",
    ),
    Option(
        "s_noise", "Size of the fresh noise (s_noise)", 1.0, least=0.5, most=1.5, step=0.005,
        info="1 is right; 1.01 to 1.03 gives a little more texture, less smooths.",
    ),
    Option(
        "final_sigma", "Final noise level", "zero", choices=("zero", "sigma_min"),
        info="zero: the last step takes all noise away; right for pictures. sigma_min: the run ends at the least noise the model knows, "
        "and a little grain stays.",
    ),
    Option(
        "statistics", "Statistics for DPM-Solver-v3", NO_FILE,
        info="A calibration of your checkpoint, a file in models/dpm_ems. none: statistics in closed form; then UniPC is nearly always "
        "better.",
    ),
    Option(
        "rtol", "Relative tolerance", 0.05, least=0.0001, most=1.0, step=0.001,
        info="The error allowed in a step, relative to the picture's values; it, not the steps slider, sets the time a picture takes. "
        "Half of it costs about a quarter more.",
    ),
    Option(
        "atol", "Absolute tolerance", 0.0078, least=0.0001, most=1.0, step=0.0001,
        info="The error that is always allowed. 0.0078 is one grey level of 256 where values lie in -1…1.",
    ),
    Option(
        "tuned", "Tuned steps", NO_FILE,
        info="Steps that were fitted to your checkpoint, a file in models/dpm_tuned, in place of the schedule type; the tab DPM-Solver "
        "(ext) finds them. Best with the sampler, the CFG and the number of steps that they were tuned for.",
    ),
)  # fmt: skip
BY_NAME = {option.name: option for option in OPTIONS}


def labelled(sentence: str) -> str:
    """A sentence of the library that begins with an option's name, with its label."""
    name = sentence.partition(" is ")[0]
    return BY_NAME[name].said + sentence[len(name) :] if name in BY_NAME else sentence


def given(args: Sequence[Any]) -> dict[str, Any]:
    """{name: value} of a script's arguments, in the order of `OPTIONS`; or of one mapping in their place, with names, as the API may give
    it (the host fills up with its defaults). Not checked here: the host swallows what its scripts raise."""
    if args and isinstance(args[0], Mapping):
        return dict(args[0])
    return {option.name: value for option, value in zip(OPTIONS, args, strict=False)}


def options_of(p: Any, entry: Entry) -> dict[str, Any]:
    """{name: value}, checked, of the options that act in a run of `entry` for the host's processing object `p`.

    All values are checked, also those that do not act. BadOption, one sentence that names the option.
    """
    values = {**getattr(p, ATTRIBUTE, {}), **getattr(p, AXES, {})}
    unknown = next((name for name in values if name not in BY_NAME), None)
    if unknown is not None:
        raise BadOption(f"{unknown} is no option of DPM-Solver (ext); its options are {', '.join(BY_NAME)}.")
    checked = {option.name: option.check(values.get(option.name, option.default)) for option in OPTIONS}
    return {name: value for name, value in checked.items() if BY_NAME[name].acts(entry, checked["thresholding"])}
