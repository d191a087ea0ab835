"""A picture and a few lines of text of statistics."""

import numpy as np

from ..solvers.statistics import Statistics
from .sheet import GREY, HEIGHT, INK, Sheet, shade

WIDTHS, GAP, LEFT, TOP, BOTTOM, KEY = (540, 330, 250, 250), (26, 40), 60, 142, 76, 160  # pixels
MOST = 4  # columns: channels
RINGS = (0, 1, 4, 8, 16, 32)
MEANING = {"l": "l: how the noise follows the state", "s": "s: how what is left grows", "b": "b: and drifts"}


def plot(stats: Statistics) -> np.ndarray:
    """l, s and b over λ as an RGB picture, float32 in 0…1 (height, width, 3): a column for each of the first channels, and in it a curve
    for each of some rings (or channels, or places)."""
    columns = _columns(stats)
    width = WIDTHS[len(columns) - 1]
    right = LEFT + len(columns) * (width + GAP[0])
    size = right + KEY, TOP + 3 * (HEIGHT + GAP[1]) + BOTTOM - GAP[1]
    sheet = Sheet(size, width)
    sheet.text((LEFT, 14), f"DPM-Solver-v3 statistics, {stats.kind}" + (f": {stats.label}" if stats.label else ""), 18)
    for i, line in enumerate(_subtitle(stats)):
        sheet.text((LEFT, 42 + 20 * i), line, 13, GREY)
    for row, name in enumerate(MEANING):
        top = TOP + row * (HEIGHT + GAP[1])
        curves = [column[name] for _, column in columns]
        span = _range([v for column in curves for _, v in column], {"l": (0.0, 1.0), "s": (-1.0, 0.0)}.get(name))
        sheet.text((LEFT, top - 20), MEANING[name], 13)
        for place, column in enumerate(curves):
            box = (LEFT + place * (width + GAP[0]), top)
            sheet.axes(box, stats.lam, span, first=place == 0, last=row == 2)
            for i, (_, values) in enumerate(column):
                sheet.curve(box, stats.lam, values, span, shade(i, len(column)))
            if row == 0:
                sheet.text((box[0] + width / 2, top - 42), columns[place][0], 13, INK, "ma")
        for i, (label, _) in enumerate(curves[0]):
            sheet.line([(right, top + 14 + 20 * i), (right + 24, top + 14 + 20 * i)], shade(i, len(curves[0])), 3)
            sheet.text((right + 32, top + 14 + 20 * i), label, 12, INK, "lm")
    sheet.text((LEFT, size[1] - 20), "across: half-logSNR, from noise to picture; in grey below it sigma/alpha", 12, GREY, "lm")
    return sheet.pixels()


def _columns(stats: Statistics) -> list[tuple[str, dict[str, list[tuple[str, np.ndarray]]]]]:
    """(title, {"l", "s", "b": [(label, values (nodes,))]}) of every column of panels."""
    parts = {"l": stats.l, "s": stats.s, "b": stats.b}
    if stats.kind == "scalar":
        return [("all channels", {n: [("all", a)] for n, a in parts.items()})]
    channels = stats.l.shape[1]
    if stats.kind == "channel":
        shown = range(min(channels, 8))
        return [("channels", {n: [(f"channel {c + 1}", a[:, c]) for c in shown] for n, a in parts.items()})]
    out = []
    for c in range(min(channels, MOST)):
        if stats.kind == "radial":
            rings = [("mean" if r == 0 else f"{(r - 0.5) / (stats.l.shape[2] - 1) * 0.5**0.5:.2f} cycles/px", r) for r in RINGS]
            column = {n: [(label, a[:, c, r]) for label, r in rings[: 1 if n == "b" else None]] for n, a in parts.items()}
        else:
            flat = {n: a[:, c].reshape(len(a), -1) for n, a in parts.items()}
            column = {n: [(f"{q} % of places", np.percentile(a, q, axis=1)) for q in (5, 25, 50, 75, 95)] for n, a in flat.items()}
        out.append((f"channel {c + 1} of {channels}", column))
    return out


def _subtitle(stats: Statistics) -> tuple[str, str]:
    said = stats.metadata
    words = [f"{k} {said[k]}" for k in ("guidance", "LoRAs", "prediction type", "samples", "nodes", "probes") if k in said]
    return said.get("model", said.get("checkpoint", "")), ", ".join(words)


def _range(values: list[np.ndarray], least: tuple[float, float] | None) -> tuple[float, float]:
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    if least is not None:
        low, high = min(low, least[0]), max(high, least[1])
    if high - low < 1e-9:
        low, high = low - 0.1, high + 0.1
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def summary(stats: Statistics) -> str:
    """What the statistics are and what they were made for, a line each; a list in Markdown, which the host's text preview shows."""
    said = {k: v.split(" ")[0] if k == "weights" else v for k, v in stats.metadata.items()}
    numbers = [said.get(k, "") for k in ("samples", "probes")]
    if all(n.isdecimal() for n in numbers):
        said["cost"] = f"{int(numbers[0]) * len(stats.lam) * (1 + int(numbers[1])):,} sample-evaluations"
    said["half-logSNR"] = f"{stats.lam[0]:.3g} to {stats.lam[-1]:.3g}, {len(stats.lam)} nodes"
    said["bins"] = " × ".join(map(str, stats.bins)) or "one"
    said |= {n: f"{a.min():.3g} to {a.max():.3g}, mean {a.mean():.3g}" for n, a in (("l", stats.l), ("s", stats.s), ("b", stats.b))}
    title = f"{stats.kind} statistics of DPM-Solver-v3" + (f", {stats.label}" if stats.label else "")
    return "\n".join([title, "", *(f"- {k}: {v}" for k, v in said.items())])
