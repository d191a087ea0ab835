"""What the nodes that compare samplers are asked for: rows of samplers and numbers of steps, read from their widgets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.samplers
import torch

MOST_ROWS, MOST_COLUMNS, MOST_STEPS = 12, 8, 1000
REFERENCE = "dpm_auto_ext"  # the sampler and the scheduler of the run that stands for the end
NOISY = ("sde", "ancestral", "ddpm", "lcm", "seeds", "sa_solver", "cfg_pp", "euler_pp")  # parts of names whose runs go to no common end
# samplers that KSampler runs on steps + 1 levels without the last but one
DISCARD = frozenset(getattr(comfy.samplers.KSampler, "DISCARD_PENULTIMATE_SIGMA_SAMPLERS", ()))
SAME = 1e-4  # noise levels that differ by less, of their size, are one


@dataclass(frozen=True)
class Row:
    """A sampler to compare: its label, the SAMPLER, the scheduler's name, whether it goes to the end of the ODE, whether KSampler leaves
    the last level but one of its schedule out, and, in place of the scheduler, `levels` of its own, (steps + 1,)."""

    label: str
    sampler: Any
    scheduler: str
    steady: bool
    discard: bool = False
    levels: torch.Tensor | None = None

    def counts(self, asked: Sequence[int]) -> list[int]:
        """The numbers of steps that it runs at, of those `asked` for."""
        return list(asked) if self.levels is None else [len(self.levels) - 1]

    def sigmas(self, model_sampling, steps: int, final: str = "zero") -> torch.Tensor:
        """The levels, (steps + 1,), on which KSampler runs it; with `final` sigma_min they end at the model's least level instead of 0."""
        if self.levels is not None:
            return self.levels

        def of(count: int) -> torch.Tensor:
            levels = comfy.samplers.calculate_sigmas(model_sampling, self.scheduler, count + self.discard)
            return torch.cat([levels[:-2], levels[-1:]]) if self.discard else levels

        return of(steps) if final == "zero" else _to(float(model_sampling.sigma_min), of, steps)


def _to(least: float, of: Callable[[int], torch.Tensor], steps: int) -> torch.Tensor:
    """`of(steps)` in as many steps to the level `least`; schedules that visit it before 0 are taken one step longer, without their 0."""
    levels = of(steps)
    if steps > 1 and float(levels[-2]) <= least * (1 + SAME):
        levels = of(steps + 1)[:-1]
    return torch.cat([levels[:-1], levels.new_tensor([least])])


def rows_of(text: str, sampler=None, sigmas=None) -> list[Row]:
    """The rows that the widget `samplers` names, then what is connected: a SAMPLER with the scheduler of the first row, SIGMAS with the
    sampler of the first row, or one with the other. ValueError, one sentence, for what there is none of."""
    rows = []
    for line in (line.strip() for line in text.replace(",", "\n").splitlines()):
        if not line:
            continue
        name, plus, scheduler = (part.strip() for part in line.partition("+"))
        scheduler = scheduler if plus else "normal"
        for what, value, known in (
            ("sampler", name, comfy.samplers.SAMPLER_NAMES), ("scheduler", scheduler, comfy.samplers.SCHEDULER_NAMES)
        ):  # fmt: skip
            if value not in known:
                raise ValueError(
                    f"samplers has the line {line[:80]!r}, but there is no {what} {value[:80]!r}; write names of KSampler's lists."
                )
        steady, label = not any(part in name for part in NOISY), f"{name} + {scheduler}"
        if all(row.label != label for row in rows):
            rows.append(Row(label, comfy.samplers.sampler_object(name), scheduler, steady, name in DISCARD))
    if sampler is not None or sigmas is not None:
        rows.append(_connected(rows, sampler, sigmas))
    if not 1 <= len(rows) <= MOST_ROWS:
        raise ValueError(f"samplers has {len(rows)} rows; write 1 to {MOST_ROWS}, such as dpm_auto_ext + dpm_auto_ext.")
    return rows


def _connected(rows: Sequence[Row], sampler, sigmas) -> Row:
    """The row of a connected SAMPLER, of connected SIGMAS, or of both."""
    scheduler = rows[0].scheduler if rows else REFERENCE
    name, steady = "connected sampler", True
    if sampler is None:
        if not rows:
            raise ValueError("samplers is empty, and sigmas is connected without a sampler; connect the sampler that they are for.")
        sampler, steady, name = rows[0].sampler, rows[0].steady, rows[0].label.partition(" + ")[0]
    else:
        steady = _steady(sampler)
    if sigmas is None:
        return Row(f"{name} + {scheduler}", sampler, scheduler, steady)
    levels = sigmas.flatten().float().cpu()
    if not 2 <= len(levels) <= MOST_STEPS + 1 or not bool(torch.isfinite(levels).all()) or not bool((levels[1:] < levels[:-1]).all()):
        raise ValueError(
            f"sigmas has {len(levels)} levels that are not 2 to {MOST_STEPS + 1} falling ones; connect those of a scheduler, or of Tune "
            "Schedule (ext)."
        )
    return Row(f"{name} + connected sigmas", sampler, "", steady and float(levels[-1]) == 0, levels=levels)


def _steady(sampler) -> bool:
    """Whether a connected SAMPLER goes to the end of the ODE: by its name, as rows of the list, and by its own noise."""
    from .tune_choice import name_of
    from .tuned_sampler import unwrapped

    if not hasattr(sampler, "sampler_function"):
        return False
    options = unwrapped(sampler)[1]
    return not (options.get("eta") or options.get("s_churn") or any(part in name_of(sampler) for part in NOISY))


def counts_of(text: str, example: str = "6, 10, 20") -> list[int]:
    """The numbers of steps that the widget `steps` holds. ValueError, one sentence, for what is none."""
    counts = []
    for word in text.replace(",", " ").split():
        if not word.isdecimal() or not 1 <= len(word) <= 4 or not 1 <= int(word) <= MOST_STEPS:
            raise ValueError(f"steps has {word[:40]!r}; write whole numbers from 1 to {MOST_STEPS} with commas between, such as {example}.")
        counts += [int(word)] * (int(word) not in counts)
    if not 1 <= len(counts) <= MOST_COLUMNS:
        raise ValueError(f"steps has {len(counts)} numbers; write 1 to {MOST_COLUMNS}, such as {example}.")
    return counts
