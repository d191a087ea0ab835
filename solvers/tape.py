"""The tape: a run of a solver as a short program over named registers, with a proof that its coefficients are right.

A planner writes it from (path, sigmas, options) in float64, on the host, without a model; `execute` runs it. Registers are free
names; "x" is the state. Coefficients are Python floats, which keep the arrays' own precision under torch, NumPy and JAX; only
DPM-Solver-v3 has a `Field`, one value for each bin of its statistics.
"""

import math
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from .path import PATHS
from .statistics import Statistics


@dataclass(frozen=True, eq=False, slots=True)
class Field:
    """A coefficient that differs over the bins of the tape's statistics: float64 (bins,), flat."""

    values: np.ndarray


@dataclass(frozen=True, slots=True)
class Blend:
    """A coefficient that is known while the run goes on: base + Σ factor·register, of registers that a `Measure` wrote."""

    base: float
    parts: tuple[tuple[str, float], ...]


Coefficient = float | Field | Blend


@dataclass(frozen=True, slots=True)
class Eval:
    """Call the denoiser on register `src` at the host's `sigma`; its data prediction x0 goes to `dst`."""

    dst: str
    src: str
    sigma: float


@dataclass(frozen=True, slots=True)
class Affine:
    """dst = Σ coefficient·register + bias."""

    dst: str
    terms: tuple[tuple[str, Coefficient], ...]
    bias: Coefficient = 0.0


@dataclass(frozen=True, slots=True)
class Noise:
    """dst += coefficient · n, with n the unit noise of the interval sigma_from → sigma_to (so sub-intervals can correlate)."""

    dst: str
    coefficient: float
    sigma_from: float
    sigma_to: float


@dataclass(frozen=True, slots=True)
class Mark:
    """The evaluation of user-visible step `step` is done: x is the state it was made at, x0 its result, as hosts' callbacks want."""

    step: int
    x: str
    x0: str


@dataclass(frozen=True, slots=True)
class Arrive:
    """The state x has come to sigmas[step]: here it may be corrected from outside, or recorded.

    The start arrives after its evaluation, as in the official code; with a corrector every state arrives corrected.
    """

    step: int
    x: str


@dataclass(frozen=True, slots=True)
class Measure:
    """`change` = Σ coefficient·register, and `dst` = how far to trust a slope, one number for each item, from how `change` lies along the
    register `before`: see `trust`.

    τ = offset + scale <change, before>/<before, before>, dst = clip(1 + below min(τ, 0), 0, 1) + min(above max(τ - 1, 0), most).
    """

    dst: str
    change: str
    terms: tuple[tuple[str, float], ...]
    before: str
    offset: float
    scale: float
    below: float
    above: float
    most: float


Record = Eval | Affine | Noise | Mark | Arrive | Measure


@dataclass(frozen=True, slots=True)
class Claim:
    """What records[first:last] must do to the state, as the planner states it; `proof.check` tests the records against it.

    From the exact state at sigma_from they lead to `register` at sigma_to, integrating (in λ, form "x0", "eps", "v" or "f") the Newton
    polynomial through the evaluations at `nodes` (newest first) with term k scaled by fades[k]; `rule` as in `step.newton_moments`.
    `eta` is the rate of the SDE (0: the ODE), which also says how much noise the records add; rule "renoise" has no evaluations: it
    scales the data and adds the noise that is missing at sigma_to. With `trusted` all terms but the first are scaled besides, by what a
    `Measure` found: the claim is of trust 1, and with trust 0 the step is of order 1.
    """

    first: int
    last: int
    sigma_from: float
    sigma_to: float
    form: str
    rule: str
    nodes: tuple[float, ...]
    fades: tuple[float, ...]
    register: str = "x"
    eta: float = 0.0
    trusted: bool = False

    @property
    def order(self) -> float:
        """Nominal order; a faded last term counts for its fade, so 1.4 is a blend of orders 1 and 2."""
        return sum(self.fades)


@dataclass(frozen=True)
class Tape:
    """A planned run. `records` is the program, `claims` what its parts promise, `solver` and `options` say where it came from.

    `notes` are sentences on options that could not act as asked, for the host to show. With `statistics` of more than one bin the registers
    of a run live where their bins do: see `basis`.
    """

    solver: str
    path: str
    sigmas: tuple[float, ...]
    records: tuple[Record, ...]
    claims: tuple[Claim, ...]
    options: tuple[tuple[str, object], ...] = ()
    notes: tuple[str, ...] = ()
    statistics: Statistics | None = None

    @property
    def evaluations(self) -> int:
        """Model calls of a whole run."""
        return sum(isinstance(r, Eval) for r in self.records)

    @cached_property
    def last_reads(self) -> tuple[tuple[str, ...], ...]:
        """For each record the registers that nothing reads afterwards, to be freed; the state's final value is kept."""
        live = {"x"}
        out: list[tuple[str, ...]] = []
        for r in reversed(self.records):
            read = reads(r)
            out.append(tuple(sorted((read | writes(r)) - live)))
            if not isinstance(r, Noise):
                live -= writes(r)
            live |= read
        return tuple(reversed(out))

    @property
    def peak_registers(self) -> int:
        """The most registers alive at once, counting a record's result together with what it reads."""
        live, peak = {"x"}, 1
        for r, dead in zip(self.records, self.last_reads, strict=True):
            made = {r.change} if isinstance(r, Measure) else writes(r)  # a trust is a number
            if made:  # the result is a new array, also where it replaces a register; a measure multiplies two changes besides
                peak = max(peak, len(live) + 1 + isinstance(r, Measure))
                live |= made
            live -= set(dead)
        return peak

    def summary(self) -> str:
        """A table for people: one line a step, with λ, the order used and the weights of the step's last record."""
        lam = PATHS[self.path].half_logsnr
        lines = [
            f"{self.solver} on {self.path}: {len(self.sigmas) - 1} steps, {self.evaluations} evaluations, {self.peak_registers} registers"
        ]
        lines += [f"  {k} = {v}" for k, v in self.options]
        for before, c in zip((None, *self.claims), self.claims, strict=False):
            last = next(r for r in reversed(self.records[c.first : c.last]) if isinstance(r, Affine))
            weights = "  ".join(f"{name} {_shown(w)}" for name, w in last.terms)
            step = f"{c.sigma_from:10.5g} -> {c.sigma_to:<10.5g} λ {lam(c.sigma_from):+8.3f} -> {lam(c.sigma_to):+8.3f}"
            again = "  (the same step, corrected)" if before and before.sigma_to == c.sigma_to and c.register == "x" else ""
            lines.append(f"{step}  order {c.order:.2f}  {weights}{again}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """Everything as JSON text; λ = -∞ of the path "vp", sigma = ∞, is the string "inf"."""
        import json

        body = {
            "format": 1,
            "solver": self.solver,
            "path": self.path,
            "options": dict(self.options),
            "sigmas": self.sigmas,
            "records": [{"op": type(r).__name__, **_plain(r)} for r in self.records],
            "steps": [asdict(c) | {"order": c.order} for c in self.claims],
        } | ({"statistics": self.statistics.digest} if self.statistics else {})
        return json.dumps(body, allow_nan=False) if math.isfinite(max(self.sigmas, default=0.0)) else json.dumps(_named(body))

    @property
    def digest(self) -> str:
        """SHA-256 of the JSON text: equal digests run identically."""
        import hashlib

        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _shown(w: Coefficient) -> str:
    if isinstance(w, Blend):
        return f"{w.base:+.6g}" + "".join(f"{factor:+.6g}·{name}" for name, factor in w.parts)
    return f"{w.values.min():+.4g}…{w.values.max():+.4g}" if isinstance(w, Field) else f"{w:+.6g}"


def _plain(record: Record) -> dict[str, object]:
    """A record for JSON: a Field as the SHA-256 of its values, a bias only where there is one."""
    import hashlib

    def plain(w: Coefficient) -> object:
        if isinstance(w, Blend):
            return asdict(w)
        return {"bins": w.values.size, "sha256": hashlib.sha256(w.values.tobytes()).hexdigest()} if isinstance(w, Field) else w

    if not isinstance(record, Affine):
        return asdict(record)
    out: dict[str, object] = {"dst": record.dst, "terms": [(name, plain(w)) for name, w in record.terms]}
    return out if record.bias == 0.0 else out | {"bias": plain(record.bias)}


def _named(value: object) -> object:
    """`value` with infinite numbers by their name, which JSON has no number for."""
    if isinstance(value, dict):
        return {k: _named(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(v) for v in value]
    return "inf" if value == math.inf else value


def reads(record: Record) -> set[str]:
    """The registers a record reads."""
    if isinstance(record, Eval):
        return {record.src}
    if isinstance(record, Affine):
        return {name for name, w in record.terms for name in (name, *(n for n, _ in (w.parts if isinstance(w, Blend) else ())))}
    if isinstance(record, Measure):
        return {record.before, *(name for name, _ in record.terms)}
    if isinstance(record, Mark):
        return {record.x, record.x0}
    return {record.dst if isinstance(record, Noise) else record.x}


def writes(record: Record) -> set[str]:
    """The registers a record writes."""
    if isinstance(record, (Mark, Arrive)):
        return set()
    return {record.dst, record.change} if isinstance(record, Measure) else {record.dst}


class TapeError(AssertionError):
    """A tape does not do what its planner claims: a defect of the planner, never of the user's input."""
