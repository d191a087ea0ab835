"""Our entries in the host's list of schedule types."""

from typing import Any

from ..solvers import schedule

# name: (label, function of (steps, path, sigma_max, sigma_min, clock)); no entry of the sampler list may end in " " and a label or a name,
# or the host would cut it off
SCHEDULES = {
    "dpm_auto_ext": ("DPM auto", lambda n, path, top, low, clock: schedule.auto(path, n, top, low, clock)),
    "dpm_logsnr_ext": ("DPM logSNR", lambda n, path, top, low, clock: schedule.log_snr(path, n, top, low, clock)),
    "dpm_time_uniform_ext": ("DPM time uniform", lambda n, path, top, low, clock: schedule.time_uniform(n, top, low, clock)),
    "dpm_time_quadratic_ext": ("DPM time quadratic", lambda n, path, top, low, clock: schedule.time_uniform(n, top, low, clock, power=2)),
}


def register() -> bool:
    """Add them, or put them in the place of those of an earlier load. False where the host has no list of schedule types."""
    try:
        from modules import sd_schedulers  # the host's; older ones have none
    except ImportError:
        return False
    listed = sd_schedulers.schedulers
    for name, (label, levels) in SCHEDULES.items():
        entry = sd_schedulers.Scheduler(name, label, function(levels), need_inner_model=True, aliases=[])
        places = [i for i, other in enumerate(listed) if other.name == name]
        if places:
            listed[places[0]] = entry
            for i in reversed(places[1:]):
                del listed[i]
        else:
            listed.append(entry)
        sd_schedulers.schedulers_map[name] = sd_schedulers.schedulers_map[label] = entry
    return True


def function(levels: Any) -> Any:
    """f(n, sigma_min, sigma_max, inner_model, device) -> n + 1 sigmas, float32, the last 0. `inner_model` is the host's denoiser, which
    tells the path and the model's clock."""

    def schedule_type(n, sigma_min, sigma_max, inner_model, device="cpu"):
        import torch

        from .adapter import path_of, time_map_of

        n = int(n)
        if n < 1:  # image to image of strength 0: as with the host's own, nothing is done
            return torch.zeros(1, device=device)
        sigmas = levels(n, path_of(inner_model), float(sigma_max), float(sigma_min), time_map_of(inner_model))
        return torch.tensor(sigmas, dtype=torch.float32, device=device)

    return schedule_type
