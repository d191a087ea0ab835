"""A picture and a few lines of text of statistics, for the node EMS Info (ext)."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..solvers.path import VE
from ..solvers.statistics import Statistics

ZOOM = 2  # drawn larger and shrunk, which smooths the curves
HEIGHT, WIDTHS, GAP, LEFT, TOP, BOTTOM, KEY = 180, (540, 330, 250, 250), (26, 40), 60, 142, 76, 160  # pixels
MOST = 4  # columns: channels
RINGS = (0, 1, 4, 8, 16, 32)
INK, GREY, FAINT, FRAME = "#222222", "#666666", "#e4e4e4", "#8a8a8a"
MEANING = {"l": "l: how the noise follows the state", "s": "s: how what is left grows", "b": "b: and drifts"}
# falls in lightness as it runs, so that neighbours differ without colour too
RAMP = ((0xFD, 0xB8, 0x2B), (0xF0, 0x77, 0x3A), (0xD0, 0x40, 0x5B), (0x94, 0x27, 0x80), (0x50, 0x1A, 0x84), (0x12, 0x0B, 0x4A))


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


class Sheet:
    """A white picture to draw axes and curves on, in pixels of the result."""

    def __init__(self, size: tuple[int, int], width: int):
        self.size, self.panel, self.image = size, (width, HEIGHT), Image.new("RGB", (size[0] * ZOOM, size[1] * ZOOM), "white")
        self.draw = ImageDraw.Draw(self.image)

    def pixels(self) -> np.ndarray:
        return np.asarray(self.image.resize(self.size, Image.Resampling.BOX), dtype=np.float32) / 255

    def text(self, at: tuple[float, float], words: str, size: int, colour=INK, anchor: str = "la") -> None:
        self.draw.text((at[0] * ZOOM, at[1] * ZOOM), words, colour, _font(size * ZOOM), anchor=anchor)

    def line(self, points: list[tuple[float, float]], colour, width: float = 1) -> None:
        self.draw.line([(x * ZOOM, y * ZOOM) for x, y in points], colour, round(width * ZOOM), joint="curve")

    def axes(self, box: tuple[int, int], lam: np.ndarray, span: tuple[float, float], *, first: bool, last: bool) -> None:
        """Frame, grid and, at the left and the bottom of the sheet, numbers."""
        (x, y), (w, h) = box, self.panel
        for tick in ticks(*span):
            at = y + h - (tick - span[0]) / (span[1] - span[0]) * h
            self.line([(x, at), (x + w, at)], FRAME if tick == 0 else FAINT)
            if first:
                self.text((x - 6, at), f"{tick:g}", 11, INK, "rm")
        for tick in ticks(float(lam[0]), float(lam[-1])):
            at = x + (tick - lam[0]) / (lam[-1] - lam[0]) * w
            self.line([(at, y), (at, y + h)], FAINT)
            if last:
                self.text((at, y + h + 6), f"{tick:g}", 11, INK, "ma")
                self.text((at, y + h + 21), f"{VE.from_half_logsnr(tick):.2g}", 11, GREY, "ma")
        self.line([(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)], FRAME)

    def curve(self, box, lam, values, span, colour) -> None:
        (x, y), (w, h) = box, self.panel
        across = x + (lam - lam[0]) / (lam[-1] - lam[0]) * w
        up = y + h - (values - span[0]) / (span[1] - span[0]) * h
        self.line([(float(a), float(b)) for a, b in zip(across, up, strict=True)], colour, 1.75)


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
    words = [f"{k} {said[k]}" for k in ("guidance", "prediction type", "samples", "nodes", "probes") if k in said]
    return said.get("model", ""), ", ".join(words)


def _range(values: list[np.ndarray], least: tuple[float, float] | None) -> tuple[float, float]:
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    if least is not None:
        low, high = min(low, least[0]), max(high, least[1])
    if high - low < 1e-9:
        low, high = low - 0.1, high + 0.1
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between low and high, four to eight of them."""
    rough = (high - low) / 4
    size = 10.0 ** np.floor(np.log10(rough))
    step = next(size * k for k in (5, 2, 1) if size * k <= rough)
    return [round(float(k * step), 10) for k in range(int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9)) + 1)]


def shade(i: int, count: int) -> tuple[int, int, int]:
    return RAMP[round(i / max(1, count - 1) * (len(RAMP) - 1))] if count > 1 else RAMP[-2]


def _font(size: int):
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size
        return ImageFont.load_default()


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
