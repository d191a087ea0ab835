"""The nodes of tuned steps: find the best schedule for a model, a sampler and a number of steps; load one that was found before."""

from comfy_api.latest import io, ui

from . import ems_files
from .aliases import aliases
from .ems import _show

CATEGORY = "sampling/custom_sampling/schedulers"
MODES = ("schedule", "schedule and gains", "schedule, gains and solver")


class DPMSolverTuneScheduleExt(io.ComfyNode):
    """SIGMAS and SAMPLER, fitted to the model."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DPMSolverTuneScheduleExt",
            **aliases("optimize steps", "tune sigmas", "few steps", "best schedule"),
            display_name="Tune Schedule (ext)",
            category=CATEGORY,
            description=(
                "Finds the steps with the least error for your checkpoint with its LoRAs, prompt, CFG and sampler, at the number of steps "
                "you will use (5 to 8 gain most), and saves them under models/dpm_tuned. Once for each use of a model; the same settings "
                "again cost nothing. Cancel when you like: the next run goes on, and what it has found so far can be loaded."
            ),
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Model.Input("model", tooltip="The model as you will sample it: with LoRAs and patches."),
                io.Conditioning.Input("positive", tooltip=(
                    "A prompt like those you will paint. Give further ones below, so that the steps suit all of them.")),
                io.Conditioning.Input("negative", tooltip="The negative prompt you will use."),
                io.Latent.Input("latent_image", tooltip="An empty latent of the size you will paint. Only its size is used."),
                io.Float.Input("cfg", default=7.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=(
                    "The CFG you will sample with: the best steps depend on it.")),
                io.Sampler.Input("sampler", tooltip=(
                    "The sampler you will use, of this pack or any other that follows a schedule and adds no noise. For SDE samplers of "
                    "this pack only the schedule is tuned, without their noise. With tune at schedule, gains and solver the sampler output "
                    "may be another one.")),
                io.Int.Input("steps", default=6, min=3, max=50, tooltip=(
                    "How many steps you will paint with. It is for few of them: 5 to 8. From 15 on known schedules are about as good.")),
                io.Combo.Input("tune", options=list(MODES), default=MODES[2], tooltip=(
                    "What may change. schedule: the noise levels of the steps only; works with any sampler node. schedule and gains: also "
                    "a factor on the prediction of each model call, mostly between 0.7 and 1.5, which stands in for what few steps cannot "
                    "follow; look at the pictures. schedule, gains and solver: also tries several solvers of this pack, and the sampler "
                    "output may then be another one than you connected. With gains always use both outputs together.")),
                io.Int.Input("seeds", default=32, min=6, max=128, tooltip=(
                    "How many pictures it is measured on, from tune_seed on. Half of them are kept out of the search, and judge what came "
                    "out. With fewer than 32 the steps fit those pictures rather than your next ones, and small gains are not seen.")),
                io.Int.Input("budget", default=0, min=0, max=1000000, tooltip=(
                    "The most model calls of one picture that it may cost. 0: what a thorough search needs, at most about 11300 for 6 "
                    "steps, as 565 pictures of 20 steps; that is 19 minutes at 10 calls a second. A sampler with two calls a step, like "
                    "heun, takes up to about 30000. It ends before where there is nothing more to gain. A higher budget later goes on "
                    "where this one ended.")),
                io.Int.Input("tune_seed", default=0, min=0, max=2**32 - 1, tooltip=(
                    "The seed of the first picture that is measured on; the others follow it.")),
                io.String.Input("file_name", default="tuned", tooltip=(
                    "Plain name of the file. A code of the settings is added, so that nothing is overwritten by other settings.")),
                io.Conditioning.Input("positive_2", optional=True, tooltip=(
                    "Another prompt, if there are several kinds you paint: the pictures are dealt over all of them in turn.")),
                io.Conditioning.Input("positive_3", optional=True, tooltip="A third prompt, as positive_2."),
                io.Conditioning.Input("positive_4", optional=True, tooltip="A fourth prompt, as positive_2."),
            ],
            outputs=[
                io.Sigmas.Output(display_name="sigmas", tooltip=(
                    "The tuned steps; connect to SamplerCustom or SamplerCustomAdvanced, together with the sampler output, which they "
                    "are for.")),
                io.Sampler.Output(display_name="sampler", tooltip=(
                    "What the sigmas were tuned for, with its gains: not always the sampler you connected. Use both outputs together.")),
                io.String.Output(display_name="info", tooltip=(
                    "What was gained over the best pair of a sampler and a known schedule, and which pairs were tried; others, of "
                    "ComfyUI or of packs, may be as good. Show it with any text preview node.")),
                io.Image.Output(display_name="plot", tooltip=(
                    "The steps beside the known ones, and the error while it was tuned; connect to Preview Image.")),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, positive, negative, latent_image, cfg, sampler, steps, tune, seeds, budget, tune_seed, file_name, positive_2=None,
        positive_3=None, positive_4=None,
    ) -> io.NodeOutput:  # fmt: skip
        if tune not in MODES:
            raise ValueError(f"tune is {tune!r}; choose one of {'; '.join(MODES)}.")
        for name, value, least in (("steps", steps, 3), ("seeds", seeds, 6), ("budget", budget, 0)):
            if value < least:
                raise ValueError(f"{name} is {value}; at least {least} is needed.")
        import torch

        from ..plots.tuned import plot, summary
        from .tune_choice import outcome_sampler
        from .tune_run import tune as run

        positives = [positive, *(p for p in (positive_2, positive_3, positive_4) if p is not None)]
        tuned, choices, known, file, words, made = run(
            model, positives, negative, cfg, latent_image, sampler, steps=steps, mode=tune, seeds=seeds, seed=tune_seed, budget=budget,
            name=file_name, show=_show(cls),
        )  # fmt: skip
        how = outcome_sampler(tuned, choices[tuned.solver], file.name, words)
        text = summary(tuned, words, file.name, made)
        image = torch.from_numpy(plot(tuned, known, words, file.name))[None]
        return io.NodeOutput(torch.tensor(tuned.sigmas, dtype=torch.float32), how, text, image, ui=ui.PreviewText(text))


class DPMSolverLoadTunedExt(io.ComfyNode):
    """SIGMAS and SAMPLER from a file."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DPMSolverLoadTunedExt",
            **aliases("load sigmas", "tuned schedule"),
            display_name="Load Tuned Steps (ext)",
            category=CATEGORY,
            description="Loads steps that Tune Schedule (ext) found before, here or elsewhere, from models/dpm_tuned.",
            inputs=[
                io.Combo.Input("file", options=ems_files.TUNED.names(), tooltip=(
                    "A file of models/dpm_tuned. Press R to renew the list. Sampling warns if it was made for another model or CFG.")),
                io.Int.Input("steps", default=0, min=0, max=1000, tooltip=(
                    "0: as many as were tuned. Another number reads the tuned steps as a curve: near the tuned number a good schedule, but "
                    "without gains.")),
                io.Sampler.Input("sampler", optional=True, tooltip=(
                    "The sampler to use the steps with: needed where they were tuned for a sampler that is not of this pack, or with "
                    "statistics (ems). Else what they were tuned for is made from the file.")),
            ],
            outputs=[
                io.Sigmas.Output(display_name="sigmas", tooltip="Connect to SamplerCustom or SamplerCustomAdvanced."),
                io.Sampler.Output(display_name="sampler", tooltip="What the steps were tuned for, with its gains; use it with them."),
                io.String.Output(display_name="info", tooltip="What the file holds; show it with any text preview node."),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, file, steps, sampler=None):
        return ems_files.TUNED.changed(file), steps

    @classmethod
    def execute(cls, file, steps, sampler=None) -> io.NodeOutput:
        import torch

        from .tune_load import load

        sigmas, how, text = load(file, steps, sampler)
        return io.NodeOutput(torch.tensor(sigmas, dtype=torch.float32), how, text)
