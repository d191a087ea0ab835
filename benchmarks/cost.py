"""What a step costs outside of the model: our samplers and ComfyUI's in the same run, as ComfyUI calls them.

    .venv/bin/python benchmarks/cost.py [--quick] [--device cuda] [--out benchmarks/out/cost]

The model is a stand-in that costs nothing. Of every sampler, per step (the difference of runs of 24 and 12 steps on the same schedule,
divided by 12, so that what a run costs once does not count; that stands in a column of its own):

    passes    bytes read and written by all kernels over the bytes of the state
    limit     the same where every tensor that a step needs is read once and what it leaves is written once. For auto that cannot be had: it
              sums with a number of the whole picture, so a part is made before it is known (read 4, write 3) and joined after (3 more): 10
    kernels   ATen calls that are not views          small: those on scalars among them
    syncs     values read back to the host (item, bool, .cpu()), each of which stalls a GPU's queue
    live      the most state-sized tensors alive at once, the model's stand-in and the caller's x included
    µs        wall time, the median over rounds in which all samplers take turns; as a ratio to dpmpp_2m's and uni_pc_bh2's

Ours are counted with ComfyUI's adapter around them. On --device cuda the latents, the stand-in's answers and the sigmas live there, as in
ComfyUI, and wall times are of whole runs with torch.cuda.synchronize around them. Passes, kernels and live tensors are still counted on
the CPU, where they are the same; two tables more, of the first shape and of the last, say what CUDA sees:

    launches  kernels, copies and fills that the GPU runs, by torch.profiler          busy: µs a step that they take there
    syncs     as torch.cuda.set_sync_debug_mode counts them; strict: whether a run passes with that on "error" from the first model call on
    memory    the most that is allocated at once beyond the caller's x and what the stand-in keeps, in states; a model's answer is one

Then planning (without a kept plan) for 10 to 50 steps, and what calibration and tuning cost in model calls. Writes OUT.json and OUT.md.
"""

import argparse
import json
import os
import platform
import time
import warnings
import weakref
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import problems

ROOT = Path(__file__).resolve().parent.parent
SHAPES = ((1, 4, 64, 64), (1, 16, 128, 128), (4, 16, 128, 128), (1, 16, 13, 60, 104), (16, 16, 128, 128))
PEERS = ("dpmpp_2m", "uni_pc_bh2", "euler", "ipndm", "deis", "res_multistep")
OURS = "dpm_auto dpmpp_2m dpmpp_3m unipc dpm_solver_v3 dpmpp_2s dpmpp_3s dpm_fast dpmpp_2m_sde dpmpp_3m_sde".split()
# registers that a step in full swing must read, and those that it must leave: state, predictions or what is stored of them, noise
LIMITS = {
    "dpm_auto_ext": (4, 3),  # x, the new prediction, the stored one, the last change -> x, the new one as it is stored, the new change
    "dpmpp_2m_ext": (3, 1),
    "dpmpp_3m_ext": (4, 1),
    "unipc_ext": (4, 1),
    "dpm_solver_v3_ext": (4, 2),  # x, the new prediction, two stored ones -> x, the new one as it is stored
    "dpmpp_2s_ext": (2.5, 1),  # two evaluations: (x, d0 -> x'), (x, d0, d1 -> x); per evaluation
    "dpmpp_3s_ext": (3, 1),
    "dpm_fast_ext": (3, 1),
    "dpmpp_2m_sde_ext": (4, 1),
    "dpmpp_3m_sde_ext": (5, 1),
    "dpmpp_2m": (3, 1),
    "euler": (2, 1),
    "uni_pc_bh2": (5, 1),
}
VIEWS = (
    "view _unsafe_view reshape expand unsqueeze squeeze select slice permute transpose t detach alias as_strided unbind split chunk".split()
)
SYNCS = ("_local_scalar_dense", "item", "equal", "is_nonzero", "nonzero", "_to_cpu")


class Book:
    """A torch dispatch mode that counts kernels, bytes, synchronisations and live tensors, outside of the stand-in model."""

    def __new__(cls, unit: int):
        from torch.utils._python_dispatch import TorchDispatchMode
        from torch.utils._pytree import tree_leaves

        torch = problems.tools()[0]

        class Mode(TorchDispatchMode):
            kernels = small = syncs = passes = peak = 0
            off = False
            alive: dict[int, int] = {}

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                out = func(*args, **(kwargs or {}))
                name = func._schema.name.removeprefix("aten::")
                made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
                for t in made:
                    self.hold(t)
                if self.off or name in VIEWS:
                    return out
                moved = sum(t.numel() * t.element_size() for t in (*tree_leaves((args, kwargs)), *made) if isinstance(t, torch.Tensor))
                self.kernels += 1
                self.small += moved < unit
                self.passes += moved / unit if moved >= unit else 0
                self.syncs += name in SYNCS
                return out

            def hold(self, t):
                """Count the storages of state size that live; a view keeps its base's."""
                if t.numel() * t.element_size() < unit:
                    return
                key = t.untyped_storage()._cdata
                self.alive[key] = self.alive.get(key, 0) + 1
                self.peak = max(self.peak, len(self.alive))
                weakref.finalize(t, self.drop, key)

            def drop(self, key):
                self.alive[key] -= 1
                if not self.alive[key]:
                    del self.alive[key]

        made = Mode()
        made.alive = {}
        return made


def function(name):
    comfy = problems.tools()[1]
    if name.startswith("uni_pc"):
        return getattr(comfy.extra_samplers.uni_pc, "sample_unipc" + "_bh2" * name.endswith("bh2"))
    return getattr(comfy.samplers.k_diffusion_sampling, f"sample_{name}")


def noise_source(x):
    """The same prepared noise for everybody: making it is not the solver's."""
    ready = problems.tools()[0].randn_like(x)
    return lambda a, b: ready


class Model(problems.Host):
    """A model that answers with prepared tensors at no cost, or with `fresh` copies; `book` does not count what happens inside.

    With `strict` CUDA raises where anybody waits for it from the first call on."""

    def __init__(self, x, book=None, fresh=False, strict=False):
        torch = problems.tools()[0]
        super().__init__(problems.Problem("", problems.tools()[3]["VP"], None, None, None, None))
        self.answers, self.book, self.fresh, self.strict = [torch.randn_like(x) for _ in range(2)], book, fresh or book is not None, strict

    def __call__(self, x, sigma, **_):
        self.calls += 1
        if self.strict:
            problems.tools()[0].cuda.set_sync_debug_mode("error")
        if not self.fresh:
            return self.answers[self.calls % 2]
        if self.book is not None:
            self.book.off = True
        out = self.answers[self.calls % 2].clone()  # a model's answer is memory of its own
        if self.book is not None:
            self.book.off = False
        return out


def once(name, model, x, steps):
    comfy = problems.tools()[1]
    sigmas = comfy.samplers.calculate_sigmas(problems.tools()[3]["VP"], "karras", steps).to(x.device)  # as ComfyUI does
    more = {"noise_sampler": noise_source(x)} if "sde" in name else {}
    call, extra, cuda = function(name), {"seed": 1}, problems.tools()[0].cuda
    if x.is_cuda:
        cuda.synchronize()
    started = time.perf_counter()
    call(model, x, sigmas, extra_args=extra, callback=None, disable=True, **more)
    if x.is_cuda:
        cuda.set_sync_debug_mode("default")  # the run is over: this wait is ours
        cuda.synchronize()
    return time.perf_counter() - started


def counted(name, shape):
    """(per step, once a run) of kernels, small, syncs, passes; and the peak of live tensors."""
    torch, found = problems.tools()[0], {}
    for steps in (12, 24):
        x = torch.randn(shape)
        book = Book(x.numel() * x.element_size())
        model = Model(x, book)
        once(name, model, x, steps)  # a first run: plans and what torch sets up once
        model.calls = 0
        with book:
            book.hold(x)
            once(name, model, x, steps)
        found[steps] = {k: getattr(book, k) for k in ("kernels", "small", "syncs", "passes", "peak")}
    step = {k: round((found[24][k] - found[12][k]) / 12, 2) for k in ("kernels", "small", "syncs", "passes")}
    first = {k: round(found[12][k] - 12 * step[k], 1) for k in step}
    return step | {"live": found[24]["peak"], "live grows": found[24]["peak"] - found[12]["peak"]}, first


def on_cuda(name, shape):
    """What CUDA says of a step: {launches, busy µs, syncs, syncs once a run, strict, memory in states}; `strict`: syncs raised nothing."""
    torch, found = problems.tools()[0], {}
    x = torch.randn(shape, device="cuda")
    for steps in (12, 24):
        model = Model(x)
        once(name, model, x, steps)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]) as seen:
            once(name, model, x, steps)
        ran = [e for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            once(name, model, x, steps)
        syncs = sum("synchronizing" in str(w.message) for w in caught)
        found[steps] = {"launches": len(ran), "busy µs": sum(e.time_range.elapsed_us() for e in ran), "syncs": syncs}
    step = {k: round((found[24][k] - found[12][k]) / 12, 2) for k in found[12]}
    step["syncs once a run"] = round(found[12]["syncs"] - 12 * step["syncs"], 1)
    try:
        once(name, Model(x, strict=True), x, 12)
        step["strict"] = "passes"
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        step["strict"] = "raises"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    model = Model(x, fresh=True)
    once(name, model, x, 12)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    once(name, model, x, 12)
    return step | {"memory": round((torch.cuda.max_memory_allocated() - before) / (x.numel() * x.element_size()), 2)}


def timed(names, shape, seconds, device):
    """{name: [median wall µs a step, median over rounds of its ratio to dpmpp_2m's, to uni_pc_bh2's]}: a round runs all of them once."""
    torch = problems.tools()[0]
    x = torch.randn(shape, device=device)
    model, steps = Model(x), 20
    for name in names:
        once(name, model, x, steps)
    times, started = {name: [] for name in names}, time.time()
    while time.time() - started < seconds or len(times[names[0]]) < 3:
        for name in names:
            times[name].append(once(name, model, x, steps))

    def middle(values):
        return sorted(values)[len(values) // 2]

    def ratio(name, peer):
        return round(middle([a / b for a, b in zip(times[name], times[peer], strict=True)]), 3)

    return {n: [round(middle(t) / steps * 1e6, 1), ratio(n, "dpmpp_2m"), ratio(n, "uni_pc_bh2")] for n, t in times.items()}


def planning(rounds=15):
    """{name: {steps: [ms of planning with its proof, ms of making the tape cheaper]}}, both waited for before the first model call, in
    processor time, of the run with the least sum, which is what other work on the machine has disturbed least; the first, which imports,
    does not count."""
    library, out = problems.tools()[2], {}
    from dpm_solver_ext.solvers.choices import FAMILY, PRESETS
    from dpm_solver_ext.solvers.lower import cheaper
    from dpm_solver_ext.solvers.schedule import karras

    for name, options in {**PRESETS, **FAMILY}.items():
        if options.get("method") == "adaptive":
            continue
        out[name] = {}
        for steps in (10, 20, 50):
            taken = []
            for n in range(rounds + 1):
                sigmas = karras(steps, 14.6 + n * 1e-3, 0.03)  # a schedule that is not kept
                started = time.process_time()
                tape = library.plan(library.VE, sigmas, **options)
                between = time.process_time()
                cheaper(tape)
                taken.append((between - started, time.process_time() - between))
            out[name][steps] = [round(t * 1e3, 2) for t in min(taken[1:], key=sum)]
    return out


def calls() -> dict[str, str]:
    """What calibration and tuning cost, in model calls of one picture."""
    from dpm_solver_ext.solvers.ems_calibrate import cost

    return {f"calibration, {k} samples, {n} nodes": f"{cost(k, n)}" for k, n in ((8, 16), (16, 20), (24, 36))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the first two shapes")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the latents live; what is counted is the same")
    parser.add_argument("--seconds", type=float, default=12.0, help="of timing for each shape")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out" / "cost")
    options = parser.parse_args()
    problems.tools()
    ours = [f"{n}_ext" for n in OURS]
    names, started = [*PEERS, *ours], time.time()
    result = {"counted": {}, "wall µs a step": {}, "planning ms": planning(), "model calls": calls()}
    for name in names:
        step, first = counted(name, SHAPES[1])  # 1 MB, the least that does not lie in a core's caches
        limit = sum(LIMITS[name]) if name in LIMITS else None
        result["counted"][name] = step | {"limit": limit, "once a run": first}
        print(name, step, flush=True)
    for shape in SHAPES[: 2 if options.quick else None]:
        result["wall µs a step"]["x".join(map(str, shape))] = timed(names, shape, options.seconds, options.device)
        print(shape, f"({time.time() - started:.0f} s)", flush=True)
    torch = problems.tools()[0]
    if options.device == "cuda":
        result["cuda"] = {"x".join(map(str, shape)): {name: on_cuda(name, shape) for name in names} for shape in (SHAPES[0], SHAPES[-1])}
    about = {"torch": torch.__version__, "python": platform.python_version(), "comfyui": "0.3.75", "threads": 1}
    if options.device == "cuda":
        about |= {"GPU": torch.cuda.get_device_name(), "CUDA": torch.version.cuda}
    about |= {"machine": f"{platform.system()} {platform.machine()}", "seconds": round(time.time() - started)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps({"about": about} | result, indent=1, ensure_ascii=False) + "\n")
    text = "\n".join(lines(result, names, about))
    options.out.with_suffix(".md").write_text(text + "\n")
    print(text)


def lines(result, names, about):
    """The tables."""
    from report import line

    columns = ("passes", "limit", "kernels", "small", "syncs", "live", "live grows")
    out = ["# The cost of a step outside of the model", "", (__doc__ or "").split("\n\n", 2)[2].strip(), ""]
    out += ["Measured with " + ", ".join(f"{k} {v}" for k, v in about.items()) + ".", ""]
    out += [line("per step", *columns, "passes / limit", "passes / dpmpp_2m's", "syncs once a run")]
    out.append(line(*["---"] * (len(columns) + 4)))
    base = result["counted"]["dpmpp_2m"]["passes"]
    for name in names:
        row = result["counted"][name]
        ratio = f"{row['passes'] / row['limit']:.2f}" if row["limit"] else "-"
        words = [f"{row[c]:g}" if row[c] is not None else "-" for c in columns]
        first = row["once a run"]
        shown = f"**{name}**" if name.endswith("_ext") else name
        out.append(line(shown, *words, ratio, f"{row['passes'] / base:.2f}", f"{first['syncs']:g}"))
    walls = result["wall µs a step"]
    out += ["", "## Wall time a step, as a ratio to dpmpp_2m's / to uni_pc_bh2's of the same shape", ""]
    out += [line("", *walls), line(*["---"] * (len(walls) + 1))]
    out.append(line("dpmpp_2m, µs", *(f"{t['dpmpp_2m'][0]:.0f}" for t in walls.values())))
    for name in names:
        shown = f"**{name}**" if name.endswith("_ext") else name
        out.append(line(shown, *(f"{t[name][1]:.2f} / {t[name][2]:.2f}" for t in walls.values())))
    for shape, table in result.get("cuda", {}).items():
        columns = list(next(iter(table.values())))
        out += ["", f"## What CUDA says of a step, {shape}", "", line("", *columns), line(*["---"] * (len(columns) + 1))]
        for name, row in table.items():
            words = (v if isinstance(v, str) else f"{v:g}" for v in row.values())
            out.append(line(f"**{name}**" if name.endswith("_ext") else name, *words))
    plans = result["planning ms"]
    out += ["", "## Planning with proof + making the tape cheaper to run, ms of processor time, the least of 15", ""]
    out += ["Once a run, before the first model call; kept for the next run on the same schedule.", ""]
    counts = list(next(iter(plans.values())))
    out += [line("", *(f"{c} steps" for c in counts)), line(*["---"] * (len(counts) + 1))]
    out += [line(name, *(f"{a:.2f} + {b:.2f}" for a, b in row.values())) for name, row in plans.items()]
    return [*out, "", "## Model calls of one picture", ""] + [f"- {k}: {v}" for k, v in result["model calls"].items()]


if __name__ == "__main__":
    main()
