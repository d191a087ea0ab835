"""What the defaults were chosen by: the preset and the schedule "auto" against the real ComfyUI's samplers × schedules.

    .venv/bin/python benchmarks/defaults.py [--quick] [--all] [--only TEXT] [--out benchmarks/results/defaults]

Error of the final state: root mean square to the converged solution, median over the batch. Only built-ins that make one model call a step
and add no noise take part, so that steps are evaluations. Writes OUT.json (every figure, versions, machine) and OUT.md (the tables).
"""

import argparse
import importlib.util
import json
import math
import os
import platform
import sys
import time
import types
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
SAMPLERS = "euler dpmpp_2m lms ipndm ipndm_v deis res_multistep gradient_estimation uni_pc uni_pc_bh2".split()
# those that were best somewhere: the peers on the demo model without --all
SHORT = {
    *(
        "dpmpp_2m karras",
        "dpmpp_2m beta",
        "dpmpp_2m sgm_uniform",
        "deis karras",
        "deis beta",
        "ipndm karras",
        "ipndm beta",
        "ipndm_v karras",
    ),
    *("ipndm_v beta", "lms karras", "lms beta", "euler beta", "euler sgm_uniform", "uni_pc karras", "uni_pc normal", "res_multistep beta"),
}
MEAN = (0.7104, 0.6040, 0.4662)  # of the emoji, as in demo/pack
OURS = [("dpm_auto_ext", "dpm_auto_ext"), ("dpmpp_2m_ext", "dpm_auto_ext"), ("dpmpp_3m_ext", "dpm_auto_ext"), ("dpm_auto_ext", "karras")]
COUNTS = (5, 6, 8, 10, 12, 15, 20, 25)


def load(name: str, path: Path, package: Path | None = None):
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[str(package)] if package else None)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def comfy():
    """The real ComfyUI's modules, with this pack registered as ComfyUI would."""
    host = load("demo_host", ROOT / "demo" / "host.py")
    arguments, sys.argv = sys.argv, sys.argv[:1]
    sys.path[:0] = [str(host.app_dir(ROOT)), str(ROOT / "demo" / "stubs")]
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import comfy.extra_samplers.uni_pc
    import comfy.model_sampling
    import comfy.samplers

    load("dpm_solver_pack", ROOT / "__init__.py", ROOT)
    sys.argv = arguments
    return comfy


def problems(comfy, torch):
    """(name, model_sampling, denoiser (x, sigma) -> x0, unit noise) of each problem; float64 mixtures, the demo model in float32."""
    library = load("dpm_solver_ext", ROOT / "__init__.py", ROOT)
    models = load("dpm_solver_ext.tests.models", ROOT / "tests" / "models.py")
    ms = comfy.model_sampling
    eps = type("Eps", (ms.ModelSamplingDiscrete, ms.EPS), {})()
    flow = type("Flow", (ms.ModelSamplingDiscreteFlow, ms.CONST), {})()
    generator = torch.Generator().manual_seed(20261121)
    noise = torch.randn(32, 4, 8, 8, generator=generator, dtype=torch.float64)

    def mixture(path, guidance):
        law = models.image_like(guidance)
        return lambda x, s: torch.from_numpy(law.denoise(path, x.double().numpy().reshape(len(x), -1), s)).reshape(x.shape).to(x.dtype)

    for guidance in (1.5, 7.5):
        yield f"image-like mixture, guidance {guidance}", eps, mixture(library.VE, guidance), noise
        yield f"image-like mixture as flow, guidance {guidance}", flow, mixture(library.FLOW, guidance), noise
    emoji = load("emoji_model", ROOT / "demo" / "emoji_model.py")
    net, _ = emoji.load(ROOT / "demo" / "emoji.safetensors")
    size = 16
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    labels = torch.randint(0, emoji.CLASSES, (size,), generator=generator)
    both = torch.cat([labels, torch.full((size,), emoji.CLASSES)])
    pictures = torch.randn(size, 3, 32, 32, generator=generator)
    for guidance in (3.0, 7.5):

        def denoise(x, s, guidance=guidance):
            out = emoji.denoise(net, torch.cat([x, x]) + mean, torch.full((2 * size,), s), both) - mean
            cond, uncond = out.chunk(2)
            return uncond + guidance * (cond - uncond)

        yield f"demo model, guidance {guidance:g}", eps, denoise, pictures


class Host:
    """What a sampler function gets from ComfyUI as its model."""

    def __init__(self, model_sampling, denoise):
        self.denoise, self.calls = denoise, 0
        self.model_sampling = model_sampling
        inner = types.SimpleNamespace(model_sampling=model_sampling)
        self.inner_model = types.SimpleNamespace(inner_model=inner, model_sampling=model_sampling)

    def __call__(self, x, sigma, **_):
        self.calls += 1
        return self.denoise(x, float(sigma.reshape(-1)[0]))


def run(comfy, model_sampling, denoise, noise, sampler, schedule, steps):
    """(final state, model calls). UniPC loses the last sigma but one, as KSampler does for it."""
    uni = sampler.startswith("uni_pc")
    sigmas = comfy.samplers.calculate_sigmas(model_sampling, schedule, steps + uni)
    if uni:
        sigmas = type(sigmas)(sigmas.tolist()[:-2] + sigmas.tolist()[-1:])
        function = comfy.extra_samplers.uni_pc.sample_unipc_bh2 if sampler.endswith("bh2") else comfy.extra_samplers.uni_pc.sample_unipc
        noise = noise.float()
    else:
        function = getattr(comfy.samplers.k_diffusion_sampling, f"sample_{sampler}")
    host = Host(model_sampling, denoise)
    return function(host, noise * float(sigmas[0]), sigmas, extra_args={}, callback=None, disable=True), host.calls


def converged(comfy, model_sampling, denoise, noise, name, quick):
    """The end of the sampling ODE. Mixtures: Runge-Kutta 4 of the tests, to σ = 1e-4, no solver of anybody's. The demo model, which is
    made for the table's sigmas and float32: heun with karras from sigma_max to sigma_min and one last prediction, as every host ends.
    """
    if "demo" in name:
        return run(comfy, model_sampling, denoise, noise, "heun", "karras", 60 if quick else 120)[0]
    import torch

    grids = load("dpm_solver_ext.tests.unit.grids", ROOT / "tests" / "unit" / "grids.py")
    models, library = sys.modules["dpm_solver_ext.tests.models"], sys.modules["dpm_solver_ext"]
    path = library.FLOW if "flow" in name else library.VE
    s = 1.0 if "flow" in name else float(model_sampling.sigma_max)
    law = models.image_like(float(name.split()[-1]))
    return torch.from_numpy(grids.fine_end(path, law, noise.reshape(len(noise), -1).numpy() * s, s, steps=600)).reshape(noise.shape)


def summary(result):
    """Lines of the geometric mean over every problem and count, of each pair that was run everywhere and never failed; best first."""
    common = set.intersection(*(set(table) for table in result.values()))
    means = {}
    for pair in common:
        cells = [v for table in result.values() for v in table[pair]]
        if None not in cells:
            means[pair] = math.exp(sum(map(math.log, cells)) / len(cells))
    best = sorted((v, k) for k, v in means.items())[:12]
    return ["### One pair for everything: geometric mean over all problems and counts", "", "| pair | error |", "| --- | --- |"] + [
        f"| {'**' * ('_ext' in k)}{k}{'**' * ('_ext' in k)} | {v:.4f} |" for v, k in best
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5, 8 and 12 steps only")
    parser.add_argument("--all", action="store_true", help="every built-in on the demo model too (an hour)")
    parser.add_argument("--out", type=Path, help="without ending (benchmarks/results/defaults; a part: benchmarks/out/defaults)")
    parser.add_argument("--only", default="", help="problems whose name holds this text")
    options = parser.parse_args()
    options.out = options.out or ROOT / "benchmarks" / ("out" if options.quick or options.only else "results") / "defaults"
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    host = comfy()
    counts = (5, 8, 12) if options.quick else COUNTS
    builtin = [s for s in host.samplers.SCHEDULER_NAMES if not s.endswith("_ext")]
    result, lines, started = {}, [], time.time()
    for name, model_sampling, denoise, noise in problems(host, torch):
        if options.only not in name:
            continue
        reference = converged(host, model_sampling, denoise, noise, name, options.quick)
        short = noise.dtype != torch.float64 and not options.all  # the demo model is slow
        pairs = [(a, b) for a in SAMPLERS for b in builtin if f"{a} {b}" in SHORT or not short]
        table = {}
        for sampler, schedule in pairs + OURS:
            row = []
            for steps in counts:
                out, calls = run(host, model_sampling, denoise, noise, sampler, schedule, steps)
                error = float((out - reference).flatten(1).pow(2).mean(1).sqrt().median())
                row.append(error if math.isfinite(error) and calls == steps else None)
            table[f"{sampler} + {schedule}"] = row
        result[name] = table
        peers = [k for k in table if "_ext" not in k]
        lines += [f"### {name}", "", "| | " + " | ".join(map(str, counts)) + " |", "| --- " * (len(counts) + 1) + "|"]

        def cells(values):
            return " | ".join("-" if v is None else f"{v:.4f}" for v in values)

        for a, b in OURS:
            lines.append(f"| **{a} + {b}** | {cells(table[f'{a} + {b}'])} |")
        lines.append(f"| dpmpp_2m + karras | {cells(table['dpmpp_2m + karras'])} |")
        best = [min((table[k][i], k) for k in peers if table[k][i] is not None) for i in range(len(counts))]
        lines.append("| best built-in | " + " | ".join(f"{v:.4f} {k}" for v, k in best) + " |")
        ours = table["dpm_auto_ext + dpm_auto_ext"]
        lines += ["| auto / best | " + " | ".join(f"{a / b:.2f}" for a, (b, _) in zip(ours, best, strict=True)) + " |", ""]
        sys.stdout.write("\n".join(lines[lines.index(f"### {name}") :]) + f"\n({time.time() - started:.0f} s)\n\n")
        sys.stdout.flush()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    seconds = round(time.time() - started)
    about = {"torch": torch.__version__, "comfyui": "0.3.75", "machine": platform.machine(), "counts": counts, "seconds": seconds}
    options.out.with_suffix(".json").write_text(json.dumps({"about": about, "median rms error": result}, indent=1) + "\n")
    lines += summary(result)
    head = "Median rms error to the converged solution against model evaluations, by `benchmarks/defaults.py`.\n\n"
    options.out.with_suffix(".md").write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
