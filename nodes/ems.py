"""The nodes of DPM-Solver-v3's statistics ("EMS", empirical model statistics): measure, load, look at them."""

import sys
import textwrap

from comfy_api.latest import io, ui

from . import ems_files
from .aliases import aliases

Ems = io.Custom("DPM_EMS")
CATEGORY = "sampling/custom_sampling/samplers"
LINE = 40  # characters of text that fit side by side into a node
SHAPES = ("radial", "channel", "scalar", "element")


class DPMSolverCalibrateExt(io.ComfyNode):
    """DPM_EMS: measured on the model as a sampler would run it."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DPMSolverCalibrateExt",
            **aliases("DPM-Solver-v3", "EMS", "empirical model statistics", "calibration"),
            display_name="Calibrate DPM-Solver-v3 (ext)",
            category=CATEGORY,
            description=(
                "Measures the statistics that DPM-Solver-v3 needs, on your checkpoint with its LoRAs, prompt and CFG, and saves them under "
                "models/dpm_ems. Once for each use of a model; the same settings again cost nothing, and an interrupted run goes on."
            ),
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Model.Input("model", tooltip="The model as you will sample it: with LoRAs and patches."),
                io.Conditioning.Input("positive", tooltip=(
                    "An example of what you will paint; the statistics depend little on it, and another prompt is not measured anew.")),
                io.Conditioning.Input("negative", tooltip="The negative prompt you will use."),
                io.Latent.Input("latent_image", tooltip=(
                    "An empty latent of the size you will paint. Only its size is used; with shape element each size is measured anew.")),
                io.Float.Input("cfg", default=7.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=(
                    "The CFG you will sample with. Statistics of another CFG fit badly; a warning says so.")),
                io.Int.Input("samples", default=16, min=1, max=10000, tooltip=(
                    "How many pictures are painted to measure on. More is steadier; raising it later only adds the new ones. 16 gave what "
                    "64 gave, in our measurements.")),
                io.Int.Input("nodes", default=20, min=8, max=1000, tooltip=(
                    "Noise levels at which each picture is measured, even in log signal-to-noise.")),
                io.Int.Input("probes", default=1, min=1, max=100, tooltip=(
                    "Further model calls at each noise level, which measure how the prediction answers to a change. The cost is samples × "
                    "nodes × (1 + probes) model calls of one picture.")),
                io.Combo.Input("shape", options=list(SHAPES), default="radial", tooltip=(
                    "radial: for every channel and coarseness of detail; any resolution. channel: one curve for a channel. scalar: one "
                    "for all. element: one for each place, as in the paper; fits this size only.")),
                io.Int.Input("calibration_seed", default=0, min=0, max=2**32 - 1, tooltip="Of the noise that is measured on."),
                io.String.Input("file_name", default="ems", tooltip=(
                    "Plain name of the file. A code of the settings is added, so that nothing is overwritten by other settings. Another "
                    "name measures anew, for instance with other prompts.")),
            ],
            outputs=[
                Ems.Output(display_name="ems", tooltip="Connect to the ems input of a DPM-Solver Sampler (ext)."),
                io.String.Output(display_name="file", tooltip="Name of the file, as Load EMS (ext) lists it."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, positive, negative, latent_image, cfg, samples, nodes, probes, shape, calibration_seed, file_name
    ) -> io.NodeOutput:
        if shape not in SHAPES:
            raise ValueError(f"shape is {shape!r}; choose one of {', '.join(SHAPES)}.")
        for name, value, least in (("samples", samples, 1), ("nodes", nodes, 8), ("probes", probes, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}; at least {least} is needed.")
        from ..solvers.ems_fit import statistics_of
        from .ems_run import measure

        moments, file, text = measure(
            model, positive, negative, cfg, latent_image, samples=samples, nodes=nodes, probes=probes, kind=shape, seed=calibration_seed,
            name=file_name, show=_show(cls),
        )  # fmt: skip
        return io.NodeOutput(statistics_of(moments, file.name), file.name, ui=ui.PreviewText(text))


def _show(node):
    """A function that shows text on the node while it runs, or None outside a server. The page breaks it anywhere, also inside of words, so
    its lines are already short enough for a node of the width that it is added with."""
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    hidden = getattr(node, "hidden", None)
    if getattr(hidden, "unique_id", None) is None or not hasattr(server, "send_progress_text"):
        return None
    return lambda text: server.send_progress_text(textwrap.fill(text, LINE, break_long_words=False), hidden.unique_id)


class DPMSolverLoadEMSExt(io.ComfyNode):
    """DPM_EMS from a file."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DPMSolverLoadEMSExt",
            **aliases("DPM-Solver-v3", "EMS", "load statistics"),
            display_name="Load EMS (ext)",
            category=CATEGORY,
            description="Loads statistics for DPM-Solver-v3 that were measured before, here or elsewhere, from models/dpm_ems.",
            inputs=[
                io.Combo.Input("file", options=ems_files.names(), tooltip=(
                    "A file of models/dpm_ems. Press R to renew the list. Sampling warns if it was made for another model or CFG.")),
            ],
            outputs=[Ems.Output(display_name="ems", tooltip="Connect to the ems input of a DPM-Solver Sampler (ext).")],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, file):
        return ems_files.EMS.changed(file)

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        from ..solvers.ems_file import load_ems
        from ..solvers.ems_fit import statistics_of

        path = ems_files.find(file)
        return io.NodeOutput(statistics_of(load_ems(path), path.name))


class DPMSolverEMSInfoExt(io.ComfyNode):
    """A plot and a text of DPM_EMS."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DPMSolverEMSInfoExt",
            **aliases("DPM-Solver-v3", "EMS", "show statistics"),
            display_name="EMS Info (ext)",
            category=CATEGORY,
            description="Shows what statistics of DPM-Solver-v3 hold: curves over the noise level, and what they were made for.",
            inputs=[Ems.Input("ems", tooltip="From Calibrate DPM-Solver-v3 (ext) or Load EMS (ext).")],
            outputs=[
                io.Image.Output(display_name="plot", tooltip="l, s and b over half-logSNR; connect to Preview Image."),
                io.String.Output(display_name="summary", tooltip="What they are and what they were made for; connect to Preview Any."),
            ],
        )

    @classmethod
    def execute(cls, ems) -> io.NodeOutput:
        import torch

        from ..plots.statistics import plot, summary

        return io.NodeOutput(torch.from_numpy(plot(ems))[None], summary(ems))
