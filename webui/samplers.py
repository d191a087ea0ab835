"""Our entries in the host's list of samplers.

The host's classes are looked up when we register: A1111, Forge and reForge have the same names for them, and each its own code behind.
"""

from typing import Any

from .entries import ENTRIES, Entry


def register(version: str) -> None:
    """Add our entries to the host's list, in the place of those that an earlier load left there (Reload UI runs scripts anew in the same
    process). Nothing of the host or of others is changed; its maps are looked up at every use, because Forge rebinds them."""
    from modules import sd_samplers  # the host's

    data_class, sampler_class = _classes()
    fresh = {entry.name: _data(data_class, sampler_class, entry, version) for entry in ENTRIES}
    listed = sd_samplers.all_samplers
    for i in reversed(range(len(listed))):
        name = listed[i].name
        if name in fresh and fresh[name] is not None:
            listed[i], fresh[name] = fresh[name], None
        elif name in fresh or _ours(listed[i]):  # a duplicate, or an entry of an older version that is no more
            del listed[i]
            if name not in fresh:
                sd_samplers.all_samplers_map.pop(name, None)
    listed += [data for data in fresh.values() if data is not None]
    for data in listed:
        if data.name in fresh:
            sd_samplers.all_samplers_map[data.name] = data
    sd_samplers.set_samplers()
    forget_lookups()


def forget_lookups() -> None:
    """The host keeps answers to (sampler, schedule type) for ever, also those from before our entries were there."""
    from modules import sd_samplers

    clear = getattr(getattr(sd_samplers, "get_sampler_and_scheduler", None), "cache_clear", None)
    if clear is not None:
        clear()


def _ours(data: Any) -> bool:
    """Also of an earlier load: its class is another one of the same name."""
    return type(data).__module__ == __name__


def _data(data_class: Any, sampler_class: Any, entry: Entry, version: str) -> Any:
    # no aliases: the API and the X/Y/Z plot silently take the first sampler of the list for them
    return data_class(entry.name, lambda model: sampler_class(entry, version, model), [], entry.host_options)


def _classes() -> tuple[Any, Any]:
    """(our SamplerData, our sampler), made from the host's."""
    import modules
    import torch
    from modules import sd_samplers_common, sd_samplers_kdiffusion, shared

    from ..solvers.hosting import ending_at
    from . import adapter, files, infotext, schedules, tuned
    from .foreign import say
    from .measure import WORK
    from .options import NO_FILE, options_of

    class ExtSamplerData(sd_samplers_common.SamplerData):
        """The host's, which knows one or two model calls a step, and third-order singlestep solvers."""

        def total_steps(self, steps):
            entry = next((e for e in ENTRIES if e.name == self.name), None)
            return steps * entry.calls if entry is not None else super().total_steps(steps)

    class ExtSampler(sd_samplers_kdiffusion.KDiffusionSampler):
        """One run of one entry; the host makes a new one for each pass."""

        def __init__(self, entry: Entry, version: str, model: Any):
            super().__init__(self._solve, model)
            self.entry, self.version = entry, version
            self.extra_params = []  # ours do not travel as the host's do: their names would meet those of its own settings

        def get_sigmas(self, p, steps):
            """The host's schedule, which may end at the model's least noise."""
            make = self._schedule
            if options_of(p, self.entry)["final_sigma"] == "zero" or steps < 1:
                return make(p, steps)
            sigmas = make(p, steps)
            ended = ending_at(lambda n: (sigmas if n == steps else make(p, n)).tolist(), steps, float(self.model_wrap.sigmas[0]))
            return torch.tensor(ended, dtype=sigmas.dtype)

        def _schedule(self, p, steps):
            """Tuned steps, or the host's; where it has no list of schedule types, "Automatic" can still mean one of ours."""
            if (name := options_of(p, self.entry).get("tuned", NO_FILE)) != NO_FILE and steps > 0:
                sigmas, note = tuned.levels(name, steps, self.model_wrap)
                if note:
                    say(p, note)
                return torch.tensor(sigmas, dtype=torch.float32)
            ours = schedules.SCHEDULES.get(self.entry.scheduler)
            automatic = getattr(shared.opts, "k_sched_type", "Automatic") == "Automatic"  # the setting of hosts without the list
            if ours is None or hasattr(modules, "sd_schedulers") or not automatic or p.sampler_noise_scheduler_override:
                return super().get_sigmas(p, steps)
            table = self.model_wrap.sigmas
            return schedules.function(ours[1])(steps, table[0], table[-1], self.model_wrap)

        def initialize(self, p):
            """Called before each pass. What a script raises the host swallows; what this raises, it shows."""
            arguments = super().initialize(p)
            self.values = options_of(p, self.entry)
            for option, read in (("statistics", files.statistics), ("tuned", files.tuned)):
                if (name := self.values.get(option, NO_FILE)) != NO_FILE:
                    read(name)  # a missing file is said before anything is written
            infotext.write(p, self.version, self.values)
            return arguments

        def create_noise_sampler(self, x, sigmas, p):
            """The host's, which cannot be made for image to image of strength 0, where nothing is done."""
            return super().create_noise_sampler(x, sigmas, p) if bool((sigmas > 0).any()) else None

        def _solve(self, model, x, sigmas, extra_args=None, callback=None, disable=None, noise_sampler=None):
            if (work := getattr(self.p, WORK, None)) is not None:  # a calibration or a tuning, see `measure`
                return work(model, x, extra_args or {})
            return adapter.run(
                self.entry, self.values, model, x, sigmas, extra_args, callback, disable, noise_sampler, seeds_of(self.p, x.shape[0])
            )

    return ExtSamplerData, ExtSampler


def seeds_of(p: Any, batch: int) -> list[int] | None:
    """The seeds of this batch's items, as the host's own noise sampler takes them; None where a script made `p` without them."""
    seeds, size = getattr(p, "all_seeds", None), getattr(p, "batch_size", batch)
    if seeds is None:
        return None
    first = getattr(p, "iteration", 0) * size
    mine = list(seeds[first : first + size])
    return mine if len(mine) == batch else None
