"""What a run of DPM_Solver_v3 does, on the host: its times, snapped or not, the statistics along them, and the tape."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .multistep import plan_multistep
from .official_ems import evenly
from .official_grid import Timeline
from .official_run import time_in
from .statistics import Statistics
from .tape import Tape

RHO = 7  # of skip_type "edm" (arXiv 2206.00364, eq. 5)


@dataclass
class Plans:
    """The arguments of DPM_Solver_v3, checked; `statistics` or the official `arrays` (l, s, b). Remembers the tapes it made."""

    statistics: Statistics | None
    arrays: Sequence[np.ndarray] | None
    steps: int
    t_start: float | None
    t_end: float | None
    skip_type: str
    degenerated: bool
    exact: bool
    indexes: Sequence[int] | None
    _tapes: dict[tuple, Tape] = field(default_factory=dict)

    def tape(
        self, line: Timeline, order: int, solver_type: str, corrector: str, half: bool, lower_order_final: bool
    ) -> tuple[Tape, dict[float, float]]:
        """(the run as a checked tape, the time of each of its sigmas). Same arguments, same tape."""
        times = self._times(line)
        # which also finds the path; the official code asks for the noise levels of its evaluations at float32 times
        sigmas = line.sigmas(times if self.exact else times.astype(np.float32))
        key = (line.path.name, sigmas, order, solver_type, corrector, half, lower_order_final)
        if key not in self._tapes:
            reach = (0.0, np.inf)
            if half and corrector != "none":
                acting = [s for s, t in zip(sigmas, times, strict=True) if (t > 0.5) != self.exact]
                reach, corrector = ((min(acting), max(acting)), corrector) if acting else (reach, "none")
            self._tapes[key] = plan_multistep(
                line.path, sigmas, algorithm="dpmsolver-v3", statistics=self._along(line.path.half_logsnr, sigmas), order=order,
                solver_type=solver_type, corrector=corrector, corrector_range=reach, start="corrected" if self.exact else "official",
                final_rule=("smooth" if self.exact else "official") if lower_order_final else "none",
            )  # fmt: skip
        return self._tapes[key], dict(zip(sigmas, times.tolist(), strict=True))

    def _times(self, line: Timeline) -> np.ndarray:
        """The steps + 1 times of the run."""
        start, end = time_in("t_start", self.t_start, line.T, line.T), time_in("t_end", self.t_end, 1.0 / line.total_N, line.T)
        if start <= end:
            raise ValueError(f"t_start is {start:g} and t_end {end:g}; sampling goes back in time, so t_start must be the larger one.")
        first, last = line.ask("marginal_lambda", [start, end])
        if not np.isfinite([first, last]).all() and (self.arrays is not None or self.skip_type == "edm"):
            raise ValueError(f"From t_start to t_end λ goes from {first:g} to {last:g}; no even steps lead there, so start later.")
        if self.skip_type == "edm":
            noise = np.linspace(np.exp(-first / RHO), np.exp(-last / RHO), self.steps + 1)
            times = line.ask("inverse_lambda", -RHO * np.log(noise)).copy()
            times[0], times[-1] = start, end
        else:
            times = line.grid(self.skip_type, start, end, self.steps)
        if self.exact or self.arrays is None:
            return times
        points = len(self.arrays[0]) - 1
        places = points * (line.ask("marginal_lambda", times) - first) / (last - first)
        index = np.floor(places + 0.5 + 1e-9) if self.indexes is None else np.array(self.indexes)
        if (np.diff(index) < 1).any():
            raise ValueError(
                f"steps is {self.steps}, but two of them fall on one of the {points + 1} points of the statistics; "
                "take fewer steps, another skip_type, or exact=True."
            )
        return line.ask("inverse_lambda", first + (last - first) * index / points)

    def _along(self, half_logsnr: Callable[[float], float], sigmas: tuple[float, ...]) -> Statistics:
        """The statistics of a run along `sigmas`."""
        if self.statistics is not None and not self.degenerated:
            return self.statistics
        arrays, ends = self.arrays, (half_logsnr(sigmas[0]), half_logsnr(sigmas[-1]))
        if self.degenerated:
            one = np.ones(2 if arrays is None else len(arrays[0]))
            arrays, ends = (one, 0 * one, 0 * one), ends if arrays is not None else (-1.0, 1.0)  # constant: any λ
        assert arrays is not None
        return evenly(arrays, *ends, on_grid=not self.exact, constant=self.degenerated)
