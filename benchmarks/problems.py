"""The problems of `bench.py`: models whose sampling ODE has a known end, as ComfyUI's samplers meet them.

Two models: the tests' image-like mixture (denoiser exact, float64; its end by Runge-Kutta 4 of the tests, no solver of anybody's), and the
trained emoji network of the demo (its end by Heun's method, 121 or more evaluations on karras). Each is put as four kinds of model:

    VP     noise prediction with Stable Diffusion's table, σ 0.029 … 14.6
    v      v-prediction with that table at zero terminal SNR, σ 0.029 … 4519 (on the plain table v is VP but for rounding)
    EDM    σ 0.002 … 120
    flow   rectified flow with SD3's shift of 3

each with guidance 1, 1.5 and 7.5. The network was trained on σ 0.02 … 20: beyond, it is asked at the nearest of these, its input scaled.
It runs on BENCH_DEVICE (cpu, or cuda for the whole grid), the samplers and all else on the CPU.
"""

import functools
import hashlib
import math
import os
import types
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import defaults

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("VP", "v", "EDM", "flow")
GUIDANCE = (1.0, 1.5, 7.5)
TRAINED = 0.02, 20.0
SEED = 20261122
DEVICE = os.environ.get("BENCH_DEVICE", "cpu")


@functools.cache
def tools():
    """(torch, ComfyUI's modules with this pack registered, the library, {kind: ComfyUI's model_sampling})."""
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    comfy = defaults.comfy()
    library = defaults.load("dpm_solver_ext", ROOT / "__init__.py", ROOT)
    ms = comfy.model_sampling
    flow = type("Flow", (ms.ModelSamplingDiscreteFlow, ms.CONST), {})()
    flow.set_parameters(shift=3.0)
    kinds = {
        "VP": type("VP", (ms.ModelSamplingDiscrete, ms.EPS), {})(),
        "v": type("V", (ms.ModelSamplingDiscrete, ms.V_PREDICTION), {})(zsnr=True),
        "EDM": type("EDM", (ms.ModelSamplingContinuousEDM, ms.EDM), {})(),
        "flow": flow,
    }
    return torch, comfy, library, kinds


def names(models=("mixture", "demo"), kinds=KINDS, guidance=GUIDANCE) -> list[str]:
    return [f"{m}, {k}, guidance {g:g}" for m in models for k in kinds for g in guidance]


@dataclass
class Problem:
    """`noise` (images, …) of unit variance and `denoise(x, sigma)` -> x0 in the host's scaling; `ends` what a perfect solver returns."""

    name: str
    sampling: object
    path: object
    noise: object
    denoise: object
    ends: object


def prepare(*which) -> None:
    """Compute a problem's ends now, so that all processes find them on the disk."""
    problem(*which)


def _kept(name: str, make):
    """The array that `make()` returns, from benchmarks/out/ends if it has been made by the same code before."""
    import numpy as np

    torch = tools()[0]
    sources = (Path(__file__), ROOT / "tests" / "models.py", ROOT / "tests" / "unit" / "grids.py", ROOT / "demo" / "emoji.safetensors")
    key = hashlib.sha256(repr((name, [hashlib.sha256(p.read_bytes()).hexdigest() for p in sources])).encode()).hexdigest()[:16]
    file = ROOT / "benchmarks" / "out" / "ends" / f"{key}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f"{key}.{os.getpid()}.npy")
        np.save(fresh, make().numpy())
        fresh.replace(file)
    return torch.from_numpy(np.load(file))


@functools.cache
def problem(name: str, images: int, seed: int = 0) -> Problem:
    """The problem of a name such as "mixture, flow, guidance 1.5" with `images` starts; another `seed`, other starts and classes."""
    torch, _, library, kinds = tools()
    model, kind, guidance = name.split(", ")
    path = library.FLOW if kind == "flow" else library.VE
    make = _mixture if model == "mixture" else _demo
    generator = torch.Generator().manual_seed(SEED + seed)
    noise, denoise, ends = make(kinds[kind], path, float(guidance.split()[-1]), images, generator)
    return Problem(name, kinds[kind], path, noise, denoise, _kept(f"{name}, {images} images, seed {seed}", ends))


def _mixture(sampling, path, guidance, images, generator):
    torch, _, library, _ = tools()
    from dpm_solver_ext.tests import models
    from dpm_solver_ext.tests.unit.grids import fine_end

    law = models.image_like(guidance)
    noise = torch.randn(images, 4, 8, 8, generator=generator, dtype=torch.float64)

    def denoise(x, s):
        return torch.from_numpy(law.denoise(path, x.double().numpy().reshape(len(x), -1), s)).reshape(x.shape).to(x.dtype)

    def ends():
        top = float(sampling.sigma_max)
        return torch.from_numpy(fine_end(path, law, noise.reshape(images, -1).numpy() * top, top, steps=300)).reshape(noise.shape)

    return noise, denoise, ends


@functools.cache
def network():
    """(the demo's module, its network, the mean colour that its latents are centred on)."""
    torch = tools()[0]
    torch.backends.cudnn.allow_tf32 = False  # ten bits would show in the errors of 50 steps
    emoji = defaults.load("emoji_model", ROOT / "demo" / "emoji_model.py")
    net = emoji.load()[0].to(DEVICE, memory_format=torch.channels_last)  # a quarter faster on a CPU
    return emoji, net, torch.tensor(defaults.MEAN).view(1, 3, 1, 1)


def answer(x, level: float, labels):
    """The network's data prediction of pictures `x` at noise level σ = `level`; in and out on the CPU."""
    torch = tools()[0]
    emoji, net, _ = network()
    if DEVICE == "cpu":
        return emoji.denoise(net, x, torch.full((len(x),), level), labels)
    inputs, graph, out = _graph(len(x))
    for kept, new in zip(inputs, (x, torch.full((len(x),), level), labels), strict=True):
        kept.copy_(new)
    graph.replay()
    return out.cpu()


@functools.cache
def _graph(many: int):
    """(inputs, CUDA graph, output) of one call with `many` pictures: a small network's time on a GPU is that of its launches."""
    torch = tools()[0]
    emoji, net, _ = network()
    x, level = torch.zeros(many, 3, 32, 32, device=DEVICE), torch.ones(many, device=DEVICE)
    labels, graph, side = torch.zeros(many, dtype=torch.long, device=DEVICE), torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.cuda.stream(side):  # what is set up at first calls must not be captured
        for _ in range(3):
            emoji.denoise(net, x, level, labels)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        out = emoji.denoise(net, x, level, labels)
    return (x, level, labels), graph, out


def guided(labels, guidance):
    """(state, σ) -> x0 of the network for classes `labels` in variance-exploding scaling; one half of the work at guidance 1."""
    torch = tools()[0]
    emoji, _, mean = network()
    both = torch.cat([labels, torch.full_like(labels, emoji.UNCONDITIONAL)])

    def denoise(x, sigma):
        level = min(max(sigma, TRAINED[0]), TRAINED[1])
        x = (x * min(1.0, TRAINED[1] / sigma)).float() + mean
        if guidance == 1:
            return answer(x, level, labels) - mean
        cond, uncond = answer(torch.cat([x, x]), level, both).chunk(2)
        return uncond + guidance * (cond - uncond) - mean

    return denoise


def _demo(sampling, path, guidance, images, generator):
    torch = tools()[0]
    labels = torch.randint(0, network()[0].CLASSES, (images,), generator=generator)
    noise = torch.randn(images, 3, 32, 32, generator=generator)
    exploding = guided(labels, guidance)

    def denoise(x, s):
        alpha = path.alpha(s)
        return exploding(x / alpha, path.sigma(s) / alpha) if alpha > 1e-6 else exploding(x * 1e6, 1e6)

    def ends():
        top, low = float(sampling.sigma_max), float(sampling.sigma_min)
        top, low = path.sigma(top) / max(path.alpha(top), 1e-4), max(path.sigma(low) / path.alpha(low), TRAINED[0])
        return fine_heun(exploding, noise, top, low)

    return noise, denoise, ends


def fine_heun(denoise, noise, top, low, steps=60):
    """The end of dx/dσ = (x - D(x, σ))/σ from noise·σ: karras from 80 or less, above which one step suffices, to `low`, then D."""
    begin = min(top, 80.0)
    x = noise * begin
    if top > begin:  # D hardly changes there: x = D + σ n
        x = x + denoise(noise * top, top) * (1 - begin / top)
    sigmas = [(begin ** (1 / 7) + (low ** (1 / 7) - begin ** (1 / 7)) * i / steps) ** 7 for i in range(steps + 1)]
    for s, t in zip(sigmas, sigmas[1:], strict=False):
        slope = (x - denoise(x, s)) / s
        ahead = x + (t - s) * slope
        x = x + (t - s) * (slope + (ahead - denoise(ahead, t)) / t) / 2
    return denoise(x, sigmas[-1])


class Host:
    """What a sampler function gets from ComfyUI as its model. Every sampler's first question is the same: its answer is kept.

    Raises Spent once `limit` evaluations are used up, so that no sampler runs on for nothing.
    """

    def __init__(self, problem: Problem, limit: float = math.inf, kept: dict | None = None):
        self.problem, self.limit, self.calls, self.kept = problem, limit, 0, {} if kept is None else kept
        self.model_sampling = problem.sampling
        patcher = types.SimpleNamespace(get_model_object=lambda name: problem.sampling)
        inner = types.SimpleNamespace(model_sampling=problem.sampling)
        self.inner_model = types.SimpleNamespace(inner_model=inner, model_sampling=problem.sampling, model_patcher=patcher)

    def __call__(self, x, sigma, **_):
        return self.ask(x, float(sigma.reshape(-1)[0]))

    def ask(self, x, s: float):
        self.calls += 1
        if self.calls > self.limit:
            raise Spent
        if self.calls > 1:
            return self.problem.denoise(x, s)
        key = s, str(x.dtype), hash(x.numpy().tobytes())
        if key not in self.kept:
            self.kept[key] = self.problem.denoise(x, s)
        return self.kept[key].clone()


class Spent(Exception):
    """A sampler asked for more evaluations than the cell has."""


def errors(end, ends) -> list[float]:
    """The rms error of every image."""
    return [float(v) for v in (end - ends).double().flatten(1).pow(2).mean(1).sqrt()]
