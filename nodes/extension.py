"""The nodes, as ComfyUI's V3 API declares them. Ids are for ever, inputs append-only: saved workflows keep values by position."""

import comfy.samplers
import torch
from comfy_api.latest import ComfyExtension, io

from ..solvers import schedule as schedules
from ..solvers.choices import CHOICES, FAMILY, PRESETS
from .adapter import CORRECTOR_RANGE, THRESHOLDING, sample, tell
from .aliases import aliases
from .compare import DPMSolverCompareExt
from .ems import DPMSolverCalibrateExt, DPMSolverEMSInfoExt, DPMSolverLoadEMSExt, Ems
from .error_curve import DPMSolverErrorCurveExt
from .options import DATA_STD, METHODS, SLOPES, V3, prepare
from .schedules import FINAL, steps_of
from .tune import DPMSolverLoadTunedExt, DPMSolverTuneScheduleExt

SOLVERS = PRESETS | FAMILY


class DPMSolverSamplerExt(io.ComfyNode):
    """SAMPLER: a preset, or the main options by hand."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DPMSolverSamplerExt",
            **aliases("KSamplerSelect", "dpmpp_2m", "dpmpp_3m", "UniPC", "DPM++ 2M", "sampler preset"),
            display_name="DPM-Solver Sampler (ext)",
            category="sampling/custom_sampling/samplers",
            description="The DPM-Solver family for SamplerCustom. Leave the preset on auto unless you compare solvers.",
            inputs=[
                io.Combo.Input("preset", options=[*PRESETS, "custom", *FAMILY], default="auto", tooltip=(
                    "auto: the best we measured, with the auto schedule; start here. dpmpp_2m, dpmpp_3m: what you know by that name, right "
                    "on flow models too. unipc: few steps and little guidance. dpmpp_2s, dpmpp_3s, dpm_fast: remember nothing, for models "
                    "that jump; one model call a step. dpm_adaptive: as many calls as its tolerance asks. dpmpp_2m_sde, dpmpp_3m_sde, "
                    "dpmpp_sde (two calls a step): add fresh noise, 20 steps and more. dpm_solver_v3: few steps on a model that was "
                    "calibrated, see ems. custom: the widgets below act.")),
                io.Combo.Input("algorithm", options=list(CHOICES["algorithm"]), default="dpmsolver++", tooltip=(
                    "Custom only. dpmsolver++ predicts the image, the papers' choice with CFG; dpmsolver predicts the noise, for CFG near "
                    "1; dpmsolver-v, which auto uses, lies between them and suits both; dpmsolver-v3 follows statistics of the model: "
                    "see ems.")),
                io.Int.Input("order", default=2, min=1, max=3, tooltip=(
                    "Custom only. How many model calls each step learns from. 2 is safe at any step count, 3 pays from about 10 steps "
                    "(with "
                    "dpmsolver-v from 5), 1 is DDIM.")),
                io.Combo.Input("method", options=list(METHODS), default="multistep", tooltip=(
                    "Custom only. multistep remembers the last model calls: the better use of them. singlestep remembers nothing and "
                    "makes exactly as many calls as there are steps, in groups of the order. singlestep_fixed makes as many calls a step "
                    "as the order, so divide the steps by it; context windows and HunyuanVideo cannot use it. adaptive chooses its own "
                    "steps (order 2 or 3).")),
                io.Combo.Input("solver_type", options=["dpmsolver", "taylor"], default="dpmsolver", tooltip=(
                    "Custom only; matters at order 2, and for singlestep at 3. dpmsolver is what the papers recommend; taylor integrates "
                    "the slope exactly. They differ little.")),
                io.Combo.Input("start", options=["corrected", "official"], default="corrected", tooltip=(
                    "Custom only, for multistep. corrected takes the first step again once the second model call is there, for free, and "
                    "makes order 3 real; official is the papers' first-order start, to compare with other programs.")),
                io.Combo.Input("final_rule", options=list(CHOICES["final_rule"]), default="smooth", tooltip=(
                    "Custom only, for multistep. smooth lowers the order where a step is far longer than the one before, as at the end of "
                    "the normal schedule; official lowers it below 10 steps only; none never does: the pure formula.")),
                Ems.Input("ems", optional=True, tooltip=(
                    "Statistics of this model for preset dpm_solver_v3 (or custom with algorithm dpmsolver-v3), from Calibrate "
                    "DPM-Solver-v3 (ext) or Load EMS (ext). Without them closed-form ones are used.")),
            ],
            outputs=[io.Sampler.Output(display_name="sampler", tooltip="Connect to SamplerCustom or SamplerCustomAdvanced.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, preset, algorithm, order, method, solver_type, start, final_rule, ems=None) -> io.NodeOutput:
        if preset != "custom" and preset not in SOLVERS:
            raise ValueError(f"preset is {preset!r}; choose one of {', '.join([*PRESETS, 'custom', *FAMILY])}.")
        if preset != "custom":
            options = dict(SOLVERS[preset])
            if ems is not None and options["algorithm"] != V3:
                raise ValueError(f"ems is connected, but preset is {preset}; set preset to dpm_solver_v3, or disconnect ems.")
            return io.NodeOutput(comfy.samplers.KSAMPLER(sample, options if ems is None else {**options, "statistics": ems}))
        options = prepare(
            algorithm=algorithm, order=order, method=method, solver_type=solver_type, start=start, final_rule=final_rule, ems=ems
        )
        return io.NodeOutput(comfy.samplers.KSAMPLER(sample, options))


class DPMSolverSamplerAdvancedExt(io.ComfyNode):
    """SAMPLER: every option of the family, all of them acting."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DPMSolverSamplerAdvancedExt",
            **aliases("DPM++", "UniPC", "SDE", "dynamic thresholding", "DPM adaptive"),
            display_name="DPM-Solver Sampler Advanced (ext)",
            category="sampling/custom_sampling/samplers",
            description=(
                "Every option of the DPM-Solver family: UniPC, added noise (SDE), thresholding, adaptive steps. As it is dropped it is the "
                "preset auto of DPM-Solver Sampler (ext); change one thing at a time and keep the seed."
            ),
            inputs=[
                io.Combo.Input("algorithm", options=list(CHOICES["algorithm"]), default="dpmsolver-v", tooltip=(
                    "What a step assumes to change slowly. dpmsolver++: the predicted image; for CFG of 3 and more, and for SDE. "
                    "dpmsolver: the predicted noise; for CFG near 1. dpmsolver-v: between them, suits both; has no SDE form. dpmsolver-v3: "
                    "what was measured on this model, see ems; multistep without noise.")),
                io.Int.Input("order", default=2, min=1, max=4, tooltip=(
                    "How many model calls each step learns from. 1 is DDIM, 2 is safe at any step count, 3 pays from about 10 steps (with "
                    "dpmsolver-v from 5). 4 is for multistep with a corrector, from about 15 steps.")),
                io.Combo.Input("method", options=list(METHODS), default="multistep", tooltip=(
                    "multistep remembers the last model calls: the better use of them. singlestep remembers nothing and makes exactly as "
                    "many calls as there are steps: for models that jump. singlestep_fixed makes as many calls a step as the order, "
                    "between the schedule's noise levels: divide the steps by it; context windows and HunyuanVideo cannot use it. adaptive "
                    "chooses its own steps to meet rtol and atol.")),
                io.Combo.Input("solver_type", options=list(CHOICES["solver_type"]), default="dpmsolver", tooltip=(
                    "Leave it, unless you match another program. dpmsolver: the papers' recommendation (bh2 of UniPC, midpoint of the SDE "
                    "samplers). taylor: integrates the slope exactly (heun of the SDE samplers). bh1: UniPC's other variant, at order 2. "
                    "official: also copies the official code's third-order weights; official_taylor: those with taylor, as the built-in "
                    "dpmpp_3m_sde has them. pseudo: DPM-Solver-v3's pseudo order.")),
                io.Combo.Input("start", options=list(CHOICES["start"]), default="corrected", tooltip=(
                    "For multistep. corrected: the first step is taken again once the second model call is there, for free. official: the "
                    "papers' first-order start; take it to match other programs, and for SDE. extra: spends 2 more model calls at order 3 "
                    "and 6 at order 4 on an exact start; for unipc with many steps.")),
                io.Combo.Input("final_rule", options=list(CHOICES["final_rule"]), default="smooth", tooltip=(
                    "For multistep: how the last steps are kept from overshooting. smooth lowers the order where a step is far longer than "
                    "the one before. official lowers it over the last steps of runs below 10 steps (with a corrector: of every run). none "
                    "never does: the pure formula.")),
                io.Combo.Input("corrector", options=list(CHOICES["corrector"]), default="unipc", tooltip=(
                    "For multistep without noise. unipc takes each step again with the model call at its end, which costs no call and "
                    "makes the result one order better: for smooth models and CFG up to about 3. official: the published vary_coeff "
                    "variant with its fault, to compare. v3, v3_pseudo: those of DPM-Solver-v3's paper.")),
                io.Float.Input("eta", default=0.0, min=0.0, max=10.0, step=0.01, round=False, tooltip=(
                    "How much of the noise is replaced by fresh noise on the way. 0: none, the picture follows from the seed's first noise "
                    "alone. 1: the SDE samplers, which hide errors of the model behind detail of their own and want 20 steps and more. "
                    "Between them for a taste of it.")),
                io.Float.Input("s_noise", default=1.0, min=0.0, max=100.0, step=0.01, round=False, tooltip=(
                    "With eta: the size of the fresh noise. 1 is right; 1.01 to 1.03 gives a little more texture, less smooths.")),
                io.Combo.Input("noise_rule", options=list(CHOICES["noise_rule"]), default="sde", tooltip=(
                    "With eta and a singlestep method: how the noise enters. sde: eta is the rate of the SDE. ancestral: eta is the share "
                    "of each step's noise, as in dpmpp_sde. renoise: a step without noise further down, then noise, as in "
                    "dpmpp_2s_ancestral; allows order 3. renoise_flow: the same by ComfyUI's rule for flow models.")),
                io.Float.Input("r1", default=0.0, min=0.0, max=0.99, step=0.01, round=False, tooltip=(
                    "For singlestep_fixed: where in the step the second model call is made, as a share of its length in logSNR. 0 means "
                    "the papers' 1/2 at order 2 and 1/3 at order 3. Leave it unless you study solvers.")),
                io.Float.Input("r2", default=0.0, min=0.0, max=0.99, step=0.01, round=False, tooltip=(
                    "For singlestep_fixed of order 3: where the third model call is made; 0 means the papers' 2/3. Larger than r1.")),
                io.Combo.Input("thresholding", options=list(THRESHOLDING), default="off", tooltip=(
                    "Keeps strong CFG from burning out colours, on models that paint pixels without a VAE (such as Chroma Radiance). "
                    "dynamic: scales each prediction back to its brightest pixels. On a latent space it does harm, so there it is an "
                    "error; dynamic_in_latent_space does it all the same.")),
                io.Float.Input("threshold_ratio", default=0.995, min=0.01, max=1.0, step=0.001, round=False, tooltip=(
                    "With thresholding: the share of pixels that are kept as they are. Lower it if colours still burn out.")),
                io.Float.Input("threshold_max", default=1.0, min=0.01, max=100.0, step=0.01, round=False, tooltip=(
                    "With thresholding: predictions below this size are not clipped. 1 is the range of pixels; the result always lies "
                    "within 1.")),
                io.Float.Input("rtol", default=0.05, min=0.0, max=1.0, step=0.001, round=False, tooltip=(
                    "For adaptive: the error allowed in a step, relative to the picture's values. Half of it costs about a quarter "
                    "more model calls.")),
                io.Float.Input("atol", default=0.0078, min=0.00001, max=1.0, step=0.0001, round=False, tooltip=(
                    "For adaptive: the error that is always allowed. 0.0078 is one grey level of 256 where values lie in -1 to 1.")),
                io.Float.Input("safety", default=0.0, min=0.0, max=1.0, step=0.01, round=False, tooltip=(
                    "For adaptive: what each proposed step is multiplied by. 0 means our default, 0.7; the papers have 0.9, which is "
                    "rejected more often.")),
                io.Int.Input("max_evaluations", default=1000, min=3, max=100000, tooltip=(
                    "For adaptive: an error ends the run before it needs more model calls than this.")),
                Ems.Input("ems", optional=True, tooltip=(
                    "For algorithm dpmsolver-v3: statistics of this model, from Calibrate DPM-Solver-v3 (ext) or Load EMS (ext). Without "
                    "them closed-form ones are used.")),
                io.Float.Input("data_std", default=DATA_STD, min=0.01, max=100.0, step=0.01, round=False, optional=True, tooltip=(
                    "For dpmsolver-v3 without ems: the size of the latents' values, of which the closed-form statistics follow. 1 where "
                    "latents are normalised.")),
                io.Combo.Input("corrector_range", options=list(CORRECTOR_RANGE), default="full", optional=True, tooltip=(
                    "With a corrector: full lets it act in every step, half only in the half of the model's time that has less noise, as "
                    "the paper of DPM-Solver-v3 does with strong CFG.")),
                io.Combo.Input("slopes", options=list(SLOPES), default="auto", optional=True, tooltip=(
                    "For multistep without noise, at order 2. measured: watches in the run itself how well the model's "
                    "predictions can be foreseen, and leans on that more or less; best with strong CFG and few steps. planned: the papers' "
                    "fixed weights, to match other programs. auto: measured for dpmsolver-v of order 2 with unipc, planned for the rest.")),
            ],
            outputs=[io.Sampler.Output(display_name="sampler", tooltip="Connect to SamplerCustom or SamplerCustomAdvanced.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, **widgets) -> io.NodeOutput:
        return io.NodeOutput(comfy.samplers.KSAMPLER(sample, prepare(**widgets)))


class DPMSolverSchedulerExt(io.ComfyNode):
    """SIGMAS: the schedules of the papers and one measured default, for a model or for Stable Diffusion's table."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="DPMSolverSchedulerExt",
            **aliases("BasicScheduler", "sigmas", "karras", "logSNR", "Align Your Steps", "AYS", "GITS", "OptimalSteps", "manual sigmas"),
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
                    "karras, exponential: as the host's own of these names. manual: the sigmas typed below. The others are published "
                    "tables, each for the checkpoints of one model: ays_sd15, gits_sd15 for SD 1.5, ays_sdxl for SDXL (at 10 steps), "
                    "ays_svd for SVD, oss_flux (10), oss_wan (20), oss_chroma (40). On other models they run, but gain nothing; "
                    "connect the model, and info says so.")),
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
                    "The least noise level that steps are spread over, before the final 0; 0 means the model's own. The published tables "
                    "have a last step of their own, and are cut above it only.")),
                io.String.Input("manual_sigmas", default="14.6, 6.5, 2.9, 1.3, 0.5, 0", tooltip=(
                    "For manual only: falling noise levels, separated by commas; the last is usually 0. Or drag the dots of the plot.")),
                io.Model.Input("model", optional=True, tooltip="The model that will run. It brings its noise levels, its shift and its "
                "clock."),
                io.Combo.Input("final_sigma", options=list(FINAL), default="zero", optional=True, tooltip=(
                    "zero: the last step takes all noise away; right for pictures. sigma_min: the run ends at the least noise level, and a "
                    "little noise stays. Take it before FlipSigmas, to encode a picture as noise, or to leave the last step to another "
                    "sampler. Ignored by manual.")),
            ],
            outputs=[
                io.Sigmas.Output(display_name="sigmas", tooltip="Connect to SamplerCustom or SamplerCustomAdvanced."),
                io.String.Output(display_name="info", tooltip="What was made, in one line; show it with any text preview node."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, schedule, steps, denoise, sigma_max, sigma_min, manual_sigmas, model=None, final_sigma="zero") -> io.NodeOutput:
        model_sampling = model.get_model_object("model_sampling") if model is not None else None
        made = steps_of(schedule, steps, denoise, sigma_max, sigma_min, manual_sigmas, final_sigma, model_sampling)
        for sentence in made.said:
            tell(sentence)
        return io.NodeOutput(torch.tensor(made.sigmas, dtype=torch.float32), made.text)


class DPMSolverExtension(ComfyExtension):
    """What ComfyUI loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            DPMSolverSamplerExt, DPMSolverSchedulerExt, DPMSolverSamplerAdvancedExt, DPMSolverCalibrateExt, DPMSolverLoadEMSExt,
            DPMSolverEMSInfoExt, DPMSolverTuneScheduleExt, DPMSolverLoadTunedExt, DPMSolverCompareExt,
            DPMSolverErrorCurveExt,
        ]  # fmt: skip
