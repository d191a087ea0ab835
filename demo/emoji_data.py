"""The training images: Noto Color Emoji drawn at 32x32, each with its Unicode subgroup.

The font is SIL OFL 1.1. Both files come with Debian and Ubuntu (`apt-get install fonts-noto-color-emoji unicode-data`);
elsewhere pass their paths. Needs Pillow with FreeType (every wheel has it). `python demo/emoji_data.py OUT.png` draws them all.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
GROUPS = "/usr/share/unicode/emoji/emoji-test.txt"
STRIKE, CANVAS, SIZE = 109, (136, 128), 32  # the font's only bitmap size, its glyph box, and ours
SKIN_TONES = range(0x1F3FB, 0x1F400)
VARIATION = 0xFE0F  # "show as emoji", the only second code point that changes nothing here
LEFT_OUT = ("Flags", "Component")  # flags need pairs of letters, components are parts


def listing(path: str = GROUPS) -> list[tuple[str, str]]:
    """(text, subgroup) of every single emoji of emoji-test.txt, in its order."""
    group = subgroup = ""
    found = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith("# group:"):
            group = line.partition(":")[2].strip()
        elif line.startswith("# subgroup:"):
            subgroup = line.partition(":")[2].strip()
        elif "; fully-qualified" in line and group not in LEFT_OUT:
            points = [int(point, 16) for point in line.partition(";")[0].split()]
            single = len(points) == 1 or points[1:] == [VARIATION]
            if single and points[0] not in SKIN_TONES:
                found.append(("".join(map(chr, points)), subgroup))
    return found


def load(font: str = FONT, groups: str = GROUPS) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(images (N, SIZE, SIZE, 3) uint8 on white, labels (N,) int64, names of the subgroups, sorted)."""
    for path in (font, groups):
        if not Path(path).exists():
            raise SystemExit(f"{path} is missing: apt-get install fonts-noto-color-emoji unicode-data (or pass --font and --groups).")
    face = ImageFont.truetype(font, STRIKE)
    images, names = [], []
    for text, subgroup in listing(groups):
        canvas = Image.new("RGB", CANVAS, "white")
        ImageDraw.Draw(canvas).text((0, 0), text, font=face, embedded_color=True)
        if (np.asarray(canvas) < 250).sum() < 500:
            continue  # the font has no picture for it: an empty canvas or a thin box
        images.append(np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.LANCZOS)))
        names.append(subgroup)
    classes = sorted(set(names))
    return np.stack(images), np.array([classes.index(name) for name in names], dtype=np.int64), classes


def main() -> None:
    images, labels, classes = load()
    print(f"{len(images)} images, {len(classes)} subgroups")
    if len(sys.argv) > 1:
        columns = 40
        images = np.concatenate([images, np.full((-len(images) % columns, *images.shape[1:]), 255, np.uint8)])
        rows = [np.concatenate(list(images[i : i + columns]), axis=1) for i in range(0, len(images), columns)]
        Image.fromarray(np.concatenate(rows)).save(sys.argv[1])
        print(sys.argv[1])


if __name__ == "__main__":
    main()
