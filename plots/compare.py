"""The picture of a comparison: a grid of pictures with a row for each sampler and a column for each number of steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from .sheet import GREY, INK, ZOOM, Sheet, width_of

LARGEST, SMALLEST, LEFT, TOP, GAP, LINE, FOOT = 384, 128, 190, 70, 10, 34, 24  # pixels: a picture's side, and what is around it
SIDE, BETWEEN = 16, 14  # pixels left of all words, and between a row's words and its pictures
NAME, SMALL, TINY = 14, 12, 11  # of text


def sheet(cells: Sequence[Any], title: str, foot: str = "") -> np.ndarray:
    """`cells` have row, steps, calls, seconds, error (None where there is none) and picture, float32 (height, width, 3) in 0…1; a row may
    lack some of the columns. An RGB picture of the same kind, as wide as its longest words need. Under each picture is what it cost; the
    least error of each column is named. `foot` is a small line below all."""
    rows = {row: i for i, row in enumerate(dict.fromkeys(c.row for c in cells))}
    counts = {steps: i for i, steps in enumerate(dict.fromkeys(c.steps for c in cells))}
    names = {row: row.partition(" + ")[::2] for row in rows}
    words = [_words(cell, cells) for cell in cells]
    height, width = cells[0].picture.shape[:2]
    scale = min(1.0, LARGEST / max(height, width))
    if max(height, width) < SMALLEST:
        scale = SMALLEST // max(height, width)  # whole pixels of a tiny picture
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    wide = round(max(across, 116, *(max(width_of(error, SMALL), width_of(cost, TINY)) + 8 for error, cost, _ in words)))
    widest = max(max(width_of(sampler, NAME), width_of(scheduler, SMALL)) for sampler, scheduler in names.values())
    left = max(LEFT, round(widest) + SIDE + BETWEEN)
    lines = max(width_of(title, SMALL), width_of(foot, TINY))
    size = (
        max(left + len(counts) * (wide + GAP) + GAP, round(lines) + 2 * SIDE),
        TOP + len(rows) * (down + LINE + GAP) + FOOT * bool(foot),
    )
    made = Sheet(size, across)
    made.text((SIDE, 12), "The same seed", 17)
    made.text((SIDE, 36), title, SMALL, GREY)
    made.text((SIDE, size[1] - FOOT), foot, TINY, GREY)
    for steps, column in counts.items():
        made.text((left + column * (wide + GAP) + wide / 2, TOP - 24), f"{steps} steps", NAME, INK, "ma")
    for row, (sampler, scheduler) in names.items():
        y = TOP + rows[row] * (down + LINE + GAP) + down / 2
        made.text((left - BETWEEN, y - 10), sampler, NAME, INK, "rm")
        made.text((left - BETWEEN, y + 10), scheduler, SMALL, GREY, "rm")
    for cell, (error, cost, best) in zip(cells, words, strict=True):
        x, y = left + counts[cell.steps] * (wide + GAP), TOP + rows[cell.row] * (down + LINE + GAP)
        picture = Image.fromarray((np.clip(cell.picture, 0, 1) * 255).round().astype(np.uint8))
        way = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        picture = picture.resize((across * ZOOM, down * ZOOM), way)
        made.image.paste(picture, (round((x + (wide - across) / 2) * ZOOM), round(y * ZOOM)))
        made.text((x + wide / 2, y + down + 3), error, SMALL, INK if best else GREY, "ma")
        made.text((x + wide / 2, y + down + 18), cost, TINY, GREY, "ma")
    return made.pixels()


def _words(cell: Any, cells: Sequence[Any]) -> tuple[str, str, bool]:
    """(its error, its cost, whether the error is the least of its column) in a few words."""
    rest = [c.error for c in cells if c.steps == cell.steps and c.error is not None]
    best = cell.error is not None and len(rest) > 1 and cell.error <= min(rest)
    error = "an end of its own" * (rest != []) if cell.error is None else f"error {cell.error:.3f}" + ", least" * best
    return error, f"{cell.calls} call{'s' * (cell.calls != 1)}, {cell.seconds:.1f} s", best
