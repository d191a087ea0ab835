"""The picture of a comparison: a grid of pictures with a row for each sampler and a column for each number of steps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from .sheet import GREY, INK, ZOOM, Sheet

LARGEST, SMALLEST, LEFT, TOP, GAP, LINE, FOOT = 384, 128, 190, 70, 10, 34, 24  # pixels: a picture's side, and what is around it


def sheet(cells: Sequence[Any], title: str, foot: str = "") -> np.ndarray:
    """`cells` have row, steps, calls, seconds, error (None where there is none) and picture, float32 (height, width, 3) in 0…1, row by
    row. An RGB picture of the same kind. Under each picture is what it cost; the least error of each column is named.
    `foot` is a small line below all."""
    rows, counts = list(dict.fromkeys(c.row for c in cells)), []
    for cell in cells[: len(cells) // len(rows)]:
        counts.append(cell.steps)
    height, width = cells[0].picture.shape[:2]
    scale = min(1.0, LARGEST / max(height, width))
    if max(height, width) < SMALLEST:
        scale = SMALLEST // max(height, width)  # whole pixels of a tiny picture
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    wide = max(across, 116)
    size = (LEFT + len(counts) * (wide + GAP) + GAP, TOP + len(rows) * (down + LINE + GAP) + FOOT * bool(foot))
    made = Sheet(size, across)
    made.text((16, 12), "The same seed", 17)
    made.text((16, 36), title, 12, GREY)
    made.text((16, size[1] - FOOT), foot, 11, GREY)
    for column, steps in enumerate(counts):
        made.text((LEFT + column * (wide + GAP) + wide / 2, TOP - 24), f"{steps} steps", 14, INK, "ma")
    for i, cell in enumerate(cells):
        row, column = divmod(i, len(counts))
        x, y = LEFT + column * (wide + GAP), TOP + row * (down + LINE + GAP)
        if column == 0:
            sampler, _, scheduler = cell.row.partition(" + ")
            made.text((LEFT - 14, y + down / 2 - 10), _fitting(sampler), 14, INK, "rm")
            made.text((LEFT - 14, y + down / 2 + 10), scheduler, 12, GREY, "rm")
        picture = Image.fromarray((np.clip(cell.picture, 0, 1) * 255).round().astype(np.uint8))
        way = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        picture = picture.resize((across * ZOOM, down * ZOOM), way)
        made.image.paste(picture, (round((x + (wide - across) / 2) * ZOOM), round(y * ZOOM)))
        rest = [c.error for c in cells[column :: len(counts)] if c.error is not None]
        best = cell.error is not None and len(rest) > 1 and cell.error <= min(rest)
        said = "" if cell.error is None else f"error {cell.error:.3f}" + (", least" if best else "")
        made.text((x + wide / 2, y + down + 3), said or "an end of its own" * (rest != []), 12, INK if best else GREY, "ma")
        made.text((x + wide / 2, y + down + 18), f"{cell.calls} calls, {cell.seconds:.1f} s", 11, GREY, "ma")
    return made.pixels()


def _fitting(name: str, most: int = 22) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
