"""Tuning of steps for the loaded checkpoint and one of our samplers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..solvers.folders import TUNED, check_writable, part_of
from .entries import BY_NAME
from .files import statistics, top
from .lists import MODES, SAMPLERS
from .measure import Measured, Use, Watch, code_of, halving, on_the_model
from .options import NO_FILE, BadOption
from .tuned import named

NAME = "Name of the tuned steps"  # its label on the page
BESIDE = ("DPM-Solver auto (ext)", "DPM-Solver++ 2M (ext)", "UniPC (ext)")  # what the last of the modes tries, too
KNOWN = ("DPM auto", "Karras", "Beta", "SGM Uniform", "Align Your Steps", "Normal", "Simple")  # labels of schedule types to start from
REFERENCE = 50  # steps of what is called converged; more where more are tuned


def known_schedules(model: Measured, steps: int) -> dict[str, list[float]]:
    """The schedule types of the host that have `steps` falling steps from the model's most noise to 0, and ours."""
    import torch

    from ..solvers.tune import known_schedules as own

    found: dict[str, list[float]] = {}
    try:
        from modules import sd_schedulers  # the host's; older ones have none
    except ImportError:
        return own(model.path, steps, model.top, model.low, model.clock)
    for label in KNOWN:
        entry = sd_schedulers.schedulers_map.get(label)
        if entry is None or (label == "Karras" and model.path.name == "flow"):
            continue
        more = {"inner_model": model.wrap} if entry.need_inner_model else {}
        try:
            levels = entry.function(n=steps, sigma_min=model.low, sigma_max=model.top, **more, device=torch.device("cpu"))
            levels = [float(s) for s in levels]
            model.path.validate(levels)
        except Exception:  # whatever a host's schedule says of a model that it is not for
            continue
        falls = all(a > b for a, b in zip(levels, levels[1:], strict=False))
        if (
            len(levels) == steps + 1
            and falls
            and levels[-1] == 0
            and abs(levels[0] / model.top - 1) < 0.01
            and levels[-2] > 0.9 * model.low
        ):
            found[label] = levels
    return found or own(model.path, steps, model.top, model.low, model.clock)


def solvers_of(sampler: str, mode: str, file: str) -> dict[str, dict[str, Any]]:
    """{name of an entry: options of `plan`} of what is tried."""
    names = dict.fromkeys([sampler, *(BESIDE if mode == MODES[2] else ())])
    found = {name: dict(BY_NAME[name].solver) for name in names}
    if file != NO_FILE and found[sampler]["algorithm"] == "dpmsolver-v3":
        found[sampler]["statistics"] = statistics(file)
    return found


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of options can be written down; of statistics, that there are some."""
    return {k: True if k == "statistics" else v for k, v in options.items() if v is not None}


def tune(
    use: Use, watch: Watch, *, sampler: str, file: str, steps: int, mode: str, seeds: int, budget: int, seed: int, name: str
) -> tuple[str | None, str]:
    """(the file in models/dpm_tuned, what was done). The file is `name` with a code of all settings but `budget`. What is measured is kept
    when the run is interrupted or fails; then the file is the best so far, or None."""
    import torch

    from ..solvers.hosting import log
    from ..solvers.keep import Keeper, words_of_levels
    from ..solvers.schedule import auto
    from ..solvers.tune import ROUNDS, State, tune_schedule
    from ..solvers.tune_file import BY_BUDGET, ENDED, STOPPED, save_state, save_tuned
    from ..solvers.tune_run import FEW, lowest_budget
    from ..solvers.tune_so_far import so_far
    from ..solvers.tune_use import is_paid

    if sampler not in SAMPLERS:
        raise BadOption(f"Sampler to tune for is {sampler!r}; choose one of {', '.join(SAMPLERS)}.")
    if mode not in MODES:
        raise BadOption(f"What may change is {mode!r}; choose one of {'; '.join(MODES)}.")
    TUNED.place_in(top(TUNED), name, "", NAME)
    note = ""
    if BY_NAME[sampler].noisy and mode != MODES[0]:
        mode, note = MODES[0], f" {sampler} adds noise, so only its schedule is tuned."
    solvers, told = solvers_of(sampler, mode, file), {}
    gains, fine, held_out = mode != MODES[0], max(REFERENCE, 2 * steps), max(3, seeds // 2)

    def work(model: Measured) -> tuple[Path, str]:
        settings = model.words | {
            "sigma_min": f"{model.low:.9g}", "steps": str(steps), "tune": mode,
            "sampler": sampler + (", without its noise" if BY_NAME[sampler].noisy else ""),
            "seeds": f"{seeds} from {seed}, {held_out} of them kept out of the search",
            "size": "×".join(map(str, model.shape)), "prompts": f"{len(use.prompts)} #{code_of(use.prompts, use.negative)}",
        }  # fmt: skip
        if "statistics" in solvers[sampler]:
            settings["statistics"] = named(file)
        known = known_schedules(model, steps)
        place = TUNED.place_in(top(TUNED), name, code_of(settings, {k: plain(v) for k, v in solvers.items()}))
        levels = known | {"the reference": auto(model.path, fine, model.top, model.low, model.clock)}
        before, state = _held(place, settings, levels)
        if before is not None and is_paid(*before, budget):
            return place, f"0 model calls: {place.name} has the outcome.{note}"
        calls = steps * max(BY_NAME[key].calls for key in solvers)
        tried = len(known) + (len(solvers) - 1) * min(FEW, len(known))
        total = budget or lowest_budget(seeds, held_out, tried, calls, fine, gains, len(solvers), ROUNDS)
        state, kept_for = state or State(), settings | words_of_levels(levels)
        check_writable(place)
        told["kept"] = place.name
        watch.begin(state.evaluations)
        begun = dict(state.searches)
        noise = [torch.randn(model.shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(seeds)]
        start = model.top * torch.stack(noise).to(model.device)
        with Keeper(state, place, lambda content, path: save_state(content, path, kept_for)) as keep:

            def report(state: State) -> None:
                keep()
                error = f", error {state.best[0][1]:.3g} → {state.best[-1][1]:.3g}" if state.best else ""
                watch(state.evaluations, max(total, state.evaluations), error, "at most ")

            def once(batch: int) -> Any:
                return tune_schedule(
                    model, model.path, solvers, steps, x=start, sigma_max=model.top, sigma_min=model.low, time_map=model.clock, known=known,
                    gains=gains, held_out=held_out, reference_steps=fine, budget=total, batch=batch, begin=model.begin,
                    state=state, report=report,
                )  # fmt: skip

            def write(tuned: Any, search: str) -> None:
                save_tuned(
                    tuned, place, settings | {"budget": str(budget), "search": search, "plan": json.dumps(plain(solvers[tuned.solver]))}
                )

            try:
                tuned = halving(once, min(seeds, use.batch))
            except BaseException:  # Stop and the host's Interrupt above all: the best so far is a file
                ends = {"sigma_max": model.top, "sigma_min": model.low}
                try:
                    best = so_far(state, model.path, solvers, known, **ends, samples=range(seeds - held_out))
                    if best is not None and (before is None or before[1].get("search") == STOPPED and best.error() < before[0].error()):
                        write(best, STOPPED)
                        told["best"] = place.name
                except Exception:  # what stopped it is what the user must read of
                    log.exception("DPM-Solver (ext): the best so far of %s could not be kept.", place.name)
                raise
            final = all(search[1] for key, search in state.searches.items() if search is not begun.get(key))
            write(tuned, ENDED if final else BY_BUDGET)
            keep.finish(final)
        return place, f"{model.made:,} model calls: {place.name} has the outcome.{note}"

    done = on_the_model(use, watch, work)
    if done is None:
        kept = f"; what is measured is kept, and the same settings go on from there ({told['kept']})" if told else ""
        best = f" {told['best']} has the best so far, not checked on other pictures." if "best" in told else ""
        return told.get("best"), f"Stopped{kept}.{best}"
    return done[0].name, done[1]


def _held(place: Path, settings: Mapping[str, str], levels: Mapping[str, Any]) -> tuple[Any, Any]:
    """((Tuned, its words) or None, State or None) of this tuning; what cannot be read, or was measured at other levels, is said and not
    used."""
    from ..solvers.hosting import log
    from ..solvers.keep import same_start
    from ..solvers.tune_file import load_state, load_tuned

    found: list[Any] = [None, None]
    for i, (path, load) in enumerate(((place, load_tuned), (part_of(place), load_state))):
        if not path.is_file():
            continue
        try:
            found[i] = load(path)
        except ValueError as error:
            log.warning("DPM-Solver (ext): %s is not used and will be replaced: %s", path.name, error)
            continue
        other = next((k for k in settings if found[i][1].get(k) != settings[k]), None)
        if other is not None:
            made = found[i][1].get(other, "unknown")
            raise BadOption(f"{NAME} leads to {path.name}, which was made for {other} {made:.200}; choose another name, or delete it.")
    if found[1] is not None and not same_start(found[1][1], levels):  # the host or this extension came to make them otherwise
        why = "the known schedules were others when it was begun."
        log.warning("DPM-Solver (ext): %s is not used and will be replaced: %s", part_of(place).name, why)
        found[1] = None
    return found[0], None if found[1] is None else found[1][0]
