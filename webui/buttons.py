"""What the buttons of the tab do. Each answers with what the page shows then: its status, a report and a picture; those that begin a run
also whether they can be pressed."""

import html
import threading
from collections.abc import Callable, Generator
from typing import Any

import gradio as gr

from ..solvers.folders import EMS, TUNED, Folder
from . import files, schedules
from .lists import SHAPES
from .measure import Use, Watch, run, whole
from .options import NO_FILE, BadOption

FOLDERS: dict[str, Folder] = {"statistics for DPM-Solver-v3": EMS, "tuned steps": TUNED}
Looks = Generator[list[Any], None, None]  # what a page shows while a run goes on, one list after the other
POLL = 0.5  # seconds between two looks at a run
_one = threading.Lock()  # round _running
_running: list[Watch] = []  # at most one; the thread of a run lives on when the page is closed


def lists(kind: str) -> list[Any]:
    """New choices of the file and of the statistics to tune with; and the tick at Delete goes, which was for another file."""
    found = files.listed(FOLDERS.get(kind, EMS))
    return [gr.update(choices=found, value=None), gr.update(choices=files.names("statistics")), False]


def page(text: str) -> str:
    """A text of lines, of which those that begin with "- " are a list, as HTML; nothing in it is taken for HTML itself."""
    lines = [html.escape(line) for line in text.splitlines() if line.strip()]
    items = [f"<li>{line[2:]}</li>" for line in lines if line.startswith("- ")]
    return "".join(f"<p>{line}</p>" for line in lines if not line.startswith("- ")) + (f"<ul>{''.join(items)}</ul>" if items else "")


def _picture(plot: Any) -> Any:
    return (plot * 255).round().astype("uint8")


def sentence(error: BaseException) -> str:
    """What is shown of an error: our sentences as they are; of others the kind as well, and the whole in the console."""
    if isinstance(error, BadOption):
        return str(error)
    from ..solvers.hosting import log

    log.error("DPM-Solver (ext): the run ended with an error.", exc_info=error)
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}; the console has more."


def said(do: Callable[..., tuple[str, str, Any]]) -> Callable[..., list[Any]]:
    """`do` for a button: (status, report, picture) as the page wants them; an error is the status."""

    def answer(*args: Any) -> list[Any]:
        try:
            status, report, picture = do(*args)
        except Exception as error:
            return [page(sentence(error)), gr.update(), gr.update()]
        return [page(status), page(report), gr.update(value=picture, visible=picture is not None)]

    return answer


def begun(follow: Callable[..., Looks]) -> Callable[..., list[Any]]:
    """`follow`, a generator of looks at a run, as a plain function: the first look. The rest is for `look`, which steps the generator.

    gradio 3 must not be given the generator itself: where the page is closed or loaded anew before its end, gradio never ends that
    request (`process_events` forgets the page before it would disconnect it), and the host's Reload UI waits for it for ever.
    """

    def begin(tick: float, *args: Any) -> list[Any]:
        looks = follow(*args)
        return [looks, tick + 1, gr.update(), *next(looks)]

    return begin


def look(looks: Looks | None, tick: float, ends: float) -> list[Any]:
    """The next look. A new `tick` makes the page ask again; a new count of `ends` tells it that the run has ended."""
    if looks is None or looks.gi_running:  # the page has just been made, or asks twice
        return [looks, *[gr.update()] * 7]
    answer = next(looks, None)
    if answer is None:
        return [None, gr.update(), ends + 1, *[gr.update()] * 5]
    return [looks, tick + 1, gr.update(), *answer]


def start_calibration(prompts, negative, cfg, width, height, batch, samples, nodes, probes, shape, seed, name) -> Looks:
    """Calibrate, with a look at it every half second; one that runs already is followed in its place."""

    def job(watch: Watch) -> tuple[str | None, str]:
        from .calibrate import calibrate

        return calibrate(use, watch, kind=shape, name=str(name), **numbers)

    try:
        use = Use.checked(prompts, negative, cfg, width, height, batch)
        numbers = {
            "samples": whole("Samples", samples, 1, 10000), "nodes": whole("Noise levels", nodes, 8, 1000),
            "probes": whole("Probes", probes, 1, 100), "seed": whole("Calibration seed", seed, 0, 2**32 - 1),
        }  # fmt: skip
        if shape not in SHAPES:
            raise BadOption(f"Shape of the statistics is {shape!r}; choose one of {', '.join(SHAPES)}.")
    except BadOption as error:
        yield [page(str(error)), gr.update(), gr.update(), *_pressable(True)]
        return
    yield from _follow("calibration", job, "statistics for DPM-Solver-v3")


def start_tuning(prompts, negative, cfg, width, height, batch, sampler, statistics, steps, mode, seeds, budget, seed, name) -> Looks:
    """Tune, as `start_calibration`."""

    def job(watch: Watch) -> tuple[str | None, str]:
        from .tune import tune

        done = tune(use, watch, sampler=sampler, file=str(statistics or NO_FILE), mode=mode, name=str(name), **numbers)
        if done[0] is not None:
            schedules.register(loading=False)  # the new file is a schedule type, too
        return done

    try:
        use = Use.checked(prompts, negative, cfg, width, height, batch)
        numbers = {
            "steps": whole("Steps to tune", steps, 3, 50), "seeds": whole("Pictures", seeds, 6, 1000),
            "budget": whole("Budget", budget, 0, 10**6), "seed": whole("First seed", seed, 0, 2**32 - 1),
        }  # fmt: skip
    except BadOption as error:
        yield [page(str(error)), gr.update(), gr.update(), *_pressable(True)]
        return
    yield from _follow("tuning", job, "tuned steps")


def _follow(what: str, job: Callable[[Watch], tuple[str | None, str]], kind: str) -> Looks:
    """Begin `job`, or look on at the one that runs; at the end what it found."""
    with _one:
        watch = _running[0] if _running and not _running[0].ended.is_set() else None
        began = watch is None
        if watch is None:
            watch = Watch(what)
            _running[:] = [watch]
            run(watch, lambda: job(watch))
    before = "" if began else f"This {what} was not started: one runs at a time, and this is the one that runs.\n"
    yield [page(before + watch.text), gr.update(), gr.update(), *_pressable(False)]
    while not watch.ended.wait(POLL):
        yield [page(before + watch.text), gr.update(), gr.update(), *_pressable(False)]
    file, text = (None, "") if watch.outcome is None else watch.outcome
    if watch.error is not None:
        text = sentence(watch.error)
    end = [page(before + (text or "Stopped before it began.")), gr.update(), gr.update()]
    if file is not None and began:
        end[1:] = said(inspected)(kind, file)[1:]
    yield [*end, *_pressable(True)]


def _pressable(free: bool) -> list[Any]:
    """Whether the two buttons that begin a run can be pressed on this page: gradio 3 stumbles over a second press of one."""
    return [gr.update(interactive=free)] * 2


def stop_run() -> str:
    """Ask the run to end after its model call; what it has measured is kept."""
    if not _running or _running[0].ended.is_set():
        return page("Nothing runs here.")
    _running[0].stop.set()
    return page("Stopping …")


def inspected(kind: str, file: Any) -> tuple[str, str, Any]:
    """What a file holds, in words and as a picture."""
    folder, name = FOLDERS.get(kind, EMS), str(file or "")
    files.find(name, folder, "File")
    if folder is EMS:
        from ..plots.statistics import plot, summary

        found = files.statistics(name)
        return "", summary(found), _picture(plot(found))
    from ..plots.steps import plot as steps_plot
    from ..plots.tuned import summary as told
    from ..solvers.tune_use import range_of

    tuned, words = files.tuned(name)
    path, _ = range_of(words, tuned.sigmas, name)
    return "", told(tuned, words, name), _picture(steps_plot({"tuned": tuned.sigmas}, path, name))


def deleted(kind: str, file: Any, sure: Any) -> tuple[str, str, Any]:
    """Delete a file, if the box is ticked."""
    folder, name = FOLDERS.get(kind, EMS), str(file or "")
    files.find(name, folder, "File")
    if sure is not True:
        raise BadOption(f"File is {name!r}; tick the box beside the button to delete it for good.")
    files.delete(name, folder)
    return f"{name} is deleted.", "", None


def drawn(types: Any, steps: Any) -> tuple[str, str, Any]:
    """The chosen schedule types, on the loaded model."""
    from ..plots.steps import plot
    from .levels import levels_of_types
    from .model import path_of

    if not types:
        raise BadOption("Schedule types to draw is empty; choose some.")
    found, wrap, note = levels_of_types(list(types), whole("Steps to draw", steps, 1, 1000))
    listed = [f"- {name}: {', '.join(f'{s:.4g}' for s in sigmas)}" for name, sigmas in found.items()]
    return note, "\n".join(["sigmas", *listed]), _picture(plot(found, path_of(wrap), "Schedules"))
