"""The tape: its proof catches every wrong coefficient, its registers are freed as stated, its text forms are faithful."""

import functools
import itertools
import json
import math
import os
import subprocess
import sys
import weakref
from collections import Counter
from dataclasses import replace

import pytest
import torch
from dpm_solver_ext.solvers import proof, stencils, step
from dpm_solver_ext.solvers.choices import CHOICES, PRESETS
from dpm_solver_ext.solvers.execute import execute
from dpm_solver_ext.solvers.lower import cheaper
from dpm_solver_ext.solvers.multistep import V3_TYPES
from dpm_solver_ext.solvers.path import FLOW, PATHS, VE, VP
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.solvers.tape import Affine, Arrive, Claim, Eval, Mark, Noise, Tape, TapeError, reads
from dpm_solver_ext.solvers.weights import Grid
from dpm_solver_ext.tests.unit.grids import SINGLESTEP, TAPES, at
from torch.utils._python_dispatch import TorchDispatchMode

GRIDS = {
    "ve": [14.6, 6.0, 2.5, 1.1, 0.4, 0.15, 0.03, 0.0],
    "flow": [1.0, 0.92, 0.8, 0.6, 0.4, 0.2, 0.05, 0.0],
    "vp": [math.inf, 20.0, 6.0, 2.5, 1.1, 0.4, 0.1, 0.01],
}
MULTI = [
    {"algorithm": a, "order": o, "solver_type": t, "start": s, "final_rule": f}
    for a, o, t, (s, f) in itertools.product(
        CHOICES["algorithm"],
        (1, 2, 3, 4),
        CHOICES["solver_type"],
        (("corrected", "smooth"), ("official", "none"), ("corrected", "official")),
    )
    if a in SINGLESTEP or t in V3_TYPES
]
UNIPC = [
    {"algorithm": a, "order": o, "solver_type": t, "start": s, "final_rule": f, "corrector": c}
    for a, o, (t, c), s, f in itertools.product(
        CHOICES["algorithm"],
        (1, 2, 3, 4),
        (("bh1", "unipc"), ("dpmsolver", "unipc"), ("taylor", "unipc"), ("taylor", "official"), ("taylor", "v3"), ("pseudo", "v3_pseudo")),
        ("corrected", "extra"),
        ("smooth", "none"),
    )
    if a in SINGLESTEP or (t in V3_TYPES and c != "official")
]
SINGLE = [
    {"algorithm": a, "order": o, "solver_type": t, "method": "singlestep_fixed"} | r
    for a, o, t, r in itertools.product(SINGLESTEP, (1, 2, 3), ("dpmsolver", "taylor", "official"), ({}, {"r1": 0.4, "r2": 0.9}))
]
FAST = [
    {"algorithm": a, "order": o, "solver_type": t, "method": "singlestep"}
    for a, o, t in itertools.product(SINGLESTEP, (1, 2, 3), ("dpmsolver", "taylor", "official"))
]
SDE = [
    {"algorithm": a, "order": o, "eta": e, "s_noise": 1.1} | m
    for a, o, e, m in itertools.product(
        ("dpmsolver++", "dpmsolver"),
        (1, 2, 3),
        (0.5, 1.0),
        (
            {"solver_type": "dpmsolver"},
            {"solver_type": "taylor", "start": "official", "final_rule": "none"},
            {"solver_type": "official", "start": "official", "final_rule": "none"},
            {"method": "singlestep_fixed"},
            {"method": "singlestep_fixed", "noise_rule": "ancestral"},
            {"method": "singlestep_fixed", "noise_rule": "renoise"},
            {"method": "singlestep", "noise_rule": "renoise_flow"},
        ),
    )
    if o < 3 or m.get("method", "multistep") == "multistep" or "renoise" in m.get("noise_rule", "")
]
ODE = MULTI + UNIPC + SINGLE + FAST
EVERY = ODE + SDE
RISING = {name: sorted(s for s in grid if s > 0) for name, grid in GRIDS.items()}


@functools.cache
def every_tape(thin: int = 1) -> list[Tape]:
    """All options, each on one of three paths in turn with both infinite ends, falling and, without noise, rising; of every `thin` one."""
    tapes, names = [], tuple(GRIDS)
    for grids, every in ((GRIDS, EVERY), (RISING, ODE)):
        for i, options in enumerate(every):
            name = names[(i + i // 3 + i // 9 + i // 27) % 3]
            if i % thin == 0:
                tapes.append(plan(PATHS[name], grids[name], **options))
    return tapes


def changed(tape: Tape, place: int, record) -> Tape:
    """The tape with another record at one place (none if `record` is None)."""
    return replace(tape, records=tape.records[:place] + ((record,) if record else ()) + tape.records[place + 1 :])


def shifted(tape: Tape, records, place: int, by: int) -> Tape:
    """The tape with these records, and its claims moved by as many from `place` on: what a planner with that defect would emit."""
    claims = tuple(replace(c, first=c.first + by * (c.first > place), last=c.last + by * (c.last > place)) for c in tape.claims)
    return replace(tape, records=tuple(records), claims=claims)


def without(tape: Tape, place: int) -> Tape:
    return shifted(tape, tape.records[:place] + tape.records[place + 1 :], place, -1)


def inserted(tape: Tape, place: int, record) -> Tape:
    return shifted(tape, (*tape.records[:place], record, *tape.records[place:]), place, 1)


def swapped(tape: Tape, place: int) -> Tape:
    one, two = tape.records[place : place + 2]
    return replace(tape, records=(*tape.records[:place], two, one, *tape.records[place + 2 :]))


def written(record) -> set[str]:
    return set() if isinstance(record, (Mark, Arrive)) else {record.dst}


def caught(tape: Tape) -> bool:
    try:
        proof.check(tape)
    except TapeError as error:
        assert "\n" not in str(error)
        return True
    return False


def test_every_planner_proves_itself():
    """All options of all planners on three paths with both infinite ends, both ways, pass the proof again from outside, claims in order."""
    count = 0
    for tape in every_tape():
        assert proof.check(tape) is tape
        count += 1
        assert [c.sigma_to for c in tape.claims if c.register == "x"][-1] == tape.sigmas[-1]
        for claim in tape.claims:
            assert isinstance(claim, Claim) and 0 <= claim.first < claim.last <= len(tape.records)
    assert count > 900


def test_every_wrong_coefficient_is_caught():
    """One coefficient wrong by a millionth, any in these tapes (steps, stages, corrections, extra start, renoising), is caught."""
    tried: Counter[str] = Counter()
    for tape in every_tape(19):
        for place, record in enumerate(tape.records):
            if not isinstance(record, Affine):
                continue
            for j, (name, weight) in enumerate(record.terms):
                terms = list(record.terms)
                terms[j] = (name, weight * (1 + 1e-6))
                assert caught(changed(tape, place, Affine(record.dst, tuple(terms)))), (tape.summary(), place, name, weight)
                tried[record.dst.rstrip("0123456789")] += 1
    assert tried["x"] > 800 and tried["v"] > 200 and tried["y"] > 40 and tried["again"] > 5 and tried["start"] > 0, tried


@pytest.mark.parametrize("name", GRIDS)
def test_every_wrong_noise_is_caught(name):
    """A noise coefficient wrong by a millionth, of another sign, or left out; noise of another interval, twice, too early, or on an
    evaluation; noise in a tape that claims none: each is caught."""
    tried = 0
    for options in SDE[tuple(GRIDS).index(name) :: 3]:
        tape = plan(PATHS[name], GRIDS[name], **options)
        for place, noise in enumerate(tape.records):
            if not isinstance(noise, Noise):
                continue
            near = [r for r in tape.sigmas if r not in (noise.sigma_from, noise.sigma_to)][0]
            for wrong in (
                replace(noise, coefficient=noise.coefficient * (1 + 1e-6)),
                replace(noise, coefficient=-noise.coefficient),
                replace(noise, coefficient=math.nan),
                replace(noise, sigma_from=near),
                replace(noise, sigma_to=near),
                replace(noise, dst=next(r.dst for r in tape.records if isinstance(r, Eval))),
            ):
                assert caught(changed(tape, place, wrong)), (options, place, wrong)
            assert caught(without(tape, place)), (options, place)
            assert caught(inserted(tape, place, noise)), (options, place)
            assert caught(swapped(tape, place - 1)), (options, place)
            assert caught(inserted(tape, place, replace(noise, dst="d0"))), (options, place)
            tried += 1
        silent = replace(tape, claims=tuple(replace(c, eta=0.0) for c in tape.claims))
        assert caught(silent) and caught(replace(tape, options=tuple({**dict(tape.options), "s_noise": 1.0}.items())))
    assert tried > 60


def test_any_order_of_records_that_matters_is_caught():
    """Two neighbours swapped, where one reads or writes what the other writes, and any record left out, are caught.

    Except where no coefficient shows it: between the evaluations of the extra start that are made again, an older one may serve (the proof
    gives both the same value); the measured order 5 shows that.
    """
    tried = 0
    for tape in every_tape(19):
        places = [p for p, r in enumerate(tape.records) if isinstance(r, Eval) and r.src.startswith("again")]
        again = range(places[0] - 1, places[-1] + 3) if places else ()
        for place, (one, two) in enumerate(itertools.pairwise(tape.records)):
            reads_two, writes_one, writes_two = reads(two), written(one), written(two)
            if not (writes_one & (reads_two | writes_two) or writes_two & reads(one)):
                continue
            if place in again or place + 1 in again:
                continue
            assert caught(swapped(tape, place)), (tape.solver, dict(tape.options), one, two)
            tried += 1
        for place, record in enumerate(tape.records):
            copies = isinstance(record, Affine) and record.terms == ((record.dst, 1.0),)  # renoising on a path with α = 1
            if isinstance(record, (Mark, Arrive)) or copies or place in again:
                continue
            assert caught(without(tape, place)), (tape.solver, dict(tape.options), record)
            tried += 1
    assert tried > 600


def test_a_long_run_is_proven_to_its_end():
    """60 steps with corrections are proven in blocks: a wrong coefficient in any of the records is caught, and blames a step nearby."""
    sigmas = [80 * 0.86**i for i in range(61)]
    for options in ({"order": 3, "corrector": "unipc"}, {"order": 3, "algorithm": "dpmsolver"}, {"order": 3, "method": "singlestep_fixed"}):
        tape = plan(VE, sigmas, **options)
        for place in range(5, len(tape.records), 11):
            record = tape.records[place]
            if isinstance(record, Affine):
                wrong = changed(tape, place, Affine(record.dst, tuple((n, w * (1 + 1e-6)) for n, w in record.terms)))
                with pytest.raises(TapeError) as error:
                    proof.check(wrong)
                near = [c for c in tape.claims if c.first <= place < c.last + 8]
                assert any(f"{c.sigma_from:g} -> {c.sigma_to:g}" in str(error.value) for c in near), (place, str(error.value))


def test_no_term_is_a_rounding_residue():
    """A weight that is 0 in exact arithmetic is left out: as 1e-16 it would cost a kernel, two passes and a register kept alive."""
    for tape in every_tape():
        for record in tape.records:
            if isinstance(record, Affine):
                small = [(name, w) for name, w in record.terms if abs(w) < 1e-12]
                assert not small, (tape.solver, tape.path, dict(tape.options), record)


@pytest.mark.parametrize("path", [VE, FLOW, VP], ids=lambda p: p.name)
def test_five_times_the_history_weight_is_caught(path):
    """2M with five times its history weight keeps its row sums (exact on constants) and must still be caught, in every single step."""
    tape = plan(path, GRIDS[path.name], order=2, start="official", final_rule="none")
    wrong = 0
    for place, record in enumerate(tape.records):
        if not isinstance(record, Affine) or len(record.terms) < 3:
            continue
        (_, keep), (new, a), (old, b) = record.terms
        bad = changed(tape, place, Affine("x", (("x", keep), (new, a - 4 * b), (old, 5 * b))))
        assert caught(bad)
        wrong += 1
    assert wrong >= 4


@pytest.mark.parametrize("start", ["corrected", "official"])
def test_a_wrong_sigma_is_caught(start):
    """An evaluation at a sigma 0.1 % off its place is caught wherever its value is used beyond first order."""
    for algorithm in ("dpmsolver++", "dpmsolver"):
        grid = [14.6, 6.0, 2.5, 1.1, 0.4, 0.15, 0.03]
        tape = plan(VE, grid, algorithm=algorithm, order=3, start=start, final_rule="none")
        for place, record in enumerate(tape.records):
            if isinstance(record, Eval):
                assert caught(changed(tape, place, replace(record, sigma=record.sigma * 1.001))), record


def test_a_wrong_source_is_caught():
    """A singlestep stage evaluated on the wrong state is caught in the ε form, whose ε depends on it; so is a swapped history."""
    tape = plan(VE, GRIDS["ve"][:-1], algorithm="dpmsolver", order=3, method="singlestep_fixed")
    place, record = next((i, r) for i, r in enumerate(tape.records) if isinstance(r, Eval) and r.src != "x")
    assert caught(changed(tape, place, replace(record, src="x")))
    tape = plan(VE, GRIDS["ve"][:-1], order=2, start="official", final_rule="none")
    place, record = next((i, r) for i, r in enumerate(tape.records) if isinstance(r, Affine) and len(r.terms) == 3)
    x, (new, a), (old, b) = record.terms
    assert caught(changed(tape, place, Affine("x", (x, (old, a), (new, b)))))


def test_what_no_claim_covers_is_caught():
    """A record slipped in before the first claim, between two or after the last, and a claim left out: claims must cover everything."""
    for options in ({"order": 3}, {"order": 2, "method": "singlestep_fixed", "algorithm": "dpmsolver-v"}):
        tape = plan(VE, GRIDS["ve"], **options)
        double = Affine("x", (("x", 2.0),))
        for place in (0, tape.claims[0].last, len(tape.records)):
            shift = [c if place and c.last <= place else replace(c, first=c.first + 1, last=c.last + 1) for c in tape.claims]
            assert caught(replace(tape, records=tape.records[:place] + (double,) + tape.records[place:], claims=tuple(shift))), place
        assert caught(replace(tape, claims=tape.claims[:-1])) and caught(replace(tape, claims=()))
        short = replace(tape, claims=tape.claims[:-1], records=tape.records[: tape.claims[-1].first])
        assert caught(short) and not caught(replace(short, sigmas=tape.sigmas[:-1]))  # a run that stops early, and an honest one


def test_a_claim_renamed_renoise_is_caught():
    """A claim of rule "renoise" promises another end, also in a run without noise."""
    tape = plan(VE, GRIDS["ve"], order=2)
    *claims, last = tape.claims
    assert caught(replace(tape, claims=(*claims, replace(last, rule="renoise"))))


def test_fades_of_another_claim_are_caught():
    """A fade too many here and one too few there: each claim has one for each of its nodes, whatever their sum."""
    tape = plan(VE, GRIDS["ve"][:-1], order=2)
    (*claims, one, two) = tape.claims
    moved = (replace(one, fades=one.fades[:-1]), replace(two, fades=(*two.fades, one.fades[-1])))
    for wrong in (moved, (one, moved[1])):
        with pytest.raises(TapeError, match=r"claims 2 nodes and [13] fades"):
            proof.check(replace(tape, claims=(*claims, *wrong)))


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_numbers_that_are_not_finite_are_caught(number):
    """Any weight, bias or noise that is infinite or no number, also where the bound of rounding becomes infinite with it."""
    for options in (PRESETS["auto"], {"order": 3, "corrector": "unipc"}, {"order": 2, "eta": 1.0}):
        tape = plan(VE, GRIDS["ve"], **options)
        for place, r in enumerate(tape.records):
            wrongs = [replace(r, coefficient=number)] if isinstance(r, Noise) else []
            if isinstance(r, Affine):
                wrongs = [replace(r, bias=number)]
                wrongs += [replace(r, terms=(*r.terms[:j], (n, number), *r.terms[j + 1 :])) for j, (n, _) in enumerate(r.terms)]
            for wrong in wrongs:
                assert caught(changed(tape, place, wrong)), (options, place, wrong)


# What a multistep run's numbers are made by: all regular steps at once (`Grid`), steps with an infinite end and the extra start one by one.
USED = [(Grid, "node_weights"), (Grid, "state_weights"), (Grid, "moments"), (stencils, "node_weights"), (stencils, "state_weight")]
FORMULAS = [(a, home, name) for a in SINGLESTEP for home, name in USED] + [
    ("dpmsolver", stencils, "value"),
    ("dpmsolver-v", stencils, "value"),
    ("dpmsolver-v", Grid, "damping"),
    ("dpmsolver-v", step, "damping"),
]


def test_a_mix_of_predictions_is_caught():
    """A prediction mixed with another has the same value on constant data: a last step of order 1 would not show it."""
    for options in ({"start": "official"}, {"corrector": "unipc"}, {"corrector": "unipc", "algorithm": "dpmsolver-v"}):
        tape = plan(VE, GRIDS["ve"], **options)
        place = max(i for i, r in enumerate(tape.records) if isinstance(r, Affine))
        assert not caught(tape)
        for weights in ((0.5, 0.5), (3.0, -2.0)):
            assert caught(inserted(tape, place, Affine("d6", (("d6", weights[0]), ("d5", weights[1])))))


def test_what_was_written_long_before_is_caught():
    """A register saved in step 0 and read in step 50, and one that nothing writes: neither is in the block that proves the step."""
    tape = plan(VE, [14.6 * 0.9**i for i in range(61)])
    claim = tape.claims[55]
    place = max(i for i in range(claim.first, claim.last) if isinstance(tape.records[i], Affine))
    never = changed(tape, place, Affine("x", (*tape.records[place].terms, ("ghost", 0.3))))
    assert caught(never) and caught(inserted(never, 2, Affine("ghost", (("x", 1.0),))))


def test_noise_of_a_stage_that_reaches_the_end_is_caught():
    """The last record of a stochastic step made from the stage's state instead of the first one: the mean is right, the variance is not."""
    tape = plan(VE, GRIDS["ve"], method="singlestep_fixed", eta=1.0)
    claim = [c for c in tape.claims if c.register == "x"][2]
    inside = {r.dst: (i, dict(r.terms)) for i, r in enumerate(tape.records) if claim.first <= i < claim.last and isinstance(r, Affine)}
    (_, stage), (place, end) = inside["y1"], inside["x"]
    ratio = end.pop("x") / stage.pop("x")
    terms = {"y1": ratio, **{n: end.get(n, 0.0) - ratio * stage.get(n, 0.0) for n in {*end, *stage}}}
    assert caught(changed(tape, place, Affine("x", tuple(terms.items()))))


def test_marks_show_their_own_evaluation_in_order():
    """A Mark with another number, another state, or something that is no prediction: the host would show a wrong picture."""
    tape = plan(VE, GRIDS["ve"], algorithm="dpmsolver-v", corrector="unipc")
    places = [i for i, r in enumerate(tape.records) if isinstance(r, Mark)]
    third = tape.records[places[3]]
    for other in (replace(third, step=0), replace(third, step=99), replace(third, x0="x"), replace(third, x0="d2")):
        assert caught(changed(tape, places[3], other))


def test_claims_beyond_the_options_are_caught():
    """A claim of noise in a run without, of another rate, or of another form than the algorithm's proves nothing."""
    tape = plan(VE, GRIDS["ve"], eta=0.5, start="official")
    for wrong in (replace(tape.claims[2], eta=0.25), replace(tape.claims[2], form="eps")):
        assert caught(replace(tape, claims=(*tape.claims[:2], wrong, *tape.claims[3:])))
    for rate in (0.0, 0.25):  # a tape that is right in itself, for another run than its options say
        assert caught(replace(tape, options=tuple((k, rate if k == "eta" else v) for k, v in tape.options)))


@pytest.mark.parametrize("algorithm, home, name", FORMULAS, ids=lambda v: getattr(v, "__name__", v))
def test_a_wrong_formula_is_caught(monkeypatch, algorithm, home, name):
    """The proof shares no formula with the planner: one that is wrong by a millionth everywhere is caught, form "v" included."""
    right = getattr(home, name)

    def wrong(*args):
        found = right.func(*args) if name == "damping" and home is Grid else right(*args)
        return type(found)(v * (1 + 1e-6) for v in found) if isinstance(found, (list, tuple)) else found * (1 + 1e-6)

    options = {"algorithm": algorithm, "order": 3, "corrector": "unipc", "start": "extra"} if home is not Grid else {"algorithm": algorithm}
    plan(VE, GRIDS["ve"], **options)
    monkeypatch.setattr(home, name, property(wrong) if name == "damping" and home is Grid else wrong)
    with pytest.raises(TapeError):
        plan(VE, GRIDS["ve"], **options)


def test_history_weights_are_bounded():
    """Two sigmas that nearly coincide must not make a later step amplify the model's rounding (a half-precision model has 4e-3 of it)."""
    for gap in (1e-2, 1e-3, 1e-4):
        sigmas = [14.6, 8.5, 4.7, 2.5, 2.5 * (1 - gap), 1.2, 0.57, 0.24, 0.09, 0.0]
        for preset in TAPES.values():
            for record in at(plan(VE, sigmas, **preset), 1.0).records:
                if isinstance(record, Affine) and record.dst == "x":
                    weights = [w for name, w in record.terms if name != "x"]
                    assert sum(map(abs, weights)) < 12 * max(1.0, abs(sum(weights))), (gap, preset, record)


def test_a_dropped_start_correction_is_caught():
    """Without the record that takes the first step again the claim of order 2 on the first step fails, on every path, from λ = -∞ too."""
    for name, grid in GRIDS.items():
        for order in (2, 3):
            tape = plan(PATHS[name], grid, order=order)
            plain = plan(PATHS[name], grid, order=order, start="official")
            place = next(i for i, r in enumerate(tape.records) if isinstance(r, Affine) and ("x", 1.0) in r.terms)
            assert len(tape.records) == len(plain.records) + 1
            x, (old, a), (new, b) = tape.records[place].terms
            assert caught(changed(tape, place, Affine("x", (x,)))), (name, order)
            assert caught(changed(tape, place, Affine("x", (x, (old, 2 * a), (new, 2 * b))))), (name, order)


def test_the_error_names_the_step():
    """TapeError says which step, between which sigmas, and what came out: one line."""
    tape = plan(VE, GRIDS["ve"], order=1)
    place = len(tape.records) - 6
    record = tape.records[place]
    assert isinstance(record, Affine)
    bad = changed(tape, place, Affine("x", tuple((n, 1.5 * w) for n, w in record.terms)))
    with pytest.raises(TapeError, match=r"multistep dpmsolver\+\+ order 1: the step 0\.15 -> 0\.03 gives"):
        proof.check(bad)


def test_a_nan_coefficient_is_caught():
    """NaN compares false with everything: the proof must not take it for small."""
    tape = plan(VE, GRIDS["ve"])
    place = next(i for i, r in enumerate(tape.records) if isinstance(r, Affine))
    record = tape.records[place]
    assert caught(changed(tape, place, Affine(record.dst, tuple((n, math.nan) for n, _ in record.terms))))


# --- liveness -----------------------------------------------------------------------------------------------------------------------


def test_registers_are_freed_after_their_last_read():
    """Replaying `last_reads`: nothing freed is read again, nothing dead stays, and only "x" is left at the end."""
    for tape in every_tape():
        alive = {"x"}
        for place, (record, dead) in enumerate(zip(tape.records, tape.last_reads, strict=True)):
            assert reads(record) <= alive, (tape.solver, place)
            if isinstance(record, (Eval, Affine)):
                alive.add(record.dst)
            for name in dead:
                later = tape.records[place + 1 :]
                read = next((i for i, r in enumerate(later) if name in reads(r)), None)
                written = next((i for i, r in enumerate(later) if isinstance(r, (Eval, Affine)) and r.dst == name), None)
                assert read is None or (written is not None and written < read)
                alive.discard(name)
        assert alive == {"x"}


class Census(TorchDispatchMode):
    """How many distinct tensors are alive at most, of those of a size made inside; weak references, so it keeps none alive itself."""

    def __init__(self, least: int = 0):
        super().__init__()
        self.made, self.peak, self.least = [], 0, least

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if out.numel() >= self.least:
            self.made.append(weakref.ref(out))
        alive = {t.data_ptr() for ref in self.made if (t := ref()) is not None}
        self.peak = max(self.peak, len(alive))
        return out


# What each solver holds at once on a long run, in tensors of the state's size, a record's result included.
STATED = {
    ("multistep", "dpmsolver++", 1): 3,
    ("multistep", "dpmsolver++", 2): 4,
    ("multistep", "dpmsolver++", 3): 5,
    ("multistep", "dpmsolver", 1): 3,
    ("multistep", "dpmsolver", 2): 4,
    ("multistep", "dpmsolver", 3): 5,
    ("multistep", "dpmsolver-v", 2): 4,
    ("multistep", "dpmsolver-v", 3): 5,
    ("singlestep_fixed", "dpmsolver++", 1): 3,
    ("singlestep_fixed", "dpmsolver++", 2): 3,
    ("singlestep_fixed", "dpmsolver++", 3): 4,
    ("singlestep_fixed", "dpmsolver", 1): 3,
    ("singlestep_fixed", "dpmsolver", 2): 4,
    ("singlestep_fixed", "dpmsolver", 3): 5,
}


@pytest.mark.parametrize("method, algorithm, order", STATED, ids=lambda v: str(v))
def test_peak_memory_is_what_the_tape_says(method, algorithm, order):
    """The most tensors the executor really holds at once (weak references to all that torch made) equals `peak_registers` and the table:
    of the tape as it is for those who wait for arrivals, of the cheaper one for all others.

    The caller drops its own start state, so a reference the executor's frame keeps by accident (its argument, the last prediction)
    fails here: each would be a whole latent video too many.
    """
    for length in (8, 20):
        grid = [14.6 * 0.7**i for i in range(length)]
        tape = plan(VE, grid, method=method, algorithm=algorithm, order=order)
        known = STATED[method, algorithm, order]
        for arrive, run in ((None, cheaper(tape)), (lambda *_: None, tape)):
            with Census(2) as census:
                execute(tape, lambda x, s: x * 0.5, torch.ones(16, dtype=torch.float64), arrive=arrive)
            assert (census.peak, run.peak_registers) == (known, known)


def test_peak_memory_with_measured_slopes():
    """auto holds the state, two predictions, two changes and the product that is summed up, besides numbers for each item; of one item
    there is no product. Who waits for arrivals has one prediction more."""
    for length in (8, 20):
        tape = plan(VE, [14.6 * 0.7**i for i in range(length)], **PRESETS["auto"])
        for items, arrive, run, limit in ((2, None, cheaper(tape), 6), (1, None, cheaper(tape), 6), (2, lambda *_: None, tape, 7)):
            with Census(items * 16) as census:
                execute(tape, lambda x, s: x * 0.5, torch.ones(items, 16, dtype=torch.float64), arrive=arrive)
            assert (census.peak, run.peak_registers) == (limit - (items == 1), limit)


# --- text forms ---------------------------------------------------------------------------------------------------------------------


def test_json_holds_everything():
    """json.loads gives back every record, claim, option and sigma, bit for bit: what is written down can be run elsewhere."""
    kinds = {"Eval": Eval, "Affine": Affine, "Noise": Noise, "Mark": Mark, "Arrive": Arrive}
    for name in ("ve", "flow"):
        for options in ({"order": 3}, {"order": 2, "method": "singlestep_fixed", "algorithm": "dpmsolver"}):
            tape = plan(PATHS[name], GRIDS[name], **options)
            body = json.loads(tape.to_json())
            assert body["format"] == 1 and body["solver"] == tape.solver and body["path"] == name
            assert tuple(body["sigmas"]) == tape.sigmas
            assert body["options"] == dict(tape.options)
            records = []
            for entry in body["records"]:
                kind = kinds[entry.pop("op")]
                if kind is Affine:
                    entry["terms"] = tuple((n, w) for n, w in entry["terms"])
                records.append(kind(**entry))
            assert tuple(records) == tape.records
            claims = []
            for entry in body["steps"]:
                order = entry.pop("order")
                claims.append(Claim(**{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}))
                assert claims[-1].order == order
            assert tuple(claims) == tape.claims


def test_json_of_an_infinite_sigma_is_json():
    """VP's λ = -∞ is sigma = ∞, which JSON has no number for: it is written by name."""
    body = json.loads(plan(VP, [math.inf, 5.0, 1.0, 0.1]).to_json(), parse_constant=lambda name: pytest.fail(name))
    assert body["sigmas"][0] == "inf" and body["sigmas"][1:] == [5.0, 1.0, 0.1]


def test_digest_changes_with_anything():
    """Any coefficient's last bit, any sigma, any option changes the digest; the same plan twice does not."""
    tape = plan(FLOW, GRIDS["flow"], order=3)
    assert tape.digest == plan(FLOW, GRIDS["flow"], order=3).digest
    seen = {tape.digest}
    for place, record in enumerate(tape.records):
        if isinstance(record, Affine):
            for j, (name, w) in enumerate(record.terms):
                terms = list(record.terms)
                terms[j] = (name, math.nextafter(w, math.inf))
                seen.add(changed(tape, place, Affine(record.dst, tuple(terms))).digest)
        elif isinstance(record, Eval):
            seen.add(changed(tape, place, replace(record, sigma=math.nextafter(record.sigma, 2.0))).digest)
    wanted = 1 + sum(len(r.terms) if isinstance(r, Affine) else isinstance(r, Eval) for r in tape.records)
    assert len(seen) == wanted
    assert plan(FLOW, GRIDS["flow"], order=3, solver_type="taylor").digest not in seen
    assert plan(VE, GRIDS["flow"], order=3).digest not in seen


def test_digest_is_stable_across_processes(root):
    """Another interpreter with another hash seed plans the same tape: guards against sets or hashes in the text."""
    code = (
        "import sys, importlib.util as u;"
        f"spec = u.spec_from_file_location('dpm_solver_ext', r'{root / '__init__.py'}', submodule_search_locations=[r'{root}']);"
        "m = u.module_from_spec(spec); sys.modules['dpm_solver_ext'] = m; spec.loader.exec_module(m);"
        "from dpm_solver_ext.solvers.presets import plan; from dpm_solver_ext.solvers.path import FLOW;"
        f"grid = {GRIDS['flow']};"
        "print(plan(FLOW, grid, order=3).digest, plan(FLOW, grid, algorithm='dpmsolver', method='singlestep').digest)"
    )
    env = dict(os.environ, PYTHONHASHSEED="12345")
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout.split()
    single = plan(FLOW, GRIDS["flow"], algorithm="dpmsolver", method="singlestep")
    assert out == [plan(FLOW, GRIDS["flow"], order=3).digest, single.digest]


@pytest.mark.parametrize("preset", TAPES)
@pytest.mark.parametrize("path", [VE, FLOW, VP], ids=lambda p: p.name)
def test_summary_has_a_line_for_every_claim(preset, path):
    """The printed plan: a head with steps, evaluations and registers, the options, and one line a claim with its sigmas and order."""
    tape = plan(path, GRIDS[path.name], **TAPES[preset])
    lines = tape.summary().splitlines()
    assert len(lines) == 1 + len(tape.options) + len(tape.claims)
    assert f"7 steps, {tape.evaluations} evaluations" in lines[0] and f"{tape.peak_registers} registers" in lines[0]
    for line, claim in zip(lines[1 + len(tape.options) :], tape.claims, strict=True):
        assert f"{claim.sigma_from:.5g} -> {claim.sigma_to:.5g}" in line
        assert f"order {claim.order:.2f}" in line
    for key, value in tape.options:
        assert f"  {key} = {value}" in lines


def test_records_are_frozen():
    """Records and tapes cannot be changed after the proof."""
    tape = plan(VE, GRIDS["ve"])
    for thing, field in ((tape, "records"), (tape.records[0], "sigma"), (tape.claims[0], "fades")):
        with pytest.raises(AttributeError):
            setattr(thing, field, None)
