"""Every tape proves itself before it runs: its records are executed on prescribed evaluations whose exact step is known.

For a claim on p nodes the evaluations are set to the Newton polynomials N_0 … N_{p-1} of these nodes (N_0 is data at one point:
the state then runs from α_s c + σ_s n to α_t c + σ_t n; form "v" has no such data, and runs on v's polynomial from G). Where no
fade acts and the rule is exact this is the same as being exact for x0(λ) = (λ-λ_s)^k (or ε, v likewise) for every k below the
order. The expected integrals come from a Gauss-Legendre quadrature of their own,
not from the φ functions the planner used: see `promised`. Claims that reach their ends in the same way (`unrolled`) are run as one.

What such runs cannot show is checked on the records themselves: that noise is added once and last, and by its interval, that a
prediction is read and stored with the node and the state it belongs to, and that marks and arrivals show what they say.

DPM-Solver-v3's form "f" runs on g = N_k from y = 1, for a few bins of its statistics, one after the other: `proof_v3`.

With noise (eta > 0) the same holds of the mean, with the rates of the SDE; ε forms then run on ε = n, not on data at one point. The
noise that a claim's records add must be, for the x0 forms, what the state's own noise lacks of σ_t² (the variance balances), and for
the ε forms the integral of the SDE's.
"""

import numpy as np

from .path import PATHS
from .promised import C, Levels, N, Promised
from .proof_trust import check_trusts
from .proof_v3 import Along, one_by_one, polynomials
from .step import FLOOR, POWER
from .structure import ROUNDING, check_structure
from .tape import Measure, Tape, TapeError
from .trust import at, unlike
from .unrolled import Shape, Unrolled, unrolled

TOLERANCE = 1e-11
BLOCK = 128  # claims in one pass


def check(tape: Tape) -> Tape:
    """Return the tape, or raise TapeError naming what is wrong.

    The claims must lead from the first sigma to the last, every record must belong to one of them, and each claim must hold. Time is
    linear in the steps: claims are taken in blocks. Of a tape with parity statistics, which sum in the official code's own way, only
    the structure is checked. Where slopes are measured the tape must hold at two numbers of each trust, and so at all: see `trust`.
    """
    if any(isinstance(r, Measure) for r in tape.records) or any(c.trusted for c in tape.claims):
        check_trusts(tape)
        for trusts in unlike(tape):
            check(at(tape, trusts))
        return tape
    check_structure(tape)
    if tape.statistics is not None and tape.statistics.parity:
        return tape
    levels = Levels(path := PATHS[tape.path])
    for one in one_by_one(tape):
        along = Along(one.statistics, one, path) if one.statistics is not None else None
        for (shape, *_), found in unrolled(one).items():
            for begin in range(0, len(found), BLOCK):
                _Alike(levels, found[begin : begin + BLOCK], along).check(tape.solver, shape)
    return tape


class _Alike(Promised):
    """Claims that reach their ends in the same way, and what their records make of prescribed evaluations."""

    def __init__(self, levels: Levels, found: list[Unrolled], along: Along | None):
        super().__init__(levels, [claim for claim, _, _ in found], along)
        self.weights = np.array([weights for _, weights, _ in found]).T[:, :, None]
        self.evaluated = [levels.of(sigmas) for sigmas in zip(*(s for _, _, s in found), strict=True)]

    def check(self, solver: str, shape: Shape) -> None:
        """TapeError unless each of the claims holds."""
        want, (got, rounding) = self.expected(), self.run(shape)
        allowed = TOLERANCE * np.maximum(np.maximum(1.0, np.abs(want)), self.sigma_s) + rounding
        for i, k in np.argwhere(~(np.abs(got - want) <= allowed)):
            raise TapeError(
                f"{solver}: the step {self.claims[i].sigma_from:g} -> {self.claims[i].sigma_to:g} gives {got[i, k]:.12g} on evaluations "
                f"of degree {k} in λ where {want[i, k]:.12g} is right"
            )

    def run(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        """(the state at the end, a bound of its rounding) of the cases; large coefficients are no defect."""
        weights, evaluated = iter(self.weights), iter(self.evaluated)
        zero = np.zeros((len(self.claims), self.cases))
        made: list[tuple[np.ndarray, np.ndarray]] = []
        for kind, *of in shape:
            if kind == "start":
                made.append((self.exact(self.alpha_s, self.sigma_s), zero))
            elif kind == "sum":
                total, bound = zero, zero
                for value, rounding in map(made.__getitem__, of):
                    w = next(weights)
                    total, bound = total + w * value, bound + np.abs(w) * (ROUNDING * np.abs(value) + rounding)
                made.append((total + next(weights), bound))
            else:
                level = next(evaluated)
                state = made[of[0]][0] if kind == "eval" else self.exact(*level[:2])
                x0 = self.prediction(level, state)
                if kind == "stored":
                    of_x, of_x0, bias = next(weights) * state, next(weights) * x0, next(weights)
                    made.append((of_x + of_x0 + bias, ROUNDING * (np.abs(of_x) + 2 * np.abs(of_x0))))
                else:
                    made.append((x0, ROUNDING * np.abs(x0)))
        return made[-1]

    def exact(self, alpha: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        """The states that the claims' steps start from where the path has this α and σ."""
        states = np.zeros((len(self.claims), self.cases))
        if self.form in ("v", "f"):
            return states + (np.hypot(alpha, sigma) if self.form == "v" else alpha)
        states[:, :1] = alpha * C + sigma * N
        return states

    def prediction(self, level: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The x0 at state x that makes each claim's quantity the wanted polynomial, "v" damped as `step` says: written out anew here. Where
        λ is infinite no polynomial has a value, and no claim of order > 1 may read one."""
        alpha, sigma, lam = level
        at = alpha / sigma if self.rule == "ratio" else np.where(np.isfinite(lam), lam, np.nan)
        wanted = polynomials(at, self.roots)[:, 0]
        wanted[~np.isfinite(wanted)] = 0.0
        if self.form in ("x0", "eps"):
            wanted[:, 0] = N if self.noise_alone else C
        if self.form == "x0":
            return wanted
        if self.form == "f":
            return self.of_f(level, x, wanted)
        if self.form == "eps":
            x0 = (x - sigma * wanted) / np.where(alpha > 0, alpha, 1.0)
        else:
            size = np.hypot(alpha, sigma)
            x0 = (alpha * x / size - sigma * wanted / ((alpha / size) ** 2 + FLOOR**2) ** (POWER / 2)) / size
        if self.form == "eps" and not self.noise_alone:
            x0[:, 0] = C
        return np.where(alpha > 0, x0, wanted)

    def of_f(self, level: np.ndarray, x: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """f = e^{∫s} (g + B), x0 = (1-l) y - f."""
        along, (alpha, _, lam) = self.along, level
        assert along is not None
        l = along.statistics.blocks[0][0].value(lam[:, 0])  # noqa: E741
        to_s, drift = along.drift(self.lam_s[:, 0], lam[:, 0])
        return (1 - l) * x / alpha - np.exp(to_s) * (wanted + drift)
