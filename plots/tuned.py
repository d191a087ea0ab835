"""A picture and a few lines of text of a tuning."""

import numpy as np

from ..solvers.path import PATHS
from ..solvers.tune import Tuned
from .sheet import FAINT, FRAME, GREY, INK, Sheet, shade, ticks

SIZE, PANEL, LEFT, TOP, APART = (1060, 520), (400, 320), 76, 110, 96  # pixels
MOST = 5  # known schedules beside the tuned one


def summary(tuned: Tuned, words: dict[str, str], file: str, made: int | None = None) -> str:
    """What came out and over what, a line each; a list in Markdown, which the host's text preview shows."""
    errors = {name: tuned.error(name) for name in tuned.held_out}
    count, steps = len(next(iter(tuned.held_out.values()))), len(tuned.sigmas) - 1
    known, gained = errors[tuned.known], 100 * (1 - errors["tuned"] / max(errors[tuned.known], 1e-12))
    what = " and gains" if tuned.gains else ""
    title = f"{tuned.solver} with tuned steps{what}, {steps} of them: {gained:.0f} % less error than the best known, {tuned.known}"
    if not tuned.improved:
        title = f"{tuned.known}, {steps} steps: nothing better was found, so this best known schedule is returned"
        title += "; a higher budget may find it" if words.get("search") == "ended by the budget" else ""
    both = f"{errors['tuned']:.4g} tuned, {known:.4g} best known" if tuned.improved else f"{known:.4g}"
    better = sum(a < b for a, b in zip(tuned.held_out["tuned"], tuned.held_out[tuned.known], strict=True))
    said = {"error": f"{both}, the mean of {count} pictures of the same prompts that the search has not seen"}
    if tuned.improved:
        said["error"] += f", {better} of which came out better"
    rest = sorted((value, name) for name, value in errors.items() if name not in ("tuned", tuned.known))
    said |= {f"error of {name}": f"{value:.4g}" for value, name in rest}
    said["sigmas"] = ", ".join(f"{s:.4g}" for s in tuned.sigmas)
    if tuned.gains:
        said["gains"] = ", ".join(f"{g:.3f}" for g in tuned.gains)
    said |= {k: words[k] for k in ("model", "guidance", "patches", "sampler", "tune", "size", "seeds") if k in words}
    cost = f"{tuned.evaluations:,} model calls" + ("" if made is None else f", {made:,} of them now")
    said["cost"] = cost + (", the budget ended it" if words.get("search") == "ended by the budget" else "")
    return "\n".join([title, "", *(f"- {k}: {v}" for k, v in said.items()), f"- file: {file}"])


def plot(tuned: Tuned, known: dict[str, list[float]], words: dict[str, str], file: str) -> np.ndarray:
    """The error over the model calls, and the steps beside the known ones, as an RGB picture, float32 in 0…1 (height, width, 3)."""
    sheet = Sheet(SIZE, PANEL[0])
    sheet.text((LEFT, 14), f"Tuned steps: {file}", 18)
    sheet.text((LEFT, 44), summary(tuned, words, file).splitlines()[0], 13, GREY)
    _search(sheet, (LEFT, TOP), tuned)
    _steps(sheet, (LEFT + PANEL[0] + APART, TOP), tuned, known, PATHS[words.get("noise", "ve")])
    return sheet.pixels()


def _search(sheet: Sheet, at: tuple[int, int], tuned: Tuned) -> None:
    """Best error so far on the pictures of the search, as stairs."""
    sheet.text((at[0], at[1] - 24), "Error on the pictures of the search", 13)
    best = tuned.best or [(tuned.evaluations, tuned.error())]
    calls, errors = [n for n, _ in best] + [max(tuned.evaluations, best[-1][0] + 1)], [e for _, e in best]
    scale = _frame(sheet, at, (0.0, float(calls[-1])), (0.0, 1.08 * max(errors) or 1.0))
    corners: list[tuple[float, float]] = []
    for i, error in enumerate(errors):
        corners += [(calls[i], error), (calls[i + 1], error)]
    sheet.line([scale(x, y) for x, y in corners], INK, 2.5)
    sheet.text((at[0] + PANEL[0] / 2, at[1] + PANEL[1] + 28), "model calls of one picture", 12, GREY, "ma")


def _steps(sheet: Sheet, at: tuple[int, int], tuned: Tuned, known: dict[str, list[float]], path) -> None:
    """Half-logSNR over the steps; ends at infinity are left out."""
    sheet.text((at[0], at[1] - 24), "Half-logSNR of each step, from noise to picture", 13)
    best = tuned.known.split(" + ")[-1]
    names = sorted(known, key=lambda name: name != best)[:MOST]
    curves = {name: _points(known[name], path) for name in names}
    own = _points(tuned.sigmas, path)
    values = [v for points in [*curves.values(), own] for _, v in points] or [0.0, 1.0]
    margin = 0.06 * (max(values) - min(values)) + 1e-3
    scale = _frame(sheet, at, (0.0, float(len(tuned.sigmas) - 2)), (min(values) - margin, max(values) + margin))
    for i, (name, points) in enumerate(curves.items()):
        colour = shade(i, MOST + 1)
        sheet.line([scale(x, y) for x, y in points], colour, 1.5)
        _key(sheet, at, i + 1, name + (", best known" if name == best else ""), colour)
    sheet.line([scale(x, y) for x, y in own], INK, 3.5)
    for x, y in own:
        a, b = scale(x, y)
        sheet.line([(a - 4, b), (a + 4, b)], INK, 8)
    _key(sheet, at, 0, "tuned" if tuned.improved else "chosen", INK)


def _key(sheet: Sheet, at: tuple[int, int], row: int, words: str, colour) -> None:
    y = at[1] + 18 + 18 * row
    sheet.line([(at[0] + 12, y), (at[0] + 36, y)], colour, 3)
    sheet.text((at[0] + 44, y), words, 12, INK, "lm")


def _points(sigmas, path) -> list[tuple[float, float]]:
    pairs = [(float(i), path.half_logsnr(s)) for i, s in enumerate(sigmas)]
    return [(i, v) for i, v in pairs if abs(v) < 12]


def _frame(sheet: Sheet, at: tuple[int, int], across: tuple[float, float], up: tuple[float, float]):
    """Frame, grid and numbers; returns a function (x, y) -> pixels."""
    (x, y), (w, h) = at, PANEL

    def scale(a: float, b: float) -> tuple[float, float]:
        return x + (a - across[0]) / (across[1] - across[0]) * w, y + h - (b - up[0]) / (up[1] - up[0]) * h

    for tick in ticks(*up):
        where = scale(across[0], tick)[1]
        sheet.line([(x, where), (x + w, where)], FAINT)
        sheet.text((x - 6, where), f"{tick:.3g}", 11, INK, "rm")
    for tick in ticks(*across):
        where = scale(tick, up[0])[0]
        sheet.line([(where, y), (where, y + h)], FAINT)
        sheet.text((where, y + h + 6), f"{tick:g}", 11, INK, "ma")
    sheet.line([(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)], FRAME)
    return scale
