"""Whether a file fits this run: what it says that it was made for, against what this run has."""

from collections.abc import Mapping
from typing import Any

from ..solvers.hosting import log
from .model import checkpoint_of, networks_of, prediction_of, range_of_model

NEAR = 0.01  # relative: hosts round a model's noise levels in ways of their own


def say(p: Any, sentence: str) -> None:
    """Warn in the console and, where the host has comments, under the picture."""
    log.warning("DPM-Solver (ext): %s", sentence)
    comment = getattr(p, "comment", None)
    if callable(comment):
        comment(f"DPM-Solver (ext): {sentence}")


def warn(made: Mapping[str, str], what: str, done: str, mend: str, model: Any, extra_args: Mapping[str, Any]) -> None:
    """One sentence in every run whose checkpoint, LoRAs, guidance, prediction type or noise levels are not those of the file; one where
    it does not say them in our words, as files from ComfyUI do not."""
    scale, p = extra_args.get("cond_scale"), getattr(model, "p", None)
    now = {
        "checkpoint": checkpoint_of(),
        "LoRAs": networks_of(p),
        "guidance": None if scale is None else f"{float(scale):g}",
        "prediction type": prediction_of(model.inner_model),
        "sigma range": range_of_model(model.inner_model),
    }
    other = [name for name, value in now.items() if value is not None and name in made and not _same(name, made[name], value)]
    if other:
        mine, yours = (", ".join(f"{name} {words[name]}" for name in other) for words in (made, now))
        say(p, f"{what} were {done} for {mine}, but this run has {yours}; {mend} for this use, or expect less.")
    elif "checkpoint" not in made and now["checkpoint"] is not None:
        say(p, f"{what} do not say for which checkpoint of this WebUI, and which LoRAs, they were {done}; see to it that it is this one.")


def _same(name: str, made: str, now: str) -> bool:
    if name != "sigma range":
        return made == now
    try:
        pairs = list(zip(*([float(word) for word in text.split(" to ")] for text in (made, now)), strict=True))
    except ValueError:
        return True  # of a host with other words for it
    return all(abs(a - b) <= NEAR * abs(b) for a, b in pairs)
