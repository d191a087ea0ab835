"""The runs of an error curve, on the bench of the comparison, and the order of convergence that they show."""

import csv as files
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .compare_rows import MOST_STEPS, SAME, Row
from .compare_run import Bench, reference_row
from .schedules import FINAL

FEWEST = 3  # points of a fit, where there are as many


@dataclass(frozen=True)
class Point:
    """One run: `error` is the rms distance from the reference in the model's own latent scale; `fitted`: the order is made from it."""

    steps: int
    calls: int
    seconds: float
    error: float
    fitted: bool = False


@dataclass(frozen=True)
class Curve:
    """A sampler's points, by rising model calls; its `order` is minus the slope of log error over log calls, with the standard error of
    the fit as `spread`; None where too few points tell."""

    label: str
    points: tuple[Point, ...]
    order: float | None
    spread: float | None

    @property
    def words(self) -> str:
        """Its order for people: 1.98 ± 0.03."""
        if self.order is None:
            return "not seen"
        return f"{self.order:.2f}" + (f" ± {self.spread:.2f}" if self.spread is not None else "")


@dataclass(frozen=True)
class Curves:
    """All of them, the steps of the reference, and how well it is known: the rms distance of the same run at half its steps."""

    curves: tuple[Curve, ...]
    reference: int
    known: float


def check(model, rows: Sequence[Row], counts: Sequence[int], reference: int, final: str) -> None:
    """ValueError, one sentence with the widget's name, for what has no error curve on this model."""
    if final not in FINAL:
        raise ValueError(f"final_sigma is {final!r}; choose one of {', '.join(FINAL)}.")
    if len(counts) < 2:
        raise ValueError(f"steps is {counts[0]} alone; write at least two numbers, such as 5, 7, 10, 14, 20, 28, 40.")
    if 2 * max(counts) > MOST_STEPS:
        raise ValueError(f"steps has {max(counts)}, and the reference needs twice as many; write numbers up to {MOST_STEPS // 2}.")
    if reference < max(4, 2 * max(counts)):
        raise ValueError(
            f"reference_steps is {reference}, and the end cannot be told from runs of {max(counts)} steps; raise it to at least "
            f"{max(4, 2 * max(counts))}."
        )
    sampling = model.get_model_object("model_sampling")
    top = float(reference_row().sigmas(sampling, reference, final)[0])
    for row in rows:
        if not row.steady:
            raise ValueError(f"samplers has {row.label}, which adds noise on the way and converges to no common end; leave it out.")
        for steps in counts:
            first = float(row.sigmas(sampling, steps, final)[0])
            if not math.isclose(first, top, rel_tol=SAME):
                raise ValueError(
                    f"samplers has {row.label}, which starts at noise level {first:.5g} with {steps} steps, not at the model's "
                    f"{top:.5g}, so it converges to another end; take another scheduler."
                )


def curves(
    model, positive, negative, latent, cfg: float, seed: int, rows: Sequence[Row], counts: Sequence[int], reference: int, final: str
) -> Curves:
    """Run all of them, row by row, from the same noise, after the reference and its half."""
    total = reference + reference // 2 + len(rows) * sum(counts)
    bench = Bench(model, positive, negative, latent, cfg, seed, total, final)
    end = bench.reference(reference)
    known = bench.distance(bench.reference(reference // 2), end)
    if not math.isfinite(known):
        raise ValueError(
            f"reference_steps is {reference}, and that run or the one of half as many ends in values that are no numbers; lower cfg, or "
            "run the model in a wider precision."
        )
    found = []
    for row in rows:
        points = []
        for steps in counts:
            run = bench.run(row, steps)
            points.append(Point(steps, run.calls, run.seconds, bench.distance(run.out, end)))
        found.append(curve(row.label, points, known))
    return Curves(tuple(found), reference, known)


def curve(label: str, points: Sequence[Point], known: float) -> Curve:
    """The order from the half with the most calls, at least 3, of the points above `known`: an order is what shows in the limit, and below
    `known` the reference's own error shows. A straight line by least squares through log error over log calls."""
    points = sorted(points, key=lambda p: p.calls)
    clear = [i for i, p in enumerate(points) if math.isfinite(p.error) and p.error > max(known, 0.0)]
    taken = clear[-max(FEWEST, math.ceil(len(clear) / 2)) :]
    x = np.log([points[i].calls for i in taken])
    if len(taken) < 2 or float(np.ptp(x)) == 0:
        return Curve(label, tuple(points), None, None)
    y = np.log([points[i].error for i in taken])
    away = x - x.mean()
    slope = float(away @ y / (away @ away))
    rest = y - y.mean() - slope * away
    spread = math.sqrt(float(rest @ rest) / (len(taken) - 2) / float(away @ away)) if len(taken) > 2 else None
    told = [Point(p.steps, p.calls, p.seconds, p.error, i in taken) for i, p in enumerate(points)]
    return Curve(label, tuple(told), -slope, spread)


def table(found: Curves) -> str:
    """The numbers in Markdown, a row for each sampler: its order, and the error and model calls at each number of steps."""
    counts = sorted({p.steps for c in found.curves for p in c.points})
    lines = ["| | order | " + " | ".join(f"{n} steps" for n in counts) + " |", "| --- | --- |" + " --- |" * len(counts)]
    for one in found.curves:
        cells = {p.steps: f"{p.error:.3g}, {p.calls} call{'s' * (p.calls != 1)}" for p in one.points}
        lines.append(f"| {one.label} | {one.words} | " + " | ".join(cells[n] for n in counts) + " |")
    return "\n".join([*lines, "", f"The end is known to about {found.known:.2g}: {found.reference // 2} steps of it are as far away."])


def csv(found: Curves) -> str:
    """A line for each run, with the words of the first line over the columns."""
    text = io.StringIO()
    out = files.writer(text, lineterminator="\n")
    out.writerow(["sampler", "steps", "model_calls", "error", "seconds", "fitted", "order", "order_spread", "reference_known_to"])
    for one in found.curves:
        order, spread = ("" if value is None else f"{value:.6g}" for value in (one.order, one.spread))
        for p in one.points:
            out.writerow(
                [one.label, p.steps, p.calls, f"{p.error:.6g}", f"{p.seconds:.3f}", int(p.fitted), order, spread, f"{found.known:.6g}"]
            )
    return text.getvalue()
