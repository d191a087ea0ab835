"""The samplers of the WebUI's lists: what each is in words of `solvers.presets.plan`, and what the host has to know of it."""

from dataclasses import dataclass, field

from ..solvers.choices import FAMILY, PRESETS


@dataclass(frozen=True)
class Entry:
    """One entry. The host counts `calls` model calls a step (prompt editing and the refiner follow that count), so no option may change
    it. `scheduler` is what its schedule type "Automatic" means; `discard` leaves out the level before 0, as its built-in namesake does.
    """

    name: str
    solver: dict[str, object] = field(hash=False)
    scheduler: str = "karras"
    calls: int = 1
    discard: bool = False

    @property
    def adaptive(self) -> bool:
        return self.solver.get("method") == "adaptive"

    @property
    def noisy(self) -> bool:
        return bool(self.solver.get("eta"))

    @property
    def host_options(self) -> dict[str, object]:
        """The options of the host's SamplerData; "brownian_noise" makes the host pass its noise_sampler, one path a seed."""
        flags = {"second_order": self.calls == 2, "brownian_noise": self.noisy, "discard_next_to_last_sigma": self.discard}
        return {"scheduler": self.scheduler, **{name: True for name, on in flags.items() if on}}


def _single(algorithm: str, order: int) -> dict[str, object]:
    return {"algorithm": algorithm, "order": order, "method": "singlestep_fixed"}


ENTRIES = (
    Entry("DPM-Solver auto (ext)", PRESETS["auto"], scheduler="dpm_auto_ext"),
    Entry("DPM-Solver++ 2M (ext)", PRESETS["dpmpp_2m"]),
    Entry("DPM-Solver++ 3M (ext)", PRESETS["dpmpp_3m"]),
    Entry("DPM-Solver++ 2S (ext)", _single("dpmsolver++", 2), calls=2),
    Entry("DPM-Solver++ 3S (ext)", _single("dpmsolver++", 3), calls=3),
    Entry("DPM-Solver++ 2M SDE (ext)", FAMILY["dpmpp_2m_sde"], scheduler="exponential"),
    Entry("DPM-Solver++ 3M SDE (ext)", FAMILY["dpmpp_3m_sde"], scheduler="exponential", discard=True),
    Entry("DPM-Solver++ SDE (ext)", FAMILY["dpmpp_sde"], calls=2),
    Entry("DPM-Solver-2 (ext)", _single("dpmsolver", 2), calls=2),
    Entry("DPM-Solver-3 (ext)", _single("dpmsolver", 3), calls=3),
    Entry("DPM-Solver fast (ext)", FAMILY["dpm_fast"]),
    Entry("DPM-Solver adaptive (ext)", FAMILY["dpm_adaptive"]),
    Entry("UniPC (ext)", FAMILY["unipc"]),
    Entry("DPM-Solver-v3 (ext)", FAMILY["dpm_solver_v3"]),
)
BY_NAME = {entry.name: entry for entry in ENTRIES}
