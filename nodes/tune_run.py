"""A tuning inside ComfyUI's own sampling: the model, its patches, its conditioning and the sampler are what a picture would get."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.sample
import comfy.samplers
import torch

from ..solvers.choices import PRESETS
from ..solvers.keep import Keeper, words_of_levels
from ..solvers.schedule import auto
from ..solvers.tables import table
from ..solvers.tune import State, Tuned, tune_schedule
from ..solvers.tune_file import BY_BUDGET, ENDED, STOPPED, save_state, save_tuned
from ..solvers.tune_run import calls_of
from ..solvers.tune_so_far import so_far
from ..solvers.tune_space import start_levels
from ..solvers.tune_use import is_paid
from . import adapter, ems_files
from .ems_model import code_of, describe
from .long_run import Pace, batch_of, halving
from .page import Live
from .schedules import of_model
from .tune import MODES
from .tune_choice import Choice, adds_noise, choices_of, name_of, sampler_code, without_noise
from .tune_code import refuse_scheduled_hooks, thing_code
from .tune_cost import calls_of_pairs, price
from .tune_host import Guider, Host, check_foreign
from .tune_live import best_steps
from .tune_live import outcome as came_out
from .tune_store import held, nothing_better, save_stopped, words_of

log = logging.getLogger("dpm_solver_ext")
REFERENCE = 50  # steps of what is called converged; more where more are tuned
# known schedules that a search may start from
KNOWN = {
    "ve": ("dpm_auto_ext", "karras", "beta", "sgm_uniform", "ays_sd15", "normal", "ays_sdxl"),
    "flow": ("dpm_auto_ext", "beta", "simple", "sgm_uniform", "oss_chroma", "normal"),
}


def known_schedules(sampling, steps: int) -> dict[str, list[float]]:
    """The schedules of the host's list, and published tables, that have `steps` falling steps from the model's sigma_max to 0."""
    path, top, low, _, _ = of_model(sampling)
    discrete = any(c.__name__ == "ModelSamplingDiscrete" for c in type(sampling).__mro__)
    found: dict[str, list[float]] = {}
    for name in KNOWN["flow" if path.name == "flow" else "ve"]:
        if name in comfy.samplers.SCHEDULER_HANDLERS:
            try:
                levels = comfy.samplers.calculate_sigmas(sampling, name, steps).tolist()
            except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError):  # this host's schedule is not for this model
                continue
        elif path.name != "flow" and not discrete:
            continue
        else:
            levels = table(name, steps, path, top, low)
        falls = len(levels) == steps + 1 and all(a > b for a, b in zip(levels, levels[1:], strict=False))
        if falls and levels[-1] == 0 and abs(levels[0] / top - 1) < 0.01 and levels[-2] > 0.9 * low:
            try:
                path.validate(levels)
            except ValueError:
                continue
            found[name] = levels
    return found


def held_out_of(seeds: int) -> int:
    """How many of the pictures judge what came out: as many as it takes to see 5 % less error, on the demo model at CFG 7.5. Fewer than 16
    to tune on overfit there."""
    return seeds // 2


@torch.no_grad()
def tune(
    model, positives: Sequence[Any], negative, cfg: float, latent: dict, sampler, *, steps: int, mode: str, seeds: int, seed: int,
    budget: int, name: str, show: Callable[[str], None] | None = None,
) -> tuple[Tuned, dict[str, Choice], dict[str, list[float]], Path, dict[str, str], int]:  # fmt: skip
    """Tune `steps` steps of the SAMPLER on `model` as SamplerCustom would run it, on empty latents of the size of `latent`.

    (tuned, choices by name, known schedules, the file, its metadata, model calls made). The file is `name` with a code of all settings but
    `budget`: what is there already is not tuned again, unless the budget ended it and there is more now. What is measured is kept when the
    run is interrupted or fails. `show(text)` is told how far it is, about once a second.
    """
    if latent["samples"].is_nested:
        raise ValueError("latent_image is a nest of several latents (video with sound); steps can be tuned on single ones only.")
    empty = comfy.sample.fix_empty_latent_channels(model, torch.zeros_like(latent["samples"][:1]))
    shape = tuple(empty.shape[1:])
    sampling = model.get_model_object("model_sampling")
    path, top, low, clock, _ = of_model(sampling)
    if adds_noise(sampler):
        mode = MODES[0]
    refuse_scheduled_hooks([c for conds in (*positives, negative) for c in conds])
    choices = choices_of(sampler, mode, path.name == "flow")
    known, gains, fine = known_schedules(sampling, steps), mode != MODES[0], max(REFERENCE, 2 * steps)
    if not known:
        raise ValueError(f"steps is {steps}, for which no known schedule fits this model; choose another number.")
    held_out = held_out_of(seeds)
    settings = describe(model, cfg) | {
        "noise": path.name, "sigma range": f"{low:.6g} to {top:.6g}", "sigma_min": f"{low:.9g}", "steps": str(steps), "tune": mode,
        "sampler": name_of(sampler) + (", without its noise" if adds_noise(sampler) else ""),
        "seeds": f"{seeds} from {seed}, {held_out} of them kept out of the search", "size": "×".join(map(str, shape)),
        "prompts": f"{len(positives)} #{thing_code([*positives, negative])}", "solver options": sampler_code(choices),
    }  # fmt: skip
    file = ems_files.TUNED.place(name, code_of(settings))
    fine_levels = auto(path, fine, top, low, clock)
    levels = known | {"the reference": fine_levels}
    old, part = held(file, settings, levels)
    live, range_of_search = Live(path), {"sigma_max": top, "sigma_min": low}
    if old is not None and is_paid(*old, budget):
        if old[0].solver not in choices:
            raise ValueError(f"file_name leads to {file.name}, which is for {old[0].solver:.80}; choose another name, or remove the file.")
        paid = old[0]
        live(lambda: came_out(paid, choices, sampling), final=True)
        return paid, choices, known, file, old[1], 0
    state, kept_for = part or State(), settings | words_of_levels(levels)
    made, begun, ends = 0, dict(state.searches), [len(state.reference)]
    outcome: list[Tuned] = []
    calls: dict[str, int] = {}
    paces: list[Pace] = []  # one, from when the model is loaded and what it will cost is known
    with Keeper(state if part else None, file, lambda content, path: save_state(content, path, kept_for)) as keep, ExitStack() as stack:

        def report(state: State) -> None:
            before, ends[0] = ends[0], len(state.reference)
            keep.content = state if state.reference else None
            keep(now=ends[0] > before)  # after each batch of the reference: most of what there is to lose
            (pace,) = paces
            pace(min(state.evaluations, pace.total), lambda left: _progress(state, seeds, pace.total, left))
            live(lambda: best_steps(state, path, sampling, choices, known, range(seeds - held_out), range_of_search))
            management.throw_exception_if_processing_interrupted()

        def run(wrapped, x, sigmas_of_run, extra_args=None, callback=None, disable=None):
            nonlocal made
            extra_args, guider = dict(extra_args or {}), wrapped.inner_model
            host = Host(wrapped, guider, extra_args, len(positives), x.device)
            # all of them stay in the host's memory: for a video model they would take a good part of the device
            noise = torch.cat([comfy.sample.prepare_noise(empty, seed + i) for i in range(seeds)]).to("cpu", x.dtype)
            at = torch.tensor(top, dtype=torch.float32)
            start = guider.inner_model.model_sampling.noise_scaling(at, noise, torch.zeros_like(noise), True)
            solvers = {key: host.solver(choice.function, without_noise(choice)) for key, choice in choices.items()}
            reference = host.solver(adapter.sample, dict(PRESETS["auto"]))
            calls.update(calls_of_pairs(solvers, {k: start_levels(sigmas, path, top) for k, sigmas in known.items()}, start))

            def check() -> None:
                for key, choice in choices.items():
                    if choice.function is not adapter.sample and not state.reference:
                        host.begin([0])
                        three = next(iter(known_schedules(sampling, 3).values()), None)
                        if three is None:
                            raise ValueError(f"sampler {key} cannot be checked, as no known schedule fits this model; connect one of ours.")
                        check_foreign(key, host, choice, state, start[:1], three)

            try:
                total = price(
                    budget, seeds=seeds, held_out=held_out, solvers=len(solvers), known=len(known), steps=steps, calls=max(calls.values()),
                    reference_calls=calls_of(start, reference, fine_levels), gains=gains,
                )  # fmt: skip
            except ValueError:
                if max(calls.values()) > 2 * steps:
                    check()  # one that chooses its own steps is told of that, not what it would cost
                raise
            ems_files.check_writable(file)
            log.info(
                "DPM-Solver (ext): tuning %d steps of %s on %s: at most %s model calls of one picture, %s of them done before.",
                steps, ", ".join(choices), settings["model"], f"{total:,}", f"{state.evaluations:,}",
            )  # fmt: skip
            paces.append(stack.enter_context(Pace(total, state.evaluations, "call", "tuning", show)))
            try:
                check()
                outcome.append(halving(
                    lambda batch: tune_schedule(
                        host.denoise, path, solvers, steps, x=start, sigma_max=top, sigma_min=low, time_map=clock, known=known,
                        gains=gains, held_out=held_out, reference=reference, reference_steps=fine, budget=total, batch=batch,
                        begin=host.begin, state=state, report=report,
                    ), min(seeds, batch_of(model, shape, x.device)), "tuning",
                ))  # fmt: skip
                return x
            finally:
                made = host.made

        def keep_best(cancelled: bool) -> None:
            if not paces:
                return
            best = so_far(state, path, choices, known, samples=range(seeds - held_out), **range_of_search)
            if best is not None:
                said = save_stopped(best, file, words_of(best, settings, budget, STOPPED, choices, known, state, calls), old)
            elif cancelled:
                said = nothing_better(file, old, bool(state.reference))
            else:
                return
            log.info("DPM-Solver (ext): %s", said)
            paces[0].say(said)

        guider = Guider(model)
        guider.inner_set_conds(
            {"positive": positives[0], "negative": negative} | {f"positive_{k}": p for k, p in enumerate(positives) if k}
        )
        guider.set_cfg(cfg)
        visited = torch.tensor(next(iter(known.values())), dtype=torch.float32)
        try:
            guider.sample(torch.zeros_like(empty), empty, comfy.samplers.KSAMPLER(run), visited, disable_pbar=True, seed=seed)
        except BaseException as error:  # Cancel above all: the node returns nothing, so the best so far is a file
            try:
                keep_best(isinstance(error, management.InterruptProcessingException))
            except Exception as problem:  # the user must read of what ended the run, not of this
                log.warning("DPM-Solver (ext): the best so far could not be saved: %s", problem)
            raise
        tuned = outcome[0]
        final = all(search[1] for key, search in state.searches.items() if search is not begun.get(key))  # of this run, or ended before
        words = words_of(tuned, settings, budget, ENDED if final else BY_BUDGET, choices, known, state, calls)
        save_tuned(tuned, file, words)
        keep.finish(final)
        paces[0].end(f"{state.evaluations:,} model calls, done")
        live(lambda: came_out(tuned, choices, sampling), final=True)
    return tuned, choices, known, file, words, made


def _progress(state: State, seeds: int, total: int, left: str) -> str:
    now = "painting the references" if len(state.reference) < seeds else "trying known schedules"
    if state.best:
        now = f"error {state.best[0][1]:.3g} → {state.best[-1][1]:.3g}"
    return f"{min(state.evaluations, total):,} of at most {total:,} model calls, at most {left} left, {now}"
