"""The drawing of a tuning: both halves are filled whatever the outcome, and words stay on the sheet."""

import dataclasses

import numpy as np
import pytest
from dpm_solver_ext.plots import sheet
from dpm_solver_ext.plots.sheet import Sheet
from dpm_solver_ext.plots.tuned import LEFTS, PANEL, SIZE, TOP, plot, summary
from dpm_solver_ext.solvers.path import FLOW, VE
from dpm_solver_ext.solvers.schedule import auto, karras, log_snr, sd_time_map
from dpm_solver_ext.solvers.tune import Tuned
from dpm_solver_ext.solvers.tune_file import BY_BUDGET, ENDED, STOPPED
from PIL import ImageFont


def outcome(steps=5, path=VE, **changes):
    if path is FLOW:
        known = {"auto": auto(FLOW, steps, 1.0, 0.003, lambda tau: tau), "even": log_snr(FLOW, steps, 1.0, 0.003)}
    else:
        known = {"auto": auto(VE, steps, 14.6, 0.03, sd_time_map()), "even": karras(steps, 14.6, 0.03)}
    errors = {"tuned": [0.2, 0.1], "2m + auto": [0.3, 0.05], "2m + even": [0.3, 0.4]}
    best = [(100, 0.31), (220, 0.29), (260, 0.281)]
    return dataclasses.replace(
        Tuned([*known["auto"][:2], *(0.9 * s for s in known["auto"][2:])], "2m", (), errors, "2m + auto", True, 300, best), **changes
    ), known


@pytest.mark.parametrize("changes", [
    {}, {"steps": 3}, {"steps": 50}, {"path": FLOW}, {"path": FLOW, "steps": 30}, {"improved": False}, {"known": "2m + even"},
    {"gains": (1.31, 1.0, 0.9, 0.8, 1.0)}, {"best": []},
    {"best": [(100, 0.3)]}, {"best": [(100, 0.0)], "evaluations": 100}, {"best": [(10**9, 1e6), (10**12, 1e-9)]},
], ids=str)  # fmt: skip
def test_both_halves_are_filled(changes):
    """Curves reach over three quarters of each panel's width, and of its height where the schedule is; nothing lies on the sheet's edge."""
    path = changes.get("path", VE)
    tuned, known = outcome(**changes)
    pixels = plot(tuned, known, {"noise": path.name, "search": ENDED}, "a" * 80 + "-1234abcd.json")
    assert pixels.shape == (SIZE[1], SIZE[0], 3) and pixels.dtype == np.float32 and 0 <= pixels.min() < 0.2 and pixels.max() == 1
    dark = (pixels < 0.35).all(-1)
    for place, left in enumerate(LEFTS):
        inner = dark[TOP + 2 : TOP + PANEL[1] - 2, left + 2 : left + PANEL[0] - 2]
        rows, columns = np.nonzero(inner.any(1))[0], np.nonzero(inner.any(0))[0]
        assert np.ptp(columns) > 0.75 * PANEL[0] and (place or np.ptp(rows) > 0.75 * PANEL[1]), place
        if not place:  # a dot at each step, wider than any line
            wide = np.lib.stride_tricks.sliding_window_view(inner, (8, 8)).all((2, 3))
            assert wide.any(0).any() and np.ptp(np.nonzero(wide.any(0))[0]) > 0.7 * PANEL[0]
    edge = np.concatenate([pixels[:4].ravel(), pixels[-4:].ravel(), pixels[:, :4].ravel(), pixels[:, -4:].ravel()])
    assert (edge == 1).all()


def test_the_tuned_steps_are_where_they_are():
    """A step that moves is drawn elsewhere; a known schedule that is the best is drawn in the colour of the best."""
    tuned, known = outcome()
    moved = dataclasses.replace(tuned, sigmas=[tuned.sigmas[0], 3 * tuned.sigmas[2], *tuned.sigmas[2:]])
    other = dataclasses.replace(tuned, known="2m + even")
    one, two, three = (plot(t, known, {"noise": "ve"}, "a")[TOP:, : LEFTS[1] - 60] for t in (tuned, moved, other))
    assert (one != two).any() and (one != three).any()


def test_words_are_broken_into_lines():
    """Lines are no wider than asked, lose no word, and end in … where there are too many; a word without spaces is broken inside."""
    sheet = Sheet((900, 100), 900)
    words = "auto (ext) with 5 tuned steps and gains: 10 % less error than the best known pair tried, dpmpp_2m_ext + sgm_uniform"
    lines = sheet.wrapped(words, 17, 400, 9)
    assert " ".join(lines) == words and len(lines) > 1 and all(len(line) < 70 for line in lines)
    assert sheet.wrapped("short", 17, 400, 1) == ["short"]
    (cut,) = sheet.wrapped(words, 17, 400, 1)
    assert cut.endswith("…") and words.startswith(cut[:-1]) and 20 < len(cut) < 70
    broken = sheet.wrapped("x" * 200, 17, 400, 9)
    assert "".join(broken) == "x" * 200 and len(broken) > 2


def test_what_the_summary_claims():
    """Better than what was tried, which it names, and never than everything; what was stopped early says so and that it is not checked."""
    tuned, _ = outcome()
    words = {"search": ENDED, "compared": "2 pairs of 2m with auto, even"}
    title, *lines = summary(tuned, words, "a.json").splitlines()
    assert title == "2m with 5 tuned steps: 14 % less error than the best known pair tried, 2m + auto"
    assert "- compared with: 2 pairs of 2m with auto, even; no others" in lines and "has not seen, 1 of which" in lines[1]
    assert not any("compared" in line for line in summary(tuned, {}, "a.json").splitlines())
    title, *lines = summary(tuned, words | {"search": STOPPED}, "a.json").splitlines()
    assert title.startswith("Stopped early: 2m with 5 tuned steps") and "on others it was not checked" in lines[1]
    same = dataclasses.replace(tuned, improved=False, held_out={"tuned": [0.1], "2m + auto": [0.1]})
    title = summary(same, words | {"search": BY_BUDGET}, "a.json").splitlines()[0]
    assert (
        title
        == "2m + auto, 5 steps: nothing better was found, so this best of the known pairs tried is returned; a higher budget may find it"
    )


def test_words_with_a_pillow_that_has_one_size_of_its_own(monkeypatch):
    """Pillow before 10.1, which WebUIs have, and no font with outlines to be found (tests/webui/test_ui.py has one): words are as large as
    that size is, end where they shall, and a name may have any letters."""

    def one_size(*size):
        if size:
            raise TypeError("load_default() takes 0 positional arguments but 1 was given")
        return ImageFont.load_default_imagefont()

    sheet._font.cache_clear()
    monkeypatch.setattr(ImageFont, "load_default", one_size)
    monkeypatch.setattr(sheet, "_outlines", lambda: ["/nonexistent.ttf"])
    try:
        made = sheet.Sheet((300, 60), 100)
        made.text((10, 20), "łódź 猫 λ", 20)
        made.text((290, 40), "right", 12, anchor="rm")
        assert made.wrapped("łódź 猫 λ " * 20, 14, 280, 2)[-1].endswith("…")
        pixels = made.pixels()
    finally:
        sheet._font.cache_clear()
    dark = np.argwhere(pixels.min(2) < 0.5)
    assert pixels.shape == (60, 300, 3) and len(dark) > 40
    assert 255 < dark[:, 1].max() < 292, "the word at the right ends there"
    high = np.unique(dark[dark[:, 1] < 100][:, 0])
    assert np.ptp(high) >= 6
