"""The nodes, as ComfyUI's V3 API declares them. Ids are for ever, inputs append-only: saved workflows keep values by position."""

import math

import comfy.samplers
import torch
from comfy_api.latest import ComfyExtension, io

from ..solvers import schedule as schedules
from ..solvers.presets import PRESETS
from ..solvers.step import CHOICES, check_options
from .adapter import sample
from .schedules import levels, of_model


class DPMSolverSamplerExt(io.ComfyNode):
    """SAMPLER: a preset, or every option by hand."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DPMSolverSamplerExt",
            display_name="DPM-Solver Sampler (ext)",
            category="sampling/custom_sampling/samplers",
            description="DPM-Solver and DPM-Solver++ for SamplerCustom. Leave the preset on auto unless you compare solvers.",
            inputs=[
                io.Combo.Input("preset", options=[*PRESETS, "custom"], default="auto", tooltip=(
                    "auto: the default we measured to be best over models and step counts, with the auto schedule; start here. dpmpp_2m: "
                    "DPM-Solver++(2M), as the built-in dpmpp_2m but right on SD3 and Flux too. dpmpp_3m: third order, for 12 steps and "
                    "more with little guidance. custom: the widgets below act.")),
                io.Combo.Input("algorithm", options=list(CHOICES["algorithm"]), default="dpmsolver++", tooltip=(
                    "Custom only. dpmsolver++ predicts the image, the papers' choice with CFG; dpmsolver predicts the noise, for CFG near "
                    "1; dpmsolver-v, which auto uses, lies between them and suits both.")),
                io.Int.Input("order", default=2, min=1, max=3, tooltip=(
                    "Custom only. How many model calls each step learns from. 2 is safe at any step count, 3 pays from about 10 steps "
                    "(with "
                    "dpmsolver-v from 5), 1 is DDIM.")),
                io.Combo.Input("method", options=list(CHOICES["method"]), default="multistep", tooltip=(
                    "Custom only. multistep makes one model call a step and remembers the last ones: the better use of calls. singlestep "
                    "makes as many calls a step as its order, between the scheduler's noise levels, so divide the steps by it. Context "
                    "windows and HunyuanVideo need multistep.")),
                io.Combo.Input("solver_type", options=["dpmsolver", "taylor"], default="dpmsolver", tooltip=(
                    "Custom only; matters at order 2, and for singlestep at 3. dpmsolver is what the papers recommend; taylor integrates "
                    "the slope exactly. They differ little.")),
                io.Combo.Input("start", options=list(CHOICES["start"]), default="corrected", tooltip=(
                    "Custom only, for multistep. corrected takes the first step again once the second model call is there, for free, and "
                    "makes order 3 real; official is the papers' first-order start, to compare with other programs.")),
                io.Combo.Input("final_rule", options=list(CHOICES["final_rule"]), default="smooth", tooltip=(
                    "Custom only, for multistep. smooth lowers the order where a step is far longer than the one before, as at the end of "
                    "the normal schedule; official lowers it below 10 steps only; none never does: the pure formula.")),
            ],
            outputs=[io.Sampler.Output(display_name="sampler", tooltip="Connect to SamplerCustom or SamplerCustomAdvanced.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, preset, algorithm, order, method, solver_type, start, final_rule) -> io.NodeOutput:
        custom = {
            "algorithm": algorithm,
            "order": order,
            "method": method,
            "solver_type": solver_type,
            "start": start,
            "final_rule": final_rule,
        }
        if preset != "custom" and preset not in PRESETS:
            raise ValueError(f"preset is {preset!r}; choose one of {', '.join([*PRESETS, 'custom'])}.")
        options = dict(custom if preset == "custom" else PRESETS[preset])
        check_options(**options)
        return io.NodeOutput(comfy.samplers.KSAMPLER(sample, options))


class DPMSolverSchedulerExt(io.ComfyNode):
    """SIGMAS: the schedules of the papers and one measured default, for a model or for Stable Diffusion's table."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DPMSolverSchedulerExt",
            display_name="DPM-Solver Scheduler (ext)",
            category="sampling/custom_sampling/schedulers",
            description=(
                "Step schedules for DPM-Solver. Connect the model, so that its own noise levels are used; without one they are those of "
                "Stable Diffusion 1.5 and SDXL, as the info output says."
            ),
            inputs=[
                io.Combo.Input("schedule", options=list(schedules.NAMES), default="auto", tooltip=(
                    "auto: the best we measured over models and step counts; start here. logSNR: even in log signal-to-noise, as the "
                    "papers' small images. "
                    "time_uniform: even in the model's time, the papers' choice for Stable Diffusion. time_quadratic: more steps at low "
                    "noise. "
                    "karras, exponential: as the host's own of these names. manual: the sigmas typed below.")),
                io.Int.Input("steps", default=12, min=1, max=10000, tooltip=(
                    "Model calls with a multistep sampler. 6 to 8 for a look, 10 to 15 for a picture, 25 to be done with it. Ignored by "
                    "manual.")),
                io.Float.Input("denoise", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=(
                    "How much of the picture is made anew. 1 for text to image; 0.3 to 0.7 for image to image, which takes the last "
                    "part of a longer schedule.")),
                io.Float.Input("sigma_max", default=0.0, min=0.0, max=5000.0, step=0.01, round=False, tooltip=(
                    "The noise level to start from; 0 means the model's own, which is right unless you continue a run from another "
                    "sampler.")),
                io.Float.Input("sigma_min", default=0.0, min=0.0, max=5000.0, step=0.001, round=False, tooltip=(
                    "The least noise level that steps are spread over, before the final 0; 0 means the model's own.")),
                io.String.Input("manual_sigmas", default="14.6, 6.5, 2.9, 1.3, 0.5, 0", tooltip=(
                    "For manual only: falling noise levels, separated by commas; the last is usually 0.")),
                io.Model.Input("model", optional=True, tooltip="The model that will run. It brings its noise levels, its shift and its "
                "clock."),
            ],
            outputs=[
                io.Sigmas.Output(display_name="sigmas", tooltip="Connect to SamplerCustom or SamplerCustomAdvanced."),
                io.String.Output(display_name="info", tooltip="What was made, in one line; show it with any text preview node."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, schedule, steps, denoise, sigma_max, sigma_min, manual_sigmas, model=None) -> io.NodeOutput:
        if schedule not in schedules.NAMES:
            raise ValueError(f"schedule is {schedule!r}; choose one of {', '.join(schedules.NAMES)}.")
        schedules.check_steps(steps)
        path, top, low, clock, own = of_model(model.get_model_object("model_sampling") if model is not None else None)
        source = (
            ", the model's clock"
            if own
            else ", Stable Diffusion's table, because no model is connected"
            if model is None
            else ", Stable Diffusion's clock, because this model has no table"
        )
        if schedule == "manual":
            sigmas, source = schedules.manual(manual_sigmas), ""
            path.validate(sigmas)
        else:
            for name, value in (("sigma_max", sigma_max), ("sigma_min", sigma_min)):
                if not 0 <= value < math.inf:
                    raise ValueError(f"{name} is {value:g}; type a noise level, or 0 for the model's own.")
            top, low = sigma_max or top, sigma_min or low
            if not low < top:
                whose = ("" if sigma_min else "the model's ") + f"sigma_min {low:g} is not below " + ("" if sigma_max else "the model's ")
                raise ValueError(f"{whose}sigma_max {top:g}; raise sigma_max or lower sigma_min, or set both to 0 for the model's range.")
            path.validate([top, low])
            sigmas = schedules.truncate(lambda n: levels(schedule, n, path, top, low, clock), steps, denoise)
            try:
                path.validate(torch.tensor(sigmas, dtype=torch.float32).tolist())
            except ValueError as error:
                raise ValueError(
                    f"schedule {schedule} cannot place {steps} steps between sigma_max {top:g} and sigma_min {low:g} on this model; take "
                    "fewer steps, another schedule, or 0 for both."
                ) from error
        count = max(len(sigmas) - 1, 0)
        shown = [f"{s:.4g}" for s in sigmas]
        if len(shown) > 24:
            shown[12:-12] = ["…"]
        text = f"{schedule}, {count} step{'s' * (count != 1)}{source}" + (f": {', '.join(shown)}" if shown else "; denoise is 0")
        return io.NodeOutput(torch.tensor(sigmas, dtype=torch.float32), text)


class DPMSolverExtension(ComfyExtension):
    """What ComfyUI loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [DPMSolverSamplerExt, DPMSolverSchedulerExt]
