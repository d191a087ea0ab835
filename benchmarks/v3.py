"""Calibrated DPM-Solver-v3 against the best of DPM-Solver++ 2M, deis and UniPC, on the same schedules.

    .venv/bin/python benchmarks/v3.py [--quick] [--jobs 2] [--only TEXT] [--out benchmarks/results/v3]

Error of the final state: root mean square to the converged solution, median over the batch; a cell is the calibrated solver's over the
least of the peers'. UniPC takes part twice, ours (the preset) and ComfyUI's. Every problem is calibrated once with the default budget,
on noise and classes that the runs do not have, and once with other budgets. Writes OUT.json (every error, versions, machine) and OUT.md.
"""

import argparse
import concurrent.futures
import functools
import importlib.util
import json
import math
import multiprocessing
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
COUNTS = (5, 6, 8, 10)
SCHEDULES = ("karras", "logSNR", "beta", "time")
GUIDANCE = (1.5, 3.0, 7.5)
PEERS = ("dpmpp_2m", "deis", "unipc", "uni_pc_bh2")
BUDGETS = ((4, 10), (8, 16), (16, 20), (24, 36), (40, 48))  # samples, nodes; one probe
BUDGET_CELLS = (("karras", 6), ("karras", 10), ("beta", 6), ("beta", 10))
TABLES = {
    "v3": "DPM-Solver-v3, calibrated",
    "v3 order 1": "The same with a predictor of order 1",
    "dpm_solver_v3": "DPM-Solver-v3 without a file: closed-form statistics",
    "auto": "The preset auto",
}
IMAGES, STARTS, CHUNK = 24, 64, 8  # of the demo model, of a mixture; samples in one call of the network


WHY = """## Where it falls short of 0.9, and why

The peers' column is the least of four errors, cell by cell; no one of them is that good everywhere. A cell moves by the standard
deviation given above with another draw of images. Measured besides, on the demo model:

- **Guidance 1.5: no gain.** Little guidance makes a smooth problem, which extrapolation of x0 solves well. The network's pictures are
  flat backgrounds and sharp edges: at low noise l is 1 on the one and less on the other, and one l for a ring of frequencies is right for
  neither. Started from the exact state at sigma 0.17 and 0.08, calibrated steps have 10 and 17 % more error than those of l = 1, s = 0.
- **Guidance 3: a few per cent.** A corrected step's error along exact paths (karras, 6 evaluations) is up to 14 % below that of l = 1,
  s = 0 above sigma 2, and 7 to 23 % above it below, for the same reason. The rest is not linear in frequency: weights of all
  stored evaluations fitted by least squares for each ring and step on 64 exact paths were no better (1.09, v3 then 1.00 on the same
  images), nor were fitted weights of f alone (1.07, v3 then .97). More calibration helps a little: the table above.
- **Guidance 7.5: 10 % in the mean.** There the slope between two evaluations predicts nothing: its best factor along exact paths is
  between -0.2 and 0.25 (0.15 to 0.95 with guidance 1.5). A predictor of order 1 with the corrector is at most 0.9 in all cells but one,
  0.70 in the mean. With guidance 3 and less it is worse than order 2.
- **The schedules time and beta** end with a step from sigma 0.2 to 0.6. With guidance 3 and 6 evaluations its error is 70 to 80 % of the
  whole, the same for all solvers. Statistics take 1 to 6 % off it; the best linear estimate of the final picture from the last two
  evaluations, for each ring, takes 6 to 11 %. On the mixtures, whose components are Gaussian, statistics take 80 to 95 %.
- **Mixture, guidance 1.5, logSNR:** the corrector costs here what it gains elsewhere; without it .63 .61 .56 1.03.

Without a file (closed-form statistics) there is no gain over UniPC: calibrate, or take UniPC or auto."""


@functools.cache
def tools():
    """(torch, benchmarks/defaults.py, ComfyUI's modules, the library, ComfyUI's model_sampling of Stable Diffusion's table)."""
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    spec = importlib.util.spec_from_file_location("bench_defaults", ROOT / "benchmarks" / "defaults.py")
    defaults = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(defaults)
    comfy = defaults.comfy()
    library = defaults.load("dpm_solver_ext", ROOT / "__init__.py", ROOT)
    ms = comfy.model_sampling
    return torch, defaults, comfy, library, type("Eps", (ms.ModelSamplingDiscrete, ms.EPS), {})()


class Mixture:
    """The tests' image-like mixture as pixels: 4 channels of 8 x 8."""

    shape, dtype = (4, 8, 8), "float64"

    def __init__(self, guidance: float):
        from dpm_solver_ext.tests import models
        from dpm_solver_ext.tests.unit import pixels

        self.law, self.pixels, self.torch = models.image_like(guidance), pixels, tools()[0]
        self.noise = self.torch.randn(STARTS, *self.shape, generator=self.torch.Generator().manual_seed(8), dtype=self.torch.float64)

    def begin(self, numbers):
        """The mixture has no prompts."""

    def denoise(self, x, sigma):
        flat = self.pixels.dct(x.double().numpy()).reshape(len(x), -1)
        out = self.law.denoise(tools()[3].VE, flat, float(sigma))
        return self.torch.from_numpy(self.pixels.idct(out)).reshape(x.shape).to(x.dtype)

    calibrated = denoise

    def converged(self):
        """Runge-Kutta 4 in log sigma to 1e-4: no solver of anybody's."""
        from dpm_solver_ext.tests.unit.grids import fine_end

        top = float(tools()[4].sigma_max)
        flat = self.pixels.dct(self.noise.numpy()).reshape(len(self.noise), -1)
        return self.torch.from_numpy(self.pixels.idct(fine_end(tools()[3].VE, self.law, flat * top, top, steps=600)))


class Demo:
    """The emoji network. Its classes are dealt out: 24 to the runs, the other 72 to the calibration."""

    shape, dtype = (3, 32, 32), "float32"

    def __init__(self, guidance: float):
        torch, defaults = tools()[:2]
        emoji = defaults.load("emoji_model", ROOT / "demo" / "emoji_model.py")
        torch.backends.cudnn.allow_tf32 = False
        self.torch, self.emoji, self.guidance, self.device = torch, emoji, guidance, os.environ.get("BENCH_DEVICE", "cpu")
        self.net = emoji.load()[0].to(self.device, memory_format=torch.channels_last)
        self.mean = torch.tensor(defaults.MEAN).view(1, 3, 1, 1)
        generator = torch.Generator().manual_seed(8)
        order = torch.randperm(emoji.CLASSES, generator=generator)
        self.labels, self.others, self.now = order[:IMAGES], order[IMAGES:], None
        self.noise = torch.randn(IMAGES, *self.shape, generator=generator)

    def begin(self, numbers):
        """The next samples to be calibrated on."""
        self.now = self.others[[n % len(self.others) for n in numbers]]

    def _guided(self, x, sigma, labels):
        torch, out = self.torch, []
        for a, b in zip(x.split(CHUNK), labels.split(CHUNK), strict=True):
            both = torch.cat([b, torch.full_like(b, self.emoji.CLASSES)])
            asked = torch.cat([a, a]).float() + self.mean, torch.full((2 * len(a),), float(sigma)), both
            both = self.emoji.denoise(self.net, *(t.to(self.device) for t in asked)).cpu()
            cond, uncond = (both - self.mean).chunk(2)
            out.append(uncond + self.guidance * (cond - uncond))
        return torch.cat(out).to(x.dtype)

    def denoise(self, x, sigma):
        return self._guided(x, sigma, self.labels)

    def calibrated(self, x, sigma):
        return self._guided(x, sigma, self.now)

    def converged(self):
        """ComfyUI's heun with karras from sigma_max to sigma_min, and one last prediction, as every host ends."""
        _, defaults, comfy, _, ms = tools()
        return defaults.run(comfy, ms, self.denoise, self.noise, "heun", "karras", 60)[0]


@functools.cache
def problem(name: str):
    """The model of a name such as "demo model, guidance 3"."""
    tools()
    return (Demo if name.startswith("demo") else Mixture)(float(name.split()[-1]))


class Kept:
    """A denoiser that answers a question it has heard: every solver begins at the same state."""

    def __init__(self, denoise):
        self.denoise, self.known = denoise, {}

    def __call__(self, x, sigma):
        key = (float(sigma), x.numpy().tobytes())
        if key not in self.known:
            self.known[key] = self.denoise(x, sigma)
        return self.known[key]


def sigmas_of(schedule: str, count: int) -> list[float]:
    """The host's own karras, exponential and beta; the papers' time_uniform (nearly the hosts' sgm_uniform). All end with 0."""
    _, _, comfy, library, ms = tools()
    if schedule == "time":
        from dpm_solver_ext.solvers import schedule as schedules

        clock = schedules.table_map(ms.sigmas.double().tolist())
        return schedules.time_uniform(count, clock(1.0), clock(0.0), clock)
    sigmas = comfy.samplers.calculate_sigmas(ms, {"logSNR": "exponential"}.get(schedule, schedule), count).double().tolist()
    assert len(sigmas) == count + 1, schedule
    return sigmas


def calibration(name: str, samples: int, nodes: int):
    """(statistics, sample-evaluations, seconds)."""
    from dpm_solver_ext.solvers.ems_calibrate import calibrate, cost
    from dpm_solver_ext.solvers.ems_fit import fit

    torch, _, _, library, ms = tools()
    model, started = problem(name), time.time()
    kind = {"device": "cpu", "dtype": getattr(torch, model.dtype)}
    ends = {"sigma_max": float(ms.sigma_max), "sigma_min": float(ms.sigma_min)}
    moments = calibrate(
        model.calibrated, library.VE, model.shape, samples=samples, nodes=nodes, seed=1, batch=CHUNK, begin=model.begin, **ends, **kind
    )
    return fit(moments), cost(samples, nodes), time.time() - started


def prepare(name: str, budgets):
    """(converged solution, {budget: (statistics, sample-evaluations, seconds)}) of a problem."""
    return name, problem(name).converged(), {b: calibration(name, *b) for b in budgets}


def run(name: str, schedule: str, count: int, solver: str, statistics, reference, denoise) -> list[float]:
    """The rms error of every image. "v3" and "v3 order 1" use the statistics, the other names are presets or ComfyUI's samplers."""
    torch, defaults, comfy, library, ms = tools()
    from dpm_solver_ext.solvers.choices import FAMILY, PRESETS

    model, sigmas = problem(name), sigmas_of(schedule, count)
    presets = PRESETS | FAMILY
    if solver in ("deis", "uni_pc_bh2"):
        host = defaults.Host(ms, denoise)
        module = comfy.samplers.k_diffusion_sampling if solver == "deis" else comfy.extra_samplers.uni_pc
        function = getattr(module, f"sample_{solver.replace('uni_pc', 'unipc')}")
        noise, sigmas = model.noise.float(), torch.tensor(sigmas, dtype=torch.float32)
        host.denoise = lambda x, s: denoise(x.to(model.noise.dtype), s).float()
        out = function(host, noise * sigmas[0], sigmas, extra_args={}, callback=None, disable=True)
        assert host.calls == count, solver
    else:
        options = presets.get(solver) or {**presets["dpm_solver_v3"], "statistics": statistics}
        options = {**options, "order": 1} if solver == "v3 order 1" else options
        out = library.execute(library.plan(library.VE, sigmas, **options), denoise, model.noise * sigmas[0])
    return [float(v) for v in (out - reference).double().flatten(1).pow(2).mean(1).sqrt()]


def cells(name: str, schedule: str, counts, statistics: dict, reference, solvers):
    """{(count, solver): errors of the images} on one schedule; `statistics` {solver: statistics} of the calibrated ones."""
    denoise, out = Kept(problem(name).denoise), {}
    for count in counts:
        for solver in solvers:
            out[count, solver] = run(name, schedule, count, solver, statistics.get(solver), reference, denoise)
    return name, schedule, out


def median(values) -> float:
    ordered = sorted(v if math.isfinite(v) else math.inf for v in values)
    half = len(ordered) // 2
    return (ordered[half] + ordered[-half - 1]) / 2


def spread(ours, peers, draws: int = 400) -> float:
    """Standard deviation of log(ratio) over resampled batches: how far another draw of images would move a cell."""
    import numpy as np

    pick = np.random.default_rng(0).integers(0, len(ours), (draws, len(ours)))
    least = np.min([np.median(np.asarray(p)[pick], axis=1) for p in peers], axis=0)
    return float(np.std(np.log(np.median(np.asarray(ours)[pick], axis=1) / least)))


def mean_of(ratios) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="6 and 10 evaluations, karras and beta, guidance 3, one budget (3 minutes)")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", default="", help="problems whose name holds this text")
    parser.add_argument("--out", type=Path, help="without ending (benchmarks/results/v3; a part: benchmarks/out/v3)")
    options = parser.parse_args()
    options.out = options.out or ROOT / "benchmarks" / ("out" if options.quick or options.only else "results") / "v3"
    tools()
    counts, schedules = ((6, 10), ("karras", "beta")) if options.quick else (COUNTS, SCHEDULES)
    names = [f"{m}, guidance {g:g}" for m in ("demo model", "image-like mixture") for g in ((3.0,) if options.quick else GUIDANCE)]
    names = [n for n in names if options.only in n]
    default, started = BUDGETS[2], time.time()
    wide = {n for n in names if "guidance 3" in n and not options.quick}  # problems of which every budget is tried
    solvers = (*PEERS, "v3", "v3 order 1", "dpm_solver_v3", "auto")
    result, costs, budgets = {n: {} for n in names}, {}, {}
    with concurrent.futures.ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn"), tools) as pool:
        ready = {}
        for done in concurrent.futures.as_completed([pool.submit(prepare, n, BUDGETS if n in wide else (default,)) for n in names]):
            name, reference, statistics = done.result()
            ready[name] = (reference, statistics)
            costs[name] = {f"{k} samples, {n} nodes": [e, round(s, 1)] for (k, n), (_, e, s) in statistics.items()}
            print(name, "calibrated", costs[name], f"({time.time() - started:.0f} s)", flush=True)
        jobs = []
        for name in names:
            reference, statistics = ready[name]
            both = dict.fromkeys(("v3", "v3 order 1"), statistics[default][0])
            jobs += [pool.submit(cells, name, s, counts, both, reference, solvers) for s in schedules]
            for budget, (fitted, *_) in statistics.items():
                if name in wide and budget != default:
                    for s, c in BUDGET_CELLS:
                        jobs.append(pool.submit(cells, name, s, (c,), {budget: fitted}, reference, (budget,)))
        for done in concurrent.futures.as_completed(jobs):
            name, schedule, table = done.result()
            for (count, solver), errors in table.items():
                if isinstance(solver, tuple):
                    budgets[name, solver, schedule, count] = median(errors)
                else:
                    result[name].setdefault(schedule, {}).setdefault(solver, {})[count] = errors
            print(name, schedule, f"({time.time() - started:.0f} s)", flush=True)
    write(options.out, names, schedules, counts, solvers, result, costs, budgets, default, time.time() - started)


def table(head, rows) -> list[str]:
    """Lines of a markdown table; rows are lists of words."""
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)] + [""]


def write(out, names, schedules, counts, solvers, result, costs, budgets, default, seconds):
    """OUT.json and OUT.md."""

    def least(name, schedule, count):
        return min((median(result[name][schedule][p][count]), p) for p in PEERS)

    def ratio(name, schedule, count, solver="v3"):
        return median(result[name][schedule][solver][count]) / least(name, schedule, count)[0]

    lines = ["## Error over that of the best peer", "", f"Bold: at most 0.9. Peers: {', '.join(PEERS)}.", ""]
    for solver, words in TABLES.items():
        lines += [f"### {words}", ""]
        grid = {(n, s): [ratio(n, s, c, solver) for c in counts] for n in names for s in schedules}
        bold = [[n, s, *(f"**{v:.2f}**" if v <= 0.9 else f"{v:.2f}" for v in row)] for (n, s), row in grid.items()]
        lines += table(["problem", "schedule", *counts], bold)
        every = [v for row in grid.values() for v in row]
        means = ", ".join(f"{n} {mean_of([v for s in schedules for v in grid[n, s]]):.2f}" for n in names)
        lines += [f"{sum(v <= 0.9 for v in every)} of {len(every)} cells at most 0.9. Geometric mean {mean_of(every):.2f}; {means}.", ""]
    lines += ["## Errors", "", "The best peer's, and that of calibrated DPM-Solver-v3.", ""]
    rows = []
    for n in names:
        for s in schedules:
            row = [(*least(n, s, c), median(result[n][s]["v3"][c])) for c in counts]
            rows.append([n, s, *(f"{v:.4f} {p}, {ours:.4f}" for v, p, ours in row)])
    lines += table(["problem", "schedule", *counts], rows)
    lines += ["How far another draw of images would move a ratio (standard deviation over resampled batches, mean of the cells):"]
    moves = {n: [spread(row["v3"][c], [row[p][c] for p in PEERS]) for row in result[n].values() for c in counts] for n in names}
    lines += [", ".join(f"{n} {100 * sum(v) / len(v):.0f} %" for n, v in moves.items()) + ".", ""]
    tried = [n for n in names if any(key[0] == n for key in budgets)]
    if tried:
        lines += ["## How few sample-evaluations keep the gain", ""]
        lines += ["Geometric mean of the ratios over karras and beta, 6 and 10 evaluations.", ""]
        rows = []
        for b in BUDGETS:
            means = []
            for n in tried:
                values = [ratio(n, s, c) if b == default else budgets[n, b, s, c] / least(n, s, c)[0] for s, c in BUDGET_CELLS]
                means.append(f"{mean_of(values):.2f}")
            rows.append([*b, costs[tried[0]]["{} samples, {} nodes".format(*b)][0], *means])
        lines += table(["samples", "nodes", "sample-evaluations", *tried], rows)
    versions = {"torch": tools()[0].__version__, "comfyui": "0.3.75", "python": platform.python_version()}
    about = {**versions, "machine": platform.machine(), "images": IMAGES, "starts": STARTS, "seconds": round(seconds)}
    about["calibration [sample-evaluations, seconds]"] = costs
    errors = {
        n: {s: {v: {c: round(median(e), 5) for c, e in row.items()} for v, row in per.items()} for s, per in result[n].items()}
        for n in names
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps({"about": about, "median rms error": errors}, indent=1) + "\n")
    intro = (__doc__ or "").split("\n\n")[2].strip()
    out.with_suffix(".md").write_text(f"# Calibrated DPM-Solver-v3 against its peers\n\n{intro}\n\n" + "\n".join(lines) + f"\n{WHY}\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
