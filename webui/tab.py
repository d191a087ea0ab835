"""The tab: calibrate DPM-Solver-v3 and tune steps for the loaded checkpoint; look at files and schedules."""

import html
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from ..solvers.folders import EMS, TUNED, Folder
from . import files, schedules
from .lists import MODES, SAMPLERS, SHAPES
from .measure import Use, Watch, run, whole
from .options import NO_FILE, BadOption

TITLE = "DPM-Solver (ext)"
FOLDERS: dict[str, Folder] = {"statistics for DPM-Solver-v3": EMS, "tuned steps": TUNED}
POLL = 0.5  # seconds between two looks at a run
TOLD = "<p>The loaded checkpoint is measured as you paint with it: with these prompts, their LoRAs, this CFG and size.</p>"
_running: list[Watch] = []  # at most one; the thread of a run lives on when the page is closed


def make_tab() -> tuple[Any, str, str]:
    """What the host's on_ui_tabs wants: (Blocks, title, id)."""
    with gr.Blocks(analytics_enabled=False) as tab:
        gr.HTML(TOLD)
        with gr.Row():
            with gr.Column(scale=2):
                use = _use()
            with gr.Column(scale=1):
                status = gr.HTML("", elem_id=_id("status"))
                stop = gr.Button("Stop", elem_id=_id("stop"))
        with gr.Tabs():
            with gr.TabItem("Calibrate DPM-Solver-v3"):
                calibration = _calibration()
                begin = gr.Button("Calibrate", variant="primary", elem_id=_id("calibrate"))
            with gr.TabItem("Tune steps"):
                tuning = _tuning()
                tune = gr.Button("Tune", variant="primary", elem_id=_id("tune"))
            with gr.TabItem("Files"):
                kind, file, refresh, inspect, sure, delete = _files()
            with gr.TabItem("Schedules"):
                types, steps, draw = _schedules()
        report, picture = gr.HTML("", elem_id=_id("report")), gr.Image(None, interactive=False, show_label=False, elem_id=_id("picture"))
        shown, renew = [status, report, picture], {"outputs": [file, tuning[1]]}
        for button, started, inputs in ((begin, start_calibration, calibration), (tune, start_tuning, tuning)):
            click = button.click(fn=_whole(started), inputs=[*use, *inputs], outputs=shown)
            click.then(fn=_lists, inputs=[kind], **renew)
        stop.click(fn=stop_run, inputs=[], outputs=[status], queue=False)
        refresh.click(fn=_lists, inputs=[kind], **renew)
        kind.change(fn=_lists, inputs=[kind], **renew)
        inspect.click(fn=_said(inspected), inputs=[kind, file], outputs=shown)
        delete.click(fn=_said(deleted), inputs=[kind, file, sure], outputs=shown).then(fn=_lists, inputs=[kind], **renew)
        draw.click(fn=_said(drawn), inputs=[types, steps], outputs=shown)
    return tab, TITLE, "dpm_solver_ext"


def _id(name: str) -> str:
    return f"dpm_solver_ext_{name}"


def _use() -> list[Any]:
    """The controls of `Use.checked`, in its order."""
    prompts = gr.Textbox(
        label="Prompts to measure with", lines=3, elem_id=_id("prompts"), placeholder="a lighthouse in a storm, oil painting",
        info="Examples of what you will paint, each on a line of its own; the pictures are dealt over them. All with the same LoRAs.",
    )  # fmt: skip
    negative = gr.Textbox(label="Negative prompt to measure with", lines=1, elem_id=_id("negative"), info="The one that you use.")
    with gr.Row():
        cfg = gr.Slider(
            label="CFG to measure with", minimum=0, maximum=30, step=0.1, value=7.0, elem_id=_id("cfg"),
            info="The CFG scale that you will paint with: statistics and steps depend on it.",
        )  # fmt: skip
        batch = gr.Slider(
            label="Latents at once", minimum=1, maximum=16, step=1, value=4, elem_id=_id("batch"),
            info="More is faster on a large GPU, and takes more memory; fewer are taken where it is not enough.",
        )  # fmt: skip
    with gr.Row():
        sizes = [
            gr.Slider(
                label=f"{name.capitalize()} to measure with", minimum=64, maximum=2048, step=8, value=512, elem_id=_id(name),
                info="In pixels, as you will paint: 512 for SD 1.5, 1024 for SDXL and newer.",
            )
            for name in ("width", "height")
        ]  # fmt: skip
    return [prompts, negative, cfg, *sizes, batch]


def _seed(label: str, name: str) -> Any:
    return gr.Number(label=label, value=0, precision=0, elem_id=_id(name), info="Of the noise that is measured on.")


def _name(label: str, name: str, value: str) -> Any:
    return gr.Textbox(
        label=label, value=value, elem_id=_id(name), info="A code of the settings is added, so that other settings overwrite nothing."
    )  # fmt: skip


def _calibration() -> list[Any]:
    with gr.Row():
        numbers = [
            gr.Slider(
                label="Samples", minimum=1, maximum=256, step=1, value=16, elem_id=_id("samples"),
                info="How many pictures are painted to measure on. 16 gave what 64 gave, in our measurements; more can be added later.",
            ),
            gr.Slider(
                label="Noise levels", minimum=8, maximum=200, step=1, value=20, elem_id=_id("nodes"),
                info="At which each picture is measured, even in log signal-to-noise.",
            ),
            gr.Slider(
                label="Probes", minimum=1, maximum=16, step=1, value=1, elem_id=_id("probes"),
                info="Further model calls at each level. The cost is samples × levels × (1 + probes) model calls of one picture.",
            ),
        ]  # fmt: skip
    with gr.Row():
        shape = gr.Dropdown(
            label="Shape of the statistics", choices=list(SHAPES), value=SHAPES[0], elem_id=_id("shape"),
            info="radial: for every channel and coarseness of detail, any resolution. channel, scalar: fewer. element: one for each place, "
            "as in the paper; this size only.",
        )  # fmt: skip
        return [*numbers, shape, _seed("Calibration seed", "calibration_seed"), _name("Name of the statistics", "ems_name", "ems")]


def _tuning() -> list[Any]:
    with gr.Row():
        sampler = gr.Dropdown(
            label="Sampler to tune for", choices=list(SAMPLERS), value=SAMPLERS[0], elem_id=_id("sampler"),
            info="The one that you will paint with. Of samplers with noise (SDE) the schedule is tuned without it.",
        )  # fmt: skip
        statistics = gr.Dropdown(
            label="Its statistics, of DPM-Solver-v3", choices=files.names("statistics"), value=NO_FILE, allow_custom_value=True,
            elem_id=_id("statistics"), info="Only for that sampler: the file that you paint with.",
        )  # fmt: skip
        steps = gr.Slider(
            label="Steps to tune", minimum=3, maximum=50, step=1, value=6, elem_id=_id("steps"),
            info="How many you will paint with. It is for few of them: 5 to 8. From 15 on known schedules are about as good.",
        )  # fmt: skip
    with gr.Row():
        mode = gr.Dropdown(
            label="What may change", choices=list(MODES), value=MODES[1], elem_id=_id("mode"),
            info="schedule: the noise levels only. gains: also a factor on the prediction of each model call; look at the pictures. "
            "sampler: also tries DPM-Solver auto, 2M and UniPC, and the file may be for one of them.",
        )  # fmt: skip
        seeds = gr.Slider(
            label="Pictures", minimum=6, maximum=128, step=1, value=32, elem_id=_id("seeds"),
            info="That it is measured on; half of them judge what came out. Fewer than 20 fit those rather than your next ones.",
        )  # fmt: skip
        budget = gr.Number(
            label="Budget", value=0, precision=0, elem_id=_id("budget"),
            info="The most model calls of one picture. 0: what a thorough search needs, about 7000 for 6 steps. More later goes on.",
        )  # fmt: skip
    with gr.Row():
        more = [_seed("First seed", "tune_seed"), _name("Name of the tuned steps", "tuned_name", "tuned")]
    for control in (sampler, statistics):
        control.do_not_save_to_config = True  # the host would keep a file's name beyond the file
    return [sampler, statistics, steps, mode, seeds, budget, *more]


def _files() -> tuple[Any, ...]:
    kind = gr.Radio(label="Files of", choices=list(FOLDERS), value=next(iter(FOLDERS)), elem_id=_id("kind"))
    with gr.Row():
        file = gr.Dropdown(
            label="File", choices=files.listed(EMS), value=None, allow_custom_value=True, elem_id=_id("file"),
            info="In models/dpm_ems and models/dpm_tuned; files from elsewhere, ComfyUI too, can be put there.",
        )  # fmt: skip
        refresh = gr.Button("Refresh", elem_id=_id("refresh"))
    with gr.Row():
        inspect = gr.Button("Show what it holds", elem_id=_id("inspect"))
        sure = gr.Checkbox(label="Yes, delete this file", value=False, elem_id=_id("sure"))
        delete = gr.Button("Delete", variant="stop", elem_id=_id("delete"))
    for control in (kind, file, sure):
        control.do_not_save_to_config = True
    return kind, file, refresh, inspect, sure, delete


def _schedules() -> tuple[Any, ...]:
    labels = [label for label, _ in schedules.SCHEDULES.values()]
    with gr.Row():
        types = gr.Dropdown(
            label="Schedule types to draw", choices=_labels() or labels, value=labels[:2], multiselect=True, elem_id=_id("types"),
            info="On the loaded checkpoint; on Stable Diffusion's noise levels while none is loaded.",
        )  # fmt: skip
        steps = gr.Slider(label="Steps to draw", minimum=1, maximum=100, step=1, value=10, elem_id=_id("draw_steps"), info="Of each.")
    types.do_not_save_to_config = True
    return types, steps, gr.Button("Draw", variant="primary", elem_id=_id("draw"))


def _labels() -> list[str]:
    try:
        from modules import sd_schedulers  # the host's; older ones have none
    except ImportError:
        return []
    return [entry.label for entry in sd_schedulers.schedulers if entry.function is not None]


def _lists(kind: str) -> list[Any]:
    """New choices of the file and of the statistics to tune with."""
    found = files.listed(FOLDERS.get(kind, EMS))
    return [gr.update(choices=found, value=None), gr.update(choices=files.names("statistics"))]


# --- what the buttons do ---------------------------------------------------------------------------------------------------------------


def page(text: str) -> str:
    """A text of lines, of which those that begin with "- " are a list, as HTML; nothing in it is taken for HTML itself."""
    lines = [html.escape(line) for line in text.splitlines() if line.strip()]
    items = [f"<li>{line[2:]}</li>" for line in lines if line.startswith("- ")]
    return "".join(f"<p>{line}</p>" for line in lines if not line.startswith("- ")) + (f"<ul>{''.join(items)}</ul>" if items else "")


def _picture(plot: Any) -> Any:
    return (plot * 255).round().astype("uint8")


def _sentence(error: BaseException) -> str:
    """What is shown of an error: our sentences as they are; of others the kind, and the whole in the console."""
    if isinstance(error, ValueError):
        return str(error)
    from ..solvers.hosting import log

    log.error("DPM-Solver (ext): the run ended with an error.", exc_info=error)
    return f"{type(error).__name__}: {error}; the console has more."


def _said(do: Callable[..., tuple[str, str, Any]]) -> Callable[..., list[Any]]:
    """`do` for a button: (status, report, picture) as the page wants them; an error is the status."""

    def answer(*args: Any) -> list[Any]:
        try:
            status, report, picture = do(*args)
        except Exception as error:
            return [page(_sentence(error)), gr.update(), gr.update()]
        return [page(status), page(report), picture]

    return answer


def _whole(follow: Callable[..., Iterator[list[Any]]]) -> Callable[..., Any]:
    """A generator as the host can run it: without its queue (--no-gradio-queue) only the end of it."""
    from modules import shared  # the host's

    if not getattr(getattr(shared, "cmd_opts", None), "no_gradio_queue", False):
        return follow

    def last(*args: Any) -> list[Any]:
        *_, end = follow(*args)
        return end

    return last


def start_calibration(prompts, negative, cfg, width, height, batch, samples, nodes, probes, shape, seed, name) -> Iterator[list[Any]]:
    """Calibrate, with a look at it every half second; one that runs already is followed in its place."""

    def job(watch: Watch) -> tuple[str | None, str]:
        from .calibrate import calibrate

        return calibrate(use, watch, kind=shape, name=str(name), **numbers)

    try:
        use = Use.checked(prompts, negative, cfg, width, height, batch)
        numbers = {
            "samples": whole("samples", samples, 1, 10000), "nodes": whole("nodes", nodes, 8, 1000),
            "probes": whole("probes", probes, 1, 100), "seed": whole("calibration_seed", seed, 0, 2**32 - 1),
        }  # fmt: skip
        if shape not in SHAPES:
            raise BadOption(f"shape is {shape!r}; choose one of {', '.join(SHAPES)}.")
    except BadOption as error:
        yield [page(str(error)), gr.update(), gr.update()]
        return
    yield from _follow("calibration", job, "statistics for DPM-Solver-v3")


def start_tuning(
    prompts, negative, cfg, width, height, batch, sampler, statistics, steps, mode, seeds, budget, seed, name
) -> Iterator[list[Any]]:
    """Tune, as `start_calibration`."""

    def job(watch: Watch) -> tuple[str | None, str]:
        from .tune import tune

        done = tune(use, watch, sampler=sampler, file=str(statistics or NO_FILE), mode=mode, name=str(name), **numbers)
        if done[0] is not None:
            schedules.register()  # the new file is a schedule type, too
        return done

    try:
        use = Use.checked(prompts, negative, cfg, width, height, batch)
        numbers = {
            "steps": whole("steps", steps, 3, 50), "seeds": whole("seeds", seeds, 6, 1000), "budget": whole("budget", budget, 0, 10**6),
            "seed": whole("tune_seed", seed, 0, 2**32 - 1),
        }  # fmt: skip
    except BadOption as error:
        yield [page(str(error)), gr.update(), gr.update()]
        return
    yield from _follow("tuning", job, "tuned steps")


def _follow(what: str, job: Callable[[Watch], tuple[str | None, str]], kind: str) -> Iterator[list[Any]]:
    """Begin `job`, or look on at the one that runs; at the end what it found."""
    watch = _running[0] if _running and not _running[0].ended.is_set() else None
    if watch is None:
        watch = Watch(what)
        _running[:] = [watch]
        run(watch, lambda: job(watch))
    else:
        kind = ""  # of another button, or another page
    while not watch.ended.wait(POLL):
        yield [page(watch.text), gr.update(), gr.update()]
    file, text = (None, "") if watch.outcome is None else watch.outcome
    if watch.error is not None:
        text = _sentence(watch.error)
    end = [page(text or "Stopped before it began."), gr.update(), gr.update()]
    if file is not None and kind:
        end[1:] = _said(inspected)(kind, file)[1:]
    yield end


def stop_run() -> str:
    """Ask the run to end after its model call; what it has measured is kept."""
    if not _running or _running[0].ended.is_set():
        return page("Nothing runs here.")
    _running[0].stop.set()
    return page("Stopping …")


def inspected(kind: str, file: Any) -> tuple[str, str, Any]:
    """What a file holds, in words and as a picture."""
    folder, name = FOLDERS.get(kind, EMS), str(file or "")
    files.find(name, folder, "file")
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
    files.find(name, folder, "file")
    if sure is not True:
        raise BadOption(f"file is {name!r}; tick the box beside the button to delete it for good.")
    files.delete(name, folder)
    if folder is TUNED:
        schedules.register()
    return f"{name} is deleted.", "", None


def drawn(types: Any, steps: Any) -> tuple[str, str, Any]:
    """The chosen schedule types, on the loaded model."""
    from ..plots.steps import plot
    from .adapter import path_of
    from .levels import levels_of_types

    if not types:
        raise BadOption("types is empty; choose the schedule types to draw.")
    found, wrap, note = levels_of_types(list(types), whole("steps", steps, 1, 1000))
    listed = [f"- {name}: {', '.join(f'{s:.4g}' for s in sigmas)}" for name, sigmas in found.items()]
    return note, "\n".join(["sigmas", *listed]), _picture(plot(found, path_of(wrap), "Schedules"))
