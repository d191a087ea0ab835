"""Published step tables: the numbers as published, what lies between them, and what another range or kind of model makes of them.

tests/unit/test_schedule.py runs them on every model's range, tests/comfy/test_tables.py beside ComfyUI's own nodes.
"""

import itertools
import math

import numpy as np
import pytest
from dpm_solver_ext.solvers import schedule
from dpm_solver_ext.solvers.path import FLOW, VE, VP
from dpm_solver_ext.solvers.tables import TABLES, published, table

COUNTS = {"ays_sd15": (10,), "ays_sdxl": (10,), "ays_svd": (10,), "gits_sd15": range(2, 21), "oss_flux": (10,), "oss_wan": (20,),
          "oss_chroma": (40,)}  # fmt: skip
AT = [(name, n) for name in TABLES for n in COUNTS[name]]


def test_the_dropdown_has_every_table():
    """schedule.py, which ComfyUI loads at its start, lists the tables that tables.py, which it does not load then, has."""
    assert tuple(TABLES) == schedule.TABLES == schedule.NAMES[-len(TABLES) :]


@pytest.mark.parametrize("name, n", AT)
def test_exact_where_published(name, n):
    """As many steps as were published are the published numbers, 0 for the last; also in the range of a model."""
    values = published(name, n)
    assert len(values) == n + 1 and all(a > b > 0 for a, b in itertools.pairwise(values))
    assert table(name, n) == [*values[:-1], 0.0]
    near = table(name, n, TABLES[name][0], values[0] * (1 - 1e-7), 3 * values[-1])  # a model of another sigma_min, such as a shifted one
    np.testing.assert_allclose(near, table(name, n), rtol=1e-5)


def test_diffusers_has_the_same_tables():
    """Align Your Steps in diffusers: the timesteps to the digit, the video model's sigmas as well."""
    theirs = pytest.importorskip("diffusers.schedulers.scheduling_utils").AysSchedules
    assert list(TABLES["ays_sd15"][3][0][:-1]) == theirs["StableDiffusionTimesteps"]
    assert list(TABLES["ays_sdxl"][3][0][:-1]) == theirs["StableDiffusionXLTimesteps"]
    assert table("ays_svd", 10) == theirs["StableDiffusionVideoSigmas"]
    np.testing.assert_allclose(table("ays_sdxl", 10), theirs["StableDiffusionXLSigmas"], rtol=0.02)  # theirs has three digits


@pytest.mark.parametrize("name", TABLES)
def test_between_the_published(name):
    """Half the steps, where not published, are every other value; twice the steps have every value, and between
    two their geometric mean (flow: the arithmetic one)."""
    n = max(COUNTS[name])
    values = table(name, n)
    if n // 2 not in COUNTS[name]:
        assert table(name, n // 2) == values[::2]
    twice, least = table(name, 2 * n), published(name, n)[-1]
    assert twice[::2] == values
    for a, middle, b in zip(values[:-1], twice[1::2], [*values[1:-1], least], strict=True):
        assert middle == pytest.approx((a + b) / 2 if name.startswith("oss") else math.sqrt(a * b), rel=1e-12)


def test_a_lower_start_cuts_the_table():
    """sigma_max below the table's first value, or sigma_min above its last: the part between gets the steps, in the table's own spacing:
    from the place of its third value to that of its ninth, 6 steps are its values."""
    values = table("ays_sdxl", 10)
    np.testing.assert_allclose(table("ays_sdxl", 6, VE, values[2], values[8]), [*values[2:8], 0.0], rtol=1e-12)
    np.testing.assert_allclose(table("ays_sdxl", 12, VE, values[2], values[8])[::2], [*values[2:8], 0.0], rtol=1e-12)
    flow = table("oss_flux", 10)
    np.testing.assert_allclose(table("oss_flux", 4, FLOW, flow[5], flow[9]), [*flow[5:9], 0.0], rtol=1e-12)


def test_a_longer_range_keeps_the_table():
    """Zero terminal SNR or EDM begin and end beyond the table: the first value is theirs, the others stay."""
    for name, top, low in (("ays_sdxl", 4518.76, 0.0292), ("gits_sd15", 80.0, 0.002), ("oss_flux", 1.0, 1e-5)):
        want = table(name, 10)
        assert table(name, 10, None, top, low) == pytest.approx([top, *want[1:]], rel=1e-3)


def test_a_range_with_none_of_the_table_is_even():
    """Where the table has less than one of its steps, steps are even in log sigma: below it, above it, and within one of them."""
    for top, low in ((0.02, 0.001), (4000.0, 20.0), (6.0, 4.0)):
        assert table("ays_sdxl", 7, VE, top, low) == schedule.exponential(7, top, low)


@pytest.mark.parametrize("name", TABLES)
def test_another_kind_of_model_gets_the_same_signal_to_noise(name):
    """A flow model's table on Stable Diffusion and the other way round: between the ends λ is the same, within the model's range."""
    home = TABLES[name][0]
    other, top, low = (VE, 1e12, 1e-4) if home is FLOW else (FLOW, 1.0, 1e-6)
    got, own = table(name, 10, other, top, low), table(name, 10)
    assert got[0] == top and got[-1] == 0
    np.testing.assert_allclose([other.half_logsnr(s) for s in got[1:-1]], [home.half_logsnr(s) for s in own[1:-1]], rtol=1e-6, atol=1e-9)
    assert table("ays_sdxl", 10, VP) == table("ays_sdxl", 10)  # σ/α counts alike there


@pytest.mark.parametrize("name, steps, words", [("ays_sdxl", 0, "steps is 0"), ("ays_sdxl", -2, "steps is -2"), ("ays", 10, "'ays'")])
def test_errors_are_one_sentence(name, steps, words):
    with pytest.raises(ValueError, match=words) as caught:
        table(name, steps)
    assert "\n" not in str(caught.value)
