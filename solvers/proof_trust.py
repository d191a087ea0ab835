"""The part of a tape's proof that is about measured slopes: each `Measure` looks at the evaluations that it should, as `trust` says.

What the steps make of a trust is proved with two numbers in the place of each, see `trust.unlike`.
"""

import math

from .choices import FORM
from .path import PATHS
from .step import FLOOR, POWER
from .tape import Affine, Eval, Measure, Tape, TapeError, reads, writes
from .trust import FIRST, SLOPES


def check_trusts(tape: Tape) -> None:
    """TapeError unless every record reads what has been written, and every trust is made once: of the change between two evaluations in a
    row, as they are stored, damped, and of the change before it, or, the first time, of the older of the two."""
    path, form = PATHS[tape.path], FORM[str(dict(tape.options)["algorithm"])]
    states, written = {c.register for c in tape.claims}, {"x"}
    asked: dict[str, float] = {}  # prediction -> the sigma it was made at
    stored: dict[str, float] = asked if form == "x0" else {}  # the same in the method's own form
    latest, came = None, (math.nan, math.nan)  # the last measure and the sigmas that it looked at
    for place, r in enumerate(tape.records):
        if not reads(r) <= written:
            raise TapeError(f"{tape.solver}: record {place} reads {', '.join(sorted(reads(r) - written))}, which nothing has written")
        if isinstance(r, Eval):
            asked[r.dst] = r.sigma
        elif isinstance(r, Affine) and r.dst not in states:
            for name in {name for name, _ in r.terms} & asked.keys():
                stored[r.dst] = asked[name]
        elif isinstance(r, Measure):
            names = [name for name, _ in r.terms]
            if writes(r) & written or len(names) != 2 or not set(names) <= stored.keys():
                raise TapeError(f"{tape.solver}: record {place} measures {r.dst} again, or something else than two stored evaluations")
            newer, older = (stored[name] for name in names)
            if newer == older:
                raise TapeError(f"{tape.solver}: record {place} measures a slope between one evaluation and itself")
            damped = [_damping(path, form, s) for s in (newer, older)]
            h = path.half_logsnr(newer) - path.half_logsnr(older)
            if latest is None:
                before, wanted = names[1], (damped[0], -damped[1], 1.0, 1 / damped[1], *FIRST.values())
            else:
                h_before = path.half_logsnr(came[0]) - path.half_logsnr(came[1])
                before, wanted = latest.change, (damped[0], -damped[1], 0.0, h_before / h, *SLOPES.values())
            found = (*(w for _, w in r.terms), r.offset, r.scale, r.below, r.above, r.most)
            in_a_row = latest is None or older == came[0]
            same = all(math.isclose(a, b, rel_tol=1e-12) for a, b in zip(found, wanted, strict=True))
            if r.before != before or not in_a_row or not same:
                raise TapeError(f"{tape.solver}: record {place} does not measure the slope from {older:g} to {newer:g} as it should")
            latest, came = r, (newer, older)
        written |= writes(r)


def _damping(path, form: str, s: float) -> float:
    """What an evaluation is multiplied by before slopes are taken: written out anew here."""
    if form != "v":
        return 1.0
    alpha, sigma = path.alpha(s), path.sigma(s)
    return (alpha**2 / (alpha**2 + sigma**2) + FLOOR**2) ** (POWER / 2)
