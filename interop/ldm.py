"""DPMSolverSampler with the interface of CompVis' ldm/models/diffusion/dpm_solver/sampler.py, for Stable Diffusion's original code base.

Put it in place of the class of that name (or of DDIMSampler): same calls of `sample`, `encode` and `stochastic_encode`.
"""

import warnings
from typing import Any

from ..solvers.official import DPM_Solver
from ..solvers.official_model import ModelFn, model_wrapper
from ..solvers.official_schedule import NoiseScheduleVP

TYPES = {"eps": "noise", "v": "v", "x0": "x_start"}
WITHOUT_EFFECT = {"eta": 0.0, "temperature": 1.0, "noise_dropout": 0.0, "quantize_x0": False, "normals_sequence": None}


class DPMSolverSampler:
    """Samples latents of `model`, a LatentDiffusion: it has `apply_model(x, t, cond)`, `alphas_cumprod`, `device` and `parameterization`
    ("eps", "v" or "x0"; "eps" if it has none). `exact` as in `DPM_Solver`; `device` where the states live (default: the model's).
    """

    def __init__(self, model: Any, *, exact: bool = False, device: Any = None):
        kind = getattr(model, "parameterization", "eps")
        if kind not in TYPES:
            raise ValueError(f"The model's parameterization is {kind!r}; DPMSolverSampler knows {', '.join(TYPES)}.")
        self.model, self.model_type, self.exact = model, TYPES[kind], exact
        self.device = model.device if device is None else device
        self.register_buffer("alphas_cumprod", model.alphas_cumprod.detach().clone())
        self.noise_schedule = NoiseScheduleVP("discrete", alphas_cumprod=self.alphas_cumprod)

    def register_buffer(self, name: str, attr: Any) -> None:
        """Keep `attr`, a tensor on the sampler's device, under `name`."""
        setattr(self, name, attr.to(self.device) if hasattr(attr, "to") else attr)

    def sample(
        self,
        S: int,
        batch_size: int,
        shape: tuple[int, ...],
        conditioning: Any = None,
        callback: Any = None,
        normals_sequence: Any = None,
        img_callback: Any = None,
        quantize_x0: bool = False,
        eta: float = 0.0,
        mask: Any = None,
        x0: Any = None,
        temperature: float = 1.0,
        noise_dropout: float = 0.0,
        score_corrector: Any = None,
        corrector_kwargs: dict[str, Any] | None = None,
        verbose: bool = True,
        x_T: Any = None,
        log_every_t: int = 100,
        unconditional_guidance_scale: float = 1.0,
        unconditional_conditioning: Any = None,
        skip_type: str = "time_uniform",
        method: str = "multistep",
        order: int = 2,
        lower_order_final: bool = True,
        correcting_xt_fn: Any = None,
        t_start: float | None = None,
        t_end: float | None = None,
        return_intermediate: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, Any]:
        """(latents (batch_size, *shape), None) after `S` evaluations; with `return_intermediate` the second is the list of states.

        Conditions are tensors, or dicts and lists of them. `callback(i)` and `img_callback(pred_x0, i)` are called once a step. The run
        is deterministic from `x_T` (drawn if None): `eta`, `temperature`, `noise_dropout`, `quantize_x0`, `normals_sequence` and any
        other name warn that they have no effect; `verbose` and `log_every_t` have none either. ValueError for `mask`, `x0` and
        `score_corrector`, which would be lost.
        """
        given = {
            "eta": eta, "temperature": temperature, "noise_dropout": noise_dropout, "quantize_x0": quantize_x0,
            "normals_sequence": normals_sequence, **kwargs,
        }  # fmt: skip
        for name, value in given.items():
            if name in kwargs or value != WITHOUT_EFFECT[name]:
                warnings.warn(f"{name} has no effect on DPM-Solver, which adds no noise; leave it out.", stacklevel=2)
        for name, value in (("mask", mask), ("x0", x0), ("score_corrector", score_corrector)):
            if value is not None:
                raise ValueError(f"{name} is not used by DPMSolverSampler; blend or correct the state in correcting_xt_fn(x, t, step).")
        if x_T is None:
            x_T = self.alphas_cumprod.new_empty((batch_size, *shape)).normal_()
        solver = self._solver(x_T, conditioning, unconditional_guidance_scale, unconditional_conditioning, correcting_xt_fn)

        def report(step: int, _: Any, pred_x0: Any) -> None:
            if callback is not None:
                callback(step)
            if img_callback is not None:
                img_callback(pred_x0, step)

        out = solver.sample(
            x_T, steps=S, t_start=t_start, t_end=t_end, skip_type=skip_type, method=method, order=order,
            lower_order_final=lower_order_final, return_intermediate=return_intermediate, callback=report,
        )  # fmt: skip
        return out if return_intermediate else (out, None)

    def encode(
        self,
        S: int,
        x: Any,
        encode_ratio: float,
        conditioning: Any = None,
        unconditional_guidance_scale: float = 1.0,
        unconditional_conditioning: Any = None,
        skip_type: str = "time_uniform",
        method: str = "multistep",
        order: int = 2,
        lower_order_final: bool = False,
    ) -> tuple[Any, list[Any]]:
        """(the noise that the ODE makes of latents x at `encode_ratio` of the way, 0…1; the states in between)."""
        solver = self._solver(x, conditioning, unconditional_guidance_scale, unconditional_conditioning, None)
        return solver.inverse(
            x, steps=S, t_end=self.ratio_to_time(encode_ratio), skip_type=skip_type, method=method, order=order,
            lower_order_final=lower_order_final, return_intermediate=True,
        )  # fmt: skip

    def stochastic_encode(self, x0: Any, encode_ratio: float, noise: Any = None) -> Any:
        """Latents x0 with noise added, at `encode_ratio` of the way, 0…1."""
        noise = noise if noise is None or noise.ndim > x0.ndim else noise[None]
        return DPM_Solver(None, self.noise_schedule).add_noise(x0, [self.ratio_to_time(encode_ratio)], noise=noise)

    def ratio_to_time(self, ratio: float) -> float:
        """0…1 to the schedule's times 1/N…1."""
        return ratio + (1.0 - ratio) / self.noise_schedule.total_N

    def _solver(self, x: Any, condition: Any, scale: float, unconditional: Any, correcting_xt_fn: Any) -> DPM_Solver:
        size = _batch_of(condition)
        if size not in (None, x.shape[0]):
            warnings.warn(f"There are {size} conditionings for a batch of {x.shape[0]}.", stacklevel=3)
        model_fn: ModelFn = model_wrapper(
            lambda x, t, c=None: self.model.apply_model(x, t, c),
            self.noise_schedule,
            model_type=self.model_type,
            guidance_type="classifier-free" if condition is not None or scale != 1 else "uncond",
            condition=condition,
            unconditional_condition=unconditional,
            guidance_scale=scale,
        )
        return DPM_Solver(model_fn, self.noise_schedule, "dpmsolver++", correcting_xt_fn=correcting_xt_fn, exact=self.exact)


def _batch_of(condition: Any) -> int | None:
    """The batch size of the first array of a condition."""
    while isinstance(condition, (dict, list, tuple)) and condition:
        condition = next(iter(condition.values())) if isinstance(condition, dict) else condition[0]
    return condition.shape[0] if hasattr(condition, "shape") else None
