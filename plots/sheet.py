"""A white sheet to draw axes, curves and words on, with Pillow, which every host has."""

import functools
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..solvers.path import VE

ZOOM = 2  # drawn larger and shrunk, which smooths the curves
HEIGHT = 180  # pixels of a panel
INK, GREY, FAINT, FRAME = "#222222", "#666666", "#e4e4e4", "#8a8a8a"
# falls in lightness as it runs, so that neighbours differ without colour too
RAMP = ((0xFD, 0xB8, 0x2B), (0xF0, 0x77, 0x3A), (0xD0, 0x40, 0x5B), (0x94, 0x27, 0x80), (0x50, 0x1A, 0x84), (0x12, 0x0B, 0x4A))


class Sheet:
    """A white picture to draw axes and curves on, in pixels of the result."""

    def __init__(self, size: tuple[int, int], width: int):
        self.size, self.panel, self.image = size, (width, HEIGHT), Image.new("RGB", (size[0] * ZOOM, size[1] * ZOOM), "white")
        self.draw = ImageDraw.Draw(self.image)
        self.last: list[tuple[tuple[float, float], str, str | tuple[int, int, int], str]] = []  # words to draw when it is shrunk

    def pixels(self) -> np.ndarray:
        image = self.image.resize(self.size, Image.Resampling.BOX)
        draw, font = ImageDraw.Draw(image), ImageFont.load_default()
        for (x, y), words, colour, anchor in self.last:  # such a font has no anchors
            width, height = draw.textlength(words, font), 11
            x -= width * {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]]
            draw.text((x, y - height / 2 if anchor[1] == "m" else y), words, colour, font)
        return np.asarray(image, dtype=np.float32) / 255

    def text(self, at: tuple[float, float], words: str, size: int, colour=INK, anchor: str = "la") -> None:
        font = _font(size * ZOOM)
        if isinstance(font, ImageFont.ImageFont):  # of one size: it would be shrunk with the rest
            self.last.append((at, _latin(words), colour, anchor))
        else:
            self.draw.text((at[0] * ZOOM, at[1] * ZOOM), words, colour, font, anchor=anchor)

    def line(self, points: list[tuple[float, float]], colour, width: float = 1) -> None:
        self.draw.line([(x * ZOOM, y * ZOOM) for x, y in points], colour, round(width * ZOOM), joint="curve")

    def fill(self, points: list[tuple[float, float]], colour) -> None:
        self.draw.polygon([(x * ZOOM, y * ZOOM) for x, y in points], colour)

    def dot(self, at: tuple[float, float], radius: float, colour) -> None:
        (x, y), r = at, radius
        self.draw.ellipse([(x - r) * ZOOM, (y - r) * ZOOM, (x + r) * ZOOM, (y + r) * ZOOM], colour)

    def wrapped(self, words: str, size: int, width: float, most: int) -> list[str]:
        """`words` as lines of at most `width`, broken between words, or inside of one that is longer; the last of `most` ends in … if there
        is more."""

        def fits(line: str) -> bool:
            return width_of(line, size) <= width

        lines, left = [], words.strip()
        while left:
            if fits(left):
                return [*lines, left]
            last = len(lines) == most - 1
            count = next((n for n in range(len(left), 1, -1) if fits(left[:n] + "…" * last)), 1)
            space = left.rfind(" ", 1, count + 1)
            count = count if last or space < 0 else space
            lines.append(left[:count].rstrip() + "…" * last)
            if last:
                return lines
            left = left[count:].strip()
        return lines

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


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between low and high, four to eight of them."""
    rough = (high - low) / 4
    size = 10.0 ** np.floor(np.log10(rough))
    step = next(size * k for k in (5, 2, 1) if size * k <= rough)
    return [round(float(k * step), 10) for k in range(int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9)) + 1)]


def width_of(words: str, size: int) -> float:
    """How wide `words` are in text of this size, in pixels of the result."""
    font = _font(size * ZOOM)
    return font.getlength(_latin(words)) if isinstance(font, ImageFont.ImageFont) else font.getlength(words) / ZOOM


def shade(i: int, count: int) -> tuple[int, int, int]:
    return RAMP[round(i / max(1, count - 1) * (len(RAMP) - 1))] if count > 1 else RAMP[-2]


def _latin(words: str) -> str:
    """What a font of one size can draw."""
    return words.encode("latin-1", "replace").decode("latin-1")


@functools.cache
def _font(size: int):
    """A font of this height; of the one size that there is where no outlines are found."""
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size of its own
        pass
    for file in _outlines():
        try:
            return ImageFont.truetype(file, size)
        except (OSError, ImportError):
            continue
    return ImageFont.load_default()


def _outlines() -> list[str]:
    """Where DejaVu Sans may be: with matplotlib, which every version of gradio brings, or among the system's fonts."""
    spec = importlib.util.find_spec("matplotlib")  # which is not imported
    places = list(spec.submodule_search_locations or ()) if spec else []
    return [*(str(Path(place, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")) for place in places), "DejaVuSans.ttf", "Arial.ttf"]
