"""A scheduler for Hugging Face diffusers on the tapes of this library.

    pipe.scheduler = DPMSolverExtScheduler.from_config(pipe.scheduler.config, preset="auto", schedule="auto")

A tape asks for one evaluation at a time, a pipeline gives one a `step`: the executor's generator is advanced by one send. What a step
must remember lies in the tape's registers; there is no other solver state here.

Noise levels: the VP path, with diffusers' sigma = σ/α, or the flow path. Which ones a run visits is left to diffusers' own scheduler
(`clock`: the class that the config came from, where it is one of CLOCKS), or to a `schedule` of this library.
"""

import inspect
import math
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerMixin
from diffusers.utils import BaseOutput, logging
from diffusers.utils.torch_utils import randn_tensor

from ..solvers import schedule as schedules
from ..solvers.choices import PRESETS
from ..solvers.execute import walk
from ..solvers.path import FLOW, VP, Path
from ..solvers.presets import plan
from ..solvers.tape import Eval, Tape
from ..solvers.threshold import check_threshold, dynamic_threshold

log = logging.get_logger(__name__)

CLOCKS = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler")
PREDICTIONS = ("epsilon", "sample", "v_prediction", "flow_prediction")
SCHEDULES = tuple(name for name in schedules.NAMES if name != "manual")
# diffusers' names for ours: bh2 and midpoint take a slope by its value half-way, heun integrates it
SOLVER_TYPES = {"midpoint": "dpmsolver", "bh2": "dpmsolver", "logrho": "dpmsolver", "heun": "taylor"}
# what the class of a config says besides its keys
MEANINGS: dict[str, dict[str, object]] = {
    "DPMSolverSinglestepScheduler": {"method": "singlestep"},
    "DPMSolverSDEScheduler": {"method": "singlestep_fixed", "algorithm_type": "sde-dpmsolver++"},
    "UniPCMultistepScheduler": {"corrector": "unipc", "clock": "UniPCMultistepScheduler"},
    "FlowMatchEulerDiscreteScheduler": {"prediction_type": "flow_prediction", "clock": "FlowMatchEulerDiscreteScheduler"},
    "FlowMatchHeunDiscreteScheduler": {"prediction_type": "flow_prediction", "clock": "FlowMatchEulerDiscreteScheduler"},
}

# keys that only one class has, in the order to look for them
OWN_KEYS = {
    "method": "DPMSolverExtScheduler",
    "euler_at_final": "DPMSolverMultistepScheduler",
    "disable_corrector": "UniPCMultistepScheduler",
    "noise_sampler_seed": "DPMSolverSDEScheduler",
    "stochastic_sampling": "FlowMatchEulerDiscreteScheduler",
    "lambda_min_clipped": "DPMSolverSinglestepScheduler",  # the multistep one has it, too, and was found before
}


@dataclass
class DPMSolverExtSchedulerOutput(BaseOutput):
    """`prev_sample` is the state for the next evaluation, `pred_original_sample` this one's data prediction; both as the sample."""

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor


class DPMSolverExtScheduler(SchedulerMixin, ConfigMixin):
    """Every solver of this library that is a tape, for any diffusers pipeline.

    Solver (see `solvers.presets.plan`): `algorithm_type` ("dpmsolver++", "dpmsolver", "dpmsolver-v"; "sde-" before one of the first two
    is eta 1), `solver_order` 1…4, `solver_type` ("midpoint", "heun", "bh1", "bh2", or ours), `method`, `start`, `final_rule`,
    `corrector`, `eta`, `s_noise`, `noise_rule`, `r1`, `r2`. `preset` ("auto", "dpmpp_2m", …) goes before all that it names, without noise.

    Noise levels: `schedule` ("auto", "logSNR", "time_uniform", "time_quadratic", "karras", "exponential", or a published table such as
    "ays_sdxl", for that model), whose timesteps are fractional where the levels lie between the model's; or None for those of `clock`,
    with all of diffusers' own options. The others mean what they mean there. `from_config` takes the config of any diffusers scheduler;
    that of a singlestep, UniPC, SDE or flow-match one also sets method, corrector, eta or prediction.

    Differences to diffusers, all on purpose: `start="corrected"` and `final_rule="smooth"` unless asked otherwise ("official" copies the
    papers' code, whose final rule acts below 10 steps where diffusers' `lower_order_final`, which is not read, acts below 15); third
    order with exact weights unless `solver_type="official"`; noise algorithms and flow models may run to sigma 0; the last of two equal
    sigmas is left out (karras with sigma_min at the end); a singlestep run groups its evaluations as the papers do.
    """

    _compatibles = [e.name for e in KarrasDiffusionSchedulers]
    order = 1  # of each instance: the timesteps an outer step takes, as pipelines count them

    @register_to_config
    def __init__(
        self,
        # solver
        preset: str | None = None,
        algorithm_type: str = "dpmsolver++",
        solver_order: int = 2,
        solver_type: str = "midpoint",
        method: str = "multistep",
        start: str = "corrected",
        final_rule: str = "smooth",
        corrector: str = "none",
        eta: float | None = None,
        s_noise: float = 1.0,
        noise_rule: str = "sde",
        r1: float | None = None,
        r2: float | None = None,
        # model
        prediction_type: str = "epsilon",
        variance_type: str | None = None,
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float = 1.0,
        # noise levels: ours, then diffusers'
        schedule: str | None = None,
        clock: str | None = None,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: list[float] | None = None,
        rescale_betas_zero_snr: bool = False,
        timestep_spacing: str = "linspace",
        steps_offset: int = 0,
        final_sigmas_type: str = "zero",
        lambda_min_clipped: float = -math.inf,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        use_karras_sigmas: bool = False,
        use_exponential_sigmas: bool = False,
        use_beta_sigmas: bool = False,
        use_lu_lambdas: bool = False,
        use_flow_sigmas: bool = False,
        flow_shift: float = 1.0,
        shift: float = 1.0,
        shift_terminal: float | None = None,
        use_dynamic_shifting: bool = False,
        time_shift_type: str = "exponential",
        base_shift: float | None = 0.5,
        max_shift: float | None = 1.15,
        base_image_seq_len: int = 256,
        max_image_seq_len: int = 4096,
        invert_sigmas: bool = False,
    ):
        for name, value, choices in (
            ("prediction_type", prediction_type, PREDICTIONS),
            ("schedule", schedule, (None, *SCHEDULES)),
            ("clock", clock, (None, *CLOCKS)),
            ("preset", preset, (None, *PRESETS)),
            ("final_sigmas_type", final_sigmas_type, ("zero", "sigma_min")),
        ):
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(str, choices))}.")
        if invert_sigmas:
            raise ValueError("invert_sigmas is True, but these levels rise; only falling ones are sampled, so set it to False.")
        if thresholding:
            check_threshold(dynamic_thresholding_ratio, min(1.0, sample_max_value), sample_max_value)
        self._path: Path = FLOW if use_flow_sigmas or prediction_type == "flow_prediction" else VP
        name = clock or (CLOCKS[2] if self._path is FLOW and not use_flow_sigmas else CLOCKS[0])
        self._clock: Any = _make_clock(getattr(diffusers, name), self.config)
        self._table: np.ndarray | None = None
        if self._path is VP:
            alphas = self._clock.alphas_cumprod.double().numpy()
            self._table = np.sqrt((1 - alphas) / alphas)
        self.init_noise_sigma = 1.0
        self.timesteps, self.sigmas = self._clock.timesteps, self._clock.sigmas
        self.num_inference_steps: int | None = None
        self._levels: list[float] = []  # of the outer steps
        self._evals: list[float] = []  # the sigma of each evaluation
        self._times: list[float] = []
        self._said: set[str] = set()  # the tapes' notes that were logged
        self._forget()
        plan(self._path, [0.9, 0.8, 0.7, 0.6, 0.5], **self._options())  # a wrong option is an error here and not in a run

    def _forget(self) -> None:
        self._step_index: int | None = None
        self._begin_index: int | None = None
        self._run: Any = None
        self._state: Any = None
        self._given: tuple[Any, int | None] = (None, None)
        self._increment: tuple[float, float, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # a running generator cannot be copied; the copy plans the rest of the run anew from where this one is
        return self.__dict__ | {"_run": None, "_state": None, "_given": (None, None), "_increment": None}

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """From the config of any diffusers scheduler (or of this one); `kwargs` win."""
        if isinstance(config, dict):
            config = _translate(config)
        return super().from_config(config, return_unused_kwargs, **kwargs)

    def _options(self) -> dict[str, Any]:
        """The options of `plan`."""
        c = self.config
        options: dict[str, Any] = {
            name: c[name] for name in ("method", "start", "final_rule", "corrector", "s_noise", "noise_rule", "r1", "r2")
        }
        algorithm = c.algorithm_type.removeprefix("sde-")
        options |= {"algorithm": "dpmsolver++" if algorithm == "deis" else algorithm, "order": c.solver_order}
        options |= {"solver_type": SOLVER_TYPES.get(c.solver_type, c.solver_type)}
        options |= {"eta": float(c.algorithm_type.startswith("sde-") and not c.preset) if c.eta is None else c.eta}
        return options | (PRESETS[c.preset] if c.preset else {})

    # --- the noise levels of a run ------------------------------------------------------------------------------------------------

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: list[float] | None = None,
        sigmas: list[float] | None = None,
        mu: float | None = None,
    ) -> None:
        """Plan a run: of `num_inference_steps`, or along `timesteps` of the model, or along `sigmas`, falling (VP: σ/α; a flow-match clock
        shifts them, as its pipelines expect; n even ones from 1 to 1/n, which those pass, leave `schedule` its choice); the final one is
        added. `mu` sets the shift where it is dynamic.

        `timesteps` then has one entry an evaluation, stages included; `sigmas` its level, and the end's. ValueError, one sentence.
        """
        given = {"num_inference_steps": num_inference_steps, "timesteps": timesteps, "sigmas": sigmas}
        if sigmas is not None and self.config.schedule is not None and self._path is FLOW:
            n = len(sigmas)
            if n and np.allclose(sigmas, np.linspace(1.0, 1 / n, n)):  # what Flux and its kin pass for a number of steps
                num_inference_steps, sigmas = n, None
                given |= {"num_inference_steps": n, "sigmas": None}
        if timesteps is not None or sigmas is not None:
            given.pop("num_inference_steps")
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) != 1:
            raise ValueError(
                f"set_timesteps got {' and '.join(given) or 'nothing'}; give num_inference_steps, timesteps or sigmas, one of them."
            )
        (asked,) = given.values()
        schedules.check_steps(asked if isinstance(asked, int) else len(asked))
        self._clock = _make_clock(type(self._clock), self.config)  # pipelines mend configs after the scheduler is made
        if mu is None and self.config.use_dynamic_shifting:
            raise ValueError("mu is missing, but use_dynamic_shifting is True; pass the mu of the image size, or set it to False.")
        if sigmas is not None and (self._table is not None or "sigmas" not in inspect.signature(self._clock.set_timesteps).parameters):
            levels, times, whole = [float(s) for s in sigmas], {}, False
            levels += [] if levels[-1:] == [0.0] else [self._final(mu)]
        elif self.config.schedule is not None and num_inference_steps is not None:
            levels, times, whole = self._scheduled(num_inference_steps, mu), {}, False
        else:
            levels, times, whole = self._clocked(given, mu)
        while len(levels) > 1 and levels[-2] == levels[-1]:
            levels.pop()
        tape = plan(self._path, levels, **self._options())
        for note in tape.notes:
            if note not in self._said:
                log.warning(note)
        self._said.update(tape.notes)
        self._forget()
        self._tape, self._levels, self._evals = tape, levels, _evaluations(tape)
        self._times = [times.get(s, self._time(s)) for s in self._evals]
        whole = whole and all(t == int(t) for t in self._times)
        self.timesteps = torch.tensor(self._times, dtype=torch.int64 if whole else torch.float32, device=device)
        self._times = self.timesteps.tolist()  # as a pipeline will hand them back
        self.sigmas = torch.tensor([*self._evals, levels[-1]], dtype=torch.float32)
        self.order = self.config.solver_order if self.config.method == "singlestep_fixed" else 1
        self.num_inference_steps = len(levels) - 1 if self.order > 1 else len(self._evals)

    def _clocked(self, given: dict[str, Any], mu: float | None) -> tuple[list[float], dict[float, float], bool]:
        """(levels, their timesteps, whether these are whole numbers) as diffusers has them."""
        if "sigmas" in given and given["sigmas"][-1] == 0:
            given = {"sigmas": given["sigmas"][:-1]}  # a clock adds it
        if given.keys().isdisjoint(inspect.signature(self._clock.set_timesteps).parameters):
            raise ValueError(f"{type(self._clock).__name__} takes no {next(iter(given))}; give num_inference_steps or sigmas.")
        self._clock.set_timesteps(**given, **({"mu": mu} if self.config.use_dynamic_shifting else {}))
        levels, times = self._clock.sigmas.tolist(), self._clock.timesteps.tolist()
        return levels, dict(zip(levels[:-1], times, strict=True)), not self._clock.timesteps.is_floating_point()

    def _scheduled(self, steps: int, mu: float | None) -> list[float]:
        """The levels of `schedule` over the model's range."""
        if self._table is not None:
            time_map = schedules.table_map(self._table.tolist())
            top, low = float(self._table[-1]), float(self._table[0])
        else:
            time_map, top, low = lambda tau: self._flow_level(tau, mu), 1.0, self._flow_level(1 / self.config.num_train_timesteps, mu)
        make: dict[str, Any] = {
            "auto": lambda n: schedules.auto(self._path, n, top, low, time_map),
            "logSNR": lambda n: schedules.log_snr(self._path, n, top, low, time_map),
            "time_uniform": lambda n: schedules.time_uniform(n, top, low, time_map),
            "time_quadratic": lambda n: schedules.time_uniform(n, top, low, time_map, power=2),
            "karras": lambda n: schedules.karras(n, top, low),
            "exponential": lambda n: schedules.exponential(n, top, low),
        }
        if self.config.schedule in schedules.TABLES:
            from ..solvers.tables import table

            make[self.config.schedule] = lambda n: table(self.config.schedule, n, self._path, top, low)
        levels, final = make[self.config.schedule](steps), self._final(mu)
        if len(levels) > 2 and math.isclose(levels[-2], final):
            levels = make[self.config.schedule](steps + 1)[:-1]  # its own last level is the end
        return [*levels[:-1], final]

    def _final(self, mu: float | None) -> float:
        """The level at the end of a run."""
        if self.config.final_sigmas_type == "zero":
            return 0.0
        return float(self._table[0]) if self._table is not None else self._flow_level(1 / self.config.num_train_timesteps, mu)

    def _flow_level(self, tau: float, mu: float | None) -> float:
        """The shifted sigma of a flow time in 0…1."""
        c = self.config
        shift = c.shift * c.flow_shift
        if c.use_dynamic_shifting and mu is not None:
            shift = math.exp(mu) if c.time_shift_type == "exponential" else mu
        return shift * tau / (1 + (shift - 1) * tau)

    def _time(self, sigma: float) -> float:
        """The model's timestep at a level, between its own log-linear, as diffusers' sigma_to_t."""
        if self._table is None:
            return sigma * self.config.num_train_timesteps
        return float(np.interp(math.log(sigma), np.log(self._table), np.arange(len(self._table))))

    def _level(self, time: float) -> float:
        """The level of a timestep: of the run where it visits it, else of the model."""
        if time in self._times:
            return self._evals[self._times.index(time)]
        if self._table is None:
            return time / self.config.num_train_timesteps
        return math.exp(float(np.interp(time, np.arange(len(self._table)), np.log(self._table))))

    # --- a step -------------------------------------------------------------------------------------------------------------------

    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        variance_noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> DPMSolverExtSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """Take in the model's output at `timestep` on `sample` (batch, ...) and return the state for the next one, dtype of `sample`.

        A sample changed since the last step (inpainting, callbacks) is the state from then on. Noise is drawn with `generator` in float32,
        or is `variance_noise`. One generator draws the whole batch, so that an item's noise depends on those beside it, which is what
        pipelines get from diffusers' schedulers, and on purpose the same here; a list of one generator a batch item makes each item's
        picture its own. State and result are on the sample's device; nothing is read from it but the first timestep of a run without a
        begin index.
        """
        if self._run is None:
            self._begin(timestep, sample)
        sigma, state = self._evals[self._step_index], self._state
        if not self._is_given(sample) and state is not sample:
            state.copy_(sample)
        x0 = self._prediction(model_output, state, sigma)

        def noise(sigma_from: float, sigma_to: float) -> torch.Tensor:
            if variance_noise is not None:
                return variance_noise.to(device=state.device, dtype=state.dtype)
            return self._noise(state, generator, sigma_from, sigma_to)

        self._draw = noise
        try:
            self._state, _ = self._run.send(x0)
            following = self._state
        except StopIteration as end:
            following, self._run, self._state = end.value, None, None
        self._step_index += 1
        prev_sample = following.to(sample.dtype, copy=True)  # the state stays ours, in float32 for a half-precision sample
        self._given = (prev_sample, _version(prev_sample))
        if not return_dict:
            return (prev_sample, x0.to(sample.dtype))
        return DPMSolverExtSchedulerOutput(prev_sample, x0.to(sample.dtype))

    def _begin(self, timestep: Any, sample: torch.Tensor) -> None:
        """Start the executor at this timestep: at the begin index, where there is one; in the middle, with the rest planned anew."""
        if self.num_inference_steps is None:
            raise ValueError("step was called before set_timesteps; call that first.")
        index = self._step_index
        if index is None:
            index = self._begin_index if self._begin_index is not None else self.index_for_timestep(timestep)
        if index >= len(self._evals):
            raise ValueError(f"the run of {len(self._evals)} evaluations is over; call set_timesteps for another.")
        tape = self._tape if index == 0 else self._rest(index)
        self._step_index = index
        self._run = walk(tape, sample, noise=lambda a, b: self._draw(a, b))
        self._state, _ = next(self._run)

    def _rest(self, index: int) -> Tape:
        """The run from this evaluation on, planned anew: where that is inside a step of "singlestep", the rest is grouped anew.

        Not so where the stages are no levels: their timesteps, which a pipeline has taken by now, would be others in another group.
        """
        s, rest, options = self._evals[index], self._evals[index:], self._options()
        if s in self._levels:  # a stage between the levels is the end of no step
            tape = plan(self._path, [s, *(level for level in self._levels if level < s)], **options)
            if len(rest) == tape.evaluations and np.allclose(rest, _evaluations(tape), rtol=1e-9):
                return tape
        if options["method"] == "singlestep":
            mend = "begin at the first evaluation of one, or take noise_rule sde or ancestral"
        elif options["method"] == "multistep":
            mend = "take start corrected"
        else:
            mend = f"begin at a multiple of scheduler.order ({self.order}), or take method multistep or singlestep"
        raise ValueError(
            f"a run cannot begin at evaluation {index}, inside a step of method {options['method']}, start {options['start']}, noise_rule "
            f"{options['noise_rule']}; {mend}."
        )

    def _is_given(self, sample: torch.Tensor) -> bool:
        """Whether `sample` is what the last step returned, unchanged. (Inference tensors keep no count of changes: they never are.)"""
        given, version = self._given
        return sample is given and version is not None and _version(sample) == version

    def _prediction(self, output: torch.Tensor, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """The data prediction, thresholded where asked, dtype of the state x."""
        kind, a, s = self.config.prediction_type, self._path.alpha(sigma), self._path.sigma(sigma)
        if self.config.variance_type in ("learned", "learned_range"):
            output = output[:, : x.shape[1]]  # the rest is the variance
        if output.shape != x.shape:
            raise ValueError(
                f"model_output has shape {tuple(output.shape)} and the sample {tuple(x.shape)}; if the model also predicts a variance, "
                "set variance_type to learned."
            )
        output = output.to(x.dtype)
        if kind == "epsilon":
            if a == 0:
                raise ValueError("prediction_type is epsilon, but at pure noise it says nothing of the data; use another level or type.")
            x0 = (x - s * output) / a
        elif kind == "v_prediction":
            size = math.hypot(a, s)  # 1 on the VP path
            x0 = (a * x - s * size * output) / size**2
        else:
            x0 = output if kind == "sample" else x - s * output
        if self.config.thresholding:
            least = min(1.0, self.config.sample_max_value)
            x0 = dynamic_threshold(x0, self.config.dynamic_thresholding_ratio, least, self.config.sample_max_value)
        return x0

    def _noise(self, x: torch.Tensor, generator: Any, a: float, b: float) -> torch.Tensor:
        """Unit noise of a → b. Where the last noise was of a stage inside it, a → m, the rest m → b is drawn and the increments add up."""
        drawn = randn_tensor(x.shape, generator=generator, device=x.device, dtype=torch.float32).to(x.dtype)
        if self._increment is not None and self._increment[0] == a and b < self._increment[1]:
            _, m, unit = self._increment
            drawn = math.sqrt((a - m) / (a - b)) * unit + math.sqrt((m - b) / (a - b)) * drawn
        self._increment = (a, b, drawn)
        return drawn

    # --- what pipelines ask besides -----------------------------------------------------------------------------------------------

    @property
    def step_index(self) -> int | None:
        """The evaluation that `step` expects next; None before the first."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """Where the run begins, see `set_begin_index`."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin the run at this entry of `timesteps` (image to image)."""
        self._begin_index = begin_index

    def index_for_timestep(self, timestep: float | torch.Tensor, schedule_timesteps: torch.Tensor | None = None) -> int:
        """The place of a timestep in the run; the second of equal ones and the last for one that is not there, as in diffusers."""
        times = self._times if schedule_timesteps is None else schedule_timesteps.tolist()
        places = [i for i, t in enumerate(times) if t == float(timestep)]
        return places[min(1, len(places) - 1)] if places else len(times) - 1

    def scale_model_input(self, sample: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """The sample as it is: the state is in the model's own scaling."""
        return sample

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """α·original + σ·noise at each item's timestep (batch,); at the level of the current step once a begin index is set."""
        if self._begin_index is not None and self._evals:
            index = self._begin_index if self._step_index is None else self._step_index
            levels = [([*self._evals, self._levels[-1]])[min(index, len(self._evals))]] * len(timesteps)
        else:
            levels = [self._level(t) for t in timesteps.tolist()]
        shape = (-1, *[1] * (original_samples.ndim - 1))
        alpha, sigma = (
            torch.tensor([f(s) for s in levels]).to(original_samples).reshape(shape) for f in (self._path.alpha, self._path.sigma)
        )
        return alpha * original_samples + sigma * noise

    def scale_noise(self, sample: torch.Tensor, timestep: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """`add_noise` by the name and order that flow-match pipelines use."""
        return self.add_noise(sample, noise, timestep)

    def __len__(self) -> int:
        return self.config.num_train_timesteps


def _make_clock(cls: Any, config: Any) -> Any:
    """diffusers' scheduler with all of our config that it knows; its solver is not used."""
    known = {name: config[name] for name in inspect.signature(cls.__init__).parameters if name in config}
    known = {
        name: value for name, value in known.items() if name not in ("algorithm_type", "solver_type", "solver_order", "prediction_type")
    }
    return cls(**known)


def _translate(config: dict[str, Any]) -> dict[str, Any]:
    """A diffusers config with what its class means said in keys of ours."""
    name = _class_of(config)
    meaning = MEANINGS.get(name, {})
    if name == "UniPCMultistepScheduler" and not config.get("predict_x0", True):
        meaning = meaning | {"algorithm_type": "dpmsolver"}
    plain = [key for key in config.get("_use_default_values", []) if key not in meaning]
    return {**config, **meaning} | ({"_use_default_values": plain} if "_use_default_values" in config else {})


def _class_of(config: dict[str, Any]) -> str:
    """The class of a config: written in it where it was loaded from a file, else told by the keys of its own that it has."""
    if "_class_name" in config:
        return config["_class_name"]
    for key, name in OWN_KEYS.items():
        if key in config:
            return name
    return ""


def _evaluations(tape: Tape) -> list[float]:
    """The sigma of each evaluation of a tape."""
    return [record.sigma for record in tape.records if isinstance(record, Eval)]


def _version(tensor: torch.Tensor) -> int | None:
    """How often a tensor was changed in place."""
    return None if tensor.is_inference() else tensor._version
