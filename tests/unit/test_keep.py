"""Parts of long runs: taken up only where they belong, and never in the way of an outcome."""

import logging

import pytest
from dpm_solver_ext.solvers import hosting
from dpm_solver_ext.solvers.folders import part_of
from dpm_solver_ext.solvers.keep import Keeper, same_start, words_of_levels

LEVELS = {"karras": [14.614641, 3.3333333, 0.0291675, 0.0], "flow": [1.0, 0.9995, 0.5, 1e-30, 0.0]}


def test_a_part_that_cannot_be_removed(tmp_path, monkeypatch, caplog):
    """The outcome is saved by then: the run ends as it should, with one line that names the file."""
    monkeypatch.setattr(hosting, "_told", set())
    caplog.set_level(logging.WARNING, logger="dpm_solver_ext")
    file = tmp_path / "a.json"
    part_of(file).mkdir()  # unlink refuses a folder, for root too
    saved = []
    with Keeper("measured", file, lambda content, path: saved.append(path)) as keep:
        keep.finish()
    assert not saved and len(caplog.messages) == 1 and "a.json.part" in caplog.messages[0] and "cannot be removed" in caplog.messages[0]


@pytest.mark.parametrize("factor", [1.0, 1 + 3e-7])
def test_the_same_levels_are_the_same_start(factor):
    """On another device, too, which rounds float32 otherwise; other words do not matter."""
    words = {"steps": "3", **words_of_levels(LEVELS)}
    assert same_start(words, {name: [s * factor for s in values] for name, values in LEVELS.items()})


@pytest.mark.parametrize("name, at, value", [
    ("karras", 0, 14.62), ("karras", 1, 3.3335), ("karras", 2, 0.02917), ("flow", 1, 0.9994), ("flow", 3, 2e-30), ("karras", 3, 1e-9),
])  # fmt: skip
def test_other_levels_are_another_start(name, at, value):
    other = {key: list(values) for key, values in LEVELS.items()}
    other[name][at] = value
    assert not same_start(words_of_levels(LEVELS), other) and not same_start(words_of_levels(other), LEVELS)


def test_other_schedules_are_another_start():
    """One more, one less, one step more, no words of levels at all, and words that are no numbers."""
    words = words_of_levels(LEVELS)
    assert not same_start(words, {**LEVELS, "beta": LEVELS["karras"]}) and not same_start(words, {"karras": LEVELS["karras"]})
    assert not same_start(words, {**LEVELS, "karras": LEVELS["karras"] + [0.0]}) and not same_start({"steps": "3"}, LEVELS)
    for bad in ("", "x", "nan nan nan nan", "1e999 0 0 0"):
        assert not same_start({**words, "levels of karras": bad}, LEVELS), bad
