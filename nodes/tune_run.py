"""A tuning inside ComfyUI's own sampling: the model, its patches, its conditioning and the sampler are what a picture would get."""

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.sample
import comfy.samplers
import comfy.utils
import numpy as np
import torch
from tqdm.auto import tqdm

from ..solvers.choices import PRESETS
from ..solvers.tables import table
from ..solvers.tune import ROUNDS, State, Tuned, lowest_budget, tune_schedule
from ..solvers.tune_file import load_state, load_tuned, save_state, save_tuned
from ..solvers.tune_run import FEW, PICKS
from . import adapter, ems_files
from .ems_model import code_of, describe, differences
from .ems_run import _batch
from .schedules import of_model
from .tune import MODES
from .tune_choice import Choice, adds_noise, choices_of, code_of_sampler, name_of, sampler_code, without_noise
from .tune_code import controls_of, refuse_scheduled_hooks, thing_code
from .tuned_sampler import Proxy

log = logging.getLogger("dpm_solver_ext")
REFERENCE = 50  # steps of what is called converged; more where more are tuned
# known schedules that a search may start from
KNOWN = {
    "ve": ("dpm_auto_ext", "karras", "beta", "sgm_uniform", "ays_sd15", "normal", "ays_sdxl"),
    "flow": ("dpm_auto_ext", "beta", "simple", "sgm_uniform", "oss_chroma", "normal"),
}
SEEDS = (7, 8)  # for the check whether a sampler adds noise


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
    """How many of the pictures judge what came out. Fewer than 16 to tune on overfit, on the demo model."""
    return max(4, seeds // 3)


class _Guider(comfy.samplers.CFGGuider):
    """The host's guidance with several positive prompts, of which `use(k)` chooses one for the calls that follow."""

    def inner_sample(self, noise, latent_image, device, *args, **kwargs):
        first, others = self.conds, []
        controls = list(controls_of([c for conds in first.values() for c in conds]))
        try:
            for key in [k for k in first if k.startswith("positive_")]:
                conds = {"positive": first.pop(key), "negative": [dict(c) for c in first["negative"]]}
                others.append(comfy.samplers.process_conds(
                    self.inner_model, noise, conds, device, latent_image, None, kwargs.get("seed", 0),
                    latent_shapes=kwargs.get("latent_shapes"),
                ))  # fmt: skip
            self.others = others
            return super().inner_sample(noise, latent_image, device, *args, **kwargs)
        finally:
            self.use(0)
            self.others = []
            for control in controls:  # the host cleans those of the first prompt only, and none after an exception
                control.cleanup()

    def use(self, k: int) -> None:
        """Guide by prompt k."""
        if not hasattr(self, "first"):
            self.first = self.conds
        self.conds = self.others[k - 1] if k else self.first


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

    def cost(rounds: int) -> int:
        tried = len(known) + (len(choices) - 1) * min(FEW, len(known))
        return lowest_budget(seeds, held_out, tried, steps, fine, gains, len(choices), rounds)

    settings = describe(model, cfg) | {
        "noise": path.name, "sigma range": f"{low:.6g} to {top:.6g}", "sigma_min": f"{low:.9g}", "steps": str(steps), "tune": mode,
        "sampler": name_of(sampler) + (", without its noise" if adds_noise(sampler) else ""),
        "seeds": f"{seeds} from {seed}", "size": "×".join(map(str, shape)),
        "prompts": f"{len(positives)} #{thing_code([*positives, negative])}", "solver options": sampler_code(choices),
    }  # fmt: skip
    file = ems_files.TUNED.place(name, code_of(settings))
    held, part = _held(file, settings)
    paid = held is not None and (held[1].get("budget") == "0" if budget == 0 else budget <= max(held[0].evaluations, _budget(held[1])))
    if held is not None and (_is_final(held[1]) or paid):
        if held[0].solver not in choices:
            raise ValueError(f"file_name leads to {file.name}, which is for {held[0].solver:.80}; choose another name, or remove the file.")
        return held[0], choices, known, file, held[1], 0
    if 0 < budget < cost(1):
        raise ValueError(
            f"budget is {budget}; {seeds} seeds at {steps} steps need {cost(1)} model calls at least, so set it to 0, or lower seeds."
        )
    total = budget or cost(ROUNDS)
    state = part or State()
    ems_files.check_writable(file)
    log.info(
        "DPM-Solver (ext): tuning %d steps of %s on %s: at most %s model calls of one picture, %s of them done before.",
        steps, ", ".join(choices), settings["model"], f"{total:,}", f"{state.evaluations:,}",
    )  # fmt: skip
    made, begun = 0, dict(state.searches)
    outcome: list[Tuned] = []
    with (
        _Keeper(state, file, settings) as keep,
        tqdm(total=total, initial=min(state.evaluations, total), unit="call", desc="tuning") as bar,
    ):
        pace = _Pace(comfy.utils.ProgressBar(total), bar, state.evaluations, total, show)

        def report(state: State) -> None:
            keep()
            pace(state)
            management.throw_exception_if_processing_interrupted()

        def run(wrapped, x, sigmas_of_run, extra_args=None, callback=None, disable=None):
            nonlocal made
            extra_args, guider = dict(extra_args or {}), wrapped.inner_model
            host = _Host(wrapped, guider, extra_args, len(positives))
            noise = torch.cat([comfy.sample.prepare_noise(empty, seed + i) for i in range(seeds)]).to(x)
            at = torch.tensor(top, dtype=torch.float32, device=x.device)
            start = guider.inner_model.model_sampling.noise_scaling(at, noise, torch.zeros_like(noise), True)
            solvers = {key: host.solver(choice.function, without_noise(choice)) for key, choice in choices.items()}
            try:
                if not state.reference:
                    for key, choice in choices.items():
                        if choice.function is not adapter.sample:
                            host.begin([0])
                            three = next(iter(known_schedules(sampling, 3).values()), None)
                            if three is None:
                                raise ValueError(
                                    f"sampler {key} cannot be checked, as no known schedule fits this model; connect one of ours."
                                )
                            check_foreign(key, host, choice, state, start[:1], three)
                batch = min(seeds, _batch(model, shape, x.device))
                while True:
                    try:
                        outcome.append(tune_schedule(
                            host.denoise, path, solvers, steps, x=start, sigma_max=top, sigma_min=low, time_map=clock, known=known,
                            gains=gains, held_out=held_out, reference=host.solver(adapter.sample, dict(PRESETS["auto"])),
                            reference_steps=fine, budget=budget or None, batch=batch, begin=host.begin, state=state, report=report,
                        ))  # fmt: skip
                        return x
                    except management.OOM_EXCEPTION as error:  # of old versions of torch: every exception
                        if batch == 1 or isinstance(error, (management.InterruptProcessingException, ValueError)):
                            raise
                        batch //= 2
                        log.warning("DPM-Solver (ext): not enough memory, so the tuning goes on with %d latents at once.", batch)
                    management.soft_empty_cache()
            finally:
                made = host.made

        guider = _Guider(model)
        guider.inner_set_conds(
            {"positive": positives[0], "negative": negative} | {f"positive_{k}": p for k, p in enumerate(positives) if k}
        )
        guider.set_cfg(cfg)
        visited = torch.tensor(next(iter(known.values())), dtype=torch.float32)
        guider.sample(torch.zeros_like(empty), empty, comfy.samplers.KSAMPLER(run), visited, disable_pbar=True, seed=seed)
        tuned = outcome[0]
        final = all(search[1] for key, search in state.searches.items() if search is not begun.get(key))  # of this run, or ended before
        words = settings | {"budget": str(budget), "search": "ended" if final else "ended by the budget"}
        chosen = choices[tuned.solver]
        words["plan"] = json.dumps(chosen.plain)
        words["solver code"] = code_of_sampler(comfy.samplers.KSAMPLER(chosen.function, chosen.options))
        keep.finish(tuned, words, final)
        pace.end(state)
    return tuned, choices, known, file, words, made


class _Host:
    """The wrapped model for `tune_schedule`: it counts, deals prompts over samples, and runs the host's samplers on `denoise`."""

    def __init__(self, wrapped, guider, extra_args: dict[str, Any], prompts: int):
        self.wrapped, self.guider, self.extra, self.prompts = wrapped, guider, extra_args, prompts
        self.ids, self.made = [0], 0

    def begin(self, ids: list[int]) -> None:
        self.ids = list(ids)

    def denoise(self, state: torch.Tensor, sigma: float) -> torch.Tensor:
        """x0 of states (b, ...) of the samples that `begin` was told; sample i has prompt i mod their number."""
        self.made += len(state)
        level = state.new_full([len(state)], sigma)
        if self.prompts == 1:
            return self.wrapped(state, level, **self.extra)
        out = torch.empty_like(state)
        for k in range(self.prompts):
            rows = [row for row, i in enumerate(self.ids) if i % self.prompts == k]
            if rows:
                self.guider.use(k)
                out[rows] = self.wrapped(state[rows], level[rows], **self.extra).to(out)
        return out

    def solver(self, function: Callable[..., Any], options: dict[str, Any], seed: int | None = None):
        """A SAMPLER's function as (denoise, x, sigmas) -> end state."""
        extra = self.extra if seed is None else self.extra | {"seed": seed}
        plain = _hooks(extra.get("model_options"))

        def run(denoise, x, sigmas):
            def predict(state, sigma, **kwargs):
                if _hooks(kwargs.get("model_options", extra.get("model_options"))) != plain:
                    raise ValueError(
                        "sampler is of the CFG++ kind, which looks into the guidance of each model call; connect its plain form."
                    )
                return denoise(state.clone(), float(sigma.flatten()[0])).clone()

            levels = torch.tensor(sigmas, dtype=torch.float32, device=x.device)
            options_of_model = extra.get("model_options", {})
            if "transformer_options" in options_of_model:  # some models look up where in the schedule they are
                options_of_model["transformer_options"]["sample_sigmas"] = levels
            return function(Proxy(self.wrapped, predict), x.clone(), levels, extra_args=dict(extra), callback=None, disable=True, **options)

        return run


def _hooks(options) -> int:
    """How many functions see each guided prediction."""
    return len((options or {}).get("sampler_post_cfg_function", ()))


def check_foreign(name: str, host: _Host, choice: Choice, state: State, x: torch.Tensor, levels: Sequence[float]) -> None:
    """ValueError, one sentence, for a sampler that adds noise or chooses its own steps; five model calls of one picture at one call a
    step, because calls at states that were there before are not made again."""
    seen: list[tuple[torch.Tensor, float, torch.Tensor]] = []

    def denoise(at, sigma):
        management.throw_exception_if_processing_interrupted()
        for old, level, x0 in seen:
            if level == sigma and torch.equal(old, at):
                return x0
        x0 = host.denoise(at, sigma)
        state.evaluations += 1
        seen.append((at, sigma, x0))
        if len(seen) > 100:
            raise ValueError(f"sampler {name} makes more than 100 model calls in 3 steps; connect one that follows a schedule.")
        return x0

    def end(sigmas, seed):
        with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
            torch.manual_seed(seed)
            return host.solver(choice.function, choice.options, seed)(denoise, x, sigmas)

    def same(a, b):
        return bool((a - b).abs().max() <= 1e-4 * a.abs().max())

    moved = list(levels)
    moved[1] = (levels[1] * levels[2]) ** 0.5
    first = end(levels, SEEDS[0])
    if not same(first, end(levels, SEEDS[1])):
        raise ValueError(f"sampler {name} adds noise of its own, so its steps have no one end to be tuned to; connect one without.")
    if same(first, end(moved, SEEDS[0])):
        raise ValueError(f"sampler {name} chooses its own steps and follows no schedule; connect another one.")


def _is_final(words: dict[str, str]) -> bool:
    return words.get("search") == "ended"


def _budget(words: dict[str, str]) -> int:
    text = words.get("budget", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _held(file: Path, settings: dict[str, str]) -> tuple[tuple[Tuned, dict[str, str]] | None, State | None]:
    """What is there of this tuning: its outcome, and what was measured for it. ValueError, one sentence, for files of other settings."""
    found: list[Any] = [None, None]
    for place, (path, load) in enumerate(((file, load_tuned), (ems_files.part_of(file), load_state))):
        if not path.is_file():
            continue
        try:
            found[place] = load(path)
        except ValueError as error:
            log.warning("DPM-Solver (ext): %s is not used and will be replaced: %s", path.name, error)
            continue
        words = found[place][1]
        made, _ = differences(words, settings)
        other = [k for k in settings if k != "weights" and words.get(k) != settings[k]]
        if made or other:
            what = made or ", ".join(f"{k} {words.get(k, 'unknown')}" for k in other)
            raise ValueError(f"file_name leads to {path.name}, which was made for {what:.300}; choose another name, or remove the file.")
    tuned, part = found
    if part is not None and any(len(a) != min(_size(settings), PICKS) for a in part[0].reference.values()):
        log.warning("DPM-Solver (ext): %s is not used and will be replaced: its reference has another size.", file.name)
        part = None
    if tuned is not None and len(tuned[0].sigmas) != int(settings["steps"]) + 1:
        raise ValueError(f"file_name leads to {file.name}, which has {len(tuned[0].sigmas) - 1} steps; choose another name.")
    return tuned, None if part is None else part[0]


def _size(settings: dict[str, str]) -> int:
    return int(np.prod([int(n) for n in settings["size"].split("×")]))


class _Keeper:
    """Writes what is measured to the part file every half minute and when the run is cut off, and the outcome to the file."""

    EVERY = 30.0  # seconds

    def __init__(self, state: State, file: Path, words: dict[str, str]):
        self.state, self.file, self.words, self.written, self.done = state, file, words, time.monotonic(), False

    def __enter__(self):
        return self

    def __call__(self) -> None:
        if time.monotonic() - self.written > self.EVERY:
            self._try()

    def finish(self, tuned: Tuned, words: dict[str, str], final: bool) -> None:
        """The outcome; what was measured is kept beside it where a higher budget could go on."""
        os.makedirs(self.file.parent, exist_ok=True)
        save_tuned(tuned, self.file, words)
        if final:
            ems_files.part_of(self.file).unlink(missing_ok=True)
        else:
            self._try()
        self.done = True

    def __exit__(self, kind, error, trace) -> None:
        if self.done or not self.state.reference:
            return
        try:
            self._write()
        except (OSError, ValueError) as problem:  # the user must read of what ended the run, not of this
            log.warning("DPM-Solver (ext): what was measured so far is lost, %s could not be written: %s", self.file, problem)

    def _try(self) -> None:
        try:
            self._write()
        except (OSError, ValueError) as problem:  # the disk may be full: the tuning goes on
            self.written = time.monotonic()
            adapter.tell(f"what is measured for {self.file.name} cannot be kept while the tuning goes on: {problem}.")

    def _write(self) -> None:
        os.makedirs(self.file.parent, exist_ok=True)
        save_state(self.state, ems_files.part_of(self.file), self.words)
        self.written = time.monotonic()


class _Pace:
    """Progress in model calls of one picture: the node's bar, the console's, and text with the error so far."""

    def __init__(self, node_bar, console_bar, done: int, total: int, show: Callable[[str], None] | None):
        self.node_bar, self.console_bar, self.first, self.total, self.show = node_bar, console_bar, done, total, show
        self.start = self.told = time.monotonic()

    def __call__(self, state: State) -> None:
        done = min(state.evaluations, self.total)
        self.console_bar.update(done - self.console_bar.n)
        self.node_bar.update_absolute(done, self.total)
        now = time.monotonic()
        if self.show is not None and now - self.told >= 1:
            self.told = now
            left = (now - self.start) / max(1, done - self.first) * (self.total - done)
            minutes, seconds = divmod(round(left), 60)
            error = f", error {state.best[0][1]:.3g} → {state.best[-1][1]:.3g}" if state.best else ""
            self.show(f"{done:,} of at most {self.total:,} model calls, at most {minutes}:{seconds:02} left{error}")

    def end(self, state: State) -> None:
        """The search may end before its budget does."""
        self.node_bar.update_absolute(self.total, self.total)
        if self.show is not None:
            self.show(f"{state.evaluations:,} model calls, done")
