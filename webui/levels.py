"""Schedule types on the loaded model, to look at."""

import sys
import types
from typing import Any

from . import schedules
from .options import BadOption

WITHOUT = "No loaded checkpoint could be asked for its noise levels: these are Stable Diffusion's."


WAITING = "The chosen checkpoint is loaded with the next picture: these are the noise levels of the one before."


def waiting() -> str:
    """A sentence where the host, Forge, has not loaded the chosen checkpoint yet; else ""."""
    data = getattr(sys.modules.get("modules.sd_models"), "model_data", None)
    chosen, held = str(getattr(data, "forge_loading_parameters", None)), getattr(data, "forge_hash", "")
    return WAITING if held and chosen != held else ""


def loaded_wrap() -> tuple[Any, str]:
    """(the host's denoiser of the loaded model, ""), or a stand-in with Stable Diffusion's table and a sentence."""
    try:
        from modules import sd_samplers, shared  # the host's

        from .measure import SAMPLER

        wrap = sd_samplers.create_sampler(SAMPLER, shared.sd_model).model_wrap
        float(wrap.sigmas[-1])
        return wrap, ""
    except Exception:  # nothing is loaded, in whatever way the host has it
        import torch

        from ..solvers.schedule import sd_time_map

        clock = sd_time_map()
        table = torch.tensor([clock(i / 999) for i in range(1000)])
        return types.SimpleNamespace(sigmas=table), WITHOUT


def levels_of_types(labels: list[str], steps: int) -> tuple[dict[str, list[float]], Any, str]:
    """({label: falling sigmas of `steps` steps}, the denoiser, a sentence). BadOption, one sentence, for a label that is not there."""
    import torch

    wrap, note = loaded_wrap()
    note = note or waiting()
    try:
        from modules import sd_schedulers  # the host's; older ones have none

        known = {entry.label: entry for entry in sd_schedulers.schedulers}
    except ImportError:
        known = {}
    ours = {label: schedules.function(levels) for label, levels in schedules.SCHEDULES.values()}
    low, top, found = float(wrap.sigmas[0]), float(wrap.sigmas[-1]), {}
    for label in labels:
        if label in known and known[label].function is not None:
            make, inner = known[label].function, known[label].need_inner_model
        elif label in ours:
            make, inner = ours[label], True
        else:
            raise BadOption(f"Schedule types to draw has {label!r}, which is no schedule type here; choose from the list.")
        try:
            sigmas = make(n=steps, sigma_min=low, sigma_max=top, **({"inner_model": wrap} if inner else {}), device=torch.device("cpu"))
        except (AttributeError, TypeError) as error:  # of a host's own, which asks more of a model than the stand-in has
            raise BadOption(
                f"Schedule types to draw has {label!r}, which needs a loaded checkpoint ({error}); load one, or leave it out."
            ) from error
        found[label] = [float(s) for s in sigmas]
    return found, wrap, note
