"""The node that measures convergence: the error of samplers over their model calls, with the order at which each falls."""

from comfy_api.latest import io, ui

from .aliases import aliases
from .schedules import FINAL

PAIRS = "dpm_auto_ext + dpm_auto_ext\nunipc_ext + karras\ndpmpp_2m + karras\neuler + karras"
STEPS = "5, 7, 10, 14, 20, 28, 40"


class DPMSolverErrorCurveExt(io.ComfyNode):
    """IMAGE: the curves; STRING: their numbers for people and for programs."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DPMSolverErrorCurveExt",
            **aliases("convergence order", "error curve", "benchmark sampler"),
            display_name="Error Curve (ext)",
            category="sampling/custom_sampling/samplers",
            description=(
                "Measures how fast samplers converge on your model: the distance to the converged latent over the model calls, both in "
                "powers of ten, a line for each sampler with its order. For research, and for seeing where more steps stop to help."
            ),
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to measure on: with LoRAs and patches."),
                io.Conditioning.Input("positive", tooltip="The prompt of all runs."),
                io.Conditioning.Input("negative", tooltip="The negative prompt."),
                io.Latent.Input("latent_image", tooltip=(
                    "An empty latent of the size to measure at. The error is over the whole batch, and the larger that is, the steadier.")),
                io.Float.Input("cfg", default=7.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=(
                    "The CFG of all runs. Strong guidance needs more steps before an order shows.")),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, tooltip=(
                    "The seed of all runs: all begin with the same noise.")),
                io.String.Input("samplers", default=PAIRS, multiline=True, tooltip=(
                    "One line of the plot each: a sampler and a scheduler of KSampler's lists with a + between them. At most 12, and none "
                    "that adds noise on the way, because those converge to no common end.")),
                io.String.Input("steps", default=STEPS, tooltip=(
                    "The points of each line: at most 8 numbers of steps. Each about 1.4 times the one before is even in the plot.")),
                io.Int.Input("reference_steps", default=160, min=4, max=1000, tooltip=(
                    "Steps of the run, of dpm_auto_ext, that stands for the end; at least twice the most of steps. A second run of half "
                    "as many says how well that end is known: errors below are grey and not used. Raise it to see smaller ones.")),
                io.Combo.Input("final_sigma", options=list(FINAL), default="zero", tooltip=(
                    "Where all runs end. zero: as pictures do; with the step to it hardly a sampler is of more than about order 2. "
                    "sigma_min: at the model's least noise level, where the true orders show.")),
                io.Sampler.Input("sampler", optional=True, tooltip=(
                    "One more line: any sampler node, with the scheduler of the first line. For settings that the lists do not have.")),
            ],
            outputs=[
                io.Image.Output(display_name="plot", tooltip="The curves; connect to Preview Image or Save Image."),
                io.String.Output(display_name="table", tooltip="The numbers as a table in Markdown; show it with any text preview node."),
                io.String.Output(display_name="csv", tooltip=(
                    "The numbers of every run as comma-separated values, for a spreadsheet or a script.")),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, positive, negative, latent_image, cfg, seed, samplers, steps, reference_steps, final_sigma, sampler=None
    ) -> io.NodeOutput:
        import torch

        from ..plots.error_curve import plot
        from .compare_rows import counts_of, rows_of
        from .error_curve_run import check, csv, curves, table

        rows, counts = rows_of(samplers, sampler), sorted(counts_of(steps, STEPS))
        check(model, rows, counts, reference_steps, final_sigma)
        found = curves(model, positive, negative, latent_image, cfg, seed, rows, counts, reference_steps, final_sigma)
        text = table(found)
        picture = torch.from_numpy(plot(found, f"cfg {cfg:g}, seed {seed}, final sigma {final_sigma}"))[None]
        return io.NodeOutput(picture, text, csv(found), ui=ui.PreviewText(text))
