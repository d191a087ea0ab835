"""Options that cannot act: what `plan` says of them is true, and complete but for the named exceptions."""

import inspect
import itertools

import pytest
from dpm_solver_ext.solvers.choices import CHOICES, FAMILY, PRESETS
from dpm_solver_ext.solvers.notes import DEFAULTS, idle
from dpm_solver_ext.solvers.path import VE
from dpm_solver_ext.solvers.presets import plan
from dpm_solver_ext.tests.unit.grids import TAPES, VARIANTS

GRID = [14.6, 9.0, 3.0, 2.9, 0.1, 0.05, 0.0]  # uneven; finite λ at first: from pure noise dpmsolver-v takes steps on x0, too
VALUES = {name: CHOICES[name][1:] for name in ("start", "final_rule", "solver_type", "noise_rule")} | {
    "corrector": ("official", "v3", "v3_pseudo"), "s_noise": (0.9,), "r1": (0.3,), "r2": (0.8,),
}  # fmt: skip


def records(cache={}, **options):  # noqa: B006 the cache is meant
    """The program of a run; None if the options exclude each other."""
    key = tuple(sorted(options.items(), key=str))
    if key not in cache:
        try:
            tape = plan(VE, GRID, **options)
            cache[key] = tape.records, tape.notes
        except ValueError:
            cache[key] = None, ()
    return cache[key]


def satisfied(name, value, options) -> bool:
    """A wish for parity that the default meets as well, or that has no rival here: nothing to say."""
    if name in ("start", "solver_type") and str(value).startswith("official"):
        return True
    return (name == "final_rule" and options["order"] == 1) or (name == "solver_type" and options["corrector"] == "official")


@pytest.mark.parametrize("algorithm, method", [(o["algorithm"], o["method"]) for o in VARIANTS if o["order"] == 1])
def test_noted_is_idle_and_idle_is_noted(algorithm, method):
    """An option is named where the run without it is the same run, record for record, and nowhere else; the sentence has the option, its
    value and a mend, and following the mend ends it."""
    found = set()
    correctors = CHOICES["corrector"] if method == "multistep" else ("none",)
    for order, corrector, eta in itertools.product(CHOICES["order"], correctors, (0.0, 0.5)):
        for name, value in ((n, v) for n, values in VALUES.items() for v in values):
            options = {"algorithm": algorithm, "method": method, "order": order, "corrector": corrector, "eta": eta, name: value}
            mine, notes = records(**options)
            if mine is None:
                continue
            other = "none" if (name, value) == ("corrector", "v3") else "unipc" if name == "corrector" else DEFAULTS[name]
            plain, _ = records(**options | {name: other})
            said = [note for note in notes if note.startswith(f"{name} is {value}, which ")]
            assert len(said) <= 1
            if said:
                assert mine == plain, (options, said)
                assert said[0].endswith(".") and f"{name} to " in said[0] or name == "start", said
                found.add(name)
            elif not satisfied(name, value, options):
                assert mine != plain, options
    assert {"multistep": {"s_noise", "start"}, "singlestep": {"start", "final_rule", "s_noise", "noise_rule"}}.get(
        method, {"start", "final_rule", "s_noise", "noise_rule", "r1", "r2"}
    ) <= found


@pytest.mark.parametrize("options, sentence", [
    ({"s_noise": 0.9}, "s_noise is 0.9, which acts with eta above 0 only; set s_noise to 1."),
    ({"method": "singlestep_fixed", "r2": 0.5}, "r2 is 0.5, which acts at order 3 only; set order to 3, or r2 to its default."),
    ({"method": "singlestep", "start": "official"},
     "start is official, which acts with method multistep only, not with singlestep; set start to corrected."),
    ({"algorithm": "dpmsolver-v", "corrector": "official"},
     "corrector is official, which algorithm dpmsolver-v takes for unipc; set corrector to unipc."),
])  # fmt: skip
def test_sentences(options, sentence):
    """The words, which hosts log as they are."""
    assert plan(VE, GRID, **options).notes == (sentence,)


def test_a_range_without_corrector_is_noted():
    """corrector_range says where the corrector acts; alone it does nothing."""
    (note,) = plan(VE, GRID, corrector_range=(0, 1)).notes
    assert note == "corrector_range is 0 to 1, which acts with a corrector only; set corrector to unipc."
    assert plan(VE, GRID, corrector="unipc", corrector_range=(0, 1)).notes == ()


def test_notes_stand_before_those_on_the_schedule():
    """A run can earn notes of both kinds."""
    notes = plan(VE, [14.6, 1.0, 0.0], order=3, s_noise=0.9).notes
    assert [note.split()[0] for note in notes] == ["s_noise", "order"]


def test_defaults_are_those_of_plan_and_silent():
    """The table's defaults are the signature's; neither they nor any preset gives a note."""
    assert {n: p.default for n, p in inspect.signature(plan).parameters.items() if n in DEFAULTS} == DEFAULTS
    assert set(inspect.signature(plan).parameters) == {"path", "sigmas", "statistics", "corrector_range", *DEFAULTS}
    assert idle({}) == idle(DEFAULTS) == {} and plan(VE, GRID, **DEFAULTS).notes == ()
    for name, options in (PRESETS | FAMILY).items():
        assert idle(options) == {}, name
    for name, options in TAPES.items():
        assert plan(VE, GRID, **options).notes == (), name
