"""A double of the WebUI, as far as a sampler extension meets it: written from its behaviour, with the places where that can be read.

A = stable-diffusion-webui 1.10.1 (82a973c0), F = stable-diffusion-webui-forge (dfdcbab6), R = stable-diffusion-webui-reForge (3b56b268);
file:line of `modules/`. k-diffusion is the real package: the hosts' own sampling.py and external.py.

It is a double of what the host does *to* an extension: it swallows what scripts raise, answers unknown names with the first sampler,
keeps those answers for ever, rebinds its maps, and hands over sigmas as it does.
"""

import copy
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import math
import sys
import types
from collections import namedtuple
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {
    "hide_samplers": [], "always_discard_next_to_last_sigma": False, "use_old_karras_scheduler_sigmas": False, "sigma_min": 0.0,
    "sigma_max": 0.0, "rho": 0.0, "sgm_noise_multiplier": False, "img2img_extra_noise": 0.0, "img2img_fix_steps": False,
    "eta_ancestral": 1.0, "s_noise": 1.0, "no_dpmpp_sde_batch_determinism": False, "enable_quantization": False,
}  # fmt: skip


class Interrupted(BaseException):
    """A sd_samplers_common.py:140: no Exception, so that nobody catches it by accident."""


class Opts(types.SimpleNamespace):
    pass


def k_diffusion():
    """The real k_diffusion.sampling and .external, without its `__init__` (clean-fid, clip) and without torchvision, which they import
    and do not use."""
    spec = importlib.util.find_spec("k_diffusion")
    parent = sys.modules["k_diffusion"] = types.ModuleType("k_diffusion")
    parent.__path__ = list(spec.submodule_search_locations)
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets", "torchvision.utils")
    blank = [name for name in names if name not in sys.modules]
    for name in blank:
        sys.modules[name] = types.ModuleType(name)
        if "." in name:
            setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], sys.modules[name])
    try:
        parent.sampling = importlib.import_module("k_diffusion.sampling")
        parent.external = importlib.import_module("k_diffusion.external")
    finally:
        for name in blank:
            del sys.modules[name]
    return parent


class Host:
    """One WebUI process. `kind`: "a1111", "forge" or "old" (before 1.9, without schedule types). `close` takes its modules away."""

    def __init__(self, kind="a1111", models="/nonexistent"):
        self.kind, self.before = kind, dict(sys.modules)
        for name in [n for n in sys.modules if n.split(".")[0] in ("modules", "k_diffusion")]:
            del sys.modules[name]
        self.k = k_diffusion()
        self.opts = Opts(**OPTIONS)
        self.state = types.SimpleNamespace(interrupted=False, skipped=False, sampling_step=0, sampling_steps=0)
        self.reported, self.model, self.calls = [], None, 0
        self.module("", __path__=[])
        self.module("shared", opts=self.opts, state=self.state, total_tqdm=types.SimpleNamespace(update=lambda: None))
        self.module("paths", models_path=str(models))
        self.callbacks()
        self.module(
            "sd_samplers_common", SamplerData=self.sampler_data(), InterruptedException=Interrupted, setup_img2img_steps=self.img2img_steps
        )
        if kind != "old":
            self.schedules()
        self.module("sd_samplers_kdiffusion", KDiffusionSampler=sampler_class(self))
        self.samplers()
        self.scripts = self.module("scripts", Script=script_class(), AlwaysVisible=object(), scripts_data=[])
        self.script = None

    def module(self, name, **names):
        full = f"modules.{name}" if name else "modules"
        module = sys.modules[full] = types.ModuleType(full)
        vars(module).update(names)
        if name:
            setattr(sys.modules["modules"], name, module)
        return module

    def close(self):
        """Put sys.modules back as it was, our package included."""
        ours = ("modules", "k_diffusion", "dpm_solver_ext")
        for name in [n for n in sys.modules if n.split(".")[0] in ours]:
            del sys.modules[name]
        sys.modules.update({n: m for n, m in self.before.items() if n.split(".")[0] in ours})

    def load(self):
        """Run our script as the host does (A script_loading.py:10, scripts.py:484), the extension's folder on sys.path meanwhile; also
        what Reload UI does: A initialize.py:79 and scripts.py:486 empty the callbacks and the list of scripts first, the lists of
        samplers and schedule types stay."""
        for listed in self.listening.values():
            listed.clear()
        self.scripts.scripts_data.clear()
        path, file = list(sys.path), ROOT / "scripts" / "dpm_solver_ext.py"
        sys.path.insert(0, str(ROOT))
        try:
            spec = importlib.util.spec_from_file_location(file.name, file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        finally:
            sys.path[:] = path
        for value in vars(module).values():  # A scripts.py:491: every class that is a Script counts
            if inspect.isclass(value) and issubclass(value, self.scripts.Script):
                self.scripts.scripts_data.append(types.SimpleNamespace(script_class=value, path=str(file), module=module))
        found = [data.script_class for data in self.scripts.scripts_data]
        self.script = found[0]() if found else None
        return module

    def callbacks(self):
        """A script_callbacks.py:127: who listens is told or looked for; hosts before 1.9 always look. `self.looks` counts that."""
        events = ("infotext_pasted", "before_ui", "ui_tabs")
        self.listening, self.looks = {f"callbacks_{event}": [] for event in events}, 0

        def add_callback(callbacks, fun, *, name=None, category="unknown", filename=None):
            if filename is None:
                self.looks += 1
                filename = next(frame.filename for frame in inspect.stack() if frame.filename != __file__)
            callbacks.append(types.SimpleNamespace(script=filename, callback=fun, name=f"{Path(filename).name}/{category}"))

        def older(callbacks, fun, **more):
            add_callback(callbacks, fun, category=more["category"])

        add = older if self.kind == "old" else add_callback

        def listener(event):
            return lambda callback: add(self.listening[f"callbacks_{event}"], callback, category=event)

        on = {f"on_{event}": listener(event) for event in events}
        self.module("script_callbacks", add_callback=add, callback_map=self.listening, **on)

    @property
    def pasted(self):
        return [c.callback for c in self.listening["callbacks_infotext_pasted"]]

    @property
    def before_ui(self):
        return [c.callback for c in self.listening["callbacks_before_ui"]]

    @property
    def tabs(self):
        return [c.callback for c in self.listening["callbacks_ui_tabs"]]

    def img2img_steps(self, p, steps=None):
        """A sd_samplers_common.py:22."""
        if self.opts.img2img_fix_steps or steps is not None:
            asked = steps or p.steps
            return int(asked / min(p.denoising_strength, 0.999)) if p.denoising_strength > 0 else 0, asked - 1
        return p.steps, int(min(p.denoising_strength, 0.999) * p.steps)

    def sampler_data(self):
        class SamplerData(namedtuple("SamplerData", ["name", "constructor", "aliases", "options"])):
            """A sd_samplers_common.py:11."""

            def total_steps(self, steps):
                return steps * 2 if self.options.get("second_order") else steps

        return SamplerData

    def schedules(self):
        """A sd_schedulers.py:19 and :125; the map knows names and labels."""
        scheduler = dataclasses.make_dataclass(
            "Scheduler",
            ["name", "label", "function", ("default_rho", float, -1), ("need_inner_model", bool, False), ("aliases", list, None)],
        )
        listed = [
            scheduler("automatic", "Automatic", None),
            scheduler("uniform", "Uniform", lambda n, sigma_min, sigma_max, inner_model, device: inner_model.get_sigmas(n), -1, True),
            scheduler("karras", "Karras", self.k.sampling.get_sigmas_karras, 7.0),
            scheduler("exponential", "Exponential", self.k.sampling.get_sigmas_exponential),
            scheduler("sgm_uniform", "SGM Uniform", None, aliases=["SGMUniform"]),
        ]
        self.module(
            "sd_schedulers", Scheduler=scheduler, schedulers=listed, schedulers_map={k: s for s in listed for k in (s.name, s.label)}
        )

    def samplers(self):
        """The built-in ones that ours are held against, and the lists (A sd_samplers.py, F sd_samplers.py)."""
        data = sys.modules["modules.sd_samplers_common"].SamplerData
        make = sys.modules["modules.sd_samplers_kdiffusion"].KDiffusionSampler
        brownian = {"scheduler": "exponential", "brownian_noise": True}
        built_in = [
            ("DPM++ 2M", "sample_dpmpp_2m", {"scheduler": "karras"}),
            ("DPM++ SDE", "sample_dpmpp_sde", {"scheduler": "karras", "second_order": True, "brownian_noise": True}),
            ("DPM++ 2M SDE", "sample_dpmpp_2m_sde", brownian),
            ("DPM++ 2M SDE Heun", "sample_dpmpp_2m_sde", {**brownian, "solver_type": "heun"}),
            ("DPM++ 3M SDE", "sample_dpmpp_3m_sde", {**brownian, "discard_next_to_last_sigma": True}),
            ("Euler", "sample_euler", {}),
        ]
        listed = [data(name, functools.partial(make, function), ["k_" + function], options) for name, function, options in built_in]
        m = self.module("sd_samplers", all_samplers=listed, all_samplers_map={s.name: s for s in listed}, samplers=[], samplers_map={})

        def set_samplers():
            """A sd_samplers.py:46: the lists are one object."""
            m.samplers = m.samplers_for_img2img = m.all_samplers
            m.samplers_hidden = set(self.opts.hide_samplers)
            m.samplers_map.clear()
            for s in m.all_samplers:
                m.samplers_map.update({key.lower(): s.name for key in (s.name, *s.aliases)})

        @functools.cache
        def get_sampler_and_scheduler(name, scheduler, *, convert_automatic=True):
            """A sd_samplers.py:100: whatever it does not know is silently the first one; an ending that is a schedule type is cut off;
            answers are kept. R compares the endings in lower case (sd_samplers.py:121)."""
            table = sys.modules["modules.sd_schedulers"]
            found = table.schedulers_map.get(scheduler, table.schedulers[0])
            for s in table.schedulers:
                for ending in (s.label, s.name, *(s.aliases or [])):
                    if name.lower().endswith(" " + ending.lower()):
                        name, found = name[: -len(ending) - 1], s
                        break
            sampler = m.all_samplers_map.get(name, m.samplers[0])
            if convert_automatic and sampler.options.get("scheduler") == found.name:
                found = table.schedulers[0]
            return sampler.name, found.label

        def find_sampler_config(name):
            return m.all_samplers_map.get(name) if name is not None else m.all_samplers[0]

        def create_sampler(name, model):
            """A sd_samplers.py:34."""
            config = find_sampler_config(name)
            sampler = config.constructor(model)
            sampler.config = config
            return sampler

        m.set_samplers, m.find_sampler_config, m.create_sampler = set_samplers, find_sampler_config, create_sampler
        if self.kind != "old":
            m.get_sampler_and_scheduler = get_sampler_and_scheduler
        if self.kind == "forge":

            def add_sampler(sampler):
                """F sd_samplers.py:64: the map becomes another object."""
                if sampler.name not in [s.name for s in m.all_samplers]:
                    m.all_samplers.append(sampler)
                    m.all_samplers_map = {s.name: s for s in m.all_samplers}
                    set_samplers()

            m.add_sampler = add_sampler
        set_samplers()

    # what a user does

    def processing(self, sampler="DPM++ 2M", scheduler="Automatic", seeds=(7,), steps=8, **more):
        """A processing.py: the fields that samplers read."""
        p = types.SimpleNamespace(
            sampler_name=sampler, scheduler=scheduler, hr_scheduler=None, is_hr_pass=False, steps=steps, all_seeds=list(seeds),
            batch_size=len(seeds), iteration=0, cfg_scale=7.0, eta=None, s_churn=0.0, s_tmin=0.0, s_tmax=math.inf, s_noise=1.0,
            s_min_uncond=0.5,
            denoising_strength=0.75, sampler_noise_scheduler_override=None, extra_generation_params={}, mask=None, nmask=None,
        )  # fmt: skip
        vars(p).update(more)
        return p

    def process(self, p, args=None):
        """A scripts.py:821: a script's exception is reported and the run goes on."""
        if self.script is not None:
            try:
                self.script.process(p, *(default_arguments() if args is None else args))
            except Exception as error:
                self.reported.append(error)

    def generate(self, p, args=None, latent=None, shape=(4, 8, 8)):
        """Text to image, or image to image from `latent`: A processing.py:838 and the sampler. Noise is one generator a seed (rng.py)."""
        self.process(p, args)
        sd = sys.modules["modules.sd_samplers"]
        if self.kind != "old":
            p.sampler_name, p.scheduler = sd.get_sampler_and_scheduler(p.sampler_name, p.scheduler, convert_automatic=False)
        mine = p.all_seeds[p.iteration * p.batch_size : (p.iteration + 1) * p.batch_size]
        noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in mine])
        self.sampler = sd.create_sampler(p.sampler_name, self.model)
        with torch.no_grad():
            return self.sampler.sample(p, noise) if latent is None else self.sampler.sample_img2img(p, latent, noise)

    def infotext(self, p):
        """{key: text} as written and read back: A processing.py:800 and infotext_utils.py:12 (its grammar of keys)."""
        import json
        import re

        quoted = {k: json.dumps(v) if any(c in str(v) for c in ",:\n") else v for k, v in p.extra_generation_params.items()}
        line = ", ".join(f"{k}: {v}" for k, v in {"Steps": p.steps, "Sampler": p.sampler_name, "Seed": p.all_seeds[0], **quoted}.items())
        found = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', line)
        return {k: json.loads(v) if v.startswith('"') else v for k, v in found}


def default_arguments():
    return [option.default for option in sys.modules["dpm_solver_ext.webui.options"].OPTIONS]


def script_class():
    class Script:
        """A scripts.py:60; `infotext_fields` and `paste_field_names` are what ui() sets."""

        infotext_fields = paste_field_names = None
        is_img2img = False

        def elem_id(self, name):
            return f"script_{name}"

    return Script


def at_step(parts, step):
    return next((part.cond for part in parts if step <= part.end_at_step), parts[0].cond)


def rows_of(cond, step):
    """What the denoiser makes of conditions: A prompt_parser.py:293 and :321. A number stays one."""
    if hasattr(cond, "batch"):
        return torch.stack([at_step(parts[0].schedules, step) for parts in cond.batch]).view(-1, 1, 1, 1)
    if isinstance(cond, list):
        return torch.stack([at_step(parts, step) for parts in cond]).view(-1, 1, 1, 1)
    return cond


def sampler_class(host):
    class Denoiser(torch.nn.Module):
        """A sd_samplers_cfg_denoiser.py: guidance, masks, previews and the step count around the model."""

        def __init__(self, sampler):
            super().__init__()
            self.sampler, self.step, self.model_wrap, self.mask, self.nmask, self.init_latent = sampler, 0, None, None, None, None
            self.steps = self.total_steps = None

        @property
        def inner_model(self):
            if self.model_wrap is None:
                self.model_wrap = host.model.wrap()
            return self.model_wrap

        def forward(self, x, sigma, cond, uncond, cond_scale, s_min_uncond, image_cond):
            if host.state.interrupted or host.state.skipped:  # :155
                raise Interrupted
            host.condition, host.unguided_below = cond, s_min_uncond
            host.on_call(self)
            host.calls += 1
            cond, uncond = rows_of(cond, self.step), rows_of(uncond, self.step)
            u = self.inner_model(x, sigma, cond=uncond)
            denoised = u + (self.inner_model(x, sigma, cond=cond) - u) * cond_scale
            if self.mask is not None:  # :284, after the model
                denoised = denoised * self.nmask + self.init_latent * self.mask
            self.step += 1
            return denoised

    class KDiffusionSampler:
        """A sd_samplers_kdiffusion.py and sd_samplers_common.py; R has the same, F asks its predictor for the first state."""

        def __init__(self, funcname, sd_model, options=None):
            self.funcname, self.extra_params, self.options = funcname, [], options or {}
            self.func = funcname if callable(funcname) else getattr(host.k.sampling, funcname)
            self.config = self.last_latent = self.p = None
            self.model_wrap_cfg = Denoiser(self)
            self.model_wrap = self.model_wrap_cfg.inner_model

        def get_sigmas(self, p, steps):
            """:91. The range is the model's, or the settings'; a run with the last but one level left out has one step more before."""
            discard = self.config.options.get("discard_next_to_last_sigma") or host.opts.always_discard_next_to_last_sigma
            steps += bool(discard)
            table = getattr(sys.modules.get("modules.sd_schedulers"), "schedulers_map", {})
            name = (p.hr_scheduler if p.is_hr_pass else p.scheduler) or "Automatic"
            scheduler = table.get(self.config.options.get("scheduler") if name == "Automatic" else name)
            if host.kind == "old":  # 1.8: the sampler's own choice between two
                low, top = self.model_wrap.sigmas[0].item(), self.model_wrap.sigmas[-1].item()
                karras = self.config.options.get("scheduler") == "karras"
                sigmas = host.k.sampling.get_sigmas_karras(steps, low, top) if karras else self.model_wrap.get_sigmas(steps)
            elif scheduler is None or scheduler.function is None:
                sigmas = self.model_wrap.get_sigmas(steps)
            else:
                p.extra_generation_params["Hires schedule type" if p.is_hr_pass else "Schedule type"] = scheduler.label
                given = {"sigma_min": self.model_wrap.sigmas[0].item(), "sigma_max": self.model_wrap.sigmas[-1].item()}
                given |= {k: v for k in given if (v := getattr(host.opts, k))}
                given |= {"inner_model": self.model_wrap} if scheduler.need_inner_model else {}
                sigmas = scheduler.function(n=steps, **given, device=torch.device("cpu"))
            return (torch.cat([sigmas[:-2], sigmas[-1:]]) if discard else sigmas).cpu()

        def initialize(self, p):
            """sd_samplers_common.py:286: only what extra_params and the function's own signature name; eta by its name alone."""
            self.p, self.model_wrap_cfg.p, self.model_wrap_cfg.step = p, p, 0
            self.model_wrap_cfg.mask, self.model_wrap_cfg.nmask = p.mask, p.nmask
            names = inspect.signature(self.func).parameters
            given = {name: getattr(p, name) for name in self.extra_params if hasattr(p, name) and name in names}
            if "eta" in names:
                given["eta"] = p.eta if p.eta is not None else host.opts.eta_ancestral
            return given

        def sample_img2img(self, p, x, noise):
            """:143: the last part of a longer schedule; the Brownian paths span the whole of it."""
            steps, last = host.img2img_steps(p)
            sigmas = self.get_sigmas(p, steps)
            part = sigmas[steps - last - 1 :]
            self.model_wrap_cfg.init_latent = x
            return self.run(p, host.model.noised(x, noise, part[0]), part, sigmas, last + 1)

        def sample(self, p, noise, conditioning=1.0, unconditional_conditioning=0.0, image_conditioning=None):
            """:190."""
            sigmas = self.get_sigmas(p, p.steps)
            return self.run(
                p, host.model.noised(torch.zeros_like(noise), noise, sigmas[0]), sigmas, sigmas, p.steps,
                conditioning, unconditional_conditioning, image_conditioning,
            )  # fmt: skip

        def run(self, p, x, sigmas, whole, steps, cond=1.0, uncond=0.0, image_cond=None):
            given, names = self.initialize(p), inspect.signature(self.func).parameters
            if "sigmas" in names:
                given["sigmas"] = sigmas
            if self.config.options.get("brownian_noise"):
                given["noise_sampler"] = self.create_noise_sampler(x, whole, p)
            if self.config.options.get("solver_type") == "heun":
                given["solver_type"] = "heun"
            extra = {"cond": cond, "image_cond": image_cond, "uncond": uncond, "cond_scale": p.cfg_scale, "s_min_uncond": p.s_min_uncond}
            self.sampler_extra_args, self.last_latent = extra, x
            self.model_wrap_cfg.steps, self.model_wrap_cfg.total_steps = steps, self.config.total_steps(steps)
            try:  # sd_samplers_common.py:265
                return self.func(self.model_wrap_cfg, x, extra_args=extra, disable=True, callback=self.callback_state, **given)
            except Interrupted:
                return self.last_latent

        def callback_state(self, d):
            host.state.sampling_step = d["i"]
            self.last_latent = d["denoised"]

        def create_noise_sampler(self, x, sigmas, p):
            """sd_samplers_common.py:334: one path a seed of this batch."""
            if host.opts.no_dpmpp_sde_batch_determinism:
                return None
            seeds = p.all_seeds[p.iteration * p.batch_size : (p.iteration + 1) * p.batch_size]
            return host.k.sampling.BrownianTreeNoiseSampler(x, sigmas[sigmas > 0].min(), sigmas.max(), seed=seeds)

    return KDiffusionSampler


class Model:
    """shared.sd_model: two clusters in every value, closer together with the prompt. Its exact denoiser in the words of `kind`: "eps" or
    "v" on Stable Diffusion's table (`zsnr`: with zero terminal SNR, as A processing.py's override makes it), "const" as Forge's predictor
    or "sd3" as A1111's own class (models/sd3/sd3_model.py:15)."""

    def __init__(self, host, kind="eps", zsnr=False, shift=3.0):
        self.k, self.kind = host.k, kind
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.alphas_cumprod = torch.cumprod(1 - betas, 0)
        if zsnr:
            root = self.alphas_cumprod.sqrt()
            root = (root - root[-1]) * root[0] / (root[0] - root[-1])
            self.alphas_cumprod = torch.cat([root[:-1] ** 2, torch.tensor([4.8973451890853435e-08], dtype=torch.float64)])
        self.alphas_cumprod = self.alphas_cumprod.float()
        t = torch.arange(1, 1001) / 1000
        self.flow_table = shift * t / (1 + (shift - 1) * t)
        host.model, host.on_call = self, lambda denoiser: None

    @property
    def flow(self):
        return self.kind in ("const", "sd3")

    def wrap(self):
        if self.flow:
            return Flow(self)
        return (self.k.external.CompVisVDenoiser if self.kind == "v" else self.k.external.CompVisDenoiser)(self, quantize=False)

    def noised(self, x, noise, sigma):
        return sigma * noise + (1 - sigma) * x if self.flow else x + noise * sigma

    def x0(self, x, sigma, cond, alpha=1.0):
        """E[x0 | x] of ½ N(m, 0.1) + ½ N(-m, 0.1) per value, m = 0.8 - 0.1 cond."""
        mean, var = 0.8 - 0.1 * cond, 0.1
        spread = alpha * alpha * var + sigma * sigma
        sign = torch.tanh(x * alpha * mean / spread)
        return sign * mean + alpha * var / spread * (x - alpha * sign * mean)

    def apply_model(self, x, t, cond):
        """The network: eps or v of a variance-preserving state at a (fractional) step."""
        low = t.floor().long().clamp(0, 998)
        logs = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt().log()
        sigma = (logs[low] + (logs[low + 1] - logs[low]) * (t - low)).exp().view(-1, 1, 1, 1)
        ve = x * (1 + sigma**2).sqrt()
        eps = (ve - self.x0(ve, sigma, cond)) / sigma
        if self.kind == "eps":
            return eps
        return (eps - sigma * self.x0(ve, sigma, cond)) / (1 + sigma**2).sqrt()


class Flow(torch.nn.Module):
    """A flow model's denoiser: F k_diffusion/external.py:41 has a `predictor` and no sigma_min to rely on; A sd3_model.py:15 a table."""

    def __init__(self, model):
        super().__init__()
        self.model, self.sigmas = model, model.flow_table
        if model.kind == "const":
            self.predictor = types.SimpleNamespace(prediction_type="const")

    def get_sigmas(self, n):
        return torch.cat([self.sigmas[torch.linspace(len(self.sigmas) - 1, 0, n).long()], torch.zeros(1)])

    def forward(self, x, sigma, cond):
        s = sigma.view(-1, 1, 1, 1)
        return self.model.x0(x, s, cond, 1 - s)


def xyz_plot(host, axis, values, p, args=None):
    """The cells of scripts/xyz_grid.py: shallow copies of one p, the axis applied before `process`."""
    if axis.confirm:
        axis.confirm(p, values)
    cells = []
    for value in values:
        cell = copy.copy(p)
        axis.apply(cell, value, values)
        cells.append((host.generate(cell, args), host.infotext(cell)))
    return cells


def as_numpy(x):
    return np.asarray(x.double())
