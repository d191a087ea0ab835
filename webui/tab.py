"""The tab: calibrate DPM-Solver-v3 and tune steps for the loaded checkpoint; look at files and schedules."""

import inspect
from typing import Any

import gradio as gr

from ..solvers.folders import EMS
from . import buttons, files, schedules
from .lists import MODES, SAMPLERS, SHAPES
from .options import NO_FILE

TITLE = "DPM-Solver (ext)"
# gradio fades what an event will change while it waits for it, and a run is looked at again and again
PLAIN = "<style>#dpm_solver_ext_status .pending, #dpm_solver_ext_report .pending { opacity: 1 !important }</style>"
TOLD = "<p>The loaded checkpoint is measured as you paint with it: with these prompts, their LoRAs, this CFG and size.</p>"


def make_tab() -> tuple[Any, str, str]:
    """What the host's on_ui_tabs wants: (Blocks, title, id)."""
    with gr.Blocks(analytics_enabled=False) as tab:
        gr.HTML(PLAIN + TOLD)
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
                kind, file, refresh, show, sure, delete = _files()
            with gr.TabItem("Schedules"):
                types, steps, draw = _schedules()
        report, picture = (
            gr.HTML("", elem_id=_id("report")),
            gr.Image(None, interactive=False, show_label=False, visible=False, elem_id=_id("picture")),
        )
        shown, renew = [status, report, picture], {"outputs": [file, tuning[1], sure]}
        # what one page looks on with; each change of `tick` asks for the next look, each of `ends` for new lists
        looks, tick, ends = (
            gr.State(None),
            gr.Number(0, visible=False, elem_id=_id("tick")),
            gr.Number(0, visible=False, elem_id=_id("ends")),
        )
        for control in (tick, ends):
            control.do_not_save_to_config = True
        seen = [looks, tick, ends, *shown, begin, tune]
        for button, started, inputs in ((begin, buttons.start_calibration, calibration), (tune, buttons.start_tuning, tuning)):
            button.click(fn=buttons.begun(started), inputs=[tick, *use, *inputs], outputs=seen, **_at_once(button.click))
        tick.change(fn=buttons.look, inputs=[looks, tick, ends], outputs=seen, show_progress="hidden", **_at_once(tick.change))
        ends.change(fn=buttons.lists, inputs=[kind], **renew)
        stop.click(fn=buttons.stop_run, inputs=[], outputs=[status], queue=False)
        file.change(fn=lambda: False, inputs=[], outputs=[sure])
        refresh.click(fn=buttons.lists, inputs=[kind], **renew)
        kind.change(fn=buttons.lists, inputs=[kind], **renew)
        show.click(fn=buttons.said(buttons.inspected), inputs=[kind, file], outputs=shown)
        delete.click(fn=buttons.said(buttons.deleted), inputs=[kind, file, sure], outputs=shown).then(
            fn=buttons.lists, inputs=[kind], **renew
        )
        draw.click(fn=buttons.said(buttons.drawn), inputs=[types, steps], outputs=shown)
    return tab, TITLE, "dpm_solver_ext"


def _at_once(listener: Any) -> dict[str, Any]:
    """gradio 4 lets one press of a button wait for the last one's end, unless it is told not to."""
    return {"concurrency_limit": None} if "concurrency_limit" in inspect.signature(listener).parameters else {}


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
    kind = gr.Radio(label="Files of", choices=list(buttons.FOLDERS), value=next(iter(buttons.FOLDERS)), elem_id=_id("kind"))
    file = gr.Dropdown(
        label="File", choices=files.listed(EMS), value=None, allow_custom_value=True, elem_id=_id("file"),
        info="In models/dpm_ems and models/dpm_tuned; files from elsewhere, ComfyUI too, can be put there.",
    )  # fmt: skip
    with gr.Row():
        refresh = gr.Button("Refresh", elem_id=_id("refresh"))
        show = gr.Button("Show what it holds", elem_id=_id("inspect"))
        sure = gr.Checkbox(label="Yes, delete this file", value=False, elem_id=_id("sure"))
        delete = gr.Button("Delete", variant="stop", elem_id=_id("delete"))
    for control in (kind, file, sure):
        control.do_not_save_to_config = True
    return kind, file, refresh, show, sure, delete


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
