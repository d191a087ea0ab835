"""How the pictures of the templates look: a band with a title, and one of a few layouts below it. All in pixels of a square card."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

SIDE, BAND, EDGE = 400, 88, 14
SAVED = 320  # pixels of the file: the page shows about 250
WIDE, HIGH = SIDE, SIDE - BAND  # of the part under the band
INK, GREY, FAINT, PAPER = "#20242b", "#5d6470", "#dfe2e7", "#ffffff"
# colours of the band: to start with, all options, from a picture, on your own checkpoint, to measure
START, OPTIONS, PICTURE, OWN, MEASURE = "#2f5fb3", "#37474f", "#2e7d4f", "#6a3d9a", "#b3541e"


def font(size: int):
    return ImageFont.load_default(size)


def card(title: str, line: str, colour: str, below: Image.Image, demo: bool) -> Image.Image:
    """The whole card; those of the demo's model say so in a corner."""
    made = Image.new("RGB", (SIDE, SIDE), PAPER)
    draw = ImageDraw.Draw(made)
    draw.rectangle([0, 0, SIDE, BAND], colour)
    room = SIDE - 2 * EDGE - 80 * demo
    size = next(n for n in range(38, 20, -1) if font(n).getlength(title) <= room)
    draw.text((EDGE, 30), title, PAPER, font(size), anchor="lm", stroke_width=1, stroke_fill=PAPER)
    draw.text((EDGE, 56), line, "#e8ecf4", font(21))
    if demo:
        draw.rounded_rectangle([SIDE - 84, 10, SIDE - 10, 40], 8, "#f5c344")
        draw.text((SIDE - 47, 25), "demo", INK, font(22), anchor="mm")
    made.paste(below, (0, BAND))
    return made.resize((SAVED, SAVED), Image.Resampling.LANCZOS)


def blank() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    made = Image.new("RGB", (WIDE, HIGH), PAPER)
    return made, ImageDraw.Draw(made)


def big(picture: Image.Image, side: int) -> Image.Image:
    """A picture of the demo's model, its pixels as squares."""
    return picture.resize((side, side), Image.Resampling.NEAREST if side % picture.width == 0 else Image.Resampling.LANCZOS)


def widgets(picture: Image.Image, values: Sequence[tuple[str, str]]) -> Image.Image:
    """A picture over widgets of a node with their values."""
    made, draw = blank()
    made.paste(big(picture, 192), ((WIDE - 192) // 2, 8))
    for i, (name, value) in enumerate(values):
        y = 206 + 52 * i
        draw.rounded_rectangle([EDGE, y, WIDE - EDGE, y + 44], 12, "#2b2f36")
        draw.text((EDGE + 14, y + 22), name, "#aab1bd", font(22), anchor="lm")
        draw.text((WIDE - EDGE - 14, y + 22), value, PAPER, font(22), anchor="rm")
    return made


def sized(picture: Image.Image, words: str) -> Image.Image:
    """One large picture with its size along two sides."""
    made, draw = blank()
    side, x, y = 256, 100, 40
    made.paste(big(picture, side), (x, y))
    draw.rectangle([x - 1, y - 1, x + side, y + side], outline=FAINT)
    for (a, b), (c, d) in (((x, y - 14), (x + side, y - 14)), ((x - 14, y), (x - 14, y + side))):
        draw.line([(a, b), (c, d)], GREY, 2)
        for e, f in ((a, b), (c, d)):
            flat = b == d
            draw.line([(e - 6 * (not flat), f - 6 * flat), (e + 6 * (not flat), f + 6 * flat)], GREY, 2)
    draw.text((x + side / 2, y - 22), words, INK, font(24), anchor="mm", stroke_width=6, stroke_fill=PAPER)
    draw.text((x - 44, y + side / 2), words, INK, font(24), anchor="mm", stroke_width=6, stroke_fill=PAPER)
    return made


def rows(pictures: Sequence[Sequence[Image.Image]], words: Sequence[str]) -> Image.Image:
    """Two rows of three pictures, each with a line of words over it."""
    made, draw = blank()
    for i, (row, line) in enumerate(zip(pictures, words, strict=True)):
        y = 4 + 156 * i
        draw.text((EDGE, y + 2), line, INK, font(20))
        for j, picture in enumerate(row[:3]):
            made.paste(big(picture, 120), (EDGE + 127 * j, y + 30))
    return made


def chain(columns: Sequence[Sequence[Image.Image]], words: Sequence[str]) -> Image.Image:
    """Columns of two pictures with arrows between them and a word over each."""
    made, draw = blank()
    side, step = 108, 137
    for j, (column, word) in enumerate(zip(columns, words, strict=True)):
        x = 9 + step * j
        draw.text((x + side / 2, 20), word, INK, font(22), anchor="mm")
        for i, picture in enumerate(column[:2]):
            y = 42 + 134 * i
            made.paste(big(picture, side), (x, y))
            draw.rectangle([x - 1, y - 1, x + side, y + side], outline=FAINT)
            if j:
                arrow(draw, (x - step + side + 4, y + side / 2), (x - 4, y + side / 2))
    return made


def masked(before: Image.Image, after: Image.Image) -> Image.Image:
    """A picture with its right half hatched, and what came of it."""
    made, draw = blank()
    side, y = 168, 66
    made.paste(big(before, side), (10, y))
    made.paste(big(after, side), (WIDE - side - 10, y))
    half = Image.new("RGB", (side // 2, side), PICTURE)
    for k in range(-side, side, 18):
        ImageDraw.Draw(half).line([(k, side), (k + side, 0)], PAPER, 5)
    made.paste(half, (10 + side // 2, y), Image.new("L", half.size, 190))
    for x, word in ((10, "mask"), (WIDE - side - 10, "result")):
        draw.rectangle([x - 1, y - 1, x + side, y + side], outline=FAINT)
        draw.text((x + side / 2, y - 24), word, INK, font(24), anchor="mm")
    arrow(draw, (10 + side + 6, y + side / 2), (WIDE - side - 16, y + side / 2))
    return made


def arrow(draw: ImageDraw.ImageDraw, a: tuple[float, float], b: tuple[float, float]) -> None:
    draw.line([a, (b[0] - 8, b[1])], GREY, 4)
    draw.polygon([b, (b[0] - 12, b[1] - 9), (b[0] - 12, b[1] + 9)], GREY)


def shifted(pictures: Sequence[Image.Image]) -> Image.Image:
    """Noise level over time of a flow model, plain and with two shifts, and two pictures."""
    made, draw = blank()
    x, y, w, h = 20, 18, 236, 240
    draw.rectangle([x, y, x + w, y + h], outline=GREY)
    for shift, colour in ((1.0, FAINT), (3.0, "#d0405b"), (8.0, START)):
        curve = []
        for k in range(0, 41):
            t = 1 - k / 40
            curve.append((x + w * k / 40, y + h * (1 - shift * t / (1 + (shift - 1) * t))))
        draw.line(curve, colour if shift > 1 else GREY, 5 if shift > 1 else 2)
        for a, b in curve[:: 5 if shift > 1 else 50]:
            draw.ellipse([a - 6, b - 6, a + 6, b + 6], colour if shift > 1 else GREY)
    draw.text((x + 10, y + h - 58), "shift 8", START, font(22))
    draw.text((x + 10, y + h - 32), "shift 3", "#d0405b", font(22))
    draw.text((x + w / 2, y + h + 24), "noise over steps", GREY, font(22), anchor="mm")
    for i, picture in enumerate(pictures):
        made.paste(big(picture, 120), (WIDE - 130, 18 + 128 * i))
    return made


def nodes(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two nodes as the page shows them, side by side."""
    made = Image.new("RGB", (WIDE, HIGH), "#222326")
    for i, node in enumerate((left.convert("RGB"), right.convert("RGB"))):
        scale = min(192 / node.width, 300 / node.height)
        small = node.resize((round(node.width * scale), round(node.height * scale)), Image.Resampling.LANCZOS)
        made.paste(small, (4 + 198 * i + (192 - small.width) // 2, (HIGH - small.height) // 2))
    return made


Part = tuple[float, float, float, float]  # left, upper, right and lower edge, as shares of a picture's width and height


def cut(plot: Image.Image, part: Part, room: tuple[int, int]) -> Image.Image:
    """A part of a plot, as large as it fits into the room."""
    a, b, c, d = (round(p * q) for p, q in zip(part, (plot.width, plot.height) * 2, strict=True))
    inner = plot.crop((a, b, c, d))
    scale = min(room[0] / inner.width, room[1] / inner.height)
    return inner.resize((round(inner.width * scale), round(inner.height * scale)), Image.Resampling.LANCZOS)


def over(plot: Image.Image, pictures: Sequence[Image.Image], part: Part) -> Image.Image:
    """A part of a plot over a row of four pictures."""
    made, _ = blank()
    inner = cut(plot, part, (WIDE - 8, HIGH - 108))
    made.paste(inner, ((WIDE - inner.width) // 2, 4))
    for j, picture in enumerate(pictures[:4]):
        made.paste(big(picture, 96), (EDGE - 6 + 98 * j, HIGH - 98))
    return made


def whole(plot: Image.Image, part: Part) -> Image.Image:
    """A part of a plot, and nothing else."""
    made, _ = blank()
    inner = cut(plot, part, (WIDE - 8, HIGH - 8))
    made.paste(inner, ((WIDE - inner.width) // 2, (HIGH - inner.height) // 2))
    return made
