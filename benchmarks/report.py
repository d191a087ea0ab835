"""The tables and plots of `bench.py`, from its rows."""

import functools
import json
import math
from pathlib import Path

import pairs

FRECHET = "demo Fréchet"
NOTE = "The best peer is the least error of all built-ins and schedules that were run: no one pair is that good everywhere."
PLOTTED = {  # name: colour, width
    "dpm_auto_ext + dpm_auto_ext": ("#d62728", 2.6),
    "unipc_ext + dpm_auto_ext": ("#ff7f0e", 1.6),
    "dpmpp_2m_ext + dpm_auto_ext": ("#ff9896", 1.2),
    "dpmpp_2m + karras": ("#1f77b4", 1.6),
    "uni_pc_bh2 + normal": ("#2ca02c", 1.2),
    "ipndm + beta": ("#9467bd", 1.2),
    "euler + beta": ("#8c564b", 1.2),
}


def median(values) -> float:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def mean(values) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def spread(ours, peer, draws: int = 200) -> float:
    """Standard deviation of log(ratio of the medians) over resampled images: how far another draw of images moves a ratio."""
    import numpy as np

    pick = np.random.default_rng(0).integers(0, len(ours), (draws, len(ours)))
    return float(np.std(np.log(np.median(np.asarray(ours)[pick], 1) / np.median(np.asarray(peer)[pick], 1))))


def tables(rows):
    """{problem: (counts, {pair: [errors of the images or None, at each count]})}, in the order of the names."""
    found = {}
    for r in sorted(rows, key=lambda r: r["problem"]):
        found.setdefault(r["problem"], (tuple(r["counts"]), {}))[1][r["pair"]] = r["errors"]
    return found


def least(table, i, ours: bool):
    """(error, pair) of the best at place i."""
    return min(((median(e[i]), n) for n, e in table.items() if e[i] and pairs.is_ours(n) == ours), default=(math.nan, "-"))


def line(*words) -> str:
    return f"| {' | '.join(map(str, words))} |"


def section(name, counts, table) -> list[str]:
    """One problem: best peer, auto, their ratio with its spread, dpmpp_2m + karras, the best of ours."""
    auto, places = table.get(pairs.AUTO), range(len(counts))
    peers, best = [least(table, i, False) for i in places], [least(table, i, True) for i in places]
    out = [f"### {name}", "", line("", *counts), line(*["---"] * (len(counts) + 1))]
    out.append(line("best peer", *(f"{v:.4f} {n}" for v, n in peers)))
    if auto:
        out.append(line("**auto**", *(f"{median(e):.4f}" if e else "-" for e in auto)))
        cells = []
        for e, (v, n), i in zip(auto, peers, places, strict=True):
            cells.append(f"{median(e) / v:.2f} ± {100 * spread(e, table[n][i]):.0f} %" if e and n != "-" else "-")
        out.append(line("auto / best peer", *cells))
    karras = table.get("dpmpp_2m + karras")
    if karras and auto:
        cells = [f"{median(a) / median(b):.2f}" if a and b else "-" for a, b in zip(auto, karras, strict=True)]
        out.append(line("auto / dpmpp_2m + karras", *cells))
    out.append(line("best of ours", *(f"{v:.4f} {n.replace(' + dpm_auto_ext', '')}" for v, n in best)))
    return [*out, ""]


def overall(found, title) -> list[str]:
    """Pairs that have every cell, by the geometric mean of their error over that of the cell's best peer."""
    if not found:
        return []
    common = set.intersection(*(set(t) for _, t in found.values()))
    ranks = []
    for name in common:
        cells = [(t[name][i], least(t, i, False)[0]) for c, t in found.values() for i in range(len(c))]
        if all(e for e, _ in cells):
            ranks.append((mean([median(e) / v for e, v in cells]), max(median(e) / v for e, v in cells), name))
    out = [f"### {title}", "", "Error over that of the best peer of the same cell.", "", line("pair", "geometric mean", "worst cell")]
    out.append(line("---", "---", "---"))
    return out + [line(f"**{n}**" if pairs.is_ours(n) else n, f"{m:.2f}", f"{w:.2f}") for m, w, n in sorted(ranks)[:16]] + [""]


def behind(found) -> list[str]:
    """The cells of 5 to 25 evaluations in which auto is more than 5 % behind the best peer."""
    out = []
    for name, (counts, table) in found.items():
        for i, count in enumerate(counts):
            e, (v, peer) = table.get(pairs.AUTO, [None] * len(counts))[i], least(table, i, False)
            if e and 5 <= count <= 25 and median(e) > 1.05 * v:
                out.append((median(e) / v, line(name, count, f"{median(e):.4f}", f"{v:.4f} {peer}", f"{median(e) / v:.2f}")))
    cells = sum(5 <= c <= 25 for counts, t in found.values() for c in counts if pairs.AUTO in t)
    head = [f"### Where auto is more than 5 % behind the best peer: {len(out)} of {cells} cells", ""]
    return [*head, line("problem", "evaluations", "auto", "best peer", "ratio"), line(*["---"] * 5), *(x for _, x in sorted(out)[::-1]), ""]


def frechets(found) -> list[str]:
    out = []
    for name, (counts, table) in found.items():
        out += [f"### Fréchet distance to the training set: {name}", "", line("", *counts), line(*["---"] * (len(counts) + 1))]
        for pair in sorted(table, key=lambda n: table[n][-1][0]):
            out.append(line(f"**{pair}**" if pairs.is_ours(pair) else pair, *(f"{e[0]:.3f}" for e in table[pair])))
        out.append("")
    return out


def _by_count(counts, values) -> dict:
    return {c: v and float(f"{v:.4g}") for c, v in zip(counts, values, strict=True)}


def write(out: Path, rows, about) -> str:
    """OUT.json, OUT.md and the plots; the text of the tables."""
    every = tables(rows)
    grid = {k: v for k, v in every.items() if not k.startswith(FRECHET)}
    unfinished = [n for n, (_, t) in grid.items() if not set(pairs.chosen(_place(n)[1], about["size"])) <= set(t)]
    grid = {n: v for n, v in grid.items() if n not in unfinished}
    errors = {n: {p: _by_count(c, [e and median(e) for e in row]) for p, row in t.items()} for n, (c, t) in grid.items()}
    distances = {n: {p: _by_count(c, [e[0] for e in row]) for p, row in t.items()} for n, (c, t) in every.items() if n.startswith(FRECHET)}
    body = {"about": about, "left out": pairs.LEFT_OUT, "median rms error": errors, "Fréchet distance": distances}
    out.with_suffix(".json").write_text(json.dumps(body, indent=None if about["size"] == "full" else 1, ensure_ascii=False) + "\n")
    words = ", ".join(f"{k} {v}" for k, v in about.items() if k not in ("images", "base seed"))
    lines = ["# Accuracy for the same number of model calls", "", (__import__("problems").__doc__ or "").strip(), ""]
    lines += [f"Made by `make bench` (benchmarks/bench.py): {words}.", "", f"auto is `{pairs.AUTO}`. {NOTE}", ""]
    if unfinished:
        lines += [f"Not finished, and left out: {'; '.join(unfinished)}.", ""]
    for model in ("mixture", "demo"):
        some = {k: v for k, v in grid.items() if k.startswith(model)}
        lines += overall(some, f"One pair for everything: {model}")
    lines += behind(grid) + frechets({k: v for k, v in every.items() if k.startswith(FRECHET)})
    for name, (counts, table) in grid.items():
        lines += section(name, counts, table)
    out.with_suffix(".md").write_text("\n".join(lines))
    try:
        import matplotlib
    except ImportError:
        lines.append("No plots: matplotlib is not installed (`make bench` installs it).")
        return "\n".join(lines)
    matplotlib.use("Agg")
    plot(out, grid)
    return "\n".join(lines)


@functools.cache
def _place(name):
    model, kind, guidance = name.split(", ")
    return model, kind, float(guidance.split()[-1])


def plot(out: Path, grid) -> None:
    """OUT_mixture and OUT_demo as .png and .svg: error against evaluations, a panel for each kind of model and guidance."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "bench"  # the same figure is the same file
    for model in ("mixture", "demo"):
        places = [_place(n) for n in grid if n.startswith(model)]
        kinds = [k for k in ("VP", "v", "EDM", "flow") if any(p[1] == k for p in places)]
        guidance = sorted({p[2] for p in places})
        if not places:
            continue
        columns = len(kinds)
        above = 0.19 * math.ceil((len(PLOTTED) + 1) / columns) + 0.1  # inches for the legend
        size = (3.1 * columns + 0.6, 2.5 * len(guidance) + above)
        figure, axes = plt.subplots(len(guidance), columns, figsize=size, squeeze=False)
        handles = {}
        for r, g in enumerate(guidance):
            for c, kind in enumerate(kinds):
                ax, entry = axes[r][c], grid.get(f"{model}, {kind}, guidance {g:g}")
                if entry is None:
                    ax.axis("off")
                    continue
                _panel(ax, *entry, handles)
                ax.set_title(f"{kind}, guidance {g:g}", fontsize=9)
                if c == 0:
                    ax.set_ylabel("rms error")
                if r == len(guidance) - 1:
                    ax.set_xlabel("model calls")
        figure.legend(handles.values(), handles.keys(), loc="upper center", ncol=columns, fontsize=8, frameon=False)
        figure.tight_layout(rect=(0, 0, 1, 1 - above / size[1]))
        for ending in (".png", ".svg"):
            kind = {"metadata": {"Date": None}} if ending == ".svg" else {"dpi": 110}
            figure.savefig(out.with_name(f"{out.name}_{model}{ending}"), **kind)
        plt.close(figure)


def _panel(ax, counts, table, handles) -> None:
    best = [least(table, i, False)[0] for i in range(len(counts))]
    handles["best peer at each count"] = ax.fill_between(counts, best, [1e3] * len(counts), color="#eeeeee", zorder=0)
    for name, (colour, width) in PLOTTED.items():
        if name in table:
            points = [(c, median(e)) for c, e in zip(counts, table[name], strict=True) if e]
            handles[name] = ax.plot(*zip(*points, strict=True), color=colour, lw=width, marker="o", ms=2.5)[0]
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(counts, [str(c) for c in counts], fontsize=7)
    ax.tick_params(axis="y", labelsize=7)
    ax.minorticks_off()
    shown = [median(e[i]) for n, e in table.items() if n in PLOTTED for i in range(len(counts)) if e[i]]
    ax.set_ylim(min([*best, *shown]) / 1.4, min(max(shown), 3) * 1.3)
    ax.grid(alpha=0.25)
