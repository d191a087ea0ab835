"""A picture of step schedules: half-logSNR over the steps."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..solvers.path import Path
from .sheet import FAINT, FRAME, GREY, INK, Sheet, shade, ticks

SIZE, PANEL, AT = (760, 470), (470, 330), (76, 76)  # pixels
FAR = 12.0  # of half-logSNR: ends at infinity are left out


def plot(schedules: Mapping[str, Sequence[float]], path: Path, title: str) -> np.ndarray:
    """{name: falling sigmas on `path`} as an RGB picture, float32 in 0…1 (height, width, 3); the key at the right."""
    sheet = Sheet(SIZE, PANEL[0])
    sheet.text((AT[0], 14), title, 18)
    sheet.text((AT[0], 44), "half-logSNR of each step, from noise to picture; the end at zero noise is not shown", 12, GREY)
    curves = {
        name: [(float(i), lam) for i, lam in enumerate(map(path.half_logsnr, sigmas)) if abs(lam) < FAR]
        for name, sigmas in schedules.items()
    }
    values = [lam for points in curves.values() for _, lam in points] or [0.0, 1.0]
    margin = 0.06 * (max(values) - min(values)) + 1e-3
    low, high = min(values) - margin, max(values) + margin
    last = max([1.0, *(points[-1][0] for points in curves.values() if points)])

    def place(step: float, lam: float) -> tuple[float, float]:
        return AT[0] + step / last * PANEL[0], AT[1] + PANEL[1] * (high - lam) / (high - low)

    for tick in ticks(low, high):
        y = place(0, tick)[1]
        sheet.line([(AT[0], y), (AT[0] + PANEL[0], y)], FAINT)
        sheet.text((AT[0] - 6, y), f"{tick:.3g}", 11, INK, "rm")
    for tick in ticks(0.0, last):
        x = place(tick, low)[0]
        sheet.line([(x, AT[1]), (x, AT[1] + PANEL[1])], FAINT)
        sheet.text((x, AT[1] + PANEL[1] + 6), f"{tick:g}", 11, INK, "ma")
    (x, y), (w, h) = AT, PANEL
    sheet.line([(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)], FRAME)
    sheet.text((x + w / 2, y + h + 28), "steps done", 12, GREY, "ma")
    for i, (name, points) in enumerate(curves.items()):
        colour, row = shade(i, len(curves)), y + 14 + 20 * i
        at = [place(*point) for point in points]
        if at:
            sheet.line(at, colour, 2.5)
        for a, b in at:
            sheet.line([(a - 3, b), (a + 3, b)], colour, 6)
        sheet.line([(x + w + 18, row), (x + w + 42, row)], colour, 3)
        sheet.text((x + w + 50, row), name, 12, INK, "lm")
    return sheet.pixels()
