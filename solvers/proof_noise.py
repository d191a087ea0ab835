"""The part of a tape's proof that is about noise: each step adds its own once, at its end, of the right size and interval.

For the x0 forms the noise must be what the state's own lacks of σ_t² (the variance balances), for the ε forms the integral of the SDE's.
"""

import math
from typing import Any

import numpy as np

from .promised import ROUNDING, Book
from .tape import TapeError
from .trace import Trace
from .unrolled import Alike


def check_noises(trace: Trace, book: Book, groups: dict[Any, list[Alike]]) -> None:
    """TapeError unless at the end of each claim its state holds, of the noise added since its start, the one record's that it should."""
    if not trace.noisy:
        return
    tape, wanted = trace.tape, _wanted(trace, book)
    s_noise = float(dict(tape.options).get("s_noise", 1.0))  # type: ignore[arg-type]
    wanted *= s_noise
    size = book.levels[1][book.end]
    with np.errstate(all="ignore"):  # of a difference of squares
        allowed = 1e-9 * np.maximum(wanted, 1e-3) + ROUNDING * size * size / np.maximum(np.maximum(wanted, 1e-6 * size), 1e-300)
    came = _came(trace)
    for alike in (a for found in groups.values() for a in found):
        places = alike.shape.noises
        for i, columns in zip(alike.claims.tolist(), alike.columns.tolist(), strict=True):
            claim = tape.claims[i]
            right = len(places) == (claim.eta > 0 and size[i] > 0)
            for place, ways in places.items():
                held = sum([math.prod([trace.coefficients[columns[c]] for c in way]) for way in ways])
                record: Any = tape.records[claim.first + place]
                start = came[i] if claim.rule == "renoise" else claim.sigma_from
                right = right and (record.sigma_from, record.sigma_to) == (start, claim.sigma_to)
                right = right and abs(held * record.coefficient - wanted[i]) <= allowed[i]
            if not right:
                raise TapeError(
                    f"{tape.solver}: the noise added from {claim.sigma_from:g} to {claim.sigma_to:g} is not what the step must add"
                )


def _came(trace: Trace) -> list[float]:
    """Where the state came from before each claim: a claim that renoises ends a step that an earlier one began."""
    came, out = 0.0, []
    for claim in trace.tape.claims:
        out.append(came)
        came = claim.sigma_from if claim.register == "x" else came
    return out


def _wanted(trace: Trace, book: Book) -> np.ndarray:
    """The standard deviation of the noise that each step must add: 0 without eta and to σ = 0."""
    (alpha_s, sigma_s, lam_s), (alpha_t, sigma_t, lam_t) = book.levels[:, book.start], book.levels[:, book.end]
    renoised = np.array([rule == "renoise" for rule in book.rules])
    of_x0 = np.array([form == "x0" for form in trace.forms])
    with np.errstate(all="ignore"):
        kept = np.where(renoised, alpha_t * sigma_s / alpha_s, sigma_t * np.exp(-book.eta * (lam_t - lam_s)))
        rest = np.sqrt(np.maximum(0.0, sigma_t**2 - kept**2))
        found = np.where(of_x0, rest, alpha_t * np.sqrt(book.eta * (np.exp(-2 * lam_s) - np.exp(-2 * lam_t))))
    return np.where((book.eta == 0) | (sigma_t == 0), 0.0, found)
