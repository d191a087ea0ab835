"""The runs of a comparison: each with its own count of model calls, its time, and its distance from the end that all of them go to."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import numpy as np
import torch

from ..solvers.choices import PRESETS
from .adapter import sample
from .compare_rows import REFERENCE, SAME, Row
from .tuned_sampler import Proxy


@dataclass(frozen=True)
class Cell:
    """One run: `picture` float32 (height, width, 3) in 0…1; `error` is the rms distance from the reference in the model's own latent
    scale, None without one, where the sampler adds noise and where it starts at another noise level."""

    row: str
    steps: int
    calls: int
    seconds: float
    error: float | None
    picture: np.ndarray


@dataclass(frozen=True)
class Run:
    """What came of one run: the latents, the model calls that it made, and its seconds."""

    out: torch.Tensor
    calls: int
    seconds: float


class Bench:
    """Runs of any samplers on one model, with the same prompts and from the same noise; the host's bar counts `total` steps of all of
    them, and Cancel ends it, as any sampling. `final`: see `Row.sigmas`."""

    def __init__(self, model, positive, negative, latent, cfg: float, seed: int, total: int, final: str = "zero"):
        if latent["samples"].is_nested:
            raise ValueError("latent_image is a nest of several latents (video with sound); samplers can be compared on single ones only.")
        self.model, self.prompts, self.cfg, self.seed, self.final = model, (positive, negative), cfg, seed, final
        self.start = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
        self.noise = comfy.sample.prepare_noise(self.start, seed, latent.get("batch_index"))
        self.mask = latent.get("noise_mask")
        self.total, self.done, self.bar = total, 0, comfy.utils.ProgressBar(total)
        comfy.model_management.load_models_gpu([model])  # so that the first run is not charged for it

    def sigmas(self, row: Row, steps: int) -> torch.Tensor:
        return row.sigmas(self.model.get_model_object("model_sampling"), steps, self.final)

    def run(self, row: Row, steps: int) -> Run:
        """One row at one number of steps."""
        calls, sampler = 0, row.sampler

        def counted(wrapped, x, sigmas, extra_args=None, callback=None, disable=None, **options):
            def predict(state, sigma, **kwargs):
                nonlocal calls
                calls += 1
                return wrapped(state, sigma, **kwargs)

            inner = sampler.sampler_function
            return inner(Proxy(wrapped, predict), x, sigmas, extra_args=extra_args, callback=callback, disable=disable, **options)

        def advance(step, x0, x, of):
            self.bar.update_absolute(min(self.done + step + 1, self.total), self.total)

        how = sampler
        if hasattr(sampler, "sampler_function"):
            how = comfy.samplers.KSAMPLER(counted, dict(sampler.extra_options), dict(sampler.inpaint_options))
        sigmas = self.sigmas(row, steps)
        began = time.perf_counter()
        out = comfy.sample.sample_custom(
            self.model, self.noise, self.cfg, how, sigmas, *self.prompts, self.start, noise_mask=self.mask, callback=advance,
            disable_pbar=True, seed=self.seed,
        )  # fmt: skip
        self.done += steps
        return Run(out, calls, time.perf_counter() - began)

    def reference(self, steps: int) -> torch.Tensor:
        """The end that all samplers go to, as this pack's default comes to it in many `steps`."""
        return self.run(reference_row(), steps).out

    def distance(self, out: torch.Tensor, end: torch.Tensor) -> float:
        """rms over the whole batch, in the scale in which the model sees latents."""
        into = self.model.model.process_latent_in
        return float((into(out.double()) - into(end.double())).pow(2).mean().sqrt())


def reference_row() -> Row:
    """The default sampler of this pack with its own schedule."""
    return Row("reference", comfy.samplers.KSAMPLER(sample, dict(PRESETS["auto"])), REFERENCE, True)


def compare(
    model, positive, negative, latent, cfg: float, seed: int, rows: Sequence[Row], counts: Sequence[int], reference: int, vae=None
) -> list[Cell]:
    """Run all of them, row by row, from the same noise."""
    total = reference + sum(sum(row.counts(counts)) for row in rows)
    bench = Bench(model, positive, negative, latent, cfg, seed, total)
    end = bench.reference(reference) if reference else None
    top = float(bench.sigmas(reference_row(), max(reference, 1))[0])
    cells = []
    for row in rows:
        for steps in row.counts(counts):
            run = bench.run(row, steps)
            same = row.steady and math.isclose(float(bench.sigmas(row, steps)[0]), top, rel_tol=SAME)
            error = None if end is None or not same else bench.distance(run.out, end)
            cells.append(Cell(row.label, steps, run.calls, run.seconds, error, _picture(model, run.out, vae)))
    return cells


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
        own = {cell.steps: figures(cell, measured) for cell in cells if cell.row == row}
        lines.append(f"| {row} | " + " | ".join(own.get(n, "") for n in counts) + " |")
    return "\n".join(lines)


def figures(cell: Cell, measured: bool) -> str:
    """What a run cost and, if some were `measured`, how far it came, in a few words."""
    error = f"error {cell.error:.3f}, " if cell.error is not None else "an end of its own, " * measured
    return f"{error}{cell.calls} call{'s' * (cell.calls != 1)}, {cell.seconds:.1f} s"
