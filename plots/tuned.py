"""A picture and a few lines of text of a tuning."""

from collections.abc import Callable, Sequence

import numpy as np

from ..solvers.path import PATHS, Path
from ..solvers.tune import Tuned
from ..solvers.tune_file import BY_BUDGET, STOPPED
from .sheet import FAINT, FRAME, GREY, INK, Sheet, ticks

SIZE, PANEL, TOP, LEFTS = (960, 540), (372, 352), 122, (66, 558)  # pixels
TITLE, WORDS, SMALL = 22, 17, 15  # of text: half of it, as large as a node may show it, can still be read
# of the metadata, what people are told
WORDS_OF_USE = (
    "model", "checkpoint", "prediction type", "guidance", "patches", "LoRAs", "sigma range", "noise", "prompts", "sampler", "statistics",
    "tune", "size", "seeds",
)  # fmt: skip
MOST = 5  # known schedules beside the tuned one
BEST, SHADE, OTHERS = "#d0405b", "#f3eef5", ("#e39a1c", "#7b5fb0", "#3f8fb5", "#6f8f4e")
# noise levels that an axis may name: of models whose signal stays as it is, and of flow models
NAMED = {"ve": [k * 10.0**e for e in range(-4, 5) for k in (1, 2, 5)], "flow": [0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999]}
FARTHEST = 9.0  # half-logSNR: ends beyond are drawn as if they were there


def summary(tuned: Tuned, words: dict[str, str], file: str, made: int | None = None) -> str:
    """What came out and over what, a line each; a list in Markdown, which the host's text preview shows."""
    errors = {name: tuned.error(name) for name in tuned.held_out}
    count, steps = len(next(iter(tuned.held_out.values()))), len(tuned.sigmas) - 1
    known, gained = errors[tuned.known], 100 * (1 - errors["tuned"] / max(errors[tuned.known], 1e-12))
    what = " and gains" if any(abs(gain - 1) >= 0.0005 for gain in tuned.gains) else ""
    title = f"{tuned.solver} with {steps} tuned steps{what}: {gained:.0f} % less error than the best known pair tried, {tuned.known}"
    if not tuned.improved:
        title = f"{tuned.known}, {steps} steps: nothing better was found, so this best of the known pairs tried is returned"
        title += "; a higher budget may find it" if words.get("search") == BY_BUDGET else ""
    both = f"{errors['tuned']:.4g} tuned, {known:.4g} best known" if tuned.improved else f"{known:.4g}"
    better = sum(a < b for a, b in zip(tuned.held_out["tuned"], tuned.held_out[tuned.known], strict=True))
    said = {"error": f"{both}, the mean of {count} pictures of the same prompts that the search has not seen"}
    if tuned.improved:
        said["error"] += f", {better} of which came out better"
        if "solver" in words.get("tune", ""):
            said["error"] += "; they also chose between its two best results, so expect a little less on others"
    if words.get("search") == STOPPED:
        title = f"Stopped early: {title}, on the pictures of the search"
        said["error"] = f"{both}, the mean of the {count} pictures that the search was made on; on others it was not checked, and may gain "
        said["error"] += "less: run the tuning again with the same settings, and it goes on from there"
    if "compared" in words:
        said["compared with"] = words["compared"] + "; no others"
    rest = sorted((value, name) for name, value in errors.items() if name not in ("tuned", tuned.known))
    said |= {f"error of {name}": f"{value:.4g}" for value, name in rest}
    said["sigmas"] = ", ".join(f"{s:.4g}" for s in tuned.sigmas)
    if tuned.gains:
        said["gains"] = ", ".join(f"{g:.3f}" for g in tuned.gains)
    said |= {k: words[k] for k in WORDS_OF_USE if k in words}
    cost = f"{tuned.evaluations:,} model calls" + ("" if made is None else f", {made:,} of them now")
    said["cost"] = cost + (", the budget ended it" if words.get("search") == BY_BUDGET else "")
    return "\n".join([title, "", *(f"- {k}: {v}" for k, v in said.items()), f"- file: {file}"])


def plot(tuned: Tuned, known: dict[str, list[float]], words: dict[str, str], file: str) -> np.ndarray:
    """The steps beside the known ones, and the error over the model calls, as an RGB picture, float32 in 0…1 (height, width, 3)."""
    sheet = Sheet(SIZE, PANEL[0])
    across = LEFTS[1] + PANEL[0] - LEFTS[0]
    sheet.text((LEFTS[0], 12), sheet.wrapped(file, TITLE, across, 1)[0], TITLE)
    for i, line in enumerate(sheet.wrapped(summary(tuned, words, file).splitlines()[0], WORDS, across, 2)):
        sheet.text((LEFTS[0], 43 + 21 * i), line, WORDS, GREY)
    _steps(sheet, (LEFTS[0], TOP), tuned, known, PATHS[words.get("noise", "ve")])
    _search(sheet, (LEFTS[1], TOP), tuned)
    return sheet.pixels()


def _steps(sheet: Sheet, at: tuple[int, int], tuned: Tuned, known: dict[str, list[float]], path: Path) -> None:
    """The noise level of each step but the last 0, over half-logSNR."""
    best = tuned.known.split(" + ")[-1]
    names = sorted(known, key=lambda name: name != best)[:MOST]
    curves = {name: _points(known[name], path) for name in names}
    own = _points(tuned.sigmas, path)
    values = [v for points in [*curves.values(), own] for _, v in points]
    margin = 0.05 * (max(values) - min(values)) + 1e-3
    span = max(values) + margin, min(values) - margin
    levels = [(path.half_logsnr(s), f"{s:g}") for s in NAMED["flow" if path.name == "flow" else "ve"]]
    levels = [pair for pair in levels if span[1] <= pair[0] <= span[0]]
    thin = 1 + len(levels) // 9
    last = len(tuned.sigmas) - 2
    stages = [(t, f"{t + 1:g}") for t in ticks(0, last) if t == int(t)]
    scale = _frame(sheet, at, (-0.06 * last, 1.06 * last), span, stages, levels[::thin])
    sheet.text((at[0], at[1] - 26), "Noise level (sigma) of each step", WORDS)
    colours = {name: BEST if name == best else OTHERS[i % len(OTHERS)] for i, name in enumerate(names, -1)}
    for name in reversed(names):
        sheet.line([scale(x, y) for x, y in curves[name]], colours[name], 3 if name == best else 2)
    sheet.line([scale(x, y) for x, y in own], INK, 4)
    for x, y in own:
        sheet.dot(scale(x, y), 6, INK)
    rows = [("tuned" if tuned.improved else "chosen", INK, 4.0)]
    rows += [(name + ", best known" if name == best else name, colours[name], 3.0) for name in names]
    for i, (name, colour, width) in enumerate(rows):
        y = at[1] + PANEL[1] - 16 - 21 * (len(rows) - 1 - i)
        sheet.line([(at[0] + 12, y), (at[0] + 38, y)], colour, width)
        sheet.text((at[0] + 46, y), name, SMALL, INK, "lm")
    foot = "step"
    if len(tuned.gains) == last + 1 <= 8:
        foot = "step; gains " + " ".join(f"{g:.2f}" for g in tuned.gains)
    sheet.text((at[0] + PANEL[0] / 2, at[1] + PANEL[1] + 30), foot, SMALL, GREY, "ma")


def _search(sheet: Sheet, at: tuple[int, int], tuned: Tuned) -> None:
    """The least error so far on the pictures of the search, as stairs, from where the known schedules have been tried."""
    best = tuned.best or [(tuned.evaluations, tuned.error())]
    calls, errors = [n for n, _ in best] + [max(tuned.evaluations, best[-1][0] + 1)], [e for _, e in best]
    room = max(errors) - min(errors) or 0.1 * max(errors) or 1.0
    top = max(errors) + 0.35 * room
    span = max(-0.06 * top, min(errors) - 0.35 * room), top  # a line at 0 is seen above the frame
    stages, levels = ([(t, f"{t:,.10g}") for t in ticks(*ends)] for ends in ((float(calls[0]), float(calls[-1])), span))
    corners: list[tuple[float, float]] = []
    for i, error in enumerate(errors):
        corners += [(float(calls[i]), error), (float(calls[i + 1]), error)]

    def under(scale) -> None:
        sheet.fill([scale(x, y) for x, y in [*corners, (calls[-1], span[0]), (calls[0], span[0])]], SHADE)

    scale = _frame(sheet, at, (float(calls[0]), float(calls[-1])), span, stages[:: 1 + len(stages) // 5], levels, under)
    sheet.text((at[0], at[1] - 26), "Error on the pictures of the search", WORDS)
    sheet.line([scale(x, y) for x, y in corners], INK, 4)
    first, end = scale(calls[0], errors[0]), scale(calls[-1], errors[-1])
    sheet.dot(first, 6, BEST)
    sheet.text((first[0] + 12, first[1] - 8), f"best known {errors[0]:.3g}", SMALL, BEST, "lb")
    if len(errors) > 1:
        gained = 100 * (1 - errors[-1] / max(errors[0], 1e-12))
        sheet.dot(end, 6, INK)
        sheet.text((end[0] - 10, end[1] + 12), f"best of the search {errors[-1]:.3g}, {gained:.0f} % less", SMALL, INK, "ra")
        if not tuned.improved:
            sheet.text((end[0] - 10, end[1] + 32), "not better on unseen pictures", SMALL, INK, "ra")
    foot = f"model calls; the first {calls[0]:,} tried what is known"
    sheet.text((at[0] + PANEL[0] / 2, at[1] + PANEL[1] + 30), foot, SMALL, GREY, "ma")


def _points(sigmas: Sequence[float], path: Path) -> list[tuple[float, float]]:
    """(step from 0, half-logSNR) of all levels but the last, which is 0."""
    return [(float(i), min(max(path.half_logsnr(s), -FARTHEST), FARTHEST)) for i, s in enumerate(sigmas[:-1])]


Marks = list[tuple[float, str]]
Scale = Callable[[float, float], tuple[float, float]]


def _frame(
    sheet: Sheet, at: tuple[int, int], across: tuple[float, float], up: tuple[float, float], below: Marks, beside: Marks,
    under: Callable[[Scale], None] | None = None,
) -> Scale:  # fmt: skip
    """Grid with words at the places `below` and `beside`, over what `under` draws, and a frame; returns a function (x, y) -> pixels. `up`
    may fall."""
    (x, y), (w, h) = at, PANEL

    def scale(a: float, b: float) -> tuple[float, float]:
        return x + (a - across[0]) / (across[1] - across[0]) * w, y + h - (b - up[0]) / (up[1] - up[0]) * h

    if under is not None:
        under(scale)
    for value, word in beside:
        where = scale(across[0], value)[1]
        sheet.line([(x, where), (x + w, where)], FAINT)
        sheet.text((x - 8, where), word, SMALL, INK, "rm")
    for value, word in below:
        where = scale(value, up[0])[0]
        sheet.line([(where, y), (where, y + h)], FAINT)
        sheet.text((where, y + h + 8), word, SMALL, INK, "ma")
    sheet.line([(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)], FRAME)
    return scale
