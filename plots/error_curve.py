"""The picture of error curves: the error over the model calls, both in powers of ten, with the order of each line beside its name."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .sheet import FAINT, FRAME, GREY, INK, Sheet, width_of

PANEL, AT = (520, 400), (84, 84)  # pixels: the frame's size, and where it stands
KEY, LINE, FOOT = 24, 38, 84  # from the frame to the key, from one name in it to the next, and below the frame
TITLE, NAME, SMALL, TINY = 18, 13, 12, 11  # of text
NEAR = 26  # pixels between two numbers of calls that can both be read
COLOURS = (  # as many as there can be lines; neighbours differ in lightness too
    "#e39a1c", "#d0405b", "#3f8fb5", "#501a84", "#6fa04e", "#8c564b", "#222222", "#f0773a", "#17a2a2", "#b05fb0", "#8a8a8a", "#1f4fd0",
)  # fmt: skip
BAND, GUIDES = "#f0f0f0", (1, 2, 3)  # where the reference is not known; orders whose slopes are drawn


def plot(found: Any, title: str) -> np.ndarray:
    """`found` is an `error_curve_run.Curves`. An RGB picture, float32 in 0…1 (height, width, 3). Filled dots made the order, rings did not;
    errors that are 0 or infinite have no place on the axis."""
    names = [(curve.label, f"order {curve.words}") for curve in found.curves]
    points = [[(p.calls, p.error, p.fitted) for p in c.points if p.error > 0 and math.isfinite(p.error)] for c in found.curves]
    calls = sorted({n for line in points for n, _, _ in line}) or [1, 10]
    errors = [e for line in points for _, e, _ in line] or [1.0]
    ends = (min(calls) * 0.93, max(calls) * 1.07)
    low, high = min(errors) * 0.7, max(errors) * 1.4
    feet = _feet(found)
    widest = max(max(width_of(name, NAME), width_of(order, SMALL)) for name, order in names)
    (x, y), (w, h) = AT, PANEL
    wide = max(x + w + KEY + 36 + round(widest) + 16, *(round(width_of(line, TINY)) + 32 for line in [*feet, title]))
    sheet = Sheet((wide, max(y + h, y + LINE * len(names)) + FOOT), w)

    def place(n: float, e: float) -> tuple[float, float]:
        return x + w * math.log(n / ends[0]) / math.log(ends[1] / ends[0]), y + h * math.log(high / e) / math.log(high / low)

    sheet.text((16, 12), "Error over model calls", TITLE)
    sheet.text((16, 42), title, SMALL, GREY)
    if found.known > low:
        top = max(place(1, min(found.known, high))[1], y)
        sheet.fill([(x, top), (x + w, top), (x + w, y + h), (x, y + h)], BAND)
    _grid(sheet, place, calls, (low, high))
    _guides(sheet, place, ends, (low, high))
    for i, line in enumerate(points):
        colour = COLOURS[i % len(COLOURS)]
        if len(line) > 1:
            sheet.line([place(n, e) for n, e, _ in line], colour, 2.5)
        for n, e, fitted in line:
            sheet.dot(place(n, e), 5, colour)
            if not fitted:
                sheet.dot(place(n, e), 3, "#ffffff")
        at = y + 8 + LINE * i
        sheet.line([(x + w + KEY, at), (x + w + KEY + 26, at)], colour, 3)
        sheet.text((x + w + KEY + 34, at), names[i][0], NAME, INK, "lm")
        sheet.text((x + w + KEY + 34, at + 16), names[i][1], SMALL, GREY, "lm")
    sheet.text((x + w / 2, y + h + 26), "model calls", SMALL, GREY, "ma")
    for i, line in enumerate(feet):
        sheet.text((16, sheet.size[1] - 36 + 15 * i), line, TINY, GREY)
    return sheet.pixels()


def _feet(found: Any) -> list[str]:
    return [
        f"Error: how far (rms, in the model's latent scale) from where {found.reference} steps of dpm_auto_ext end. That end is known to "
        f"about {found.known:.2g} (grey): half as many steps are as far off.",
        "Order: the slope through the filled dots, the half with the most calls above the grey. Dashed: the slopes of order 1, 2 and 3.",
    ]


def _grid(sheet: Sheet, place: Any, calls: Sequence[int], span: tuple[float, float]) -> None:
    """A line for each power of ten, and fainter numbers between where there are few; the numbers of calls that were run."""
    (x, y), (w, h) = AT, PANEL
    decades = math.log10(span[1] / span[0])
    every = max(1, math.ceil(decades / 8))
    for power in range(math.floor(math.log10(span[0])), math.ceil(math.log10(span[1])) + 1):
        for part in (1, 2, 5) if decades < 3 else (1,):
            value = part * 10.0**power
            if span[0] <= value <= span[1] and power % every == 0:
                at = place(1, value)[1]
                sheet.line([(x, at), (x + w, at)], FAINT)
                sheet.text((x - 8, at), f"{value:g}" if value >= 1e-4 else f"{part}e{power}", TINY, INK, "rm")
    last = -math.inf
    for n in calls:
        at = place(n, 1)[0]
        sheet.line([(at, y), (at, y + h)], FAINT)
        if at - last >= NEAR:
            sheet.text((at, y + h + 6), f"{n}", TINY, INK, "ma")
            last = at
    sheet.line([(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)], FRAME)


def _guides(sheet: Sheet, place: Any, ends: tuple[float, float], span: tuple[float, float]) -> None:
    """Dashed lines of known order, from the upper left corner down."""
    for order in GUIDES:
        low = max(span[0], span[1] * (ends[0] / ends[1]) ** order)
        last = ends[0] * (span[1] / low) ** (1 / order)
        (a, b), (c, d) = place(ends[0], span[1]), place(last, low)
        count = max(1, round(math.hypot(c - a, d - b) / 9))
        for k in range(0, count, 2):
            s, t = k / count, min(1.0, (k + 1) / count)
            sheet.line([(a + s * (c - a), b + s * (d - b)), (a + t * (c - a), b + t * (d - b))], FRAME, 1)
        near = 0.94 if d < AT[1] + PANEL[1] - 1 else 0.97
        sheet.text((a + near * (c - a) + 4, b + near * (d - b) - 12), f"{order}", TINY, GREY, "lm")
