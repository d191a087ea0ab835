"""The part of a tape's proof that needs no numbers run through it: who reads, stores, shows and disturbs what.

One pass over the records. Constant data would not show an evaluation of another step, and a mean shows no noise: that is checked here.
"""

import math

import numpy as np

from .choices import FORM
from .path import PATHS, Path
from .tape import Affine, Arrive, Claim, Eval, Field, Mark, Noise, Tape, TapeError, reads

ROUNDING = 1e-14  # relative, of one operation: some units in the last place


def check_structure(tape: Tape) -> None:
    """TapeError, one sentence, unless the claims lead along all sigmas, every record belongs to one, and no record reads, stores, shows or
    adds anything but what its claim says."""
    path = PATHS[tape.path]
    _check_chain(tape)
    _check_claims(tape, path)
    _check_fields(tape)
    _check_records(tape, path)


def kept(path: Path, claim: Claim) -> float:
    """The part of the state's noise, over σ_s, that the step keeps as the host's σ."""
    s, t = claim.sigma_from, claim.sigma_to
    if claim.rule == "renoise":
        return path.alpha(t) * path.sigma(s) / path.alpha(s)
    if claim.eta == 0 or path.sigma(t) == 0:
        return path.sigma(t)
    return path.sigma(t) * math.exp(-claim.eta * (path.half_logsnr(t) - path.half_logsnr(s)))


def _noise(path: Path, claim: Claim) -> float:
    """The standard deviation of the noise that the step must add: 0 without eta and to σ = 0."""
    if claim.eta == 0 or path.sigma(claim.sigma_to) == 0:
        return 0.0
    if claim.form == "x0":
        return math.sqrt(max(0.0, path.sigma(claim.sigma_to) ** 2 - kept(path, claim) ** 2))
    lam_s, lam_t = path.half_logsnr(claim.sigma_from), path.half_logsnr(claim.sigma_to)
    return path.alpha(claim.sigma_to) * math.sqrt(claim.eta * (math.exp(-2 * lam_s) - math.exp(-2 * lam_t)))


def _check_chain(tape: Tape) -> None:
    steps = [c for c in tape.claims if c.register == "x"]
    came, here = None, tape.sigmas[0] if tape.sigmas else 0.0
    visited = {here}
    for c in steps:
        if c.sigma_from == here:
            came, here = here, c.sigma_to
            visited.add(here)
        elif c.sigma_to != here or c.sigma_from not in (came, tape.sigmas[0]):  # else the step, or the whole start, taken again
            raise TapeError(f"{tape.solver}: the claims do not lead along the sigmas, step by step")
    fast = dict(tape.options).get("method") == "singlestep"  # several sigmas a step
    if len(tape.sigmas) > 1 and (here != tape.sigmas[-1] or not steps or not (fast or set(tape.sigmas) <= visited)):
        raise TapeError(f"{tape.solver}: the claims do not lead along the sigmas, step by step")
    covered = set().union(*(range(c.first, c.last) for c in tape.claims))
    if not all(isinstance(tape.records[p], Arrive) for p in set(range(len(tape.records))) - covered):
        raise TapeError(f"{tape.solver}: some records belong to no claim")


def _check_claims(tape: Tape, path: Path) -> None:
    """The claims claim no more than the tape's options: their form, and the rate of their noise."""
    options = dict(tape.options)
    eta, form = float(options.get("eta", 0.0)), FORM.get(str(options.get("algorithm")))  # type: ignore[arg-type]
    for c in tape.claims:
        rate = eta if options.get("noise_rule", "sde") == "sde" else c.eta
        if c.eta != rate or (c.eta > 0) > (eta > 0):
            raise TapeError(f"{tape.solver}: the step to {c.sigma_to:g} claims eta {c.eta:g}, the run has {eta:g}")
        if form is not None and c.form not in ("x0", form):
            raise TapeError(f"{tape.solver}: the step to {c.sigma_to:g} claims the form {c.form}")


def _check_fields(tape: Tape) -> None:
    """Every field has a finite value for each bin of the tape's statistics."""
    bins = tape.statistics.l[0].size if tape.statistics is not None else 0
    for p, r in enumerate(tape.records):
        for w in (*(w for _, w in r.terms), r.bias) if isinstance(r, Affine) else ():
            if isinstance(w, Field) and not (w.values.shape == (bins,) and np.isfinite(w.values).all()):
                raise TapeError(f"{tape.solver}: record {p} has a field that does not fit {bins} bins, or is not finite")


def _check_records(tape: Tape, path: Path) -> None:
    states = {c.register for c in tape.claims}
    s_noise = float(dict(tape.options).get("s_noise", 1.0))  # type: ignore[arg-type]
    ends: dict[int, list[Claim]] = {}
    for c in tape.claims:
        ends.setdefault(c.last, []).append(c)
    nodes: dict[int, set[float]] = {}  # what the record at a place may read: evaluations at these
    sums_of = {p: r.dst for p, r in enumerate(tape.records) if isinstance(r, Affine)}
    for c in tape.claims:
        for p in range(c.first, c.last):
            if sums_of.get(p) == c.register:
                nodes.setdefault(p, set()).update(c.nodes)
    written = {"x": 0}  # how often each register has been
    made: dict[str, tuple[float, str, int]] = {}  # of a prediction, or what it is stored as: sigma, state, which writing of that
    added: dict[str, dict[int, float]] = {"x": {}}  # of a state: the noise records it holds, and how much of each
    shown, arrived, came, before = -1, -1, 0.0, None
    for position in range(len(tape.records) + 1):
        for claim in ends.get(position, ()):
            _check_added(tape, path, claim, added.get(claim.register, {}), s_noise, came)
            if claim.register == "x":
                came = claim.sigma_from
        if position == len(tape.records):
            break
        record = tape.records[position]
        for name in reads(record):
            if name not in written:
                raise TapeError(f"{tape.solver}: record {position} reads {name}, which nothing has written")
        if isinstance(record, Eval):
            made[record.dst] = record.sigma, record.src, written[record.src]
        elif isinstance(record, Affine):
            names = [name for name, _ in record.terms]
            found = [made[name] for name in names if name in made]
            if record.dst not in states and found:
                if len(found) > 1 or any((name, written[name]) != found[0][1:] for name in names if name not in made):
                    raise TapeError(f"{tape.solver}: {record.dst} stores the prediction at {found[0][0]:g} with a state it was not made at")
                made[record.dst] = found[0]
            elif record.dst not in states and len(names) > 1:
                raise TapeError(f"{tape.solver}: {record.dst} mixes states")
            if record.dst in states and not {sigma for sigma, _, _ in found} <= nodes.get(position, set()):
                raise TapeError(f"{tape.solver}: record {position} reads an evaluation that is none of its step's nodes")
            sums: dict[int, float] = {}
            for name, w in record.terms:
                for place, size in added[name].items() if name in added else ():
                    sums[place] = sums.get(place, 0.0) + w * size  # type: ignore[operator] no run with noise has fields
            added[record.dst] = sums if not found or record.dst in states else {}  # a stored quantity is made of the state it belongs to
        elif isinstance(record, Noise):
            if not any(c.register == record.dst for c in ends.get(position + 1, ())):
                raise TapeError(f"{tape.solver}: record {position} adds noise to {record.dst} before the end of a step")
            added.setdefault(record.dst, {})[position] = record.coefficient
        elif isinstance(record, Mark):
            if record.step <= shown or not isinstance(before, Eval) or (before.src, before.dst) != (record.x, record.x0):
                raise TapeError(f"{tape.solver}: step {record.step} shows another state or prediction than those of its evaluation")
            shown = record.step
        elif isinstance(record, Arrive):
            if record.step < arrived or not record.step < len(tape.sigmas):
                raise TapeError(f"{tape.solver}: step {record.step} arrives after step {arrived}")
            arrived = record.step
        if not isinstance(record, (Mark, Arrive)):
            written[record.dst] = written.get(record.dst, 0) + 1
        before = record


def _check_added(tape: Tape, path: Path, claim: Claim, held: dict[int, float], s_noise: float, came: float) -> None:
    """At the end of a claim its state holds, of the noise added since its start, one record's: of the right size and interval."""
    own = {p: w for p, w in held.items() if claim.first <= p < claim.last}
    if not own and claim.eta == 0:
        return
    wanted = s_noise * _noise(path, claim)
    size = path.sigma(claim.sigma_to)
    allowed = 1e-9 * max(wanted, 1e-3) + ROUNDING * size * size / max(wanted, 1e-6 * size, 1e-300)  # of a difference of squares
    right = len(own) == (claim.eta > 0 and size > 0)
    for p, w in own.items():
        record = tape.records[p]
        start = came if claim.rule == "renoise" else claim.sigma_from
        right = right and isinstance(record, Noise) and (record.sigma_from, record.sigma_to) == (start, claim.sigma_to)
        right = right and abs(w - wanted) <= allowed
    if not right:
        raise TapeError(f"{tape.solver}: the noise added from {claim.sigma_from:g} to {claim.sigma_to:g} is not what the step must add")
