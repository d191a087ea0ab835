"""The order of convergence of every solver, claimed and measured.

    .venv/bin/python benchmarks/orders.py [--only TEXT] [--out benchmarks/results/orders]

Model: the mixture of the tests (6 correlated Gaussians in R^8), asked as the network of each kind would be: for ε on the
variance-preserving path, for v on the same, with EDM's preconditioning on the variance-exploding one, and for the velocity of a flow.
λ from -0.5 to 2.5, in even steps and in steps that differ from their neighbours by up to 1.8. The order is the slope of a line through log
error against log steps (48 to 136, for orders 4 and 5 81 to 228); error: rms to the ODE solved by Runge-Kutta 4 with 4000 steps, geometric
mean over 16 starts. In λ the four are one problem, so they differ by rounding alone; where the path enters a formula they would not.
"""

import argparse
import importlib.util
import json
import math
import os
import platform
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
COUNTS = {1: (48, 81, 136), 2: (48, 81, 136), 3: (48, 81, 136), 4: (81, 136, 228), 5: (81, 136, 228)}
KINDS = {"VP, ε": "vp", "VP, v": "vp", "EDM": "ve", "flow": "flow"}
GRIDS = ("even", "uneven")


def load(name: str, path: Path, package: Path | None = None):
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[str(package)] if package else None)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def asked(kind: str, path, model):
    """The denoiser (x, s) -> x0 as a host makes it of a network that predicts what `kind` says."""

    def denoise(x, s):
        a, b, x0 = path.alpha(s), path.sigma(s), model.denoise(path, x, s)
        if kind == "VP, ε":
            return (x - b * ((x - a * x0) / b)) / a
        if kind == "VP, v":
            return a * x - b * (a * (x - a * x0) / b - b * x0)
        if kind == "EDM":  # c_skip, c_out of arXiv 2206.00364, table 1, σ_data = 0.5
            skip, out = 0.25 / (s * s + 0.25), 0.5 * s / math.sqrt(s * s + 0.25)
            return skip * x + out * ((x0 - skip * x) / out)
        return x - s * ((x - x0) / s)

    return denoise


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose group and name hold this text")
    parser.add_argument("--out", type=Path, help="without ending (benchmarks/results/orders; a part: benchmarks/out/orders)")
    options = parser.parse_args()
    options.out = options.out or ROOT / "benchmarks" / ("out" if options.only else "results") / "orders"
    load("dpm_solver_ext", ROOT / "__init__.py", ROOT)
    import numpy as np
    from dpm_solver_ext.solvers.execute import execute
    from dpm_solver_ext.solvers.path import PATHS
    from dpm_solver_ext.tests.unit import test_order as lab
    from dpm_solver_ext.tests.unit.family import GROUPS, ROWS

    def even(path, n):
        return [path.from_half_logsnr(lab.A + (lab.B - lab.A) * i / n) for i in range(n + 1)]

    started, table = time.time(), []
    goals = {}
    for name in set(KINDS.values()):
        path, (model, x, _) = PATHS[name], lab.problem("mixture", name)
        goals[name] = x, lab.fine_end(path, model, x, path.from_half_logsnr(lab.A), path.from_half_logsnr(lab.B), 4000)
    for row in ROWS:
        if options.only not in f"{row.group} {row.name}":
            continue
        found = {}
        for name, path in PATHS.items():
            model, (x, right) = lab.problem("mixture", name)[0], goals[name]
            if row.group.startswith("inverse"):
                x, right = right, x
            for grid in GRIDS:
                counts = COUNTS[row.claimed]
                tapes = [row.tape(path, even if grid == "even" else lab.grid, n) for n in counts]
                for kind in (k for k, v in KINDS.items() if v == name):
                    wrong = [lab.geometric(execute(tape, asked(kind, path, model), x), right) for tape in tapes]
                    found[f"{kind}, {grid}"] = {"order": round(lab.slope(counts, wrong), 3), "error": [float(f"{e:.3g}") for e in wrong]}
        about = {"group": row.group, "name": row.name, "claimed": row.claimed, "note": row.note}
        about |= {"options": row.options, "steps": counts, "evaluations": [tape.evaluations for tape in tapes]}
        table.append(about | {"measured": found})
        orders = [cell["order"] for cell in found.values()]
        print(f"{row.group:24} {row.name:45} {row.claimed}  {min(orders):.2f} … {max(orders):.2f}", flush=True)
    heads = [f"{kind}, {grid}" for kind in KINDS for grid in GRIDS]
    body = []
    for group in GROUPS:
        rows = [r for r in table if r["group"] == group]
        if rows:
            body += [f"### {group}", "", "| | claimed | " + " | ".join(heads) + " | |", "| --- " * (len(heads) + 3) + "|"]
            for r in rows:
                cells = [f"{r['measured'][head]['order']:.2f}" for head in heads]
                body.append(f"| {r['name']} | **{r['claimed']}** | {' | '.join(cells)} | {r['note']} |")
            body.append("")
    low = min(c["order"] - r["claimed"] for r in table for c in r["measured"].values())
    high = max(c["order"] - r["claimed"] for r in table for c in r["measured"].values())
    seconds = round(time.time() - started)
    head = [
        "# Orders of convergence, claimed and measured",
        "",
        *__doc__.strip().splitlines()[4:],
        "",
        "Written by `python benchmarks/orders.py`.",
    ]
    head += [
        "Errors, steps and evaluations of every cell are in orders.json. The smooth rule acts unless a row says otherwise: on λ steps this"
    ]
    head += ["short its factors are within a few per cent of 1. The official code's rows are its faults, reproduced."]
    head += ["", f"{len(table)} solvers; measured minus claimed lies between {low:+.2f} and {high:+.2f}.", ""]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    about = {"numpy": np.__version__, "python": platform.python_version(), "machine": platform.machine(), "seconds": seconds}
    lines = ",\n".join(json.dumps(r, ensure_ascii=False) for r in table)
    options.out.with_suffix(".json").write_text(f'{{"about": {json.dumps(about)},\n"rows": [\n{lines}\n]}}\n')
    options.out.with_suffix(".md").write_text("\n".join(head + body).rstrip() + "\n")
    print(f"{len(table)} rows, {seconds} s: {options.out.with_suffix('.md')}")


if __name__ == "__main__":
    main()
