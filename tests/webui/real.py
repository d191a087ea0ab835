"""Run by test_real.py: a checkout's own files of samplers and schedule types, our extension in them, and what comes of it.

    python tests/webui/real.py KIND CHECKOUT      KIND: a1111, forge or reforge

The files that an extension's sampler meets are the host's (`OWN`); the rest of the host (its UI, its models) is stand-ins that answer
anything, and the model is the double's. Prints one JSON object, which the double's is compared with. No code of a host is kept here.
"""

import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path

import torch
from standins import Anything, Opts, StandIns  # run as a script: the folder is on sys.path

OWN = (
    "sd_samplers", "sd_samplers_kdiffusion", "sd_samplers_common", "sd_samplers_cfg_denoiser", "sd_samplers_timesteps",
    "sd_samplers_lcm", "sd_samplers_extra", "sd_schedulers", "sd_samplers_kdiffusion_smea", "script_callbacks",
)  # fmt: skip
STEPS, SHAPE, SEEDS = 8, (4, 8, 8), (7, 8)


def start(kind, checkout):
    """The host's modules, ready for an extension."""
    sys.path.insert(0, str(checkout))
    tops = ("modules", "modules_forge", "backend", "ldm_patched", "gradio", "fastapi", "torchvision", "diffusers")
    sys.meta_path.insert(0, StandIns(checkout, OWN, tops))
    from_double = importlib.util.spec_from_file_location("double", Path(__file__).with_name("host.py"))
    double = importlib.util.module_from_spec(from_double)
    from_double.loader.exec_module(double)
    if kind == "a1111":
        k = double.k_diffusion()
    else:
        name = "k_diffusion" if kind == "forge" else "k_diff.k_diffusion"
        parent = types.ModuleType(name)
        parent.__path__ = [str(checkout.joinpath(*name.split(".")))]
        if "." in name:
            sys.modules["k_diff"] = types.ModuleType("k_diff")
            sys.modules["k_diff"].k_diffusion = parent
            sys.modules["k_diff"].__path__ = []
        sys.modules[name] = parent
        parent.sampling = importlib.import_module(name + ".sampling")
        parent.external = importlib.import_module(name + ".external")
        k = parent
        sys.modules.setdefault("k_diffusion", k)
        sys.modules.setdefault("k_diffusion.sampling", k.sampling)
        sys.modules.setdefault("k_diffusion.external", k.external)
    import modules

    host = types.SimpleNamespace(k=k, on_call=None, model=None)
    shared = modules.shared = importlib.import_module("modules.shared")
    shared.opts = Opts(
        hide_samplers=[], live_preview_content="Prompt", sd_sampling="A1111", eta_ancestral=1.0, s_noise=1.0, s_churn=0.0, s_tmin=0.0,
        batch_cond_uncond=True, randn_source="CPU", dpmpp_sde_r=0.5, dpmpp_2m_sde_solver="midpoint",
    )  # fmt: skip
    shared.state = types.SimpleNamespace(interrupted=False, skipped=False, sampling_step=0, sampling_steps=0, current_latent=None)
    shared.total_tqdm = types.SimpleNamespace(update=lambda: None)
    shared.device = torch.device("cpu")
    devices = importlib.import_module("modules.devices")
    devices.cpu = devices.device = torch.device("cpu")
    devices.randn_local = lambda seed, shape: torch.randn(shape, generator=torch.Generator().manual_seed(int(seed)))
    importlib.import_module("modules.paths").models_path = "/nonexistent"
    extensions = importlib.import_module("modules.extensions")
    extensions.extensions, extensions.find_extension = [], lambda path: None
    importlib.import_module("modules.util").MassFileLister = object
    parser = importlib.import_module("modules.prompt_parser")
    parser.reconstruct_multicond_batch = lambda c, step: ([[(i, 1.0)] for i in range(len(c))], c)
    parser.reconstruct_cond_batch = lambda c, step: c
    for name in ("modules_forge.alter_samplers", "modules_forge.forge_alter_samplers"):
        forge = importlib.import_module(name)
        forge.samplers_data_alter, forge.AlterSampler = [], type("AlterSampler", (), {})
    for name in ("modules_forge.forge_sampler", "backend.sampling.sampling_function"):
        sampling = importlib.import_module(name)
        sampling.sampling_prepare = sampling.sampling_cleanup = lambda *args, **more: None
    return host, double, shared


def use(kind, host, double, shared, model):
    """Make `model` of the double the loaded one, in the words of this host."""
    made = double.Model(host, model)
    made.model = types.SimpleNamespace(conditioning_key="crossattn")
    made.is_sdxl, made.cond_stage_key, made.parameterization = False, "txt", "v" if model == "v" else "eps"
    made.sd_checkpoint_info = None
    plain = made.apply_model
    made.apply_model = lambda x, t, cond: plain(x, t, cond["c_crossattn"][0][:, :, :1, None])
    shared.sd_model = made
    if kind == "a1111":
        return made
    unet = types.SimpleNamespace(model=types.SimpleNamespace(), controlnet_linked_list=None, extra_concat_condition=None, model_options={})
    made.forge_objects = types.SimpleNamespace(unet=unet)
    denoiser = importlib.import_module("modules.sd_samplers_cfg_denoiser")

    def guided(x, sigma, scale):
        sigma = sigma.view(-1, 1, 1, 1)
        c, u = (made.x0(x, sigma, value, 1 - sigma if made.flow else 1.0) for value in (1.0, 0.0))
        return u + scale * (c - u), c, u

    if kind == "forge":
        prediction = importlib.import_module("backend.modules.k_prediction")
        unet.model.predictor = {
            "eps": lambda: prediction.Prediction(prediction_type="epsilon"),
            "v": lambda: prediction.Prediction(prediction_type="v_prediction"),
            "const": lambda: prediction.PredictionDiscreteFlow(shift=3.0),
        }[model]()
        denoiser.sampling_function = lambda d, denoiser_params, cond_scale, cond_composition: guided(
            denoiser_params.x, denoiser_params.sigma, cond_scale
        )
    else:
        for name in ("cond_from_a1111_to_patched_ldm", "cond_from_a1111_to_patched_ldm_weighted"):
            setattr(denoiser.forge_sampler, name, lambda *args: [])
        denoiser.sampling_function = lambda model, x, sigma, u, c, scale, options, seed: guided(x, sigma, scale)[0]
    return made


def generate(double, shared, name, scheduler, steps=STEPS, seeds=SEEDS, latent=None):
    sd = importlib.import_module("modules.sd_samplers")
    p = double.Host.processing(None, name, scheduler, seeds, steps)
    more = {
        "hr_cfg": 7.0,
        "s_min_uncond": 0.0,
        "scripts": None,
        "rng": None,
        "refiner_switch_at": None,
        "refiner_checkpoint_info": None,
        "image_cfg_scale": None,
    }
    more["seeds"] = list(seeds)
    vars(p).update(more)
    p.sampler_name, p.scheduler = sd.get_sampler_and_scheduler(name, scheduler, convert_automatic=False)
    noise = torch.stack([torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    sampler = sd.create_sampler(p.sampler_name, shared.sd_model)
    cond, image = torch.ones(len(seeds), 1, 1), torch.zeros(len(seeds), 1, 1, 1)
    with torch.no_grad():
        if latent is None:
            out = sampler.sample(p, noise, cond, 0 * cond, image_conditioning=image)
        else:
            out = sampler.sample_img2img(p, latent, noise, cond, 0 * cond, image_conditioning=image)
    told = sampler.model_wrap_cfg
    return p, out, [told.step, told.total_steps, told.steps]


def axes(checkout, scripts):
    """The labels that our axes have in the host's own plot, twice asked, and what one of them does to a run."""
    path = checkout / "scripts" / "xyz_grid.py"
    spec = importlib.util.spec_from_file_location("xyz_grid.py", path)
    plot = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plot)
    scripts.scripts_data.append(types.SimpleNamespace(path=str(path), module=plot))
    for _ in range(2):
        importlib.import_module("modules.script_callbacks").before_ui_callback()
    ours = {axis.label: axis for axis in plot.axis_options if axis.label.startswith("[DPM-Solver]")}
    p = types.SimpleNamespace()
    ours["[DPM-Solver] Solver type"].apply(p, "taylor", ["taylor"])
    label = plot.format_value_add_label(p, ours["[DPM-Solver] Fresh noise (eta)"], 0.5)
    return [axis.label for axis in plot.axis_options if axis.label in ours], p.dpm_solver_ext_axes, label


def listening():
    """What the host lists of our callbacks, [(event, file, name)]: as we told it, and as it finds by looking through the stack."""
    callbacks, code = importlib.import_module("modules.script_callbacks"), sys.modules["dpm_solver_ext.webui"]

    def listed():
        ours = [
            (event, c) for event, found in callbacks.callback_map.items() for c in found if c.callback.__module__.startswith(code.__name__)
        ]
        return sorted({(event, c.script, c.name.partition("-")[0]) for event, c in ours})

    told = listed()
    for found in callbacks.callback_map.values():
        found.clear()
    code.inspect = types.SimpleNamespace(signature=lambda function: types.SimpleNamespace(parameters={}))
    code._callbacks()
    return told, listed()


def main(kind, checkout):
    host, double, shared = start(kind, Path(checkout))
    sys.modules["gradio.context"] = Anything("gradio.context")
    sd = importlib.import_module("modules.sd_samplers")
    table = importlib.import_module("modules.sd_schedulers")
    built_in = {s.name: s.options for s in sd.all_samplers}
    scripts = importlib.import_module("modules.scripts")
    scripts.scripts_data = []
    out = {"built in": built_in}
    for _ in range(2):  # as Reload UI does
        spec = importlib.util.spec_from_file_location("dpm_solver_ext.py", double.ROOT / "scripts" / "dpm_solver_ext.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    out["ours"] = [s.name for s in sd.all_samplers if s.name not in built_in]
    out["kept"] = [s.name for s in sd.all_samplers][: len(built_in)] == list(built_in)
    out["labels"] = [s.label for s in table.schedulers]
    out["found"] = {name: sd.get_sampler_and_scheduler(name, "Karras", convert_automatic=False) for name in out["ours"]}
    out["unknown"] = sd.get_sampler_and_scheduler("no such sampler", "no such schedule")
    out["alias"] = sd.get_sampler_and_scheduler("k_dpmpp_2m_sde", "Automatic")
    out["script"] = module.DPMSolverExt is not None
    out["axes"] = axes(Path(checkout), scripts)
    out["runs"] = {}
    for model in ["eps", "v", *(["const"] if kind == "forge" else [])]:
        use(kind, host, double, shared, model)
        runs = out["runs"][model] = {}
        for name in ["DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", *out["ours"]]:
            scheduler = "DPM logSNR" if model == "const" else "Karras"
            p, picture, counts = generate(double, shared, name, scheduler)
            single = generate(double, shared, name, scheduler, seeds=SEEDS[1:])[1]
            part = generate(double, shared, name, scheduler, latent=picture)[1]
            runs[name] = {
                "values": picture.flatten()[:64].tolist(), "counts": counts, "batch": float((picture[1] - single[0]).abs().max()),
                "image to image": part.flatten()[:64].tolist(), "infotext": p.extra_generation_params,
            }  # fmt: skip
        details, options = sys.modules["dpm_solver_ext.webui.details"], sys.modules["dpm_solver_ext.webui.options"].OPTIONS
        for name in out["ours"]:
            values = {"sampler": name, "scheduler": scheduler, "steps": STEPS, "strength": 0.75}
            runs[name]["details"] = [details.told(way, values, [option.default for option in options]) for way in (False, True)]
    out["listening"] = listening()
    sys.stdout.write(json.dumps(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
