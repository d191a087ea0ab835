"""What a tuning may cost, counted as `tune_schedule` counts it: told, and held against the budget, before anything is paid."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..solvers.tune import ROUNDS
from ..solvers.tune_run import FEW, Solver, calls_of, lowest_budget

MOST = 33  # model calls a step: what makes more follows no schedule


def calls_of_pairs(solvers: Mapping[str, Solver], starts: Mapping[str, Sequence[float]], x: Any) -> dict[str, int]:
    """{solver + schedule: model calls of a run} on states as x (K, ...), counted without the model. ValueError, one sentence, for a sampler
    that comes to no end: whether one follows a schedule is seen later, when the model is called."""
    return {f"{s} + {k}": calls_of(x, _bounded(s, solver), sigmas) for s, solver in solvers.items() for k, sigmas in starts.items()}


def price(
    budget: int, *, seeds: int, held_out: int, solvers: int, known: int, steps: int, calls: int, reference_calls: int, gains: bool
) -> int:
    """The most model calls of one picture that a tuning makes: `budget`, or for 0 what a thorough search needs. `calls`: of the longest run
    of a pair. ValueError, one sentence, for a budget that is not enough."""
    tried = known + (solvers - 1) * min(FEW, known)
    costs = seeds, held_out, tried, calls, reference_calls, gains, solvers
    least = lowest_budget(*costs)
    if 0 < budget < least:
        raise ValueError(
            f"budget is {budget}; {seeds} seeds at {steps} steps need {least} model calls at least, so raise it to that, set it to 0, or "
            "lower seeds."
        )
    return budget or lowest_budget(*costs, ROUNDS)


def _bounded(name: str, solver: Solver) -> Solver:
    def run(denoise, x, sigmas):
        steps, made = len(sigmas) - 1, [0]

        def counted(state, sigma):
            made[0] += 1
            if made[0] > MOST * steps:
                raise ValueError(
                    f"sampler {name} makes more than {MOST * steps} model calls in {steps} steps; connect one that follows a schedule."
                )
            return denoise(state, sigma)

        return solver(counted, x, sigmas)

    return run
