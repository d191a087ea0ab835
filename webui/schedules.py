"""Our entries in the host's list of schedule types: made by formula, published tables, and files of tuned steps."""

from typing import Any

from ..solvers import schedule
from ..solvers.folders import TUNED


def _table(name: str) -> Any:
    def levels(n, path, top, low, _clock):
        from ..solvers.hosting import tell
        from ..solvers.path import FLOW
        from ..solvers.tables import TABLES, table  # not needed until one is asked for

        home, made_for, *_ = TABLES[name]
        if (path is FLOW) is not (home is FLOW):
            tell(
                f"the schedule type is a table for {made_for}, but this model is {'a' if path is FLOW else 'no'} flow model; its levels "
                "are taken at the same signal-to-noise ratio and gain nothing, so choose DPM auto."
            )
        return table(name, n, path, top, low)

    return levels


# name: (label, function of (steps, path, sigma_max, sigma_min, clock)); no entry of the sampler list may end in " " and a label or a name,
# or the host would cut it off
SCHEDULES = {
    "dpm_auto_ext": ("DPM auto", lambda n, path, top, low, clock: schedule.auto(path, n, top, low, clock)),
    "dpm_logsnr_ext": ("DPM logSNR", lambda n, path, top, low, clock: schedule.log_snr(path, n, top, low, clock)),
    "dpm_time_uniform_ext": ("DPM time uniform", lambda n, path, top, low, clock: schedule.time_uniform(n, top, low, clock)),
    "dpm_time_quadratic_ext": ("DPM time quadratic", lambda n, path, top, low, clock: schedule.time_uniform(n, top, low, clock, power=2)),
    "dpm_ays_sd15_ext": ("DPM AYS SD 1.5", _table("ays_sd15")),
    "dpm_ays_sdxl_ext": ("DPM AYS SDXL", _table("ays_sdxl")),
    "dpm_gits_ext": ("DPM GITS SD 1.5", _table("gits_sd15")),
    "dpm_oss_flux_ext": ("DPM OSS FLUX", _table("oss_flux")),
    "dpm_oss_chroma_ext": ("DPM OSS Chroma", _table("oss_chroma")),
}
FILE, LABEL = "dpm_tuned_ext ", "DPM tuned "  # and the file's name without its ending


def register(loading: bool = True) -> bool:
    """Add them, or put them in the place of those of an earlier load. While the host is `loading`, those of files that are gone go: later
    the page still has them, and the host would silently take another in their place. False where the host has no list of schedule types."""
    try:
        from modules import sd_schedulers  # the host's; older ones have none
    except ImportError:
        return False
    listed, known = sd_schedulers.schedulers, sd_schedulers.schedulers_map
    entries = {name: (label, function(levels)) for name, (label, levels) in SCHEDULES.items()} | _of_files()
    for old in [other for other in listed if loading and other.name.startswith(FILE) and other.name not in entries]:
        listed.remove(old)
        known.pop(old.name, None)
        known.pop(old.label, None)
    for name, (label, levels) in entries.items():
        entry = sd_schedulers.Scheduler(name, label, levels, need_inner_model=True, aliases=[])
        places = [i for i, other in enumerate(listed) if other.name == name]
        if places:
            listed[places[0]] = entry
            for i in reversed(places[1:]):
                del listed[i]
        else:
            listed.append(entry)
        known[name] = known[label] = entry
    from .samplers import forget_lookups

    forget_lookups()
    return True


def _of_files() -> dict[str, tuple[str, Any]]:
    """{name: (label, schedule type)} of the files of tuned steps that are there now: without gains, for every sampler of the host."""
    from . import files

    return {FILE + file: (LABEL + file.removesuffix(TUNED.suffix), _tuned(file)) for file in files.listed(TUNED)}


def _tuned(file: str) -> Any:
    def schedule_type(n, sigma_min, sigma_max, inner_model, device="cpu"):
        import torch

        from ..solvers.hosting import tell
        from .tuned import levels

        if int(n) < 1:
            return torch.zeros(1, device=device)
        sigmas, note = levels(file, int(n), inner_model)
        if note:
            tell(note)
        return torch.tensor(sigmas, dtype=torch.float32, device=device)

    return schedule_type


def function(levels: Any) -> Any:
    """f(n, sigma_min, sigma_max, inner_model, device) -> n + 1 sigmas, float32, the last 0. `inner_model` is the host's denoiser, which
    tells the path and the model's clock."""

    def schedule_type(n, sigma_min, sigma_max, inner_model, device="cpu"):
        import torch

        from .model import path_of, time_map_of

        n = int(n)
        if n < 1:  # image to image of strength 0: as with the host's own, nothing is done
            return torch.zeros(1, device=device)
        sigmas = levels(n, path_of(inner_model), float(sigma_max), float(sigma_min), time_map_of(inner_model))
        return torch.tensor(sigmas, dtype=torch.float32, device=device)

    return schedule_type
