"""The runs of a comparison: each with its own count of model calls, its time, and its distance from the end that all of them go to."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import numpy as np
import torch

from ..solvers.choices import PRESETS
from .adapter import sample
from .tuned_sampler import Proxy

MOST_ROWS, MOST_COLUMNS, MOST_STEPS = 12, 8, 1000
REFERENCE = "dpm_auto_ext"  # the sampler and the scheduler of the run that stands for the end
NOISY = ("sde", "ancestral", "ddpm", "lcm", "seeds", "sa_solver", "cfg_pp", "euler_pp")  # parts of names whose runs go to no common end
# samplers that KSampler runs on steps + 1 levels without the last but one
DISCARD = frozenset(getattr(comfy.samplers.KSampler, "DISCARD_PENULTIMATE_SIGMA_SAMPLERS", ()))


@dataclass(frozen=True)
class Row:
    """A sampler to compare: its label, the SAMPLER, the scheduler's name, whether it goes to the end of the ODE, and whether KSampler
    leaves the last level but one of its schedule out."""

    label: str
    sampler: Any
    scheduler: str
    steady: bool
    discard: bool = False

    def sigmas(self, model_sampling, steps: int) -> torch.Tensor:
        """The levels, (steps + 1,), on which KSampler runs it."""
        levels = comfy.samplers.calculate_sigmas(model_sampling, self.scheduler, steps + self.discard)
        return torch.cat([levels[:-2], levels[-1:]]) if self.discard else levels


@dataclass(frozen=True)
class Cell:
    """One run: `picture` float32 (height, width, 3) in 0…1; `error` is the rms distance from the reference in the model's own latent
    scale, None without one or where the sampler adds noise."""

    row: str
    steps: int
    calls: int
    seconds: float
    error: float | None
    picture: np.ndarray


def rows_of(text: str, sampler=None) -> list[Row]:
    """The rows that the widget `samplers` names, then the connected SAMPLER. ValueError, one sentence, for what there is none of."""
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
        steady = not any(part in name for part in NOISY)
        rows.append(Row(f"{name} + {scheduler}", comfy.samplers.sampler_object(name), scheduler, steady, name in DISCARD))
    if sampler is not None:
        scheduler = rows[0].scheduler if rows else REFERENCE
        rows.append(Row(f"connected sampler + {scheduler}", sampler, scheduler, _steady(sampler)))
    if not 1 <= len(rows) <= MOST_ROWS:
        raise ValueError(f"samplers has {len(rows)} rows; write 1 to {MOST_ROWS}, such as dpm_auto_ext + dpm_auto_ext.")
    return rows


def _steady(sampler) -> bool:
    """Whether a connected SAMPLER goes to the end of the ODE: by its name, as rows of the list, and by its own noise."""
    from .tune_choice import name_of
    from .tuned_sampler import unwrapped

    if not hasattr(sampler, "sampler_function"):
        return False
    options = unwrapped(sampler)[1]
    return not (options.get("eta") or options.get("s_churn") or any(part in name_of(sampler) for part in NOISY))


def counts_of(text: str) -> list[int]:
    """The numbers of steps that the widget `steps` holds. ValueError, one sentence, for what is none."""
    counts = []
    for word in text.replace(",", " ").split():
        if not word.isdecimal() or not 1 <= len(word) <= 4 or not 1 <= int(word) <= MOST_STEPS:
            raise ValueError(f"steps has {word[:40]!r}; write whole numbers from 1 to {MOST_STEPS} with commas between, such as 6, 10, 20.")
        counts.append(int(word))
    if not 1 <= len(counts) <= MOST_COLUMNS:
        raise ValueError(f"steps has {len(counts)} numbers; write 1 to {MOST_COLUMNS}, such as 6, 10, 20.")
    return counts


def compare(
    model, positive, negative, latent, cfg: float, seed: int, rows: Sequence[Row], counts: Sequence[int], reference: int, vae=None
) -> list[Cell]:
    """Run all of them, row by row, from the same noise. Cancel ends it, as any sampling. The host's bar counts steps."""
    if latent["samples"].is_nested:
        raise ValueError("latent_image is a nest of several latents (video with sound); samplers can be compared on single ones only.")
    start = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    noise = comfy.sample.prepare_noise(start, seed, latent.get("batch_index"))
    total = reference + len(rows) * sum(counts)
    bar, done = comfy.utils.ProgressBar(total), 0

    def run(row: Row, steps: int):
        nonlocal done
        calls, sampler = 0, row.sampler

        def counted(wrapped, x, sigmas, extra_args=None, callback=None, disable=None, **options):
            def predict(state, sigma, **kwargs):
                nonlocal calls
                calls += 1
                return wrapped(state, sigma, **kwargs)

            inner = sampler.sampler_function
            return inner(Proxy(wrapped, predict), x, sigmas, extra_args=extra_args, callback=callback, disable=disable, **options)

        def advance(step, x0, x, of):
            bar.update_absolute(min(done + step + 1, total), total)

        how = sampler
        if hasattr(sampler, "sampler_function"):
            how = comfy.samplers.KSAMPLER(counted, dict(sampler.extra_options), dict(sampler.inpaint_options))
        sigmas = row.sigmas(model.get_model_object("model_sampling"), steps)
        began = time.perf_counter()
        out = comfy.sample.sample_custom(
            model, noise, cfg, how, sigmas, positive, negative, start, noise_mask=latent.get("noise_mask"), callback=advance,
            disable_pbar=True, seed=seed,
        )  # fmt: skip
        done += steps
        return out, calls, time.perf_counter() - began

    comfy.model_management.load_models_gpu([model])  # so that the first row is not charged for it
    last = Row("reference", comfy.samplers.KSAMPLER(sample, dict(PRESETS["auto"])), REFERENCE, True)
    end = run(last, reference)[0] if reference else None
    cells = []
    for row in rows:
        for steps in counts:
            out, calls, seconds = run(row, steps)
            error = None if end is None or not row.steady else _distance(model, out, end)
            cells.append(Cell(row.label, steps, calls, seconds, error, _picture(model, out, vae)))
    return cells


def _distance(model, out: torch.Tensor, end: torch.Tensor) -> float:
    """rms over the whole batch, in the scale in which the model sees latents."""
    into = model.model.process_latent_in
    return float((into(out.double()) - into(end.double())).pow(2).mean().sqrt())


def _picture(model, out: torch.Tensor, vae) -> np.ndarray:
    """The first picture of a batch, or the first frame of it."""
    if vae is not None:
        image = vae.decode(out[:1])
        return image.reshape(-1, *image.shape[-3:])[0, ..., :3].float().clamp(0, 1).cpu().numpy()
    import latent_preview

    known = model.model.latent_format
    factors = getattr(known, "latent_rgb_factors", None)
    x0 = model.model.process_latent_in(out[:1].float())
    if factors is None or x0.ndim not in (4, 5):
        flat = x0.reshape(x0.shape[0], -1)[0]
        side = max(1, int(len(flat) ** 0.5))
        grey = flat[: side * side].reshape(side, side, 1).repeat(1, 1, 3)
        return ((grey - grey.min()) / (grey.max() - grey.min() + 1e-9)).cpu().numpy()
    shown = latent_preview.Latent2RGBPreviewer(
        factors, getattr(known, "latent_rgb_factors_bias", None), getattr(known, "latent_rgb_factors_reshape", None)
    ).decode_latent_to_preview(x0)
    return np.asarray(shown.convert("RGB"), dtype=np.float32) / 255


def table(cells: Sequence[Cell]) -> str:
    """The numbers in Markdown, a row for each sampler: error, model calls and seconds."""
    counts = list(dict.fromkeys(cell.steps for cell in cells))
    measured = any(cell.error is not None for cell in cells)
    lines = ["| | " + " | ".join(f"{n} steps" for n in counts) + " |", "| --- |" + " --- |" * len(counts)]
    for row in dict.fromkeys(cell.row for cell in cells):
        own = [cell for cell in cells if cell.row == row]
        lines.append(f"| {row} | " + " | ".join(figures(cell, measured) for cell in own) + " |")
    return "\n".join(lines)


def figures(cell: Cell, measured: bool) -> str:
    """What a run cost and, if some were `measured`, how far it came, in a few words."""
    error = f"error {cell.error:.3f}, " if cell.error is not None else "an end of its own, " * measured
    return f"{error}{cell.calls} call{'s' * (cell.calls != 1)}, {cell.seconds:.1f} s"
