"""The node that compares samplers: the same seed over samplers × steps in one picture, with what each cost and how far it came."""

from comfy_api.latest import io, ui

from .aliases import aliases

PAIRS = "dpm_auto_ext + dpm_auto_ext\ndpmpp_2m + karras\nuni_pc + simple\neuler + normal"


class DPMSolverCompareExt(io.ComfyNode):
    """IMAGE: the grid, and its pictures one by one."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DPMSolverCompareExt",
            **aliases("compare samplers", "sampler grid", "XY plot", "benchmark"),
            display_name="Compare Samplers (ext)",
            category="sampling/custom_sampling/samplers",
            description=(
                "Paints the same seed with several samplers at several numbers of steps, and shows all of it in one picture: model calls, "
                "seconds, and the distance from the picture that many more steps would give. For choosing by looking, on your own model."
            ),
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to compare on: with LoRAs and patches."),
                io.Conditioning.Input("positive", tooltip="The prompt that is painted everywhere."),
                io.Conditioning.Input("negative", tooltip="The negative prompt."),
                io.Latent.Input("latent_image", tooltip="An empty latent of the size to paint. Of a batch the first picture is shown."),
                io.Float.Input("cfg", default=7.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=(
                    "The CFG of all runs. Strong guidance tells samplers apart most.")),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, tooltip=(
                    "The seed of all runs: every picture begins with the same noise.")),
                io.String.Input("samplers", default=PAIRS, multiline=True, tooltip=(
                    "One row of the picture each: a sampler and a scheduler of KSampler's lists with a + between them. At most 12.")),
                io.String.Input("steps", default="6, 10, 20", tooltip="One column of the picture each: numbers of steps. At most 8."),
                io.Int.Input("reference_steps", default=60, min=0, max=1000, tooltip=(
                    "Steps of one more run, of dpm_auto_ext, that stands for the end all samplers go to; the distance to it is the error. "
                    "At 60, no error can say more than how far 60 steps of dpm_auto_ext come: raise it for finer differences. 0: no such "
                    "run, and no errors.")),
                io.Vae.Input("vae", optional=True, tooltip=(
                    "Turns the results into pictures. Without one they are shown in the colours of the host's quick preview.")),
                io.Sampler.Input("sampler", optional=True, tooltip=(
                    "One more row: any sampler node, with the scheduler of the first row. For settings that the lists do not have.")),
                io.Sigmas.Input("sigmas", optional=True, tooltip=(
                    "Steps for that row in place of the first row's scheduler, as from Tune Schedule (ext) or Load Tuned Steps (ext), with "
                    "their sampler on sampler (without one, the sampler of the first row). It has one picture, in the column of its number "
                    "of steps; where steps lacks that number, all rows get it.")),
            ],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="All of it in one picture; connect to Preview Image or Save Image."),
                io.Image.Output(display_name="images", tooltip="The pictures alone as a batch, row by row."),
                io.String.Output(display_name="table", tooltip="The numbers as a table in Markdown; show it with any text preview node."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, positive, negative, latent_image, cfg, seed, samplers, steps, reference_steps, vae=None, sampler=None, sigmas=None
    ) -> io.NodeOutput:
        import torch

        from ..plots.compare import sheet
        from .compare_rows import REFERENCE, counts_of, rows_of
        from .compare_run import compare, table

        rows, counts = rows_of(samplers, sampler, sigmas), counts_of(steps)
        counts += [count for count in rows[-1].counts(counts) if count not in counts]
        if reference_steps < 0:
            raise ValueError(f"reference_steps is {reference_steps}; type a number of steps, or 0 for no errors.")
        cells = compare(model, positive, negative, latent_image, cfg, seed, rows, counts, reference_steps, vae)
        text = table(cells)
        foot = f"Errors: how far from where {reference_steps} steps of {REFERENCE} end" if reference_steps else ""
        grid = torch.from_numpy(sheet(cells, f"cfg {cfg:g}, seed {seed}", foot))[None]
        return io.NodeOutput(grid, torch.stack([torch.from_numpy(cell.picture) for cell in cells]), text, ui=ui.PreviewText(text))
